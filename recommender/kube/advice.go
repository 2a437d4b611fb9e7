package kube

import (
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/recommender"
)

// replayed is how far back a replay looks.
const replayed = 7 * 24 * time.Hour

// controlled are the resources that are recommended with a number.
func controlled() []recommender.Resource {
	return []recommender.Resource{recommender.CPU, recommender.Memory}
}

// estimate asks a usage under a policy. Caller holds the lock.
func (w *workload) estimate(key recommender.Key, p recommender.Policy, now time.Time) recommender.Recommendation {
	u := w.usages[key]
	if u == nil {
		return recommender.Recommendation{Reason: recommender.ReasonNoHistory, Startup: math.NaN()}
	}
	u.SetPolicy(p)
	u.Tick(now)
	return recommender.Estimate(u, now)
}

// advise fills a status with what is recommended for a workload's containers, and reports how many of its resources have a
// recommendation. Caller holds the lock.
func (c *Controller) containers(w *workload, e v1alpha1.RecommendationEstimator, wish *wishes, now time.Time, s *v1alpha1.ResourceRecommendationStatus) (valid, all int) {
	w.policy = wish.risk
	s.Containers = nil
	for i := range w.templates {
		t := &w.templates[i]
		if wish.off(t.name) {
			continue
		}
		for _, class := range w.classes(t.name) {
			advice := v1alpha1.ContainerRecommendation{Name: t.name, Type: t.kind, NodeClass: class}
			for _, r := range controlled() {
				a := w.resource(e, t, recommender.Key{Container: t.name, Class: class, Resource: r}, wish, now)
				all++
				if a.Recommended != nil {
					valid++
				}
				advice.Resources = append(advice.Resources, a)
			}
			advice.GPU = c.gpuAdvice(w, t, class, wish, now)
			s.Containers = append(s.Containers, advice)
		}
	}
	s.Replicas = new(w.replicas)
	s.Total, s.Recommended = totals(w.templates, s.Containers)
	return valid, all
}

// resource is the advice for one resource of a container.
func (w *workload) resource(e v1alpha1.RecommendationEstimator, t *template, key recommender.Key, wish *wishes, now time.Time) v1alpha1.ResourceAdvice {
	name := nameOfResource(key.Resource)
	a := v1alpha1.ResourceAdvice{Resource: name, Request: find(t.resources.Requests, name), Limit: find(t.resources.Limits, name)}
	var r recommender.Recommendation
	if e == v1alpha1.EstimatorVPA {
		r = w.stock.recommend(key, wish)
	} else {
		r = w.estimate(key, wish.policy(key), now)
	}
	a.Reason, a.Message = string(r.Reason), r.Why()
	a.Startup = known(key.Resource, r.Startup)
	a.Evidence = evidence(&r.Evidence)
	if !r.Valid {
		if !r.ReadyAt.IsZero() {
			a.ReadyAt = new(timeOf(r.ReadyAt))
		}
		return a
	}
	a.Recommended = amount(key.Resource, r.Request)
	a.Lower, a.Upper = known(key.Resource, r.Lower), known(key.Resource, r.Upper)
	a.RecommendedLimit = limitFor(key.Resource, a.Request, a.Limit, a.Recommended)
	if u := w.usages[key]; u != nil {
		since := now.Add(-replayed)
		if a.Request != nil && !a.Request.IsZero() {
			a.Now = replay(u.Replay(a.Request.AsApproximateFloat64(), since))
		}
		a.Then = replay(u.Replay(a.Recommended.AsApproximateFloat64(), since))
	}
	return a
}

// limitFor keeps the proportion of limit to request. A memory limit without a request means a request of the same.
func limitFor(r recommender.Resource, request, limit, recommended *resource.Quantity) *resource.Quantity {
	if limit == nil || limit.IsZero() {
		return nil
	}
	if request == nil || request.IsZero() {
		if r == recommender.Memory {
			return recommended
		}
		return nil
	}
	return amount(r, limit.AsApproximateFloat64()/request.AsApproximateFloat64()*recommended.AsApproximateFloat64())
}

func find(list corev1.ResourceList, name corev1.ResourceName) *resource.Quantity {
	if q, ok := list[name]; ok {
		return &q
	}
	return nil
}

// most is the largest amount that is written, as the VPA's: 1e14 millicores or bytes.
const most = 1e14

