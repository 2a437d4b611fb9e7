package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"headroom.dev/headroom/bench/result"
	"headroom.dev/headroom/rollout/judge"
)

// scenarios are the cases; those whose versions are alike (A/A) come first, twice as often.
func scenarios() []scenario {
	base := scenario{newPods: [3]int{1, 1, 1}, errorsBy: 1, latencyBy: 1}
	noisy := base
	noisy.wander, noisy.outages, noisy.bursts, noisy.podNoise = true, true, true, 0.03
	with := func(s scenario, name string, change func(*scenario)) scenario {
		s.name = name
		change(&s)
		return s
	}
	return []scenario{
		with(base, "A/A independent, 10%", func(*scenario) {}),
		with(base, "A/A independent, 30%", func(s *scenario) { s.newPods = [3]int{3, 3, 3} }),
		with(base, "A/A load and latency wander", func(s *scenario) { s.wander = true }),
		with(base, "A/A a day's wave", func(s *scenario) { s.wave = true }),
		with(base, "A/A outages of a dependency", func(s *scenario) { s.outages = true }),
		with(base, "A/A errors in bursts of 5", func(s *scenario) { s.bursts = true }),
		with(base, "A/A pods wander by 3%", func(s *scenario) { s.podNoise = 0.03 }),
		with(noisy, "A/A all of it", func(*scenario) {}),
		with(noisy, "A/A all of it, 10% to 30% to 50%", func(s *scenario) { s.newPods = [3]int{1, 3, 5} }),
		with(noisy, "A/A all of it, pods differ by 5%", func(s *scenario) { s.podBias = 0.05 }),

		with(base, "errors 1% to 3%", func(s *scenario) { s.errorsBy = 3 }),
		with(noisy, "errors 1% to 3%, all of it", func(s *scenario) { s.errorsBy = 3 }),
		with(base, "latency x1.15", func(s *scenario) { s.latencyBy = 1.15 }),
		with(noisy, "latency x1.15, all of it", func(s *scenario) { s.latencyBy = 1.15 }),
		with(base, "latency x1.3", func(s *scenario) { s.latencyBy = 1.3 }),
		with(noisy, "latency x1.3, all of it", func(s *scenario) { s.latencyBy = 1.3 }),
		with(base, "3% take 5 times as long", func(s *scenario) { s.tail = 0.03 }),
		with(noisy, "3% take 5 times as long, all of it", func(s *scenario) { s.tail = 0.03 }),
		with(base, "errors 1% to 3% from minute 15", func(s *scenario) { s.errorsBy, s.from = 3, 15 }),
		with(noisy, "latency x1.3 from minute 15, all of it", func(s *scenario) { s.latencyBy, s.from = 1.3, 15 }),
	}
}

func (s scenario) alike() bool { return s.errorsBy == 1 && s.latencyBy == 1 && s.tail == 0 }

// stream begins the scenario's random streams, the same whichever others run.
func (s scenario) stream() uint64 {
	return uint64(slices.IndexFunc(scenarios(), func(o scenario) bool { return o.name == s.name })) * 1_000_000
}

func ruleNames() []string {
	return []string{"headroom", "threshold, first breach", "threshold, 5 breaches", "Kayenta", "z-test each look"}
}

// outcome says at which look each rule fired, 0 for never, and at which ours passed.
type outcome struct {
	fired  []float64
	passed float64
}

// play judges one rollout for all its looks, also beyond a Pass.
func play(s scenario, seed, run uint64) (outcome, error) {
	j, err := judge.New(judge.Spec{Metrics: []judge.Metric{{Name: "errors", Kind: judge.Errors}, {Name: "latency", Kind: judge.Latency}}})
	if err != nil {
		return outcome{}, err
	}
	rules := []rule{
		&thresholds{errors: true, latency: true},
		&thresholds{errors: true, latency: true, allowed: 4},
		&kayenta{errors: true, latency: true},
		&zTest{errors: true, latency: true},
	}
	out := outcome{fired: make([]float64, len(rules)+1)}
	m := newSimulation(s, seed, run)
	now := time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
	for look := 1.0; look <= looks; look++ {
		fresh, old := m.next()
		now = now.Add(time.Minute)
		v := j.Look(now, judge.Observations{New: fresh.pods, Old: old.pods, Increments: true})
		if v.Outcome == judge.Fail && out.fired[0] == 0 {
			out.fired[0] = look
		}
		if v.Outcome == judge.Pass && out.passed == 0 {
			out.passed = look
		}
		for i, r := range rules {
			if r.look(fresh, old) && out.fired[i+1] == 0 {
				out.fired[i+1] = look
			}
		}
	}
	return out, nil
}

