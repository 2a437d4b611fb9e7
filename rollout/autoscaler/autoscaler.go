// Package autoscaler keeps the HorizontalPodAutoscaler of a workload from undoing an update, and puts it back.
//
// The few fields that are held are written in one update with the annotation Annotation, which keeps what the owner had there and what was
// written over it. Put back is by comparison of the three: a field that no longer has what was written is somebody else's, and stays.
// An edit to the very value that is held cannot be told from none.
//
// An HPA that a ScalePolicy owns is rewritten by its controller: there the floor is an annotation, which that controller minds. What
// another controller owns, as KEDA does, is left alone, and said.
package autoscaler

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout/workload"
)

// Annotation keeps, on an HPA that is held, what is needed to put it back.
const Annotation = "headroom.dev/rollout-hold"

// Guard is what was found and done.
type Guard struct {
	// Name is the HPA's, "" where none scales the workload. Min and Max are as its owner wrote them.
	Name     string
	Min, Max int
	// Message says what a person should know: two HPAs, one that another controller rewrites, an API server without tolerances.
	Message string
}

// Client guards autoscalers.
type Client struct {
	Reader client.Reader // not from a cache
	Writer client.Writer
}

// Hold raises the floor of the workload's HPA, so that it cannot take the service below it in the middle of an update, and takes away
// the tolerance by which it would count surge pods for wanted ones (kubernetes#138505). What was there is kept in an annotation
// of the same write. It can be repeated; scaling up, and down to the floor, stays the HPA's.
//
// An error for which apierrors.IsConflict holds means that the HPA has changed in the meantime, and that Hold is to be called again.
func (c *Client) Hold(ctx context.Context, ref workload.Ref, floor int) (Guard, error) {
	all, err := c.list(ctx, ref.Namespace)
	if err != nil {
		return Guard{}, err
	}
	var mine []*unstructured.Unstructured
	for _, h := range all {
		switch {
		case scales(h, ref):
			mine = append(mine, h)
		case heldFor(h, ref): // it was, until somebody pointed it elsewhere
			if err := c.letGo(ctx, h); err != nil {
				return Guard{}, err
			}
		}
	}
	switch len(mine) {
	case 0:
		return Guard{}, nil
	case 1:
	default:
		return Guard{Message: fmt.Sprintf("HorizontalPodAutoscalers %s all scale %s: none is held, and they undo each other's work; delete all but one",
			names(mine), ref)}, nil
	}
	h := mine[0]
	switch owner := metav1.GetControllerOf(h); {
	case owner == nil:
		return c.hold(ctx, h, ref, int64(floor))
	case isScalePolicy(owner):
		return c.tell(ctx, h, owner, ref, floor)
	default:
		g := guardOf(h, pick(specOf(h)))
		g.Message = fmt.Sprintf("HorizontalPodAutoscaler %q belongs to %s %q, which would write it back: it is not held, and may scale down in the middle of an update",
			h.GetName(), owner.Kind, owner.Name)
		return g, nil
	}
}

