package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"headroom.dev/headroom/bench/result"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/placement"
	placementkube "headroom.dev/headroom/rollout/placement/kube"
)

// planGoal is how long a plan may take, from the API's objects to a schedule.
const planGoal = 200 * time.Millisecond

// stage is a part of the way to a plan.
type stage int

const (
	reading  stage = iota // the API's objects as plain structs
	snapshot              // what each node has left
	counting              // how many more pods fit
	planning              // the schedule, or the refusal with its remedies
	stages
)

func (s stage) String() string {
	return [...]string{"read objects", "snapshot", "count", "plan"}[s]
}

// timing is one plan.
type timing struct {
	shape    string
	strategy rollout.Strategy
	wall     [stages]time.Duration
	cpu      time.Duration // of all threads: the garbage collector's are among them
	bytes    uint64
	fits     int
	refused  bool
	makespan time.Duration
}

func (t *timing) total() time.Duration {
	sum := time.Duration(0)
	for _, d := range t.wall {
		sum += d
	}
	return sum
}

// benchPlan times plans that start from nothing but a cache of objects.
func benchPlan(ctx context.Context, o options) error {
	var all []timing
	var live []float64
	for i := range o.clusters {
		f := newFleet(o.seed + uint64(i))
		fmt.Fprintf(os.Stderr, "plan: cluster %d of %d, %d nodes, %d pods, seed %d\n", i+1, o.clusters, len(f.nodes), len(f.pods), o.seed+uint64(i))
		held, err := f.holds()
		if err != nil {
			return err
		}
		live = append(live, held)
		for _, s := range shapes() {
			for _, strategy := range []rollout.Strategy{rollout.Rolling, rollout.Canary, rollout.BlueGreen, rollout.Recreate} {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				t, err := f.plan(s, strategy)
				if err != nil {
					return err
				}
				all = append(all, t)
			}
		}
	}
	r := result.New("rollout-plan")
	if err := reportPlans(os.Stdout, r, all, live); err != nil {
		return err
	}
	path, err := r.Write(o.results)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "plan: written to", path)
	return nil
}

// request is of a random service of the shape: up to 512 replicas, demand that goes up and down through a day.
func (f *fleet) request(s shape, strategy rollout.Strategy) rollout.Request {
	now := time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)
	n := 4 << f.r.IntN(8)
	r := rollout.Request{
		Now: now,
		Service: rollout.Service{
			Replicas: n, GPUs: s.gpus, Capacity: 10, Router: strategy == rollout.Canary && f.r.IntN(2) == 0,
			StartUp: rollout.Span{P50: 2 * time.Minute, P90: 3 * time.Minute}, Drain: rollout.Span{P50: 20 * time.Second, P90: 30 * time.Second},
		},
		Policy: rollout.Policy{Strategy: strategy, Downtime: true, Reserve: f.r.IntN(3)},
	}
	for i := range 48 {
		r.Demand.Points = append(r.Demand.Points, rollout.Point{At: now.Add(time.Duration(i) * 30 * time.Minute), Value: 10 * float64(n) * (0.4 + 0.6*f.r.Float64())})
	}
	return r
}

// plan goes all the way once.
func (f *fleet) plan(s shape, strategy rollout.Strategy) (timing, error) {
	t, r := timing{shape: s.name, strategy: strategy}, f.request(s, strategy)
	runtime.GC() // each plan pays for its own garbage
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begun, last := cpuTime(), time.Now()
	lap := func(at stage) {
		now := time.Now()
		t.wall[at], last = now.Sub(last), now
	}
	cluster, err := placementkube.Cluster(f.nodes, f.pods, f.namespaces, nil)
	if err != nil {
		return t, fmt.Errorf("cannot read the cluster: %w", err)
	}
	shape, err := placementkube.Shape("team-01", &s.template, nil)
	if err != nil {
		return t, fmt.Errorf("cannot read the shape %s: %w", s.name, err)
	}
	lap(reading)
	snap, err := placement.NewSnapshot(cluster)
	if err != nil {
		return t, fmt.Errorf("cannot make the snapshot: %w", err)
	}
	lap(snapshot)
	answer, err := snap.Fit(shape, r.Service.Replicas)
	if err != nil {
		return t, fmt.Errorf("cannot count %s: %w", s.name, err)
	}
	if !answer.Known {
		return t, fmt.Errorf("cannot count %s: %v", s.name, answer.NotModelled)
	}
	lap(counting)
	r.Sources = []rollout.Source{{Kind: rollout.Free, Replicas: answer.Count}, {Kind: rollout.Spare}, {Kind: rollout.Degrade}}
	schedule, refusal := rollout.Plan(r)
	lap(planning)
	t.cpu = cpuTime() - begun
	runtime.ReadMemStats(&after)
	t.bytes, t.fits, t.refused, t.makespan = after.TotalAlloc-before.TotalAlloc, answer.Count, refusal != nil, schedule.Makespan
	if refusal != nil && refusal.Reason == rollout.Invalid {
		return t, errors.New("the request is wrong: " + refusal.Message)
	}
	return t, nil
}

