package app

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/recommender"
	"headroom.dev/headroom/recommender/report"
)

const (
	// checkpointKey is where the controller keeps usage in a ConfigMap.
	checkpointKey = "usage"
	// checkpointsAtOnce are fetched side by side; each is some tens of KiB.
	checkpointsAtOnce = 8
)

// recommendations reads the objects into the report. found is how many there were before the target was looked for.
func (c *cluster) recommendations(ctx context.Context, r *recommend, target *workloadName, out *report.Report) (found int, err error) {
	values := url.Values{}
	if r.selector != "" {
		values.Set("labelSelector", r.selector)
	}
	var list v1alpha1.ResourceRecommendationList
	err = c.fetch(ctx, scoped(v1alpha1.GroupVersion().String(), c.namespace, v1alpha1.ResourceResourceRecommendations), values, &list)
	_, absent := errors.AsType[*absentError](err)
	switch {
	case absent:
		return 0, errors.New("the cluster knows no ResourceRecommendations: install Headroom with kubectl apply -k manifests (CustomResourceDefinition resourcerecommendations.headroom.dev not found)")
	case apierrors.IsForbidden(err):
		return 0, &forbiddenError{err}
	case err != nil:
		return 0, err
	}
	found = len(list.Items)
	covered := map[string]bool{}
	var kept []*v1alpha1.ResourceRecommendation
	for i := range list.Items {
		o := &list.Items[i]
		t := &o.Spec.TargetRef
		covered[o.Namespace+"/"+t.Kind+"/"+t.Name] = true
		if target.is(t.Kind, t.Name) {
			kept = append(kept, o)
			out.Workloads = append(out.Workloads, workloadOf(o))
		}
	}
	if err := c.usages(ctx, r, kept, out); err != nil {
		return 0, err
	}
	vpas, err := c.stockAutoscalers(ctx, values, target, covered, out)
	return found + vpas, err
}

func workloadOf(o *v1alpha1.ResourceRecommendation) report.Workload {
	st := &o.Status
	w := report.Workload{
		Namespace: o.Namespace, APIVersion: o.Spec.TargetRef.APIVersion, WorkloadOf: o.Spec.TargetRef.Kind, Name: o.Spec.TargetRef.Name,
		Source: "ResourceRecommendation/" + o.Name, Replicas: st.Replicas, Changed: timeOf(st.Changed),
		Reason: v1alpha1.ReasonPending, Message: "headroom-controller has not looked at it yet",
	}
	if cond := meta.FindStatusCondition(st.Conditions, v1alpha1.ConditionReady); cond != nil {
		w.Ready, w.Reason, w.Message = cond.Status == metav1.ConditionTrue, cond.Reason, cond.Message
	}
	for i := range st.Containers {
		in := &st.Containers[i]
		one := report.Container{Name: in.Name, Type: string(in.Type), NodeClass: in.NodeClass, GPU: gpuOf(in.GPU)}
		for j := range in.Resources {
			a := adviceOf(&in.Resources[j])
			w.ReadyAt = later(w.ReadyAt, a.ReadyAt)
			one.Resources = append(one.Resources, a)
		}
		if one.GPU != nil {
			w.ReadyAt = later(w.ReadyAt, one.GPU.ReadyAt)
		}
		w.Containers = append(w.Containers, one)
	}
	if a := st.Autoscaler; a != nil {
		w.Autoscaler = &report.Autoscaler{Name: a.Name, Message: a.Message}
		for _, m := range a.Metrics {
			w.Autoscaler.Metrics = append(w.Autoscaler.Metrics, report.AutoscalerMetric{
				Resource: string(m.Resource), Container: m.Container, Now: m.Now, Recommended: m.Recommended,
			})
		}
	}
	return w
}

func adviceOf(a *v1alpha1.ResourceAdvice) report.Advice {
	return report.Advice{
		Resource: string(a.Resource), Request: floatOf(a.Request), Limit: floatOf(a.Limit), Recommended: floatOf(a.Recommended),
		RecommendedLimit: floatOf(a.RecommendedLimit), Lower: floatOf(a.Lower), Upper: floatOf(a.Upper), Startup: floatOf(a.Startup),
		Reason: a.Reason, Message: a.Message, ReadyAt: timeOf(a.ReadyAt), Now: replayOf(a.Now), Then: replayOf(a.Then), Evidence: evidenceOf(a.Evidence),
	}
}

func replayOf(s *v1alpha1.ReplayStatus) *report.Replay {
	if s == nil {
		return nil
	}
	return &report.Replay{
		Since: s.Since.UTC(), Hours: int(s.Hours), Over: s.OverPercent.AsApproximateFloat64(), Excess: s.ExcessPercent.AsApproximateFloat64(), Kills: int(s.Kills),
	}
}

func evidenceOf(e *v1alpha1.EvidenceStatus) *report.Evidence {
	if e == nil {
		return nil
	}
	out := &report.Evidence{Since: e.Since.UTC(), Samples: e.Samples, Hours: int(e.Hours), Certainty: int(e.CertaintyPercent), Over: floatOf(e.OverPercent)}
	if e.CoveredPercent != nil {
		out.Covered = new(int(*e.CoveredPercent))
	}
	return out
}