// amount rounds up: CPU to a millicore, memory to what kubectl shows in few digits, by at most 1.6 %.
func amount(r recommender.Resource, v float64) *resource.Quantity {
	if r == recommender.CPU {
		return resource.NewMilliQuantity(int64(math.Ceil(min(max(v, 0)*1000, most)-1e-6)), resource.DecimalSI)
	}
	const kibi, mebi = 1 << 10, 1 << 20
	step := float64(kibi)
	switch {
	case v >= 64*mebi:
		step = mebi
	case v >= mebi:
		step = 16 * kibi
	}
	return resource.NewQuantity(int64(min(math.Ceil(max(v, 0)/step)*step, most)), resource.BinarySI)
}

// known is an amount, nil for what is no number.
func known(r recommender.Resource, v float64) *resource.Quantity {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return amount(r, v)
}

// percent is a share in hundredths, to a thousandth.
func percent(share float64) resource.Quantity {
	if math.IsNaN(share) || math.IsInf(share, 0) {
		share = 0
	}
	return *resource.NewMilliQuantity(int64(math.Round(share*100*1000)), resource.DecimalSI)
}

func replay(r recommender.Replay) *v1alpha1.ReplayStatus {
	if r.Hours == 0 {
		return nil
	}
	return &v1alpha1.ReplayStatus{
		Since: timeOf(r.Since), Hours: int32(r.Hours), OverPercent: percent(r.Over), ExcessPercent: percent(r.Excess), Kills: int32(r.Kills),
	}
}

func evidence(e *recommender.Evidence) *v1alpha1.EvidenceStatus {
	if e.Samples == 0 || e.Since.IsZero() {
		return nil
	}
	s := &v1alpha1.EvidenceStatus{Since: timeOf(e.Since), Samples: int64(e.Samples), Hours: int32(e.Hours)}
	if !math.IsNaN(e.Certainty) {
		s.CertaintyPercent = int32(math.Round(100 * e.Certainty))
	}
	if !math.IsNaN(e.Covered) {
		s.CoveredPercent = new(int32(math.Round(100 * e.Covered)))
	}
	if !math.IsNaN(e.Over) {
		s.OverPercent = new(percent(e.Over))
	}
	return s
}

// timeOf is to the second, as the API has it, so that a status read back is equal.
func timeOf(t time.Time) metav1.Time { return metav1.NewTime(t.UTC().Truncate(time.Second)) }

// totals are what a pod requests now, and what it should: the sum over its containers and sidecars, and no less than any of its
// init containers. Of several node classes it is the most. Without any recommendation of a resource there is no second one.
func totals(templates []template, advice []v1alpha1.ContainerRecommendation) (now, then corev1.ResourceList) {
	now, then = corev1.ResourceList{}, corev1.ResourceList{}
	for _, r := range controlled() {
		name := nameOfResource(r)
		total, total2 := resource.Quantity{Format: formatOf(r)}, resource.Quantity{Format: formatOf(r)}
		least, least2, any2 := total.DeepCopy(), total.DeepCopy(), false
		for i := range templates {
			t := &templates[i]
			request := t.resources.Requests[name]
			should, ok := recommended(advice, t.name, name)
			any2 = any2 || ok
			if !ok {
				should = request
			}
			if t.kind == v1alpha1.TypeInit {
				least, least2 = larger(least, request), larger(least2, should)
				continue
			}
			total.Add(request)
			total2.Add(should)
		}
		if total = larger(total, least); !total.IsZero() {
			now[name] = total
		}
		if any2 {
			then[name] = larger(total2, least2)
		}
	}
	gpuTotals(templates, advice, now, then)
	return now, then
}

func formatOf(r recommender.Resource) resource.Format {
	if r == recommender.CPU {
		return resource.DecimalSI
	}
	return resource.BinarySI
}

func larger(a, b resource.Quantity) resource.Quantity {
	if a.Cmp(b) >= 0 {
		return a
	}
	return b
}

// recommended is what a container should request, the most of its node classes.
func recommended(advice []v1alpha1.ContainerRecommendation, container string, name corev1.ResourceName) (q resource.Quantity, ok bool) {
	for i := range advice {
		if advice[i].Name != container {
			continue
		}
		for _, a := range advice[i].Resources {
			if a.Resource == name && a.Recommended != nil {
				q, ok = larger(q, *a.Recommended), true
			}
		}
	}
	return q, ok
}
