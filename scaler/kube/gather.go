package kube

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/scaler"
	"headroom.dev/headroom/scaler/policy"
)

// Metrics is the metric plane. Its methods are safe for concurrent use; an error says why there is no value.
type Metrics interface {
	// Pods returns a metric of the pods that a selector means, by pod; only of those that have a value.
	Pods(ctx context.Context, namespace string, selector labels.Selector, metric string) (map[string]Value, error)
	// Deployment returns a metric of a Deployment as a whole.
	Deployment(ctx context.Context, namespace, name, metric string) (Value, error)
	// Query returns the results of a PromQL expression over the series of a namespace.
	Query(ctx context.Context, namespace, expr string) ([]Value, error)
}

const (
	waiting    = "requests_waiting"
	gpuHealthy = "gpu_healthy"
	// gpuProduct is the node label of NVIDIA's feature discovery that names the model of the node's GPUs.
	gpuProduct = "nvidia.com/gpu.product"
)

// scene is what a look sees.
type scene struct {
	observation scaler.Observation
	pods        map[string]*corev1.Pod // by name
	notes       []string
}

// answers are the metric plane's, each with why it has none.
type answers struct {
	demand, queue, load, latency map[string]Value
	whole                        []Value // of the query, or of the Deployment's latency
	latencyWhole                 *Value
	fit                          map[string]Value
	whyDemand, whyQueue, whyLoad string
	whyLatency                   string
}

// gather looks at the target's pods and asks for their metrics, all at once.
func (c *Controller) gather(ctx context.Context, namespace string, s *policy.Settings, t *Target, now time.Time) (*scene, error) {
	sc := &scene{pods: map[string]*corev1.Pod{}, observation: scaler.Observation{Now: now, Replicas: t.Replicas}}
	var list corev1.PodList
	if err := c.opts.Client.List(ctx, &list, client.InNamespace(namespace), client.MatchingLabelsSelector{Selector: t.Selector}); err != nil {
		return nil, fmt.Errorf("cannot list the pods of %s: %w", t.Name, err)
	}
	models := map[string]string{}
	pods := make([]scaler.Pod, 0, len(list.Items))
	for i := range list.Items {
		p, ok := podOf(&list.Items[i])
		if !ok {
			continue
		}
		p.GPU = c.model(ctx, list.Items[i].Spec.NodeName, models)
		pods = append(pods, p)
		sc.pods[p.Name] = &list.Items[i]
	}
	a := c.ask(ctx, namespace, s, t)
	fitness(pods, a.fit)
	load(pods, a.load, a.whyLoad, now)
	o := &sc.observation
	o.Pods = pods
	note := ""
	switch {
	case a.whyDemand != "":
		o.Demand = scaler.Reading{Missing: a.whyDemand}
	case s.Query != "":
		o.Demand = single(a.whole, now)
	default:
		o.Demand, note = sum(pods, a.demand, now)
	}
	if note != "" {
		sc.notes = append(sc.notes, note)
	}
	if a.whyQueue != "" {
		o.Queue = scaler.Reading{Missing: a.whyQueue}
	} else {
		o.Queue, _ = sum(pods, a.queue, now)
	}
	switch {
	case s.Latency == "":
		o.Latency = scaler.Reading{Missing: "the policy has no SLO"}
	case a.latencyWhole != nil:
		o.Latency = scaler.Reading{Value: a.latencyWhole.Value, Age: now.Sub(a.latencyWhole.At)}
	case a.whyLatency != "":
		o.Latency = scaler.Reading{Missing: a.whyLatency}
	default:
		o.Latency = middle(pods, a.latency, now)
	}
	return sc, nil
}

// ask asks the metric plane. One answer that is missing hinders no other.
func (c *Controller) ask(ctx context.Context, namespace string, s *policy.Settings, t *Target) *answers {
	var a answers
	var g errgroup.Group
	pods := func(metric string, into *map[string]Value, why *string) {
		g.Go(func() error {
			values, err := c.opts.Metrics.Pods(ctx, namespace, t.Selector, metric)
			*into, *why = values, reason(err)
			return nil
		})
	}
	if s.Query != "" {
		g.Go(func() error {
			values, err := c.opts.Metrics.Query(ctx, namespace, s.Query)
			a.whole, a.whyDemand = values, reason(err)
			return nil
		})
	} else {
		pods(s.Metric, &a.demand, &a.whyDemand)
	}
	pods(waiting, &a.queue, &a.whyQueue)
	pods(policy.InFlight, &a.load, &a.whyLoad)
	var ignored string // no agent is no reason to call a GPU unfit
	pods(gpuHealthy, &a.fit, &ignored)
	if s.Latency != "" {
		g.Go(func() error {
			if t.deployment() {
				// Merged histograms: the quantile of all requests, where the median over pods only estimates it.
				if v, err := c.opts.Metrics.Deployment(ctx, namespace, t.Name, s.Latency); err == nil {
					a.latencyWhole = &v
					return nil
				}
			}
			values, err := c.opts.Metrics.Pods(ctx, namespace, t.Selector, s.Latency)
			a.latency, a.whyLatency = values, reason(err)
			return nil
		})
	}
	_ = g.Wait() // none returns an error
	return &a
}

// reason is an error in one line; "" for none.
func reason(err error) string {
	if err == nil {
		return ""
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

// single is a query's one result.
func single(values []Value, now time.Time) scaler.Reading {
	switch {
	case len(values) == 0:
		return scaler.Reading{Missing: "spec.demand.query has no result"}
	case len(values) > 1:
		return scaler.Reading{Missing: fmt.Sprintf("spec.demand.query has %d results, where one was expected", len(values))}
	case math.IsNaN(values[0].Value) || math.IsInf(values[0].Value, 0) || values[0].Value < 0:
		return scaler.Reading{Missing: fmt.Sprintf("spec.demand.query yields %v", values[0].Value)}
	}
	return scaler.Reading{Value: values[0].Value, Age: now.Sub(values[0].At)}
}

// model is that of a node's GPUs, "" where the node's labels do not tell.
func (c *Controller) model(ctx context.Context, node string, known map[string]string) string {
	if node == "" {
		return ""
	}
	if m, ok := known[node]; ok {
		return m
	}
	found := &metav1.PartialObjectMetadata{}
	found.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Node"))
	if err := c.opts.Client.Get(ctx, client.ObjectKey{Name: node}, found); err != nil {
		c.opts.Log.Debug("a node is not known", "node", node, "err", err)
	}
	known[node] = found.Labels[gpuProduct]
	return known[node]
}