func gpuOf(g *v1alpha1.GPUAdvice) *report.GPU {
	if g == nil {
		return nil
	}
	out := &report.GPU{
		Model: g.Model, Now: gpuRequestOf(g.Now), Recommended: gpuRequestOf(g.Recommended), Memory: floatOf(g.Memory), Lower: floatOf(g.MemoryLower),
		Upper: floatOf(g.MemoryUpper), Peak: floatOf(g.MemoryPeak), Compute: floatOf(g.ComputePercent), Risk: floatOf(g.RiskPercent), Claim: g.ResourceClaim,
		Placement: g.Placement, Reason: g.Reason, Message: g.Message, ReadyAt: timeOf(g.ReadyAt), Evidence: evidenceOf(g.Evidence),
	}
	for _, s := range g.Settings {
		out.Settings = append(out.Settings, report.EngineSetting(s))
	}
	return out
}

func gpuRequestOf(q *v1alpha1.GPURequest) *report.GPURequest {
	if q == nil {
		return nil
	}
	return &report.GPURequest{
		Resource: q.Resource, Count: q.Count, Sharing: string(q.Sharing), Share: q.Share.AsApproximateFloat64(), Memory: q.Memory.AsApproximateFloat64(),
	}
}

// usages reads what is kept of the past: for plots, and for a replay of other days than the controller's. What cannot be read is
// a note, for the recommendations stand without it.
func (c *cluster) usages(ctx context.Context, r *recommend, from []*v1alpha1.ResourceRecommendation, out *report.Report) error {
	shown := r.output == "html" || r.output == "json" || r.output == "yaml"
	if r.patch || !shown && r.days == 0 {
		return nil
	}
	var mu sync.Mutex
	missing, first := 0, ""
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(checkpointsAtOnce)
	for i, o := range from {
		if o.Status.Checkpoint == "" {
			continue
		}
		g.Go(func() error {
			past, err := c.checkpoint(ctx, o.Namespace, o.Status.Checkpoint)
			if err == nil {
				r.remember(&out.Workloads[i], past, out.At, shown)
				return nil
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			mu.Lock()
			defer mu.Unlock()
			missing++
			if text := err.Error(); first == "" || text < first {
				first = text
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if missing > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("what is kept of the past is missing for %d of %d workloads: %s", missing, len(from), first))
	}
	return nil
}

func (c *cluster) checkpoint(ctx context.Context, namespace, name string) (*recommender.Checkpoint, error) {
	var m corev1.ConfigMap
	if err := c.fetch(ctx, "/api/v1/namespaces/"+namespace+"/configmaps/"+name, nil, &m); err != nil {
		return nil, err
	}
	past, err := recommender.DecodeCheckpoint(m.BinaryData[checkpointKey], func(k recommender.Key) recommender.Policy {
		return recommender.DefaultPolicy(k.Resource) // a replay needs none
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read ConfigMap %s/%s: %w", namespace, name, err)
	}
	return past, nil
}

// remember puts the past of a workload's containers into the report.
func (r *recommend) remember(w *report.Workload, past *recommender.Checkpoint, at time.Time, shown bool) {
	since := time.Time{}
	if r.days > 0 {
		since = r.since(at)
	}
	for i := range w.Containers {
		c := &w.Containers[i]
		find := func(name recommender.Resource) *recommender.Usage {
			return past.Usages[recommender.Key{Container: c.Name, Class: c.NodeClass, Resource: name}]
		}
		for j := range c.Resources {
			a := &c.Resources[j]
			u := find(recommender.Resource(a.Resource))
			if u == nil {
				continue
			}
			if shown {
				a.Usage = usageOf(u, since)
			}
			if r.days > 0 {
				a.Now, a.Then = replayed(u, since, a.Request, a.Limit), replayed(u, since, a.Recommended, a.RecommendedLimit)
			}
		}
		if c.GPU != nil && shown {
			if u := find(recommender.GPUMemory); u != nil {
				c.GPU.Usage = usageOf(u, since)
			}
		}
	}
}

// replayed is what the hours since a time would have been like at a request. Containers are killed at their limit, or without
// one, and under pressure on the node, at the request.
func replayed(u *recommender.Usage, since time.Time, request, limit *float64) *report.Replay {
	if request == nil {
		return nil
	}
	p := u.Replay(*request, since)
	if p.Hours == 0 {
		return nil
	}
	out := &report.Replay{Since: p.Since.UTC(), Hours: p.Hours, Over: 100 * p.Over, Excess: 100 * p.Excess, Kills: p.Kills}
	if limit != nil {
		out.Kills = u.Replay(*limit, since).Kills
	}
	if u.Resource() != recommender.Memory {
		out.Kills = 0
	}
	return out
}

// usageOf lists what is known since a time, from the first hour of which something is; nil where there is none.
func usageOf(u *recommender.Usage, since time.Time) *report.Usage {
	out := &report.Usage{Step: time.Hour.Seconds()}
	for h := range u.Hours() {
		switch {
		case h.Start.Before(since), out.Start.IsZero() && !h.Known:
			continue
		case out.Start.IsZero():
			out.Start = h.Start.UTC()
		case len(out.Max) == 1: // what is called an hour may be less, where days are compressed
			out.Step = h.Start.Sub(out.Start).Seconds()
		}
		out.P50, out.P90, out.Max = append(out.P50, short(h.P50)), append(out.P90, short(h.P90)), append(out.Max, short(h.Max))
	}
	if len(out.Max) == 0 {
		return nil
	}
	return out
}

// short keeps four digits: the hours' values are within some percent of the true ones.
func short(v float64) report.Number {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return report.Number(v)
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	return report.Number(math.Round(v*scale) / scale)
}

func timeOf(t *metav1.Time) *time.Time {
	if t == nil {
		return nil
	}
	return new(t.UTC())
}

func later(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.After(*a) {
		return b
	}
	return a
}

func quantityOf(list corev1.ResourceList, name corev1.ResourceName) *float64 {
	q, ok := list[name]
	if !ok {
		return nil
	}
	return floatOf(&q)
}
