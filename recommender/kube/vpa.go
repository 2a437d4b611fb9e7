package kube

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	vpav1 "k8s.io/autoscaler/vertical-pod-autoscaler/pkg/apis/autoscaling.k8s.io/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/recommender"
)

const (
	// annotationEstimator on a VerticalPodAutoscaler, with the value vpa, asks for the numbers that the stock recommender would give.
	annotationEstimator = v1alpha1.Group + "/estimator"
	estimatorVPA        = "vpa"
)

// vpaKind is the VerticalPodAutoscaler's.
func vpaKind() schema.GroupKind {
	return vpav1.SchemeGroupVersion.WithKind("VerticalPodAutoscaler").GroupKind()
}

// ours says whether a VerticalPodAutoscaler names this recommender, and no other.
func ours(v *vpav1.VerticalPodAutoscaler) bool {
	for _, r := range v.Spec.Recommenders {
		if r == nil || r.Name != Name {
			return false
		}
	}
	return len(v.Spec.Recommenders) > 0
}

// inPlace says whether a VerticalPodAutoscaler's updates resize pods as they run.
func inPlace(v *vpav1.VerticalPodAutoscaler) bool {
	if v.Spec.UpdatePolicy == nil || v.Spec.UpdatePolicy.UpdateMode == nil {
		return false
	}
	mode := *v.Spec.UpdatePolicy.UpdateMode
	return mode == vpav1.UpdateModeInPlace || mode == vpav1.UpdateModeInPlaceOrRecreate
}

// listVPAs lists the VerticalPodAutoscalers that name this recommender. A cluster need not know the kind, and may learn it later.
func (c *Controller) listVPAs(ctx context.Context, s *survey) error {
	if _, err := c.opts.Mapper.RESTMapping(vpaKind(), vpav1.SchemeGroupVersion.Version); err != nil {
		if meta.IsNoMatchError(err) {
			return nil
		}
		return fmt.Errorf("cannot find out whether there are VerticalPodAutoscalers: %w", err)
	}
	var list vpav1.VerticalPodAutoscalerList
	if err := c.opts.Client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("cannot list VerticalPodAutoscalers: %w", err)
	}
	for i := range list.Items {
		if v := &list.Items[i]; ours(v) && v.DeletionTimestamp == nil {
			s.vpas = append(s.vpas, *v)
		}
	}
	return nil
}

// targetOf is what a VerticalPodAutoscaler is about.
func targetOf(v *vpav1.VerticalPodAutoscaler) v1alpha1.TargetReference {
	if ref := v.Spec.TargetRef; ref != nil {
		return v1alpha1.TargetReference{APIVersion: ref.APIVersion, Kind: ref.Kind, Name: ref.Name}
	}
	return v1alpha1.TargetReference{}
}

// advise looks at one VerticalPodAutoscaler and writes its status if that has changed.
func (c *Controller) advise(ctx context.Context, j job) error {
	o := c.object(j)
	if o == nil {
		return nil
	}
	var v vpav1.VerticalPodAutoscaler
	if err := c.opts.Client.Get(ctx, j.name, &v); err != nil {
		return client.IgnoreNotFound(err)
	}
	if !ours(&v) {
		return nil
	}
	w := c.workload(o.id)
	if w == nil {
		return nil // it is not looked at yet
	}
	now := c.opts.Now()
	before := v.Status.DeepCopy()
	set := conditions{list: v.Status.Conditions, now: now, generation: v.Generation}
	if err := c.fillVPA(ctx, w, &v, &set, now); err != nil {
		return err
	}
	v.Status.Conditions = set.sorted()
	v.Status.ObservedGeneration = new(v.Generation)
	if vpaChanged(before, &v.Status) || now.Sub(o.written) >= stale && !equality.Semantic.DeepEqual(before, &v.Status) {
		base := v.DeepCopy()
		base.Status = *before
		err := c.write(ctx, "vpa", func(ctx context.Context) error {
			return c.opts.Client.Status().Patch(ctx, &v, client.MergeFrom(base), client.FieldOwner(FieldOwner))
		})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("cannot write the status: %w", err)
		}
		o.written = now
	}
	valid := v.Status.Recommendation != nil && len(v.Status.Recommendation.ContainerRecommendations) > 0
	c.looked(j, func(o2 *object) { o2.looked, o2.valid, o2.written = now, valid, o.written })
	return nil
}

