package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"headroom.dev/headroom/bench/adapter/targets"
)

const (
	// stepAmount raises a rate over 10 s by 200/s, when no pod's own is above 69/s.
	stepAmount = 2000
	shownAbove = 100.0
	// pollEvery adds half of itself to what is measured.
	pollEvery = 20 * time.Millisecond
	// probes are under way at once, on pods of their own. They ask 100 times a second together.
	probes     = 2
	probeLimit = 30 * time.Second
	// forgotten is how long a step stays in a rate over 10 s, with a scrape and an evaluation to spare.
	forgotten = 13 * time.Second
)

// freshness steps a pod's request counter at moments that have nothing to do with anybody's clock, and returns for each step
// how many seconds it took to the first answer that shows it.
func freshness(ctx context.Context, d door, fleet *targets.Fleet, pods, steps int, random *rand.Rand, tell func(done int)) ([]float64, error) {
	var (
		mu   sync.Mutex
		out  []float64
		errs = make(chan error, probes)
		next = make(chan int)
	)
	order := random.Perm(pods)
	phases := make([]time.Duration, steps)
	for i := range phases {
		phases[i] = time.Duration(random.Float64() * float64(time.Second))
	}
	stepped := make([]time.Time, pods) // under mu
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range probes {
		wg.Go(func() {
			for i := range next {
				pod := order[i%pods]
				mu.Lock()
				wait := max(phases[i], time.Until(stepped[pod].Add(forgotten)))
				mu.Unlock()
				took, err := probe(ctx, d, fleet, pod, wait)
				if err != nil {
					errs <- fmt.Errorf("step %d: %w", i+1, err)
					cancel()
					return
				}
				mu.Lock()
				stepped[pod] = time.Now()
				out = append(out, took.Seconds())
				tell(len(out))
				mu.Unlock()
			}
		})
	}
	for i := 0; i < steps && ctx.Err() == nil; i++ {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	select {
	case err := <-errs:
		return nil, err
	default:
		return out, ctx.Err()
	}
}

// probe waits, steps the pod and asks until an answer shows it.
func probe(ctx context.Context, d door, fleet *targets.Fleet, pod int, wait time.Duration) (time.Duration, error) {
	c, err := d.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer c.close()
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(wait):
	}
	request := d.request(namePath(targets.Pod(pod), rateMetric))
	report, err := fleet.Do(targets.Command{Pod: pod, Amount: stepAmount})
	if err != nil {
		return 0, err
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		status, body, err := c.do(request)
		took := time.Since(report.At)
		if err != nil {
			return 0, err
		}
		if status == http.StatusOK {
			found, err := values(body)
			if err != nil {
				return 0, err
			}
			if found[targets.Pod(pod)] > shownAbove {
				return took, nil
			}
		}
		if took > probeLimit {
			return 0, fmt.Errorf("a step of %s did not show within %s; the last answer: HTTP %d %.300q", targets.Pod(pod), probeLimit, status, body)
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-tick.C:
		}
	}
}
