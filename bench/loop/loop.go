package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"headroom.dev/headroom/bench/result"
	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/load"
	"headroom.dev/headroom/lab/network"
	"headroom.dev/headroom/lab/observe"
)

const (
	metric = "requests_per_second"
	// The example's two pods get 6 requests/s when calm and 60 in a step, against a target of 10 per pod.
	calmRate, stepRate = 6.0, 60.0
	target             = 10.0
	// shown is a mean that calm load does not reach: the rate over 10 s of two pods is 3 ± 0.39 per pod (Poisson), and this is
	// four standard deviations up. past is where the HPA acts: the target with its tolerance of 10 %.
	shown, past = 4.6, 11.0
	// reactionLimit ends a repetition in which something was never seen.
	reactionLimit = 2 * time.Minute
	seed          = 1
)

// sample is one repetition.
type sample struct {
	shown, past, decision, ready observe.Elapsed
}

func run(ctx context.Context, repetitions int, results string) error {
	out := result.New("loop")
	for _, pace := range []time.Duration{15 * time.Second, 2 * time.Second} {
		samples, err := measure(ctx, pace, repetitions)
		if err != nil {
			return fmt.Errorf("cannot measure with the HPA at %s: %w", pace, err)
		}
		report(out, pace, samples)
	}
	fmt.Fprintln(os.Stdout)
	if err := out.Print(os.Stdout); err != nil {
		return err
	}
	path, err := out.Write(results)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "\nwritten to", path)
	return nil
}

func report(out *result.Result, pace time.Duration, samples []sample) {
	for _, one := range []struct {
		name string
		of   func(sample) observe.Elapsed
		goal float64
	}{
		{"step to first API response that shows it", func(s sample) observe.Elapsed { return s.shown }, 2},
		{"step to first API response past the HPA's threshold", func(s sample) observe.Elapsed { return s.past }, 0},
		{"step to the HPA's decision", func(s sample) observe.Elapsed { return s.decision }, 0},
		{"step to first new Ready pod", func(s sample) observe.Elapsed { return s.ready }, 0},
	} {
		var values []float64
		for _, s := range samples {
			if e := one.of(s); e.Seen {
				values = append(values, e.Seconds)
			}
		}
		prefix := fmt.Sprintf("HPA every %s: %s, ", pace, one.name)
		out.Add(prefix+"p50", result.Quantile(values, 0.5), "s")
		if one.goal > 0 {
			out.AddAtMost(prefix+"p99", result.Quantile(values, 0.99), "s", one.goal)
		} else {
			out.Add(prefix+"p99", result.Quantile(values, 0.99), "s")
		}
		if missing := len(samples) - len(values); missing > 0 {
			out.Add(prefix+"never seen", float64(missing), fmt.Sprintf("of %d", len(samples)))
		}
	}
}

// bench is a running lab with the example under calm load.
type bench struct {
	pace    time.Duration
	watcher *observe.Watcher
	targets func() []string
	random  *rand.Rand
}

func measure(ctx context.Context, pace time.Duration, repetitions int) (samples []sample, err error) {
	dir, err := os.MkdirTemp("", "hr-loop")
	if err != nil {
		return nil, err
	}
	o := lab.DefaultOptions()
	o.Dir, o.HPASyncPeriod, o.Nodes, o.Output = filepath.Join(dir, "lab"), pace, 2, os.Stdout
	l, err := lab.Up(ctx, o)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	defer func() { err = errors.Join(err, l.Down(), os.RemoveAll(dir)) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b, err := prepare(ctx, l, pace)
	if err != nil {
		return nil, err
	}
	calm, err := b.generator(calmRate, 24*time.Hour)
	if err != nil {
		return nil, err
	}
	go func() { _ = calm.Run(ctx) }() // it ends with ctx, and with that error
	for i := range repetitions {
		s, err := b.repeat(ctx)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stdout, "HPA every %s, step %2d of %d: shown after %s, past the threshold %s, decision %s, Ready %s\n",
			pace, i+1, repetitions, s.shown, s.past, s.decision, s.ready)
		samples = append(samples, s)
	}
	return samples, nil
}

func prepare(ctx context.Context, l *lab.Lab, pace time.Duration) (*bench, error) {
	cluster := l.Cluster()
	if err := cluster.Install(ctx, l.Progress); err != nil {
		return nil, err
	}
	if err := cluster.InstallExample(ctx, l.Progress); err != nil {
		return nil, err
	}
	// Scaling down is not measured: without its wait a repetition takes half the time.
	if _, err := cluster.Run(ctx, "patch", "hpa", "-n", lab.ExampleNamespace, lab.ExampleName, "--type=merge",
		"-p", `{"spec":{"behavior":{"scaleDown":{"stabilizationWindowSeconds":0}}}}`); err != nil {
		return nil, err
	}
	targets, err := network.Endpoints(ctx, l.Client, lab.ExampleNamespace, lab.ExampleName)
	if err != nil {
		return nil, err
	}
	watcher, err := observe.Watch(ctx, observe.Options{
		Config: l.Config, Client: l.Client, Namespace: lab.ExampleNamespace, HPA: lab.ExampleName,
		Selector: map[string]string{"app": lab.ExampleName}, Metrics: []string{metric}, Log: slog.Default(),
	})
	if err != nil {
		return nil, err
	}
	return &bench{pace: pace, watcher: watcher, targets: targets, random: rand.New(rand.NewPCG(seed, uint64(pace)))}, nil
}

func (b *bench) generator(rate float64, length time.Duration) (*load.Generator, error) {
	pattern, err := load.Constant(rate, length)
	if err != nil {
		return nil, err
	}
	return load.New(load.Options{Pattern: pattern, Seed: b.random.Uint64(), Targets: b.targets})
}

// repeat waits for calm, steps the load at a moment that has nothing to do with the HPA's clock, and waits for the reaction.
func (b *bench) repeat(ctx context.Context) (sample, error) {
	calm := func() bool {
		h, pods := b.watcher.History(), b.watcher.Pods()
		last, ok := h.Latest(metric)
		return ok && last.Missing == "" && last.Mean < shown && last.Pods == 2 && pods == observe.Pods{Ready: 2} && h.WantedAt(time.Now()) == 2
	}
	if err := until(ctx, calm, reactionLimit); err != nil {
		return sample{}, fmt.Errorf("the service never became calm: %w", err)
	}
	// The HPA has just decided; a random part of its period makes the step independent of its clock.
	if err := sleep(ctx, time.Duration(b.random.Float64()*float64(b.pace))); err != nil {
		return sample{}, err
	}
	surge, err := b.generator(stepRate-calmRate, time.Hour)
	if err != nil {
		return sample{}, err
	}
	stepping, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	step := time.Now()
	go func() {
		defer close(done)
		_ = surge.Run(stepping) // ends when stopped, with that error
	}()
	defer func() { stop(); <-done }()
	var s sample
	seen := func() bool {
		h := b.watcher.History()
		all := h.React(step, metric, past)
		s = sample{shown: h.React(step, metric, shown).Metric, past: all.Metric, decision: all.Decision, ready: all.Ready}
		return s.shown.Seen && s.past.Seen && s.decision.Seen && s.ready.Seen
	}
	if err := until(ctx, seen, reactionLimit); err != nil && !errors.Is(err, errLimit) {
		return sample{}, err
	}
	return s, nil
}

var errLimit = errors.New("the time is over")

func until(ctx context.Context, condition func() bool, limit time.Duration) error {
	for end := time.Now().Add(limit); !condition(); {
		if time.Now().After(end) {
			return errLimit
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
