package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"headroom.dev/headroom/bench/adapter/targets"
	"headroom.dev/headroom/bench/result"
)

// The metrics that both stacks serve under the same names.
const (
	rateMetric = "requests_per_second"
	p95Metric  = "request_latency_p95_ms"
	gpuMetric  = "gpu_utilization_percent"
)

// asked is how requests went.
type asked struct {
	rate     float64 // per second
	p50, p99 float64 // seconds
	count    int
}

// ask has clients send HPA-shaped requests, each the next when it has the last one's answer, for a while.
func ask(ctx context.Context, d door, apps, clients int, length time.Duration) (asked, error) {
	latencies := make([][]float64, clients)
	errs := make([]error, clients)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began := time.Now()
	for i := range clients {
		wg.Go(func() {
			latencies[i], errs[i] = askOne(ctx, d, apps, i*apps/clients, began.Add(length))
			if errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	took := time.Since(began).Seconds()
	if err := errors.Join(errs...); err != nil {
		return asked{}, err
	}
	var all []float64
	for _, some := range latencies {
		all = append(all, some...)
	}
	return asked{rate: float64(len(all)) / took, p50: result.Quantile(all, 0.5), p99: result.Quantile(all, 0.99), count: len(all)}, nil
}

func askOne(ctx context.Context, d door, apps, first int, end time.Time) ([]float64, error) {
	c, err := d.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	requests := make([][]byte, apps)
	for a := range apps {
		requests[a] = d.request(listPath(targets.App(a), rateMetric))
	}
	var out []float64
	for i := first; ctx.Err() == nil; i++ {
		began := time.Now()
		if began.After(end) {
			break
		}
		status, body, err := c.do(requests[i%apps])
		if err != nil {
			return nil, err
		}
		out = append(out, time.Since(began).Seconds())
		// 20 bytes are a tenth of what a pod's value takes: an answer without values is no answer.
		if status != http.StatusOK || len(body) < 20*targets.PodsPerApp {
			return nil, fmt.Errorf("%s of %s: HTTP %d, %d bytes: %.300q", rateMetric, targets.App(i%apps), status, len(body), body)
		}
	}
	return out, ctx.Err()
}

// hpaLoad asks as the HPA controller does with one HPA of two metrics for each app, evenly spread over its 15 s, for a while.
func hpaLoad(ctx context.Context, d door, apps int, length time.Duration) error {
	const period = 15 * time.Second
	c, err := d.dial(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	tick := time.NewTicker(period / time.Duration(2*apps))
	defer tick.Stop()
	for i, end := 0, time.Now().Add(length); time.Now().Before(end); i++ {
		app, metric := targets.App(i/2%apps), []string{rateMetric, p95Metric}[i%2]
		status, body, err := c.do(d.request(listPath(app, metric)))
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return fmt.Errorf("%s of %s: HTTP %d: %.300q", metric, app, status, body)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}