// benchJudge plays all rollouts on all cores.
func benchJudge(ctx context.Context, o options) error {
	all, weights := scenarios(), 0
	all = slices.DeleteFunc(all, func(s scenario) bool { return !strings.Contains(s.name, o.scenario) })
	if len(all) == 0 {
		return fmt.Errorf("-scenario %s: no such scenario", o.scenario)
	}
	weight := func(s scenario) int {
		if s.alike() {
			return 2
		}
		return 1
	}
	for _, s := range all {
		weights += weight(s)
	}
	outcomes := make([][]outcome, len(all))
	var lock sync.Mutex
	var done atomic.Int64
	begun := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	fmt.Fprintf(os.Stderr, "judge: %d rollouts of %d minutes, seed %d\n", o.runs, looks, o.seed)
	for i, s := range all {
		runs := o.runs * weight(s) / weights
		outcomes[i] = make([]outcome, 0, runs)
		const batch = 20
		for from := 0; from < runs; from += batch {
			group.Go(func() error {
				for run := from; run < min(from+batch, runs) && ctx.Err() == nil; run++ {
					out, err := play(s, o.seed, s.stream()+uint64(run))
					if err != nil {
						return err
					}
					lock.Lock()
					outcomes[i] = append(outcomes[i], out)
					lock.Unlock()
					if n := done.Add(1); n%1000 == 0 {
						fmt.Fprintf(os.Stderr, "judge: %d rollouts in %v\n", n, time.Since(begun).Round(time.Second))
					}
				}
				return ctx.Err()
			})
		}
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("cannot finish the simulation: %w", err)
	}
	r := result.New("rollout-judge")
	r.Add("rollouts", float64(done.Load()), "")
	r.Add("time", time.Since(begun).Seconds(), "s")
	if err := report(os.Stdout, r, all, outcomes); err != nil {
		return err
	}
	path, err := r.Write(o.results)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "judge: written to", path)
	return nil
}

// report prints the table and adds every figure to the result.
func report(w io.Writer, r *result.Result, all []scenario, outcomes [][]outcome) error {
	fmt.Fprintf(w, "fired within %d looks, and the median minute\n\n", looks)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "rollouts")
	for _, name := range ruleNames() {
		fmt.Fprint(t, "\t", name)
	}
	fmt.Fprintln(t, "\theadroom passes first")
	for i, s := range all {
		fmt.Fprintf(t, "%s (%d)", s.name, len(outcomes[i]))
		for k, name := range ruleNames() {
			share, median := firedBy(outcomes[i], k)
			fmt.Fprintf(t, "\t%.1f%%", 100*share)
			if share > 0 {
				fmt.Fprintf(t, ", %.0f min", median)
			}
			figure := s.name + ": " + name
			switch {
			case k == 0 && s.alike():
				r.AddAtMost(figure+" fired", 100*share, "%", 1)
			default:
				r.Add(figure+" fired", 100*share, "%")
			}
			r.Add(figure+" median", median, "min")
		}
		var passes []float64
		for _, o := range outcomes[i] {
			if o.passed > 0 && (o.fired[0] == 0 || o.passed < o.fired[0]) {
				passes = append(passes, o.passed)
			}
		}
		share, median := float64(len(passes))/float64(max(1, len(outcomes[i]))), result.Quantile(passes, 0.5)
		fmt.Fprintf(t, "\t%.1f%%", 100*share)
		if len(passes) > 0 {
			fmt.Fprintf(t, ", %.0f min", median)
		}
		fmt.Fprintln(t)
		r.Add(s.name+": headroom passed first", 100*share, "%")
		r.Add(s.name+": headroom passed median", median, "min")
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("cannot print the table: %w", err)
	}
	return nil
}

// firedBy returns how many rollouts a rule ended, and when.
func firedBy(outcomes []outcome, rule int) (share, median float64) {
	var at []float64
	for _, o := range outcomes {
		if o.fired[rule] > 0 {
			at = append(at, o.fired[rule])
		}
	}
	slices.Sort(at)
	return float64(len(at)) / float64(max(1, len(outcomes))), result.Quantile(at, 0.5)
}