// Release puts the HPA back as its owner wrote it. What others wrote in the meantime stays.
func (c *Client) Release(ctx context.Context, ref workload.Ref) error {
	all, err := c.list(ctx, ref.Namespace)
	if err != nil {
		return err
	}
	for _, h := range all {
		if !heldFor(h, ref) {
			continue
		}
		if err := c.letGo(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

// hold writes an HPA's own fields. Nothing is written where they are as they should be.
func (c *Client) hold(ctx context.Context, h *unstructured.Unstructured, ref workload.Ref, floor int64) (Guard, error) {
	r, err := recordOf(h)
	if err != nil {
		return Guard{}, err
	}
	now := pick(specOf(h))
	owner := restored(now, r)
	g := guardOf(h, owner)
	next := record{For: nameOf(ref), Was: owner}
	if r != nil {
		next.NoTolerance = r.NoTolerance
		if most := int64(g.Max); r.For == next.For && reflect.DeepEqual(now, r.Wrote) && least(now) == least(held(owner, floor, most, false)) {
			g.Message = drift(next.NoTolerance, h)
			return g, nil
		}
	}
	// The API server fills in what goes with a tolerance; asked first, it tells what will be there.
	for {
		tolerances := !next.NoTolerance && drifts(specOf(h))
		put(specOf(h), held(owner, floor, int64(g.Max), tolerances))
		asked := h.DeepCopy()
		if err := c.Writer.Update(ctx, asked, client.FieldOwner(workload.Manager), client.DryRunAll); err != nil {
			return Guard{}, fmt.Errorf("cannot hold HorizontalPodAutoscaler %q: %w", h.GetName(), err)
		}
		next.Wrote = pick(specOf(asked))
		if !tolerances || hasTolerances(next.Wrote) {
			break
		}
		next.NoTolerance = true
	}
	if err := annotate(h, Annotation, next); err != nil {
		return Guard{}, err
	}
	annotateText(h, v1alpha1.AnnotationRolloutFloor, "") // of a ScalePolicy that has let go
	if err := c.Writer.Update(ctx, h, client.FieldOwner(workload.Manager)); err != nil {
		return Guard{}, fmt.Errorf("cannot hold HorizontalPodAutoscaler %q: %w", h.GetName(), err)
	}
	g.Message = drift(next.NoTolerance, h)
	return g, nil
}

// drift is what an API server without tolerances means.
func drift(dropped bool, h *unstructured.Unstructured) string {
	if !dropped {
		return ""
	}
	return fmt.Sprintf("the API server takes no tolerance (HPAConfigurableTolerance is off): HorizontalPodAutoscaler %q may count surge pods as wanted while its metric is within 10 %% of the target", h.GetName())
}

// tell sets the floor of an HPA that a ScalePolicy owns, for that one's controller. Tolerances are none there anyway.
func (c *Client) tell(ctx context.Context, h *unstructured.Unstructured, owner *metav1.OwnerReference, ref workload.Ref, floor int) (Guard, error) {
	var p v1alpha1.ScalePolicy
	if err := c.Reader.Get(ctx, client.ObjectKey{Namespace: h.GetNamespace(), Name: owner.Name}, &p); err != nil {
		return Guard{}, fmt.Errorf("cannot read ScalePolicy %q, which owns HorizontalPodAutoscaler %q: %w", owner.Name, h.GetName(), err)
	}
	g := Guard{Name: h.GetName(), Min: 1, Max: int(p.Spec.MaxReplicas)}
	if p.Spec.MinReplicas != nil {
		g.Min = int(*p.Spec.MinReplicas)
	}
	want := h.DeepCopy()
	if err := forget(want); err != nil { // of the time before the policy took it over
		return Guard{}, err
	}
	if err := annotate(want, Annotation, record{For: nameOf(ref)}); err != nil {
		return Guard{}, err
	}
	annotateText(want, v1alpha1.AnnotationRolloutFloor, strconv.Itoa(floor))
	return g, c.update(ctx, h, want, "hold")
}

// letGo puts one HPA back.
func (c *Client) letGo(ctx context.Context, h *unstructured.Unstructured) error {
	want := h.DeepCopy()
	if err := forget(want); err != nil {
		return err
	}
	err := c.update(ctx, h, want, "put back")
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (c *Client) update(ctx context.Context, have, want *unstructured.Unstructured, verb string) error {
	if reflect.DeepEqual(have.Object, want.Object) {
		return nil
	}
	if err := c.Writer.Update(ctx, want, client.FieldOwner(workload.Manager)); err != nil {
		return fmt.Errorf("cannot %s HorizontalPodAutoscaler %q: %w", verb, have.GetName(), err)
	}
	return nil
}

// forget puts an HPA back in memory, without its annotations.
func forget(h *unstructured.Unstructured) error {
	r, err := recordOf(h)
	if err != nil {
		return err
	}
	annotations := h.GetAnnotations()
	kept, adopted := annotations[v1alpha1.AnnotationOriginalSpec]
	switch {
	case r == nil || r.Wrote == nil:
	case adopted: // by a ScalePolicy, in the middle of an update: what it will give back is what was held
		var spec map[string]any
		if err := json.Unmarshal([]byte(kept), &spec); err != nil {
			return fmt.Errorf("cannot read the annotation %s of HorizontalPodAutoscaler %q: %w", v1alpha1.AnnotationOriginalSpec, h.GetName(), err)
		}
		put(spec, restored(pick(spec), r))
		raw, err := json.Marshal(spec)
		if err != nil {
			return fmt.Errorf("cannot keep the spec of HorizontalPodAutoscaler %q: %w", h.GetName(), err)
		}
		annotations[v1alpha1.AnnotationOriginalSpec] = string(raw)
	default:
		put(specOf(h), restored(pick(specOf(h)), r))
	}
	delete(annotations, Annotation)
	delete(annotations, v1alpha1.AnnotationRolloutFloor)
	h.SetAnnotations(annotations)
	return nil
}

func (c *Client) list(ctx context.Context, namespace string) ([]*unstructured.Unstructured, error) {
	var list unstructured.UnstructuredList // so that fields which this client does not know survive a write
	list.SetGroupVersionKind(autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscalerList"))
	if err := c.Reader.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("cannot list HorizontalPodAutoscalers in namespace %s: %w", namespace, err)
	}
	var all []*unstructured.Unstructured
	for i := range list.Items {
		if h := &list.Items[i]; h.GetDeletionTimestamp() == nil {
			all = append(all, h)
		}
	}
	return all, nil
}

// scales says whether an HPA scales the workload. Versions of the group are the same object.
func scales(h *unstructured.Unstructured, ref workload.Ref) bool {
	target := inner(specOf(h), "scaleTargetRef")
	version, _ := target["apiVersion"].(string)
	gv, err := schema.ParseGroupVersion(version)
	return err == nil && gv.Group == "apps" && target["kind"] == string(ref.Kind) && target["name"] == ref.Name
}

// heldFor says whether an HPA is held for the workload. An annotation that cannot be read is nobody's.
func heldFor(h *unstructured.Unstructured, ref workload.Ref) bool {
	r, err := recordOf(h)
	return err == nil && r != nil && r.For == nameOf(ref)
}

func guardOf(h *unstructured.Unstructured, owner fields) Guard {
	most, _ := specOf(h)["maxReplicas"].(int64)
	return Guard{Name: h.GetName(), Min: int(least(owner)), Max: int(most)}
}

func specOf(h *unstructured.Unstructured) map[string]any { return inner(h.Object, "spec") }

func nameOf(ref workload.Ref) string { return string(ref.Kind) + "/" + ref.Name }

func names(hpas []*unstructured.Unstructured) string {
	var list []string
	for _, h := range hpas {
		list = append(list, strconv.Quote(h.GetName()))
	}
	return strings.Join(list, ", ")
}

func isScalePolicy(owner *metav1.OwnerReference) bool {
	gv, err := schema.ParseGroupVersion(owner.APIVersion)
	return err == nil && gv.Group == v1alpha1.Group && owner.Kind == v1alpha1.KindScalePolicy
}

func annotate(h *unstructured.Unstructured, name string, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("cannot write the annotation %s of HorizontalPodAutoscaler %q: %w", name, h.GetName(), err)
	}
	annotateText(h, name, string(raw))
	return nil
}

// annotateText sets an annotation, or removes it where the value is empty.
func annotateText(h *unstructured.Unstructured, name, value string) {
	annotations := h.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[name] = value
	if value == "" {
		delete(annotations, name)
	}
	h.SetAnnotations(annotations)
}
