package evidence

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
)

const (
	requestsPerSecond = "requests_per_second"
	// maxStatusAge is how old a ScalePolicy's status may be, which is written every 30 s.
	maxStatusAge = 3 * time.Minute
	// young is for how long a pod that has become Ready may lack a value: a rate needs two scrapes.
	young = 30 * time.Second
	// ramp is in how many steps demand is drawn that rises to a forecast.
	ramp = 4
)

// Demand tells what the policy's service must serve from now on. What is not known is in Forecast.Missing, not an error.
//
// A ScalePolicy for the same target, in either mode, says all of it, unless the policy measures demand by something else:
// then its capacity is of another unit, and does not count. spec.capacityPerReplica stands above it.
func (c *Client) Demand(ctx context.Context, p *v1alpha1.RolloutPolicy, pods []*corev1.Pod) (Demand, error) {
	now := c.Now()
	d := Demand{Capacity: math.NaN()}
	scale, err := c.scalePolicy(ctx, p)
	if err != nil {
		return d, err
	}
	source := v1alpha1.DemandSource{Metric: requestsPerSecond}
	same := true
	switch {
	case p.Spec.Demand != nil:
		source = *p.Spec.Demand
		same = scale != nil && sameDemand(&source, &scale.Spec.Demand)
	case scale != nil && (scale.Spec.Demand.Metric != "" || scale.Spec.Demand.Query != ""):
		source = scale.Spec.Demand
	}
	if scale != nil {
		d.StartUp = startUp(scale)
		if same {
			d.From = fmt.Sprintf("ScalePolicy %q", scale.Name)
			d.Capacity = capacity(scale, pods)
			d.Forecast = forecast(scale, now)
		}
	}
	if d.From == "" {
		d.From = source.Metric
		if source.Query != "" {
			d.From = "spec.demand.query"
		}
		d.Forecast = c.measure(ctx, p.Namespace, &source, pods, now)
	}
	if q := p.Spec.CapacityPerReplica; q != nil {
		d.Capacity = q.AsApproximateFloat64()
	}
	if !(d.Capacity > 0) || math.IsInf(d.Capacity, 0) {
		d.Capacity = math.NaN()
	}
	if err := ctx.Err(); err != nil {
		return d, fmt.Errorf("cannot measure demand: %w", err)
	}
	return d, nil
}

// scalePolicy is the one for the same target, the oldest where there are several; nil for none.
func (c *Client) scalePolicy(ctx context.Context, p *v1alpha1.RolloutPolicy) (*v1alpha1.ScalePolicy, error) {
	if c.Reader == nil {
		return nil, nil
	}
	var list v1alpha1.ScalePolicyList
	if err := c.Reader.List(ctx, &list, client.InNamespace(p.Namespace)); err != nil {
		return nil, fmt.Errorf("cannot list ScalePolicies: %w", err)
	}
	var found *v1alpha1.ScalePolicy
	for i := range list.Items {
		one := &list.Items[i]
		if one.Spec.TargetRef != p.Spec.TargetRef || one.DeletionTimestamp != nil {
			continue
		}
		if found == nil || one.CreationTimestamp.Before(&found.CreationTimestamp) {
			found = one
		}
	}
	return found, nil
}

func sameDemand(a, b *v1alpha1.DemandSource) bool {
	metric := func(s *v1alpha1.DemandSource) string {
		if s.Metric == "" && s.Query == "" {
			return requestsPerSecond
		}
		return s.Metric
	}
	return metric(a) == metric(b) && a.Query == b.Query
}

// startUp is what is stated, or was learnt at the 90th percentile.
func startUp(s *v1alpha1.ScalePolicy) time.Duration {
	switch learnt := s.Status.Startup; {
	case s.Spec.StartupTime != nil:
		return s.Spec.StartupTime.Duration
	case learnt != nil && learnt.P90 != nil:
		return max(0, learnt.P90.Duration)
	}
	return 0
}

// capacity is the least that is known of the versions of these pods, or of all where it is of none of them.
func capacity(s *v1alpha1.ScalePolicy, pods []*corev1.Pod) float64 {
	if q := s.Spec.CapacityPerReplica; q != nil {
		return q.AsApproximateFloat64()
	}
	versions := map[string]bool{}
	for _, p := range pods {
		for _, label := range []string{"pod-template-hash", "controller-revision-hash"} {
			if v := p.Labels[label]; v != "" {
				versions[v] = true
				break
			}
		}
	}
	ours, anyones := math.NaN(), math.NaN()
	least := func(of *float64, v float64) {
		if v > 0 && (math.IsNaN(*of) || v < *of) {
			*of = v
		}
	}
	for i := range s.Status.Capacity {
		one := &s.Status.Capacity[i]
		v := one.PerReplica.AsApproximateFloat64()
		least(&anyones, v)
		if versions[one.Version] {
			least(&ours, v)
		}
	}
	if math.IsNaN(ours) {
		return anyones
	}
	return ours
}

