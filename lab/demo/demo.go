// Package demo is the whole loop in three minutes: it installs the manifests into a running lab, drives load up and down
// against the example service, and shows what the stock HPA makes of it. It passes only if the HPA's own events and the Ready
// pods say that it scaled up and down on each of its two metrics.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/term"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/load"
	"headroom.dev/headroom/lab/network"
	"headroom.dev/headroom/lab/observe"
	"headroom.dev/headroom/lab/progress"
)

// loadView is over how much time the live table's load and latency are.
const loadView = 5 * time.Second

// Options of a demonstration.
type Options struct {
	Cluster lab.Cluster
	HPASync time.Duration // how often the lab's HPA decides
	Out     io.Writer
	JSON    string // a file for the summary; empty = none
	Seed    uint64 // of the load
	Log     *slog.Logger
}

// ErrFailed is returned when the demonstration ran to its end and the HPA did not scale as it should; the reasons have been
// printed.
var ErrFailed = errors.New("the HPA did not scale up and down on both metrics")

type demo struct {
	options Options
	watcher *observe.Watcher
	load    *load.Generator
	phases  []phase
	began   time.Time
	counts  []ready
}

// Run installs everything, plays the script and judges it.
func Run(ctx context.Context, o Options) (Summary, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := progress.New(o.Out)
	if err := o.Cluster.Install(ctx, p); err != nil {
		return Summary{}, err
	}
	if err := o.Cluster.InstallExample(ctx, p); err != nil {
		return Summary{}, err
	}
	d := &demo{options: o, phases: script(cycles(), o.HPASync)}
	if err := d.connect(ctx); err != nil {
		return Summary{}, err
	}
	if err := d.play(ctx); err != nil {
		return Summary{}, err
	}
	s := d.summarise()
	s.print(o.Out)
	if o.JSON != "" {
		if err := write(o.JSON, s); err != nil {
			return s, err
		}
	}
	if !s.Passed {
		return s, ErrFailed
	}
	return s, nil
}

func (d *demo) connect(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", d.options.Cluster.Kubeconfig)
	if err != nil {
		return fmt.Errorf("cannot read the lab's kubeconfig: %w", err)
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("cannot make a client for the lab: %w", err)
	}
	metrics := []string{"request_latency_p95_ms"}
	for _, c := range cycles() {
		metrics = append(metrics, c.Metric)
	}
	d.watcher, err = observe.Watch(ctx, observe.Options{
		Config: config, Client: client, Namespace: lab.ExampleNamespace, HPA: lab.ExampleName,
		Selector: map[string]string{"app": lab.ExampleName}, Metrics: metrics, Log: d.options.Log,
	})
	if err != nil {
		return err
	}
	targets, err := network.Endpoints(ctx, client, lab.ExampleNamespace, lab.ExampleName)
	if err != nil {
		return err
	}
	pattern, tokens, err := demand(d.phases)
	if err != nil {
		return err
	}
	d.load, err = load.New(load.Options{Pattern: pattern, Seed: d.options.Seed, Targets: targets, Tokens: tokens})
	return err
}

// play sends the load and shows what happens until the script is over.
func (d *demo) play(ctx context.Context) error {
	fmt.Fprintf(d.options.Out, "\nLoad on service %s/%s for %s; the HPA decides every %s.\n\n", lab.ExampleNamespace, lab.ExampleName,
		progress.Clock(total(d.phases)), d.options.HPASync)
	d.began = time.Now()
	done := make(chan error, 1)
	go func() { done <- d.load.Run(ctx) }()
	f, ok := d.options.Out.(*os.File)
	view := &screen{w: d.options.Out, terminal: ok && term.IsTerminal(int(f.Fd()))}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			view.show(d.frame())
			if err != nil {
				return fmt.Errorf("cannot send the load: %w", err)
			}
			return ctx.Err()
		case <-tick.C:
			view.show(d.frame())
		}
	}
}

func (d *demo) frame() frame {
	h, pods, elapsed := d.watcher.History(), d.watcher.Pods(), time.Since(d.began)
	d.counts = append(d.counts, ready{time: time.Now(), count: pods.Ready})
	f := frame{
		elapsed: elapsed, length: total(d.phases), phase: at(d.phases, elapsed), load: d.load.Record().Window(loadView),
		wanted: h.WantedAt(time.Now()), pods: pods, rescales: h.RescalesSince(d.began),
	}
	for _, c := range cycles() {
		last, known := h.Latest(c.Metric)
		f.readings = append(f.readings, reading{name: c.Metric, target: c.Target, last: last, known: known})
	}
	last, known := h.Latest("request_latency_p95_ms")
	f.readings = append(f.readings, reading{name: "request_latency_p95_ms", last: last, known: known})
	return f
}

func (d *demo) summarise() Summary {
	h := d.watcher.History()
	s := Summary{Passed: true, HPASync: d.options.HPASync.String(), Load: d.load.Record().Summary()}
	for i, c := range cycles() {
		var rose, fell, end time.Time
		for _, p := range d.phases {
			switch {
			case p.cycle == i && p.up:
				rose = d.began.Add(p.begin)
			case p.cycle == i:
				fell, end = d.began.Add(p.begin), d.began.Add(p.begin+p.length)
			}
		}
		r := judge(c, h, d.counts, rose, fell, end)
		s.Passed = s.Passed && len(r.Failures) == 0
		s.Results = append(s.Results, r)
	}
	return s
}

func write(path string, s Summary) error {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write the summary: %w", err)
	}
	if err := os.WriteFile(path, append(raw, '\n'), 0o644); err != nil { //nolint:gosec // a report that anybody may read
		return fmt.Errorf("cannot write the summary: %w", err)
	}
	return nil
}
