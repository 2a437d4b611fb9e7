package kube

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
)

const (
	managedBy   = "app.kubernetes.io/managed-by"
	managedByUs = FieldOwner

	// notable is the relative change of a recommendation that is written at once.
	notable = 0.01
	// stale is after what time a status is written in which only small things have changed.
	stale = time.Hour
)

// recommend looks at one ResourceRecommendation and writes its status if that has changed.
func (c *Controller) recommend(ctx context.Context, j job) error {
	o := c.object(j)
	if o == nil {
		return nil
	}
	var r v1alpha1.ResourceRecommendation
	if err := c.opts.Client.Get(ctx, j.name, &r); err != nil {
		return client.IgnoreNotFound(err)
	}
	now := c.opts.Now()
	before := r.Status.DeepCopy()
	ready, err := c.look(ctx, o, &r, now)
	if err != nil {
		return err
	}
	ready.Type, ready.ObservedGeneration = v1alpha1.ConditionReady, r.Generation
	const longest = 32768 // of a condition's message
	ready.Message = shorten(ready.Message, longest)
	r.Status.ObservedGeneration = r.Generation
	meta.SetStatusCondition(&r.Status.Conditions, ready)
	differs := changed(before, &r.Status)
	if before.Changed == nil && ready.Status == metav1.ConditionTrue || recommendedChanged(before, &r.Status) {
		r.Status.Changed = new(timeOf(now))
	}
	valid := ready.Status == metav1.ConditionTrue
	if differs || now.Sub(o.written) >= stale && !equality.Semantic.DeepEqual(before, &r.Status) {
		if err := c.writeStatus(ctx, &r, before); err != nil {
			return err
		}
		o.written = now
	}
	c.looked(j, func(o2 *object) { o2.looked, o2.valid, o2.written = now, valid, o.written })
	return nil
}

func (c *Controller) writeStatus(ctx context.Context, r *v1alpha1.ResourceRecommendation, before *v1alpha1.ResourceRecommendationStatus) error {
	base := r.DeepCopy()
	base.Status = *before
	err := c.write(ctx, "recommendation", func(ctx context.Context) error {
		return c.opts.Client.Status().Patch(ctx, r, client.MergeFrom(base), client.FieldOwner(FieldOwner))
	})
	if apierrors.IsNotFound(err) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return fmt.Errorf("cannot write the status: %w", err)
	}
	for _, t := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionCheckpointSaved} {
		is, was := meta.FindStatusCondition(r.Status.Conditions, t), meta.FindStatusCondition(before.Conditions, t)
		if is == nil || was != nil && was.Status == is.Status && was.Reason == is.Reason || is.Reason == v1alpha1.ReasonSaved && was == nil {
			continue
		}
		kind := corev1.EventTypeNormal
		if is.Status == metav1.ConditionFalse && is.Reason != v1alpha1.ReasonNoHistory {
			kind = corev1.EventTypeWarning
		}
		const note = 1000 // an event's may have 1024 bytes
		c.opts.Recorder.Eventf(r, nil, kind, is.Reason, "Recommend", "%s", shorten(is.Message, note))
	}
	return nil
}

func isFalse(reason, format string, args ...any) metav1.Condition {
	return metav1.Condition{Status: metav1.ConditionFalse, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// look fills a status but for its condition Ready, which it returns.
func (c *Controller) look(ctx context.Context, o *object, r *v1alpha1.ResourceRecommendation, now time.Time) (metav1.Condition, error) {
	if o.duplicate != "" {
		empty(&r.Status)
		return isFalse(v1alpha1.ReasonDuplicate, "ResourceRecommendation %q is about %s %q, too, and comes before this one", o.duplicate, o.id.Kind, o.id.Name), nil
	}
	if err := check(&r.Spec); err != nil {
		empty(&r.Status)
		return isFalse(v1alpha1.ReasonInvalid, "%s", err), nil
	}
	w := c.workload(o.id)
	if w == nil {
		return metav1.Condition{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonPending, Message: "the workload has not been looked at yet"}, nil
	}
	if !w.isKnown() {
		empty(&r.Status)
		return c.absent(ctx, w, r.Spec.TargetRef)
	}
	hpa := c.hpaOf(o.id)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.recall(&r.Status)
	wish := &wishes{spec: &r.Spec, floors: c.opts.Floors, containers: w.running()}
	valid, all := c.containers(w, r.Spec.Estimator, wish, now, &r.Status)
	r.Status.Autoscaler = autoscaler(hpa, w.templates, r.Status.Containers)
	r.Status.Checkpoint = checkpointOf(w.id)
	meta.SetStatusCondition(&r.Status.Conditions, w.keep.condition(r.Generation))
	return c.ready(w, valid, all, &r.Status), nil
}

// empty takes back what was recommended.
func empty(s *v1alpha1.ResourceRecommendationStatus) {
	s.Replicas, s.Total, s.Recommended, s.Containers, s.Autoscaler, s.Checkpoint = nil, nil, nil, nil, nil, ""
	meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionCheckpointSaved)
}

// isKnown says whether pods of the workload, or its usage, were ever seen.
func (w *workload) isKnown() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.templates != nil || len(w.usages) > 0 || w.keep.foreign != nil
}

