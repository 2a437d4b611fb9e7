// Package compare plays the same days of demand to two services of the same shape, whose pods take a minute to load: the stock
// HPA scales one, a ScalePolicy the other. It counts what became of every request and what every replica cost, and says whether
// the ScalePolicy was better.
//
// What it reports is what was seen: requests by the load generator that sent them, replicas by the API server's pods, the
// ScalePolicy's reasons by its status. The first days, from which a forecaster learns, are shown and not judged. The comparison
// passes only if the measurement was sound and the ScalePolicy was no worse in requests missed and in replica time for each answer
// in time, better in one of them, and so by forecasts.
//
// A compressed day makes a pod's minute long: of five minutes it is what 4.8 hours are of 24. What the comparison shows is a
// rise that is as fast as pods load, as an opening of business or a batch brings it, and not the gentle wave of a whole day.
package compare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/term"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/load"
	"headroom.dev/headroom/lab/network"
	"headroom.dev/headroom/lab/progress"
)

// Options of a comparison.
type Options struct {
	Scenario Scenario
	Cluster  lab.Cluster
	HPASync  time.Duration // how often the lab's HPA decides
	Out      io.Writer
	JSON     string // a file for the summary; empty = none
	HTML     string // a file for the plots; empty = none
	Log      *slog.Logger
}

// ErrNotShown is returned when the comparison ran to its end and the ScalePolicy was not shown to be better; the reasons have been
// printed.
var ErrNotShown = errors.New("the ScalePolicy was not shown to be better than the stock HPA")

const (
	loadView         = 10 * time.Second // over how much time the live table's load is
	controllerPeriod = 15 * time.Second // the controller's default
	startTime        = 2 * time.Minute  // beyond the pods' load time, for the first pods and the ScalePolicy's first word
)

type comparison struct {
	options Options
	pattern load.Pattern
	watcher *watcher
	loads   map[Side]*load.Generator
	began   time.Time
	samples []Sample

	read   map[Side]int     // results that are in byDay
	byDay  map[Side][]Tally // requests due on each day
	config *rest.Config
	client kubernetes.Interface
}

// Run installs Headroom and both services, plays the days and judges them.
func Run(ctx context.Context, o Options) (Summary, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := o.Scenario.Validate(); err != nil {
		return Summary{}, err
	}
	p := progress.New(o.Out)
	if err := o.Cluster.Install(ctx, p); err != nil {
		return Summary{}, err
	}
	c, err := prepare(o)
	if err != nil {
		return Summary{}, err
	}
	if err := c.hasten(ctx, p); err != nil {
		return Summary{}, err
	}
	if err := c.install(ctx, p); err != nil {
		return Summary{}, err
	}
	if err := c.play(ctx); err != nil {
		return Summary{}, err
	}
	s := judge(c.observed(), o.HPASync)
	s.print(o.Out)
	if err := c.write(s); err != nil {
		return s, err
	}
	if !s.Passed {
		return s, ErrNotShown
	}
	return s, nil
}

func prepare(o Options) (*comparison, error) {
	c := &comparison{options: o, loads: map[Side]*load.Generator{}, read: map[Side]int{}, byDay: map[Side][]Tally{}}
	var err error
	if c.pattern, err = o.Scenario.pattern(); err != nil {
		return nil, err
	}
	if c.config, err = clientcmd.BuildConfigFromFlags("", o.Cluster.Kubeconfig); err != nil {
		return nil, fmt.Errorf("cannot read the lab's kubeconfig: %w", err)
	}
	c.config.QPS = -1
	if c.client, err = kubernetes.NewForConfig(c.config); err != nil {
		return nil, fmt.Errorf("cannot make a client for the lab: %w", err)
	}
	for _, side := range sides() {
		c.byDay[side] = make([]Tally, o.Scenario.Days)
	}
	return c, nil
}

