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

	corev1 "k8s.io/api/core/v1"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/bench/result"
	"headroom.dev/headroom/bench/rollout/fleet"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/capacity"
	"headroom.dev/headroom/rollout/placement"
	placementkube "headroom.dev/headroom/rollout/placement/kube"
)

// planGoal is how long a plan may take, from the API's objects to a schedule.
const planGoal = 200 * time.Millisecond

// stage is a part of the way to a plan.
type stage int

const (
	// The way of the controller: what the sources have, and the schedule or the refusal with its remedies.
	looking stage = iota
	planning
	// The same again, when one pod in a hundred has changed: pods are known.
	lookingAgain
	// What a look is made of, apart: the API's objects as plain structs, what each node has left, how many more pods fit.
	reading
	snapshot
	counting
	stages
)

func (s stage) String() string {
	return [...]string{"look", "plan", "look again", "read objects", "snapshot", "count"}[s]
}

// timing is one plan.
type timing struct {
	shape    string
	strategy rollout.Strategy
	wall     [stages]time.Duration
	cpu      [stages]time.Duration // of all threads: the garbage collector's are among them
	bytes    uint64
	fits     int
	refused  bool
}

// A busy machine stretches the time on the wall, so what is held to the goal is the CPU's, which on an idle one is the longer of the two.
func (t *timing) first() time.Duration { return t.cpu[looking] + t.cpu[planning] }
func (t *timing) again() time.Duration { return t.cpu[lookingAgain] + t.cpu[planning] }
func (t *timing) clock() time.Duration { return t.wall[looking] + t.wall[planning] }

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
				t, err := plan(ctx, f, s, strategy)
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

// plan goes all the way, twice, and then part by part.
func plan(ctx context.Context, f *fleet.Fleet, s fleet.Shape, strategy rollout.Strategy) (timing, error) {
	t, r := timing{shape: s.Name, strategy: strategy}, request(f, s, strategy)
	c := &capacity.Client{Client: &objectCache{fleet: f}, Now: time.Now}
	spec := &v1alpha1.RolloutPolicySpec{
		TargetRef: v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "app-007"},
		Sources:   []v1alpha1.CapacitySource{{Kind: "Free"}, {Kind: "Spare"}, {Kind: "Degrade"}},
	}
	need := capacity.Need{Namespace: "team-01", Template: &s.Template, Labels: map[string]string{"pod-template-hash": "new"}, Most: r.Service.Replicas}
	runtime.GC() // each plan pays for its own garbage
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	used, last := cpuTime(), time.Now()
	lap := func(at stage) {
		t.cpu[at], t.wall[at] = cpuTime()-used, time.Since(last)
		used, last = cpuTime(), time.Now()
	}
	report, err := c.Look(ctx, spec, need)
	if err != nil {
		return t, err
	}
	lap(looking)
	r.Sources = report.Sources
	_, refusal := rollout.Plan(r)
	lap(planning)
	runtime.ReadMemStats(&after)
	t.bytes, t.fits, t.refused = after.TotalAlloc-before.TotalAlloc, report.Sources[0].Replicas, refusal != nil
	if refusal != nil && refusal.Reason == rollout.Invalid {
		return t, errors.New("the request is wrong: " + refusal.Message)
	}
	f.Churn()
	runtime.GC()
	used, last = cpuTime(), time.Now()
	if _, err := c.Look(ctx, spec, need); err != nil {
		return t, err
	}
	lap(lookingAgain)
	runtime.GC()
	used, last = cpuTime(), time.Now()
	return t, parts(f, &s.Template, need, lap, &t)
}

// parts times what a look is made of.
func parts(f *fleet.Fleet, template *corev1.PodTemplateSpec, need capacity.Need, lap func(stage), t *timing) error {
	cluster, err := placementkube.Cluster(f.Nodes, f.Pods, f.Namespaces, nil)
	if err != nil {
		return fmt.Errorf("cannot read the cluster: %w", err)
	}
	shape, err := placementkube.Shape(need.Namespace, template, nil)
	if err != nil {
		return fmt.Errorf("cannot read the shape %s: %w", t.shape, err)
	}
	shape.Priority = 1
	lap(reading)
	snap, err := placement.NewSnapshot(cluster)
	if err != nil {
		return fmt.Errorf("cannot make the snapshot: %w", err)
	}
	lap(snapshot)
	answer, err := snap.Fit(shape, need.Most)
	if err != nil {
		return fmt.Errorf("cannot count %s: %w", t.shape, err)
	}
	lap(counting)
	if !answer.Known || answer.Count != t.fits {
		return fmt.Errorf("%s: %d fit (not known: %v), and %d by the look", t.shape, answer.Count, answer.NotModelled, t.fits)
	}
	return nil
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
	fmt.Fprintf(w, "%d plans for %d nodes and %d pods, ms of CPU, garbage collector included: median / p95 / longest\n\n", len(all), fleet.Nodes, fleet.Pods)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "shape\tin all\tlook\tplan\tlook again\tread objects\tsnapshot\tcount\tfit (at most the replicas)")
	in := column(all, func(t *timing) float64 { return ms(t.first()) })
	r.AddAtMost("a plan, median", in.median, "ms", ms(planGoal))
	r.AddAtMost("a plan, p95", in.p95, "ms", ms(planGoal))
	r.AddAtMost("a plan, longest", in.most, "ms", ms(planGoal))
	again := column(all, func(t *timing) float64 { return ms(t.again()) })
	r.AddAtMost("a plan again, median", again.median, "ms", ms(planGoal))
	r.AddAtMost("a plan again, p95", again.p95, "ms", ms(planGoal))
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
	clock := column(all, func(t *timing) float64 { return ms(t.clock()) })
	bytes := column(all, func(t *timing) float64 { return float64(t.bytes) / (1 << 20) }).median
	held := result.Quantile(live, 0.5)
	fmt.Fprintf(t, "\na plan by the clock on the wall\t%.0f ms, p95 %.0f\nallocated for a plan\t%.0f MiB\nheld by a snapshot\t%.0f MiB\n",
		clock.median, clock.p95, bytes, held)
	r.Add("a plan by the clock on the wall, median", clock.median, "ms")
	r.Add("a plan by the clock on the wall, p95", clock.p95, "ms")
	r.Add("allocated for a plan", bytes, "MiB")
	r.Add("held by a snapshot", held, "MiB")
	if err := t.Flush(); err != nil {
		return fmt.Errorf("cannot print the table: %w", err)
	}
	return nil
}

func shapeRow(w io.Writer, r *result.Result, name string, of []timing) {
	in := column(of, func(t *timing) float64 { return ms(t.first()) })
	fmt.Fprintf(w, "%s\t%.0f / %.0f / %.0f", name, in.median, in.p95, in.most)
	r.Add(name+": in all, median", in.median, "ms")
	r.Add(name+": in all, p95", in.p95, "ms")
	for at := range stages {
		q := column(of, func(t *timing) float64 { return ms(t.cpu[at]) })
		fmt.Fprintf(w, "\t%.1f / %.1f / %.1f", q.median, q.p95, q.most)
		r.Add(name+": "+at.String()+", median", q.median, "ms")
		r.Add(name+": "+at.String()+", p95", q.p95, "ms")
	}
	fmt.Fprintf(w, "\t%.0f\n", column(of, func(t *timing) float64 { return float64(t.fits) }).median)
}
