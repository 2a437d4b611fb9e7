package kube

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	vpav1 "k8s.io/autoscaler/vertical-pod-autoscaler/pkg/apis/autoscaling.k8s.io/v1"

	"headroom.dev/headroom/recommender"
	"headroom.dev/headroom/recommender/vpa"
)

// reasonVPA is that of a recommendation by the VPA's own estimator.
const reasonVPA recommender.Reason = "VPA"

// stock is what the VPA's own estimator knows of a workload. A nil one takes nothing. Only containers are in it: the stock
// recommender knows no init containers.
type stock struct {
	model   *vpa.Model
	of      map[string]*aggregate     // by container
	vpas    []types.NamespacedName    // in whose checkpoint objects it is kept; else in the workload's ConfigMap
	uids    map[string]types.UID      // of the VPAs
	foreign map[string]error          // by name of a checkpoint object: why it must not be overwritten
	dirty   map[string]bool           // containers with samples since the last checkpoint
	configs map[vpa.Config]*vpa.Model // models by what policies say
}

// aggregate is what is known of a container.
type aggregate struct {
	model     *vpa.Model
	known     *vpa.Aggregate
	instances map[types.UID]*vpa.Instance // by pod
}

func newStock(m *vpa.Model) *stock {
	return &stock{
		model: m, of: map[string]*aggregate{}, uids: map[string]types.UID{}, foreign: map[string]error{}, dirty: map[string]bool{},
		configs: map[vpa.Config]*vpa.Model{m.Config(): m},
	}
}

func (s *stock) instance(container string, pod types.UID) (*aggregate, *vpa.Instance) {
	a := s.of[container]
	if a == nil {
		a = &aggregate{model: s.model, known: s.model.NewAggregate(), instances: map[types.UID]*vpa.Instance{}}
		s.of[container] = a
	}
	i := a.instances[pod]
	if i == nil {
		i = &vpa.Instance{}
		a.instances[pod] = i
	}
	s.dirty[container] = true
	return a, i
}

// add takes a sample of a container of a pod.
func (s *stock) add(sample *recommender.Sample, pod types.UID) {
	if s == nil {
		return
	}
	switch sample.Resource {
	case recommender.CPU:
		if v, ok := vpa.FromCores(sample.Value); ok {
			a, i := s.instance(sample.Container.Container, pod)
			i.AddCPU(a.known, sample.At, v)
		}
	case recommender.Memory:
		if v, ok := vpa.FromBytes(sample.Value); ok {
			a, i := s.instance(sample.Container.Container, pod)
			i.AddMemory(a.known, sample.At, v)
		}
	default: // the VPA knows no others
	}
}

// kill takes a kill for want of memory. The VPA counts from the request, not from the limit.
func (s *stock) kill(o *corev1.Pod, k kill) {
	if s == nil {
		return
	}
	request := k.limit
	for i := range o.Spec.Containers {
		c := &o.Spec.Containers[i]
		if q, ok := c.Resources.Requests[corev1.ResourceMemory]; ok && c.Name == k.container && !k.evicted {
			request = q.AsApproximateFloat64()
		}
	}
	if v, ok := vpa.FromBytes(request); ok {
		a, i := s.instance(k.container, o.UID)
		_ = i.AddOOM(a.known, k.at, v) // what is too old, the VPA leaves out as well
	}
}

// left drops what was kept of the containers of a pod that is gone.
func (s *stock) left(pod types.UID) {
	if s == nil {
		return
	}
	for _, a := range s.of {
		delete(a.instances, pod)
	}
}