// running is the number of containers that run side by side in a pod.
func (w *workload) running() int {
	n := 0
	for i := range w.templates {
		if w.templates[i].kind != v1alpha1.TypeInit {
			n++
		}
	}
	return n
}

// absent says why there are no pods to be seen of a workload.
func (c *Controller) absent(ctx context.Context, w *workload, ref v1alpha1.TargetReference) (metav1.Condition, error) {
	found, kind, err := c.owners.exists(ctx, w.id.Namespace, ref)
	switch {
	case err != nil && !apierrors.IsForbidden(err):
		return metav1.Condition{}, err
	case err != nil:
		return isFalse(v1alpha1.ReasonTargetNotFound, "spec.targetRef: %s %q has no pods, and this controller may not read it: %s", ref.Kind, ref.Name, err), nil
	case !kind:
		return isFalse(v1alpha1.ReasonTargetNotFound, "spec.targetRef.kind: the cluster has no %s in %s", ref.Kind, ref.APIVersion), nil
	case found == nil:
		return isFalse(v1alpha1.ReasonTargetNotFound, "spec.targetRef.name: there is no %s %q in namespace %s", ref.Kind, ref.Name, w.id.Namespace), nil
	}
	if owner := metav1.GetControllerOf(found); owner != nil {
		return isFalse(v1alpha1.ReasonInvalid, "spec.targetRef: %s %q belongs to %s %q: name that", ref.Kind, ref.Name, owner.Kind, owner.Name), nil
	}
	return isFalse(v1alpha1.ReasonNoHistory, "%s %q has no pods yet", ref.Kind, ref.Name), nil
}

// ready is the condition of an object whose workload is known. Caller holds the workload's lock.
func (c *Controller) ready(w *workload, valid, all int, s *v1alpha1.ResourceRecommendationStatus) metav1.Condition {
	var notes []string
	if w.filling {
		notes = append(notes, "the past is being fetched")
	}
	c.mu.Lock()
	if trouble := c.trouble[w.id.Namespace]; trouble != "" {
		notes = append(notes, "some usage is missing: "+trouble)
	}
	c.mu.Unlock()
	say := func(text string) string { return strings.Join(append([]string{text}, notes...), "; ") }
	gpu := false
	for i := range s.Containers {
		gpu = gpu || s.Containers[i].GPU != nil && s.Containers[i].GPU.Recommended != nil
	}
	switch {
	case valid > 0 || gpu:
		return metav1.Condition{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonRecommended, Message: say(summary(s, valid, all))}
	case w.keep.foreign != nil:
		return isFalse(v1alpha1.ReasonCheckpoint, "%s", say(w.keep.foreign.Error()))
	}
	return isFalse(v1alpha1.ReasonNoHistory, "%s", say(waiting(s)))
}

// summary is a recommendation in a sentence.
func summary(s *v1alpha1.ResourceRecommendationStatus, valid, all int) string {
	var parts []string
	for _, r := range controlled() {
		name := nameOfResource(r)
		then, ok := s.Recommended[name]
		if !ok {
			continue
		}
		if now, ok := s.Total[name]; ok {
			parts = append(parts, fmt.Sprintf("%s %s instead of %s", name, then.String(), now.String()))
		} else {
			parts = append(parts, fmt.Sprintf("%s %s, which is not requested now", name, then.String()))
		}
	}
	text := "a pod should request " + strings.Join(parts, " and ")
	if len(parts) == 0 {
		text = "the containers' GPUs have recommendations"
	}
	if valid < all {
		text += fmt.Sprintf("; %d of %d recommendations are still to come", all-valid, all)
	}
	return text
}