// fillVPA fills a status.
func (c *Controller) fillVPA(ctx context.Context, w *workload, v *vpav1.VerticalPodAutoscaler, set *conditions, now time.Time) error {
	if why, err := c.unsupported(ctx, w, v); err != nil {
		return err
	} else if why != "" {
		v.Status.Recommendation = nil
		set.on(vpav1.ConfigUnsupported, "", why)
		set.on(vpav1.NoPodsMatched, "NoPodsMatched", "No pods match this VPA object")
		set.off(vpav1.RecommendationProvided, "NoPodsMatched", "No pods match this VPA object")
		return nil
	}
	set.remove(vpav1.ConfigUnsupported, vpav1.ConfigDeprecated)
	hpa := relatives(c.hpaOf(w.id))
	w.mu.Lock()
	defer w.mu.Unlock()
	reason, message := "", ""
	if w.replicas == 0 {
		reason, message = "NoPodsMatched", "No pods match this VPA object"
		set.on(vpav1.NoPodsMatched, reason, message)
	} else {
		set.remove(vpav1.NoPodsMatched)
	}
	if w.filling {
		set.on(vpav1.FetchingHistory, "", "the past is being fetched")
	} else {
		set.remove(vpav1.FetchingHistory)
	}
	list, left, why := c.containersOf(w, v, hpa, now)
	kept := w.unsaved(v.Name)
	if len(list) == 0 {
		v.Status.Recommendation = nil
		if left == "" && reason == "" && why != "" {
			reason, message = v1alpha1.ReasonNoHistory, why
		}
		if left != "" {
			reason, message = reasonAutoscaled, left
		}
		set.off(vpav1.RecommendationProvided, reason, joined(message, kept))
		return nil
	}
	v.Status.Recommendation = &vpav1.RecommendedPodResources{ContainerRecommendations: list}
	if left != "" {
		reason, message = reasonAutoscaled, left
	} else {
		reason, message = "", ""
	}
	if kept != "" && reason == "" {
		reason = v1alpha1.ReasonCheckpoint
	}
	set.on(vpav1.RecommendationProvided, reason, joined(message, kept))
	return nil
}