// follow uses what a VPA's policy says of a container's OOM kills and memory intervals, and the flags' defaults where it says nothing.
func (s *stock) follow(container string, p *vpav1.ContainerResourcePolicy, now time.Time) error {
	a := s.of[container]
	if a == nil {
		return nil
	}
	config := s.model.Config()
	if q := p.OOMBumpUpRatio; q != nil {
		config.OOMBumpUpRatio = q.AsApproximateFloat64()
	}
	if q := p.OOMMinBumpUp; q != nil {
		config.OOMMinBumpUp = q.AsApproximateFloat64()
	}
	if n := p.MemoryAggregationIntervalSeconds; n != nil {
		config.MemoryInterval = time.Duration(*n) * time.Second
	}
	if n := p.MemoryAggregationIntervalCount; n != nil {
		config.MemoryIntervals = *n
	}
	if config == a.model.Config() {
		return nil
	}
	m := s.configs[config]
	if m == nil {
		var err error
		if m, err = vpa.New(config); err != nil {
			return fmt.Errorf("cannot follow the policy of container %s: %w", container, err)
		}
		s.configs[config] = m
	}
	c := a.known.Checkpoint(now, nil)
	known, err := m.Load(&c)
	if err != nil {
		return fmt.Errorf("cannot follow the policy of container %s: %w", container, err)
	}
	a.model, a.known = m, known
	return nil
}

// estimate is what the stock recommender would recommend for a container, out of so many; false without samples.
func (s *stock) estimate(container string, among int, integer bool) (vpa.Recommendation, *vpa.Aggregate, bool) {
	if s == nil || s.of[container] == nil || s.of[container].known.Empty() {
		return vpa.Recommendation{}, nil, false
	}
	a := s.of[container]
	return a.model.Recommend(a.model.Estimate(a.known, among), vpa.Rules{IntegerCPU: integer}), a.known, true
}

// forVPA is the estimate of one resource for a VPA's status.
func (s *stock) forVPA(v *vpav1.VerticalPodAutoscaler, container string, r recommender.Resource, among int) (e estimated, missing string) {
	got, _, ok := s.estimate(container, among, v.Annotations["vpa-post-processor.kubernetes.io/"+container+"_integerCPU"] == "true")
	if !ok {
		return e, "there are no samples of container " + container + " yet"
	}
	of := func(a vpa.Amounts) *resource.Quantity {
		if r == recommender.CPU {
			return resource.NewMilliQuantity(a.CPU, resource.DecimalSI)
		}
		return resource.NewQuantity(a.Memory, resource.DecimalSI)
	}
	return estimated{of(got.UncappedTarget), of(got.Lower), of(got.Upper)}, ""
}

// recommend is the estimate as a recommendation.
func (s *stock) recommend(key recommender.Key, w *wishes) recommender.Recommendation {
	nan := math.NaN()
	got, known, ok := s.estimate(key.Container, w.containers, false)
	if !ok {
		return recommender.Recommendation{Reason: recommender.ReasonNoHistory, Startup: nan}
	}
	of := func(a vpa.Amounts) float64 {
		if key.Resource == recommender.CPU {
			return float64(a.CPU) / 1000
		}
		return float64(a.Memory)
	}
	p := w.policy(key)
	clamp := func(v float64) float64 {
		if p.Max > 0 {
			return min(max(v, p.Min), p.Max)
		}
		return max(v, p.Min)
	}
	out := recommender.Recommendation{
		Valid: true, Request: clamp(of(got.Target)), Lower: clamp(of(got.Lower)), Upper: clamp(of(got.Upper)), Startup: nan, Reason: reasonVPA,
		Note: fmt.Sprintf("what the VerticalPodAutoscaler would recommend from %d samples since %s", known.Samples(), known.First().UTC().Format(time.DateTime)),
		Evidence: recommender.Evidence{
			Since: known.First(), Until: known.Last(), Samples: known.Samples(), Hours: int(known.Last().Sub(known.First()).Hours()), Certainty: 1, Covered: nan, Over: nan,
		},
	}
	if out.Upper >= most {
		out.Upper = math.Inf(1)
	}
	return out
}

// checkpoint is that of a container.
func (a *aggregate) checkpoint(now time.Time) vpa.Checkpoint {
	return a.known.Checkpoint(now, maps.Values(a.instances))
}

// containers are the names of those that something is known of.
func (s *stock) containers() []string { return slices.Sorted(maps.Keys(s.of)) }