// holds is the memory of a cluster's plain structs and snapshot, in MiB.
func (f *fleet) holds() (float64, error) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	cluster, err := placementkube.Cluster(f.nodes, f.pods, f.namespaces, nil)
	if err != nil {
		return 0, fmt.Errorf("cannot read the cluster: %w", err)
	}
	snap, err := placement.NewSnapshot(cluster)
	if err != nil {
		return 0, fmt.Errorf("cannot make the snapshot: %w", err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(snap)
	return (float64(after.HeapAlloc) - float64(before.HeapAlloc)) / (1 << 20), nil
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// reportPlans prints the tables and adds every figure to the result.
func reportPlans(w io.Writer, r *result.Result, all []timing, live []float64) error {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	column := func(of []timing, value func(*timing) float64) (median, p95, most float64) {
		var values []float64
		for i := range of {
			values = append(values, value(&of[i]))
		}
		return result.Quantile(values, 0.5), result.Quantile(values, 0.95), result.Quantile(values, 1)
	}
	total := func(t *timing) float64 { return ms(t.total()) }
	fmt.Fprintf(w, "%d plans for %d nodes and %d pods, ms: median / p95 / longest\n\n", len(all), fleetNodes, fleetPods)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "shape\tin all\tread objects\tsnapshot\tcount\tplan\tfit (of at most 512)")
	rows := []string{"all shapes"}
	for _, s := range shapes() {
		rows = append(rows, s.name)
	}
	for _, name := range rows {
		of := slices.DeleteFunc(slices.Clone(all), func(t timing) bool { return name != rows[0] && t.shape != name })
		median, p95, most := column(of, total)
		fmt.Fprintf(t, "%s\t%.0f / %.0f / %.0f", name, median, p95, most)
		if name == rows[0] {
			r.AddAtMost("a plan, median", median, "ms", ms(planGoal))
			r.AddAtMost("a plan, p95", p95, "ms", ms(planGoal))
			r.AddAtMost("a plan, longest", most, "ms", ms(planGoal))
		} else {
			r.Add(name+": median", median, "ms")
			r.Add(name+": p95", p95, "ms")
		}
		for at := range stages {
			median, p95, most := column(of, func(t *timing) float64 { return ms(t.wall[at]) })
			fmt.Fprintf(t, "\t%.1f / %.1f / %.1f", median, p95, most)
			r.Add(name+": "+at.String()+", median", median, "ms")
			r.Add(name+": "+at.String()+", p95", p95, "ms")
		}
		fits, _, _ := column(of, func(t *timing) float64 { return float64(t.fits) })
		fmt.Fprintf(t, "\t%.0f\n", fits)
	}
	fmt.Fprintln(t, "\nstrategy\tplan, µs\trefused")
	for _, strategy := range []rollout.Strategy{rollout.Rolling, rollout.Canary, rollout.BlueGreen, rollout.Recreate} {
		of := slices.DeleteFunc(slices.Clone(all), func(t timing) bool { return t.strategy != strategy })
		median, p95, most := column(of, func(t *timing) float64 { return float64(t.wall[planning].Nanoseconds()) / 1000 })
		n := len(slices.DeleteFunc(slices.Clone(of), func(t timing) bool { return !t.refused }))
		fmt.Fprintf(t, "%s\t%.0f / %.0f / %.0f\t%d of %d\n", strategy, median, p95, most, n, len(of))
		r.Add(string(strategy)+": plan alone, median", median, "µs")
		r.Add(string(strategy)+": plan alone, p95", p95, "µs")
	}
	cpu, cpu95, _ := column(all, func(t *timing) float64 { return ms(t.cpu) })
	bytes, _, _ := column(all, func(t *timing) float64 { return float64(t.bytes) / (1 << 20) })
	held := result.Quantile(live, 0.5)
	fmt.Fprintf(t, "\nCPU of a plan, garbage collector included\t%.0f ms, p95 %.0f\nallocated for a plan\t%.0f MiB\nheld by a snapshot\t%.0f MiB\n", cpu, cpu95, bytes, held)
	r.Add("CPU of a plan, median", cpu, "ms")
	r.Add("CPU of a plan, p95", cpu95, "ms")
	r.Add("allocated for a plan", bytes, "MiB")
	r.Add("held by a snapshot", held, "MiB")
	if err := t.Flush(); err != nil {
		return fmt.Errorf("cannot print the table: %w", err)
	}
	return nil
}
