package update

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/load"
	"headroom.dev/headroom/lab/progress"
)

// What the demonstration's service is: four replicas that each serve 90 requests/s as its owner states, at 320 requests/s in all, so
// that none of them may be missing; one GPU more for the canary. A replica has 128 slots, so nothing queues and latency is the engine's
// own: it varies as answers' lengths do (σ 0.6 around 0.6 s), over the buckets of vLLM's histogram.
const (
	demoReplicas = 4
	DemoGPUs     = 5 // that it may have
	demoRate     = 320.0
	demoCapacity = 90.0
	demoErrors   = 0.002 // of a good version
	demoLate     = 2 * time.Second
	demoStartUp  = 3 * time.Second
	demoLimit    = 2 * time.Minute // for one version
	demoUsual    = 15 * time.Second
)

func demoEngine() Engine { return Engine{Slots: 128, Median: 600 * time.Millisecond, Sigma: 0.6} }

// ErrWrong is returned where a version was judged otherwise than it is; the table says which.
var ErrWrong = errors.New("a version was judged wrong")

// DemoOptions of a demonstration.
type DemoOptions struct {
	Cluster lab.Cluster
	GPUs    int // of the lab
	Seed    uint64
	Out     io.Writer
	Only    string // only versions whose name contains this
}

// trial is a version and how it must be judged.
type trial struct {
	Version

	what string
	want string // the outcome in the policy's history, or the refusal's reason
	full bool   // no GPU is left for it
}

// trials are all versions, the good one first.
func trials() []trial {
	version := func(name string, change func(*Version)) Version {
		v := Version{Name: name, StartUp: demoStartUp, Engine: demoEngine(), ErrorRate: demoErrors}
		change(&v)
		return v
	}
	return []trial{
		{version("v2-good", func(*Version) {}), "as good as the one before", "Completed", false},
		{version("v3-errors", func(v *Version) { v.ErrorRate = 0.03 }), "answers 3 % with an error", "Failed", false},
		{version("v4-slow", func(v *Version) { v.SlowerBy = 1.3 }), "takes 1.3 times as long", "Failed", false},
		{version("v5-crash", func(v *Version) { v.CrashAfter = demoStartUp + 3*time.Second }), "crashes 3 s after it begins to listen", "Broken", false},
		{version("v6-unready", func(v *Version) { v.NeverReady = true }), "never becomes Ready", "NeverReady", false},
		{version("v7-no-gpu", func(*Version) {}), "good, but no GPU is left", "NoCapacity", true},
	}
}

// demoPolicy judges by errors and latency. The margins are the owner's choice: two points of errors, and a fifth of the 90th percentile,
// are wider than the defaults (one point, a tenth of the 95th), which at this traffic would take a good version minutes to pass.
// Deadlines are for a start-up of 3 s.
func demoPolicy() *v1alpha1.RolloutPolicySpec {
	seconds := func(s float64) *metav1.Duration {
		return &metav1.Duration{Duration: time.Duration(s * float64(time.Second))}
	}
	return &v1alpha1.RolloutPolicySpec{
		Strategy:           v1alpha1.StrategyCanary,
		Canary:             &v1alpha1.CanaryStrategy{Steps: []v1alpha1.CanaryStep{{Replicas: new(int32(1))}, {Percent: new(int32(50))}}},
		CapacityPerReplica: new(resource.MustParse(fmt.Sprint(demoCapacity))), StartupTime: seconds(4), DrainTime: seconds(1.5),
		Analysis: v1alpha1.Analysis{
			Interval: seconds(2), Expected: seconds(20),
			Metrics: []v1alpha1.AnalysisMetric{
				{Name: "errors", Kind: "Errors", MaxIncrease: new(resource.MustParse("0.02"))},
				{Name: "latency", Kind: "Latency", QuantilePercent: new(int32(90)), MaxRatio: new(resource.MustParse("1.2"))},
			},
		},
		Deadlines: v1alpha1.RolloutDeadlines{NoGPU: seconds(10), Loading: seconds(15), Broken: seconds(8)},
	}
}

// Verdict is what became of one version.
type Verdict struct {
	Version string `json:"version"`
	What    string `json:"what"`
	Want    string `json:"want"`
	Outcome string `json:"outcome"`
	Right   bool   `json:"right"`
	Message string `json:"message"`
	// Decided is the time from the change to the verdict, Back from the verdict until the old version alone serves, at full size; for a
	// version that completes, until it alone serves.
	Decided float64 `json:"decidedSeconds"`
	Back    float64 `json:"backSeconds"`
	// Requests were due from the change until Back was over. Exposed were answered by the new version, Failed and Late are of all.
	Requests int `json:"requests"`
	Exposed  int `json:"exposed"`
	Failed   int `json:"failed"`
	Late     int `json:"late"`
}

// Report is a whole demonstration.
type Report struct {
	Passed bool `json:"passed"`
	// Usual is the share of requests that failed or were late before any update.
	Usual    float64   `json:"usualHarmedShare"`
	Seconds  float64   `json:"seconds"`
	SendP99  float64   `json:"sendP99Seconds"`
	Verdicts []Verdict `json:"versions"`
}

