package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/scaler"
)

const managedBy = "app.kubernetes.io/managed-by"

// act makes the policy's HPA as it should be: adopted, made, or corrected.
func (c *Controller) act(ctx context.Context, p *v1alpha1.ScalePolicy, cl claim) error {
	want := autoscalerSpec(p, max(floorOf(cl.mine), floorOf(cl.adopt)))
	if cl.mine != nil && cl.mine.Name != cl.name && cl.mine.Annotations[v1alpha1.AnnotationOriginalSpec] == "" { // autoscaler.name has changed
		if err := c.remove(ctx, cl.mine); err != nil {
			return err
		}
		cl.mine = nil
	}
	var h *autoscalingv2.HorizontalPodAutoscaler
	var write func() error
	switch {
	case cl.adopt != nil:
		h = cl.adopt.DeepCopy()
		before, err := json.Marshal(h.Spec)
		if err != nil {
			return fmt.Errorf("cannot keep the spec of HorizontalPodAutoscaler %q: %w", h.Name, err)
		}
		metav1.SetMetaDataAnnotation(&h.ObjectMeta, v1alpha1.AnnotationOriginalSpec, string(before))
		write = func() error { return c.opts.Client.Update(ctx, h) }
	case cl.mine == nil:
		h = &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{
			Namespace: p.Namespace, Name: cl.name, Labels: map[string]string{managedBy: FieldOwner},
		}}
		write = func() error { return c.opts.Client.Create(ctx, h) }
	case follows(&cl.mine.Spec, &want, c.toleranceDropped.Load()):
		return nil
	default:
		h = cl.mine.DeepCopy()
		write = func() error { return c.opts.Client.Update(ctx, h) }
	}
	h.Spec = want
	if err := controllerutil.SetControllerReference(p, h, c.opts.Client.Scheme(), controllerutil.WithBlockOwnerDeletion(false)); err != nil {
		return fmt.Errorf("cannot own HorizontalPodAutoscaler %q: %w", h.Name, err)
	}
	if err := write(); err != nil {
		return fmt.Errorf("cannot write HorizontalPodAutoscaler %q: %w", h.Name, err)
	}
	c.toleranceDropped.Store(droppedTolerance(&h.Spec))
	if cl.adopt != nil {
		c.opts.Recorder.Eventf(p, h, corev1.EventTypeNormal, "Adopted", "Adopt", "HorizontalPodAutoscaler %q now follows this policy", h.Name)
	}
	return nil
}

// release lets go of the policy's HPAs: one that was adopted gets its spec back, one that the policy made is deleted.
func (c *Controller) release(ctx context.Context, p *v1alpha1.ScalePolicy, hpas []autoscalingv2.HorizontalPodAutoscaler) error {
	for i := range hpas {
		h := &hpas[i]
		if !metav1.IsControlledBy(h, p) || h.DeletionTimestamp != nil {
			continue
		}
		kept := h.Annotations[v1alpha1.AnnotationOriginalSpec]
		if kept == "" {
			if err := c.remove(ctx, h); err != nil {
				return err
			}
			continue
		}
		back := h.DeepCopy()
		back.Spec = autoscalingv2.HorizontalPodAutoscalerSpec{}
		if err := json.Unmarshal([]byte(kept), &back.Spec); err != nil {
			return fmt.Errorf("cannot read the annotation %s of HorizontalPodAutoscaler %q: %w", v1alpha1.AnnotationOriginalSpec, h.Name, err)
		}
		delete(back.Annotations, v1alpha1.AnnotationOriginalSpec)
		if err := controllerutil.RemoveControllerReference(p, back, c.opts.Client.Scheme()); err != nil {
			return fmt.Errorf("cannot disown HorizontalPodAutoscaler %q: %w", h.Name, err)
		}
		if err := c.opts.Client.Update(ctx, back); err != nil {
			return fmt.Errorf("cannot give HorizontalPodAutoscaler %q its spec back: %w", h.Name, err)
		}
		c.opts.Recorder.Eventf(p, back, corev1.EventTypeNormal, "Released", "Release", "HorizontalPodAutoscaler %q has its own spec again", h.Name)
	}
	return nil
}

func (c *Controller) remove(ctx context.Context, h *autoscalingv2.HorizontalPodAutoscaler) error {
	err := c.opts.Client.Delete(ctx, h, client.Preconditions{UID: &h.UID})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cannot delete HorizontalPodAutoscaler %q: %w", h.Name, err)
	}
	return nil
}

// spare tells the ReplicaSet controller which pods are busy, before some of them are removed.
func (c *Controller) spare(ctx context.Context, sc *scene) error {
	for name, cost := range stale(scaler.DeletionCosts(sc.observation.Pods), sc.pods) {
		patch := []byte(`{"metadata":{"annotations":{"` + corev1.PodDeletionCost + `":"` + strconv.Itoa(cost) + `"}}}`)
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: sc.pods[name].Namespace, Name: name}}
		err := c.opts.Client.Patch(ctx, pod, client.RawPatch(types.MergePatchType, patch))
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("cannot tell the deletion cost of pod %q: %w", name, err)
		}
	}
	return nil
}