// forecast is what a ScalePolicy's status says: demand now, and on the way to what is predicted. A rise is drawn in steps that lie
// above the line between the two, a fall counts when it is there.
func forecast(s *v1alpha1.ScalePolicy, now time.Time) rollout.Forecast {
	d := s.Status.Demand
	why := ""
	switch written := statusTime(s); {
	case d == nil:
		why = "its status has no demand yet"
	case d.Current == nil:
		why = d.Missing
		if why == "" {
			why = "its status has no present demand"
		}
	case !written.IsZero() && now.Sub(written) > maxStatusAge:
		why = fmt.Sprintf("its status is of %s ago", now.Sub(written).Round(time.Second))
	}
	if why != "" {
		return rollout.Forecast{Missing: fmt.Sprintf("ScalePolicy %q: %s", s.Name, why)}
	}
	current := max(0, d.Current.AsApproximateFloat64())
	f := rollout.Forecast{Points: []rollout.Point{{At: now, Value: current}}}
	if d.Predicted == nil || d.PredictedFor == nil || !d.PredictedFor.After(now) {
		return f
	}
	predicted, ahead := max(0, d.Predicted.AsApproximateFloat64()), d.PredictedFor.Sub(now)
	if predicted <= current {
		f.Points = append(f.Points, rollout.Point{At: d.PredictedFor.Time, Value: predicted})
		return f
	}
	f.Points = nil
	for i := range ramp {
		at := now.Add(ahead * time.Duration(i) / ramp)
		f.Points = append(f.Points, rollout.Point{At: at, Value: current + (predicted-current)*float64(i+1)/ramp})
	}
	return f
}

// statusTime is when a status was last written, zero where the object does not tell.
func statusTime(s *v1alpha1.ScalePolicy) time.Time {
	var last time.Time
	for i := range s.ManagedFields {
		f := &s.ManagedFields[i]
		if f.Subresource == "status" && f.Time != nil && f.Time.After(last) {
			last = f.Time.Time
		}
	}
	return last
}

// measure asks the metric plane for the present demand, which then is all that is known.
func (c *Client) measure(ctx context.Context, namespace string, s *v1alpha1.DemandSource, pods []*corev1.Pod, now time.Time) rollout.Forecast {
	missing := func(why string) rollout.Forecast { return rollout.Forecast{Missing: why} }
	if s.Query != "" {
		samples, err := c.Plane.Query(ctx, namespace, s.Query)
		switch {
		case err != nil:
			return missing(oneLine(err))
		case len(samples) != 1:
			return missing(fmt.Sprintf("spec.demand.query has %d results, where one was expected", len(samples)))
		case !(samples[0].Value >= 0) || math.IsInf(samples[0].Value, 0):
			return missing(fmt.Sprintf("spec.demand.query yields %v", samples[0].Value))
		case now.Sub(samples[0].At) > maxAge:
			return missing(fmt.Sprintf("the value of spec.demand.query is %s old", now.Sub(samples[0].At).Round(time.Second)))
		}
		return present(now, samples[0].Value)
	}
	found, err := c.podMetric(ctx, namespace, pods, s.Metric)
	if err != nil {
		return missing(s.Metric + ": " + oneLine(err))
	}
	return total(s.Metric, found, pods, now)
}

func present(now time.Time, v float64) rollout.Forecast {
	return rollout.Forecast{Points: []rollout.Point{{At: now, Value: v}}}
}

// total adds a metric up over the pods that serve. Those without a value count as the mean of the others, as for the scaler; where
// fewer than half have one, the sum is missing.
func total(metric string, values map[string]Sample, pods []*corev1.Pod, now time.Time) rollout.Forecast {
	sum, known, serving := 0.0, 0, 0
	for _, p := range pods {
		ready, since := readySince(p)
		if !ready || p.DeletionTimestamp != nil {
			continue
		}
		v, ok := values[p.Name]
		switch {
		case ok && v.Value >= 0 && !math.IsInf(v.Value, 0) && now.Sub(v.At) <= maxAge:
			sum += v.Value
			known++
		case now.Sub(since) < young:
			continue
		}
		serving++
	}
	switch {
	case serving == 0:
		return rollout.Forecast{Missing: metric + ": no pod serves, or none for long enough"}
	case 2*known < serving:
		return rollout.Forecast{Missing: fmt.Sprintf("%s: %d of %d pods have no present value", metric, serving-known, serving)}
	}
	return present(now, sum*float64(serving)/float64(known))
}

func readySince(p *corev1.Pod) (bool, time.Time) {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue, c.LastTransitionTime.Time
		}
	}
	return false, time.Time{}
}

// podMetric asks for a metric of pods, by the labels that all of them have.
func (c *Client) podMetric(ctx context.Context, namespace string, pods []*corev1.Pod, metric string) (map[string]Sample, error) {
	if c.Pods == nil {
		return nil, errors.New("the metrics of pods are not served here")
	}
	pods = slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool { return p == nil })
	if len(pods) == 0 {
		return nil, nil
	}
	shared := labels.Set{}
	for name, value := range pods[0].Labels {
		if !slices.ContainsFunc(pods, func(p *corev1.Pod) bool { v, ok := p.Labels[name]; return !ok || v != value }) {
			shared[name] = value
		}
	}
	return c.Pods.Pods(ctx, namespace, shared.AsSelector(), metric)
}