// Demo installs Headroom and the service in a lab, brings one version after another and says how each was judged.
func Demo(ctx context.Context, o DemoOptions) (Report, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := progress.New(o.Out)
	if err := o.Cluster.Install(ctx, p); err != nil {
		return Report{}, err
	}
	if err := Hasten(ctx, o.Cluster, p); err != nil {
		return Report{}, err
	}
	s, err := NewStage(ctx, o.Cluster, o.GPUs, o.Seed)
	if err != nil {
		return Report{}, err
	}
	d := &demonstration{Stage: s, progress: p}
	return d.run(ctx, o)
}

type demonstration struct {
	*Stage

	progress *progress.Printer
	traffic  *traffic
	stable   Version
}

func (d *demonstration) run(ctx context.Context, o DemoOptions) (Report, error) {
	began := time.Now()
	step := d.progress.Step("service and policy")
	if err := d.leave(ctx, DemoGPUs); err != nil {
		return Report{}, err
	}
	d.stable = Version{Name: "v1", StartUp: time.Second, Engine: demoEngine(), ErrorRate: demoErrors}
	policy := &v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Name: Name, Namespace: Namespace}, Spec: *demoPolicy()}
	policy.Spec.TargetRef = v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: Name}
	if err := d.install(ctx, deployment(demoReplicas, d.stable, Default(), 10*time.Minute), policy); err != nil {
		return Report{}, err
	}
	step.Done(fmt.Sprintf("%d replicas on %d GPUs, a canary of 1, then of half", demoReplicas, DemoGPUs))
	var err error
	if d.traffic, err = d.send(ctx, demoRate, time.Hour); err != nil {
		return Report{}, err
	}
	defer d.traffic.cancel()
	step = d.progress.Step("load")
	step.Update(fmt.Sprintf("%g requests/s", demoRate))
	if err := pause(ctx, demoUsual); err != nil {
		return Report{}, err
	}
	usual := d.tally("", began, time.Now())
	r := Report{Passed: true, Usual: float64(usual.Failed+usual.Late) / float64(max(1, usual.Requests))}
	step.Done(fmt.Sprintf("%g requests/s, of which %.1f %% fail or take more than %s", demoRate, 100*r.Usual, demoLate))
	for _, t := range trials() {
		if !strings.Contains(t.Name, o.Only) {
			continue
		}
		v, err := d.try(ctx, t)
		if err != nil {
			return r, fmt.Errorf("cannot try %s: %w", t.Name, err)
		}
		r.Verdicts = append(r.Verdicts, v)
		r.Passed = r.Passed && v.Right
	}
	_, waits := load.Percentiles(d.traffic.stop())
	if waits != nil {
		r.SendP99 = waits.P99 / 1000
	}
	r.Seconds = time.Since(began).Seconds()
	return r, nil
}

// try brings one version and waits until the policy has done with it.
func (d *demonstration) try(ctx context.Context, t trial) (Verdict, error) {
	step := d.progress.Step(t.Name)
	v := Verdict{Version: t.Name, What: t.what, Want: t.want}
	if t.full {
		if err := d.leave(ctx, demoReplicas); err != nil {
			return v, err
		}
	}
	key := client.ObjectKey{Namespace: Namespace, Name: Name}
	began := time.Now()
	if err := d.patch(ctx, t.Version); err != nil {
		return v, err
	}
	decided, err := d.watchVerdict(ctx, t, key, began, &v, step.Update)
	if err != nil {
		return v, err
	}
	v.Decided = decided.Sub(began).Seconds()
	if v.Outcome == string(Refused) || t.full {
		// Nothing is rolled out, and the change waits for GPUs: a person takes it back.
		if err := d.patch(ctx, d.stable); err != nil {
			return v, err
		}
	}
	over, err := d.settled(ctx, &v, t, step.Update)
	if err != nil {
		return v, err
	}
	v.Back = over.Sub(decided).Seconds()
	v.Right = v.Outcome == t.want
	if err := pause(ctx, after); err != nil {
		return v, err
	}
	sum := d.tally(t.Name, began, over)
	v.Requests, v.Exposed, v.Failed, v.Late = sum.Requests, sum.Exposed, sum.Failed, sum.Late
	step.Done(fmt.Sprintf("%s after %.0f s: %s", v.Outcome, v.Decided, v.Message))
	return v, nil
}

