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
	"headroom.dev/headroom/bench/rollout/fleet"
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
		f := fleet.New(o.seed + uint64(i))
		fmt.Fprintf(os.Stderr, "plan: cluster %d of %d, %d nodes, %d pods, seed %d\n", i+1, o.clusters, len(f.Nodes), len(f.Pods), o.seed+uint64(i))
		held, err := holds(f)
		if err != nil {
			return err
		}
		live = append(live, held)
		for _, s := range fleet.Shapes() {
			for _, strategy := range []rollout.Strategy{rollout.Rolling, rollout.Canary, rollout.BlueGreen, rollout.Recreate} {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				t, err := plan(f, s, strategy)
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
func request(f *fleet.Fleet, s fleet.Shape, strategy rollout.Strategy) rollout.Request {
	now := time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)
	n := 4 << f.Rand.IntN(8)
	r := rollout.Request{
		Now: now,
		Service: rollout.Service{
			Replicas: n, GPUs: s.GPUs, Capacity: 10, Router: strategy == rollout.BlueGreen || f.Rand.IntN(2) == 0,
			StartUp: rollout.Span{P50: 2 * time.Minute, P90: 3 * time.Minute}, Drain: rollout.Span{P50: 20 * time.Second, P90: 30 * time.Second},
		},
		Policy: rollout.Policy{Strategy: strategy, Downtime: true, Reserve: f.Rand.IntN(3)},
	}
	for i := range 48 {
		r.Demand.Points = append(r.Demand.Points, rollout.Point{At: now.Add(time.Duration(i) * 30 * time.Minute), Value: 10 * float64(n) * (0.4 + 0.6*f.Rand.Float64())})
	}
	return r
}

// plan goes all the way once.
func plan(f *fleet.Fleet, s fleet.Shape, strategy rollout.Strategy) (timing, error) {
	t, r := timing{shape: s.Name, strategy: strategy}, request(f, s, strategy)
	runtime.GC() // each plan pays for its own garbage
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begun, last := cpuTime(), time.Now()
	lap := func(at stage) {
		now := time.Now()
		t.wall[at], last = now.Sub(last), now
	}
	cluster, err := placementkube.Cluster(f.Nodes, f.Pods, f.Namespaces, nil)
	if err != nil {
		return t, fmt.Errorf("cannot read the cluster: %w", err)
	}
	shape, err := placementkube.Shape("team-01", &s.Template, nil)
	if err != nil {
		return t, fmt.Errorf("cannot read the shape %s: %w", s.Name, err)
	}
	lap(reading)
	snap, err := placement.NewSnapshot(cluster)
	if err != nil {
		return t, fmt.Errorf("cannot make the snapshot: %w", err)
	}
	lap(snapshot)
	answer, err := snap.Fit(shape, r.Service.Replicas)
	if err != nil {
		return t, fmt.Errorf("cannot count %s: %w", s.Name, err)
	}
	if !answer.Known {
		return t, fmt.Errorf("cannot count %s: %v", s.Name, answer.NotModelled)
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
func holds(f *fleet.Fleet) (float64, error) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	cluster, err := placementkube.Cluster(f.Nodes, f.Pods, f.Namespaces, nil)
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

// quantiles of a quantity of plans: the median, the 95th percentile and the largest.
type quantiles struct{ median, p95, most float64 }

func column(of []timing, value func(*timing) float64) quantiles {
	values := make([]float64, 0, len(of))
	for i := range of {
		values = append(values, value(&of[i]))
	}
	return quantiles{result.Quantile(values, 0.5), result.Quantile(values, 0.95), result.Quantile(values, 1)}
}

func where(all []timing, keep func(*timing) bool) []timing {
	return slices.DeleteFunc(slices.Clone(all), func(t timing) bool { return !keep(&t) })
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// reportPlans prints the tables and adds every figure to the result.
func reportPlans(w io.Writer, r *result.Result, all []timing, live []float64) error {
	fmt.Fprintf(w, "%d plans for %d nodes and %d pods, ms: median / p95 / longest\n\n", len(all), fleet.Nodes, fleet.Pods)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "shape\tin all\tread objects\tsnapshot\tcount\tplan\tfit (at most the replicas)")
	in := column(all, func(t *timing) float64 { return ms(t.total()) })
	r.AddAtMost("a plan, median", in.median, "ms", ms(planGoal))
	r.AddAtMost("a plan, p95", in.p95, "ms", ms(planGoal))
	r.AddAtMost("a plan, longest", in.most, "ms", ms(planGoal))
	shapeRow(t, r, "all shapes", all)
	for _, s := range fleet.Shapes() {
		shapeRow(t, r, s.Name, where(all, func(t *timing) bool { return t.shape == s.Name }))
	}
	fmt.Fprintln(t, "\nstrategy\tplan, µs\trefused")
	for _, strategy := range []rollout.Strategy{rollout.Rolling, rollout.Canary, rollout.BlueGreen, rollout.Recreate} {
		of := where(all, func(t *timing) bool { return t.strategy == strategy })
		q := column(of, func(t *timing) float64 { return float64(t.wall[planning].Nanoseconds()) / 1000 })
		n := len(where(of, func(t *timing) bool { return t.refused }))
		fmt.Fprintf(t, "%s\t%.0f / %.0f / %.0f\t%d of %d\n", strategy, q.median, q.p95, q.most, n, len(of))
		r.Add(string(strategy)+": plan alone, median", q.median, "µs")
		r.Add(string(strategy)+": plan alone, p95", q.p95, "µs")
	}
	cpu := column(all, func(t *timing) float64 { return ms(t.cpu) })
	bytes := column(all, func(t *timing) float64 { return float64(t.bytes) / (1 << 20) }).median
	held := result.Quantile(live, 0.5)
	fmt.Fprintf(t, "\nCPU of a plan, garbage collector included\t%.0f ms, p95 %.0f\nallocated for a plan\t%.0f MiB\nheld by a snapshot\t%.0f MiB\n",
		cpu.median, cpu.p95, bytes, held)
	r.Add("CPU of a plan, median", cpu.median, "ms")
	r.Add("CPU of a plan, p95", cpu.p95, "ms")
	r.Add("allocated for a plan", bytes, "MiB")
	r.Add("held by a snapshot", held, "MiB")
	if err := t.Flush(); err != nil {
		return fmt.Errorf("cannot print the table: %w", err)
	}
	return nil
}

func shapeRow(w io.Writer, r *result.Result, name string, of []timing) {
	in := column(of, func(t *timing) float64 { return ms(t.total()) })
	fmt.Fprintf(w, "%s\t%.0f / %.0f / %.0f", name, in.median, in.p95, in.most)
	r.Add(name+": in all, median", in.median, "ms")
	r.Add(name+": in all, p95", in.p95, "ms")
	for at := range stages {
		q := column(of, func(t *timing) float64 { return ms(t.wall[at]) })
		fmt.Fprintf(w, "\t%.1f / %.1f / %.1f", q.median, q.p95, q.most)
		r.Add(name+": "+at.String()+", median", q.median, "ms")
		r.Add(name+": "+at.String()+", p95", q.p95, "ms")
	}
	fmt.Fprintf(w, "\t%.0f\n", column(of, func(t *timing) float64 { return float64(t.fits) }).median)
}