// hasten makes the controller look at demand once per step of the compressed day, as it does by default per step of a real one: its
// 15 s would leave most steps without a value. The HPA that carries its decisions out keeps the pace of the other one.
func (c *comparison) hasten(ctx context.Context, p *progress.Printer) error {
	step := p.Step("controller's period")
	period := min(c.options.Scenario.step(), controllerPeriod)
	patch := fmt.Sprintf(`[{"op":"add","path":"/spec/template/spec/containers/0/args/-","value":"--period=%s"}]`, period)
	for _, args := range [][]string{
		{"patch", "deployment/headroom-controller", "-n", "headroom-system", "--type=json", "-p", patch},
		{"rollout", "status", "deployment/headroom-controller", "-n", "headroom-system", "--timeout=" + startTime.String()},
	} {
		if _, err := c.options.Cluster.Run(ctx, args...); err != nil {
			return fmt.Errorf("cannot set the controller's period to %s: %w", period, err)
		}
	}
	step.Done(period.String())
	return nil
}

// install applies the scenario and waits until the first pods of both services serve and the ScalePolicy decides.
func (c *comparison) install(ctx context.Context, p *progress.Printer) error {
	step := p.Step("two services")
	text, err := c.options.Scenario.manifests()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "headroom-compare-*")
	if err != nil {
		return fmt.Errorf("cannot write the scenario's manifests: %w", err)
	}
	path := filepath.Join(dir, "scenario.yaml")
	if err = os.WriteFile(path, []byte(text), 0o600); err == nil {
		_, err = c.options.Cluster.Run(ctx, "apply", "-f", path)
	}
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		return fmt.Errorf("cannot install the two services: %w", err)
	}
	timeout := "--timeout=" + (c.options.Scenario.LoadTime + startTime).String()
	for _, side := range sides() {
		step.Update(fmt.Sprintf("%s: its first pods load for %s", side.name(), c.options.Scenario.LoadTime))
		if _, err := c.options.Cluster.Run(ctx, "wait", "-n", namespace, fmt.Sprintf("--for=jsonpath={.status.readyReplicas}=%d", minimum),
			"deployment/"+side.name(), timeout); err != nil {
			return fmt.Errorf("cannot install the two services: %w", err)
		}
	}
	step.Done(fmt.Sprintf("%d pods Ready in each", minimum))
	if c.watcher, err = watch(ctx, c.client, c.config, c.options.Log); err != nil {
		return err
	}
	if err := c.awaitPolicy(ctx, p); err != nil {
		return err
	}
	for _, side := range sides() {
		targets, err := network.Endpoints(ctx, c.client, namespace, side.name())
		if err != nil {
			return err
		}
		c.loads[side], err = load.New(load.Options{Pattern: c.pattern, Seed: c.options.Scenario.Seed, Targets: targets})
		if err != nil {
			return err
		}
	}
	return nil
}

// awaitPolicy waits until the ScalePolicy says that it decides and its HPA follows: half an hour of load on a service that nothing scales would
// show nothing.
func (c *comparison) awaitPolicy(ctx context.Context, p *progress.Printer) error {
	step := p.Step("scale policy")
	limited, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		state := c.watcher.state().policy
		waits := state.message
		if state.ready {
			if waits = c.inactive(limited); waits == "" {
				step.Done("Ready: " + state.message)
				return nil
			}
		}
		step.Update(waits)
		select {
		case <-limited.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("the ScalePolicy %s/%s is not carried out after %s: %s", namespace, Policy.name(), startTime, waits)
		case <-tick.C:
		}
	}
}

// inactive says why the HPA that carries the ScalePolicy out does not, "" where it does.
func (c *comparison) inactive(ctx context.Context) string {
	list, err := c.client.AutoscalingV2().HorizontalPodAutoscalers(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Sprintf("cannot list HPAs: %v", err)
	}
	for _, h := range list.Items {
		if h.Spec.ScaleTargetRef.Name != Policy.name() {
			continue
		}
		for _, condition := range h.Status.Conditions {
			if condition.Type == autoscalingv2.ScalingActive {
				if condition.Status == corev1.ConditionTrue {
					return ""
				}
				return "its HPA: " + condition.Message
			}
		}
		return "its HPA says nothing of itself yet"
	}
	return "it has no HPA yet"
}

