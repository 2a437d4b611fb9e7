package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"

	"headroom.dev/headroom/bench/adapter/targets"
	"headroom.dev/headroom/lab/process"
)

// startDeadline bounds the wait for a stack's first values; Prometheus was seen to take 20 s for 1,100 targets.
const startDeadline = 3 * time.Minute

// stack is all the processes that serve the metrics API, running.
type stack struct {
	name      string
	door      door // the adapter's own port
	query     func(ctx context.Context, expr string, at time.Time) (map[string]float64, error)
	processes []*process.Process
	service   apiregistrationv1.ServiceReference
	insecure  bool // the adapter signs its own certificate and tells nobody
}

func (s *stack) pids() []int {
	var out []int
	for _, p := range s.processes {
		out = append(out, p.PID())
	}
	return out
}

// failed returns why a process has ended, nil while all run.
func (s *stack) failed() error {
	for _, p := range s.processes {
		if err := p.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (s *stack) stop() error {
	const grace = 10 * time.Second // Prometheus writes its head to disk
	var errs []error
	for _, p := range s.processes {
		errs = append(errs, p.Stop(grace))
	}
	return errors.Join(errs...)
}

// until asks again and again until the answer is yes, a process of the stack ends, or the deadline is over.
func (s *stack) until(ctx context.Context, what string, yes func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	for {
		err := yes(ctx)
		if err == nil {
			return nil
		}
		if ended := s.failed(); ended != nil {
			return ended
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot wait any longer for %s: %w (%w)", what, ctx.Err(), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// complete fails while not each of n pods has a value of every metric that it should have.
func (s *stack) complete(ctx context.Context, n int) error {
	c, err := s.door.dial(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	for _, metric := range []string{rateMetric, p95Metric} {
		have, err := c.all(targets.Apps(n), metric)
		if err != nil {
			return err
		}
		if len(have) < n {
			return fmt.Errorf("%d of %d pods have a value of %s", len(have), n, metric)
		}
	}
	return nil
}

// healthy fails while the adapter does not say that it is ready.
func (s *stack) healthy(ctx context.Context) error {
	status, body, err := s.door.get(ctx, "/readyz")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("/readyz: HTTP %d: %.300q", status, body)
	}
	return err
}

// register has the API server forward the custom-metrics API to the stack's adapter.
func (c *cluster) register(ctx context.Context, s *stack) error {
	client, err := aggregator.NewForConfig(c.config)
	if err != nil {
		return fmt.Errorf("cannot make a client for APIServices: %w", err)
	}
	services := client.ApiregistrationV1().APIServices()
	for _, version := range []string{"v1beta1", "v1beta2"} {
		name := version + ".custom.metrics.k8s.io"
		err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
			have, err := services.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if *have.Spec.Service == s.service {
				return nil
			}
			have.Spec.Service, have.Spec.InsecureSkipTLSVerify = &s.service, s.insecure
			if s.insecure {
				have.Spec.CABundle = nil
			}
			_, err = services.Update(ctx, have, metav1.UpdateOptions{})
			return err
		})
		if err != nil {
			return fmt.Errorf("cannot register %s: %w", name, err)
		}
	}
	return nil
}