// waiting says what is missing, of the resource that has it last.
func waiting(s *v1alpha1.ResourceRecommendationStatus) string {
	var last *v1alpha1.ResourceAdvice
	for i := range s.Containers {
		for k := range s.Containers[i].Resources {
			a := &s.Containers[i].Resources[k]
			if last == nil || a.ReadyAt != nil && (last.ReadyAt == nil || last.ReadyAt.Before(a.ReadyAt)) {
				last = a
			}
		}
	}
	switch {
	case last == nil:
		return "no container is to be recommended for"
	case last.ReadyAt != nil:
		return fmt.Sprintf("%s; a recommendation is expected at %s", last.Message, last.ReadyAt.UTC().Format(time.RFC3339))
	}
	return last.Message
}

// condition is the condition CheckpointSaved.
func (k *keeping) condition(generation int64) metav1.Condition {
	out := metav1.Condition{
		Type: v1alpha1.ConditionCheckpointSaved, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonSaved, ObservedGeneration: generation,
		Message: "what is learnt is kept",
	}
	switch {
	case k.foreign != nil:
		out.Status, out.Reason, out.Message = metav1.ConditionFalse, v1alpha1.ReasonCheckpoint, k.foreign.Error()
	case k.failed != nil:
		out.Status, out.Reason, out.Message = metav1.ConditionFalse, v1alpha1.ReasonWriteFailed, k.failed.Error()
	}
	return out
}

// changed says whether something is different that a reader should see at once.
func changed(before, after *v1alpha1.ResourceRecommendationStatus) bool {
	if recommendedChanged(before, after) {
		return true
	}
	strip := func(s *v1alpha1.ResourceRecommendationStatus) *v1alpha1.ResourceRecommendationStatus {
		out := s.DeepCopy()
		out.Changed, out.Recommended = nil, nil
		for i := range out.Conditions {
			out.Conditions[i].Message = "" // it holds numbers
		}
		for i := range out.Containers {
			for k, a := range out.Containers[i].Resources {
				out.Containers[i].Resources[k] = v1alpha1.ResourceAdvice{Resource: a.Resource, Request: a.Request, Limit: a.Limit, Reason: a.Reason}
			}
			if g := out.Containers[i].GPU; g != nil {
				out.Containers[i].GPU = &v1alpha1.GPUAdvice{Model: g.Model, Now: g.Now, Recommended: g.Recommended, Settings: g.Settings, Reason: g.Reason}
			}
		}
		return out
	}
	return !equality.Semantic.DeepEqual(strip(before), strip(after))
}

// recommendedChanged says whether a recommendation has moved by more than a hundredth, or come, or gone.
func recommendedChanged(before, after *v1alpha1.ResourceRecommendationStatus) bool {
	type place struct{ container, class, resource string }
	index := func(s *v1alpha1.ResourceRecommendationStatus) map[place]*resource.Quantity {
		out := map[place]*resource.Quantity{}
		for i := range s.Containers {
			for _, a := range s.Containers[i].Resources {
				if a.Recommended != nil {
					out[place{s.Containers[i].Name, s.Containers[i].NodeClass, string(a.Resource)}] = a.Recommended
				}
			}
		}
		return out
	}
	was, is := index(before), index(after)
	if len(was) != len(is) {
		return true
	}
	for key, q := range is {
		if was[key] == nil || moved(was[key], q) {
			return true
		}
	}
	return false
}

func moved(a, b *resource.Quantity) bool {
	x, y := a.AsApproximateFloat64(), b.AsApproximateFloat64()
	return math.Abs(x-y) > notable*max(x, y)
}

// shorten cuts a text to so many bytes.
func shorten(text string, longest int) string {
	if len(text) <= longest {
		return text
	}
	return strings.ToValidUTF8(text[:longest-3], "") + "…"
}