// play sends both loads and shows what happens until the days are over and every request has ended.
func (c *comparison) play(ctx context.Context) error {
	s := c.options.Scenario
	fmt.Fprintf(c.options.Out, "\n%d days of %s for two services; the first %d are for learning. It takes %s.\n\n", s.Days, s.Day, s.Learning, progress.Clock(s.length()))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.began = time.Now()
	done := make(chan error, len(c.loads))
	for _, g := range c.loads {
		go func() { done <- g.Run(ctx) }()
	}
	f, ok := c.options.Out.(*os.File)
	view := &screen{w: c.options.Out, terminal: ok && term.IsTerminal(int(f.Fd()))}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for running := len(c.loads); running > 0; {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("cannot send the load: %w", err)
			}
			running--
		case <-tick.C:
			view.show(c.frame())
		}
	}
	view.show(c.frame())
	return nil
}

// frame takes the sample of this second and makes what is shown of it.
func (c *comparison) frame() frame {
	s, elapsed := c.options.Scenario, time.Since(c.began)
	f := frame{
		scenario: s, elapsed: min(elapsed, s.length()), demand: c.pattern.Rate(elapsed), state: c.watcher.state(),
		windows: map[Side]load.Window{}, today: map[Side]Tally{}, before: map[Side]Tally{},
	}
	if elapsed < s.length() {
		c.samples = append(c.samples, Sample{
			Seconds: elapsed.Seconds(), Demand: f.demand, Stock: sampleOf(f.state, Stock), Policy: sampleOf(f.state, Policy), Ahead: f.state.policy.ahead(),
		})
	}
	today := s.day(elapsed)
	for _, side := range sides() {
		record := c.loads[side].Record()
		f.windows[side] = record.Window(loadView)
		for _, r := range record.From(c.read[side]) {
			c.byDay[side][s.day(r.Scheduled)].add(r)
			c.read[side]++
		}
		f.today[side] = c.byDay[side][today]
		for day := s.Learning; day < today; day++ {
			f.before[side] = f.before[side].plus(c.byDay[side][day])
		}
	}
	for _, x := range f.state.changes {
		f.changes = append(f.changes, x.text(c.began, s))
	}
	return f
}

func sampleOf(s state, side Side) SideSample {
	n := s.counts[side]
	return SideSample{Wanted: int(s.wanted[side]), Ready: n.Ready, Loading: n.Loading, Leaving: n.Leaving}
}

// observed is what the run left behind. Nothing changes it any more that is counted: what happens after the last day is cut off.
func (c *comparison) observed() observed {
	state := c.watcher.state()
	o := observed{
		scenario: c.options.Scenario, began: c.began, results: map[Side][]load.Result{}, ledgers: c.watcher.books(),
		changes: state.changes, samples: c.samples, policy: state.policy,
	}
	for side, g := range c.loads {
		o.results[side] = g.Record().Results()
	}
	return o
}

func (c *comparison) write(s Summary) error {
	var raw []byte
	var err error
	if c.options.JSON != "" {
		if raw, err = json.MarshalIndent(s, "", "  "); err == nil {
			err = os.WriteFile(c.options.JSON, append(raw, '\n'), 0o644) //nolint:gosec // a report that anybody may read
		}
		if err != nil {
			return fmt.Errorf("cannot write the summary: %w", err)
		}
	}
	if c.options.HTML != "" {
		if raw, err = page(s); err == nil {
			err = os.WriteFile(c.options.HTML, raw, 0o644) //nolint:gosec // a report that anybody may read
		}
		if err != nil {
			return fmt.Errorf("cannot write the plots: %w", err)
		}
	}
	return nil
}