// watchVerdict waits until the policy has decided: until it goes back or completes, or refuses for a while.
func (d *demonstration) watchVerdict(ctx context.Context, t trial, key client.ObjectKey, began time.Time, v *Verdict, say func(string)) (time.Time, error) {
	var refusedSince time.Time
	p := &v1alpha1.RolloutPolicy{}
	for {
		if err := pause(ctx, pollEvery); err != nil {
			return time.Time{}, err
		}
		if err := d.client.Get(ctx, key, p); err != nil {
			return time.Time{}, fmt.Errorf("cannot read the RolloutPolicy: %w", err)
		}
		now, _ := d.watcher.now()
		passed := time.Since(began)
		say(fmt.Sprintf("%2.0f s, %s: %d old and %d new serve; %s", passed.Seconds(), p.Status.Phase, now.Ready[d.stable.Name], now.Ready[t.Name], judged(p)))
		if h := p.Status.History; len(h) > 0 && strings.HasSuffix(h[0].Images["vllm"], ":"+t.Name) {
			v.Outcome, v.Message = h[0].Outcome, h[0].Message
			return time.Now(), nil
		}
		switch why := refusal(p); {
		case why == "":
			refusedSince = time.Time{}
		case refusedSince.IsZero():
			refusedSince = time.Now()
		case time.Since(refusedSince) > refusedFor:
			v.Outcome, v.Message = p.Status.Refusal.Reason, why
			return refusedSince, nil
		}
		if passed > demoLimit {
			v.Outcome, v.Message = string(Late), describe(p)
			return time.Now(), d.abort(ctx, key)
		}
	}
}

// judged is what the policy says of itself; at a step, what its judge says.
func judged(p *v1alpha1.RolloutPolicy) string {
	if v := p.Status.Verdict; v != nil && p.Status.Phase == "Settled" {
		return fmt.Sprintf("look %d: %s", v.Looks, v.Message)
	}
	return p.Status.Message
}

// abort has the policy go back from what it has not judged in time.
func (d *demonstration) abort(ctx context.Context, key client.ObjectKey) error {
	p := &v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	command, err := json.Marshal(v1alpha1.RolloutCommand{ID: time.Now().String(), Kind: "Abort", By: "the demonstration"})
	if err != nil {
		return fmt.Errorf("cannot abort: %w", err)
	}
	raw, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{v1alpha1.AnnotationRolloutCommand: string(command)}}})
	if err == nil {
		err = d.client.Patch(ctx, p, client.RawPatch("application/merge-patch+json", raw))
	}
	if err != nil {
		return fmt.Errorf("cannot abort: %w", err)
	}
	return nil
}

// settled waits until one version alone serves, at full size, and the policy rests.
func (d *demonstration) settled(ctx context.Context, v *Verdict, t trial, say func(string)) (time.Time, error) {
	keep := d.stable
	if v.Outcome == "Completed" {
		keep = t.Version
	}
	var alone time.Time
	said := ""
	err := d.await(ctx, demoLimit, func(ctx context.Context) (bool, error) {
		now, _ := d.watcher.now()
		whole := now.Ready[keep.Name] == demoReplicas && len(now.Pods) == 1
		if !whole {
			alone = time.Time{}
		} else if alone.IsZero() {
			alone = time.Now()
		}
		p := &v1alpha1.RolloutPolicy{}
		if err := d.client.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: Name}, p); err != nil {
			return false, err
		}
		said = fmt.Sprintf("%s: %s alone; %v of it serve, policy %s", v.Outcome, keep.Name, now.Ready[keep.Name], describe(p))
		say(said)
		return whole && p.Status.Phase == "Resting" && !meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionProgressing), nil
	}, func() string { return said })
	d.stable = keep
	return alone, err
}

// tally counts the requests that were due between two moments.
func (d *demonstration) tally(version string, from, to time.Time) Verdict {
	var v Verdict
	for _, r := range d.traffic.generator.Record().Results() {
		due := d.traffic.began.Add(r.Scheduled)
		if due.Before(from) || due.After(to) {
			continue
		}
		v.Requests++
		if r.Target != "" && version != "" && d.watcher.version(r.Target, due) == version {
			v.Exposed++
		}
		switch {
		case !r.OK():
			v.Failed++
		case r.Latency > demoLate:
			v.Late++
		}
	}
	return v
}

// Print writes the table.
func (r Report) Print(w io.Writer) error {
	fmt.Fprintf(w, "\n%d replicas, %g requests/s; usually %.1f %% of requests fail or take more than %s\n\n", demoReplicas, demoRate, 100*r.Usual, demoLate)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "version\tthat\tverdict\t\tdetected after\tback after\tanswered by it\tharmed")
	for _, v := range r.Verdicts {
		right := "right"
		if !v.Right {
			right = "WRONG: not " + v.Want
		}
		of := float64(max(1, v.Requests)) / 100
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.0f s\t%.0f s\t%.0f %%\t%.1f %%\n", v.Version, v.What, v.Outcome, right, v.Decided, v.Back,
			float64(v.Exposed)/of, float64(v.Failed+v.Late)/of)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("cannot print the table: %w", err)
	}
	fmt.Fprintln(w)
	for _, v := range r.Verdicts {
		fmt.Fprintf(w, "%s: %s\n", v.Version, v.Message)
	}
	fmt.Fprintf(w, "\nHarmed are requests that failed or took more than %s, of all that were due from the change until it was over. It took %.0f s;\nthe load generator's own p99 was %.0f ms late.\n",
		demoLate, r.Seconds, 1000*r.SendP99)
	return nil
}