// joined puts two remarks together, of which either may be missing.
func joined(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// unsaved says why what is learnt for a VPA is not kept, "" if it is. Caller holds the lock.
func (w *workload) unsaved(name string) string {
	var texts []string
	if err := w.keep.problem(); err != nil {
		texts = append(texts, oneLine(err))
	}
	if w.stock != nil {
		for _, container := range w.stock.containers() {
			if err := w.stock.foreign[name+"-"+container]; err != nil {
				texts = append(texts, oneLine(err))
			}
		}
	}
	return strings.Join(texts, "; ")
}

// reasonAutoscaled is that of the condition RecommendationProvided where a resource is left out because of an HPA.
const reasonAutoscaled = "HorizontallyAutoscaled"

// unsupported says why a VerticalPodAutoscaler cannot be followed, "" if it can.
func (c *Controller) unsupported(ctx context.Context, w *workload, v *vpav1.VerticalPodAutoscaler) (string, error) {
	if v.Spec.TargetRef == nil {
		return "targetRef is missing", nil
	}
	if w.isKnown() {
		return "", nil
	}
	ref := targetOf(v)
	found, kind, err := c.owners.exists(ctx, v.Namespace, ref)
	target := fmt.Sprintf("%s.%s/%s", ref.APIVersion, ref.Kind, ref.Name)
	switch {
	case err != nil && !apierrors.IsForbidden(err):
		return "", err
	case err != nil:
		return "Cannot read targetRef. Reason: " + err.Error(), nil //nolint:nilerr // it is the answer
	case !kind:
		return fmt.Sprintf("Cannot read targetRef. Reason: the cluster has no %s in %s", ref.Kind, ref.APIVersion), nil
	case found == nil:
		return fmt.Sprintf("Cannot read targetRef. Reason: %s %s/%s does not exist", ref.Kind, v.Namespace, ref.Name), nil
	case len(found.OwnerReferences) > 0:
		return fmt.Sprintf("The target %s has a parent controller but it should point to a topmost well-known or scalable controller", target), nil
	}
	return "", nil
}

// containersOf are the recommendations of containers. left says what is left out because an HPA scales on it, why what is missing.
// Caller holds the workload's lock.
func (c *Controller) containersOf(w *workload, v *vpav1.VerticalPodAutoscaler, hpa []relative, now time.Time) (list []vpav1.RecommendedContainerResources, left, why string) {
	w.recall(&v1alpha1.ResourceRecommendationStatus{})
	wish := &wishes{floors: c.opts.Floors, containers: w.running()}
	var held []string
	for i := range w.templates {
		t := &w.templates[i]
		policy := policyOf(v, t.name)
		if w.stock != nil {
			if err := w.stock.follow(t.name, &policy, now); err != nil {
				why = err.Error()
			}
		}
		if t.kind != v1alpha1.TypeContainer || policy.Mode != nil && *policy.Mode == vpav1.ContainerScalingModeOff {
			continue // the stock admission controller sets no other containers' requests
		}
		out := recommendedContainer{ContainerName: t.name}
		for _, r := range controlled() {
			name := nameOfResource(r)
			if policy.ControlledResources != nil && !slices.Contains(*policy.ControlledResources, name) {
				continue
			}
			if k := slices.IndexFunc(hpa, func(x relative) bool { return x.about(t.name, name) }); k >= 0 {
				held = append(held, fmt.Sprintf("%s of container %s", name, t.name))
				continue
			}
			e, missing := w.forVPA(v, wish, t.name, r, now)
			if missing != "" {
				why = missing
				out.keep(v.Status.Recommendation, name)
				continue
			}
			out.put(name, e, &policy)
		}
		if len(out.Target) > 0 {
			list = append(list, vpav1.RecommendedContainerResources(out))
		}
	}
	slices.SortFunc(list, func(a, b vpav1.RecommendedContainerResources) int {
		return cmp.Compare(a.ContainerName, b.ContainerName)
	})
	if len(held) > 0 {
		left = strings.Join(held, ", ") + ": a HorizontalPodAutoscaler's averageUtilization depends on the request, and a VerticalPodAutoscaler cannot change both; a ResourceRecommendation says what both should be"
	}
	return list, left, why
}

// policyOf is the policy of a container: its own, else that of all, else none.
func policyOf(v *vpav1.VerticalPodAutoscaler, container string) vpav1.ContainerResourcePolicy {
	var found vpav1.ContainerResourcePolicy
	if v.Spec.ResourcePolicy == nil {
		return found
	}
	for i := range v.Spec.ResourcePolicy.ContainerPolicies {
		p := &v.Spec.ResourcePolicy.ContainerPolicies[i]
		if p.ContainerName == container {
			return *p
		}
		if p.ContainerName == vpav1.DefaultContainerResourcePolicy {
			found = *p
		}
	}
	return found
}

// estimated is what goes into the status, before the policy's bounds.
type estimated struct{ target, lower, upper *resource.Quantity }

// forVPA estimates one resource of a container, over all node classes of a DaemonSet the most.
func (w *workload) forVPA(v *vpav1.VerticalPodAutoscaler, wish *wishes, container string, r recommender.Resource, now time.Time) (e estimated, missing string) {
	if v.Annotations[annotationEstimator] == estimatorVPA {
		if w.stock == nil {
			return e, "the checkpoints have not been read yet"
		}
		return w.stock.forVPA(v, container, r, w.count(v))
	}
	missing = "there are no samples of " + string(r) + " yet"
	for _, class := range w.classes(container) {
		key := recommender.Key{Container: container, Class: class, Resource: r}
		p := w.policy(key)
		p.Min = wish.policy(key).Min
		got := w.estimate(key, p, now)
		if !got.Valid {
			missing = got.Why()
			if !got.ReadyAt.IsZero() {
				missing += "; a recommendation is expected at " + got.ReadyAt.UTC().Format(time.RFC3339)
			}
			continue
		}
		target := amount(r, got.Request)
		lower, upper := known(r, got.Lower), known(r, got.Upper)
		if lower == nil || lower.Cmp(*target) > 0 {
			lower = target
		}
		if upper == nil || upper.Cmp(*target) < 0 {
			upper = target
		}
		if e.target == nil || e.target.Cmp(*target) < 0 {
			e = estimated{target, lower, upper}
		}
	}
	if e.target != nil {
		missing = ""
	}
	return e, missing
}

// count is among how many containers the VPA divides its floors: those that it recommends for, and of which it knows something.
func (w *workload) count(v *vpav1.VerticalPodAutoscaler) int {
	n := 0
	for name := range w.stock.of {
		if p := policyOf(v, name); p.Mode == nil || *p.Mode != vpav1.ContainerScalingModeOff {
			n++
		}
	}
	return n
}
