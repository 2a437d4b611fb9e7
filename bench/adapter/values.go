package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"headroom.dev/headroom/bench/adapter/targets"
	"headroom.dev/headroom/bench/result"
)

// difference is how far two sides are apart over all pods and looks, relative to the larger.
type difference struct {
	name        string
	median, max float64
	pairs, lone int // values that both have, and that one has alone
}

// The looks at both sides are no whole seconds apart, so that no phase of anybody's clock is met each time.
const (
	looks     = 8
	lookEvery = 1300 * time.Millisecond
)

// compareValues asks both stacks for the same at the same time, while all counters grow at rates that are known: through the
// metrics API, and by PromQL where ours serves queries.
func compareValues(ctx context.Context, ours, theirs *stack, pods int) ([]difference, error) {
	type side = func(ctx context.Context, s *stack) (map[string]float64, error)
	api := func(metric string) side {
		return func(ctx context.Context, s *stack) (map[string]float64, error) {
			c, err := s.door.dial(ctx)
			if err != nil {
				return nil, err
			}
			defer c.close()
			return c.all(targets.Apps(pods), metric)
		}
	}
	var out []difference
	for _, metric := range []string{rateMetric, p95Metric, gpuMetric} {
		d, err := compare(ctx, "served values of "+metric, ours, theirs, api(metric))
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	truth, err := compareWith(ctx, "served requests_per_second and the true rate", ours, trueRates(pods), api(rateMetric))
	if err != nil {
		return nil, err
	}
	out = append(out, truth)
	for _, q := range [][2]string{
		{"PromQL, rate", `sum by (namespace, pod) (rate(vllm:request_success_total[10s]))`},
		{"PromQL, p95", `1000 * histogram_quantile(0.95, sum by (namespace, pod, le) (rate(vllm:e2e_request_latency_seconds_bucket[30s])))`},
		{"PromQL, GPU", `100 * avg by (namespace, pod) (max by (namespace, pod, uuid) (gpu_pod_utilization_ratio))`},
	} {
		d, err := compare(ctx, q[0], ours, theirs, func(ctx context.Context, s *stack) (map[string]float64, error) {
			return s.query(ctx, q[1], time.Now())
		})
		if errors.Is(err, errNoQueries) {
			break
		}
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// trueRates are the rates at which the targets count, as the API carries them, in thousandths.
func trueRates(pods int) map[string]float64 {
	out := map[string]float64{}
	for i := range pods {
		out[targets.Pod(i)] = targets.Rate(i)
	}
	return out
}

// compare asks both sides again and again, both at once.
func compare(ctx context.Context, name string, ours, theirs *stack, ask func(context.Context, *stack) (map[string]float64, error)) (difference, error) {
	all := apart{}
	for range looks {
		type answer struct {
			values map[string]float64
			err    error
		}
		other := make(chan answer, 1)
		go func() {
			v, err := ask(ctx, theirs)
			other <- answer{v, err}
		}()
		mine, err := ask(ctx, ours)
		second := <-other
		if err := errors.Join(err, second.err); err != nil {
			return difference{}, fmt.Errorf("cannot compare %s: %w", name, err)
		}
		all.add(mine, second.values)
		if err := sleep(ctx, lookEvery); err != nil {
			return difference{}, err
		}
	}
	return all.difference(name), nil
}

// compareWith asks one side, and compares with what is known.
func compareWith(ctx context.Context, name string, s *stack, known map[string]float64, ask func(context.Context, *stack) (map[string]float64, error)) (difference, error) {
	all := apart{}
	for range looks {
		have, err := ask(ctx, s)
		if err != nil {
			return difference{}, fmt.Errorf("cannot compare %s: %w", name, err)
		}
		all.add(have, known)
		if err := sleep(ctx, lookEvery); err != nil {
			return difference{}, err
		}
	}
	return all.difference(name), nil
}

// apart collects relative differences.
type apart struct {
	relative []float64
	lone     int
}

func (a *apart) add(one, other map[string]float64) {
	for pod, v := range one {
		w, ok := other[pod]
		if !ok {
			a.lone++
			continue
		}
		d := 0.0
		if v != w {
			d = math.Abs(v-w) / max(math.Abs(v), math.Abs(w))
		}
		a.relative = append(a.relative, d)
	}
	for pod := range other {
		if _, ok := one[pod]; !ok {
			a.lone++
		}
	}
}

func (a *apart) difference(name string) difference {
	return difference{
		name: name, median: result.Quantile(a.relative, 0.5), max: result.Quantile(a.relative, 1), pairs: len(a.relative), lone: a.lone,
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
