package capacity

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
)

// LabelPolicy bears the UID of the RolloutPolicy that an object, or a placeholder pod, was made for.
const LabelPolicy = "headroom.dev/rollout-policy-uid"

const manager = "headroom-rollout-capacity" // of fields

// Ensure makes the objects by which the nodes of a schedule's uses are asked for, and deletes those of this policy that are not among
// them; with no uses it deletes all. It can be repeated. Message says what is waited for, "" where nothing is.
//
// An autoscaler, and the scheduler with placeholder pods, fill what is free before they make nodes. So the first source asks for what
// the schedule takes from Free as well: else the new nodes would be too few by as many.
func (c *Client) Ensure(ctx context.Context, p *v1alpha1.RolloutPolicy, n Need, uses []rollout.Use) (message string, err error) {
	wanted, err := c.wanted(ctx, p, n, uses)
	if err != nil {
		return "", err // nothing is deleted while it is not known what is wanted
	}
	if len(wanted) == 0 && c.isClean(p) {
		return "", nil
	}
	live, err := c.objects(ctx, p)
	if err != nil {
		return "", err
	}
	if len(wanted)+len(live) == 0 {
		c.setClean(p, true)
		return "", nil
	}
	c.setClean(p, false)
	for _, o := range live { // first what asks for nodes, so that never more is asked for than is wanted
		if wanted.find(o.GroupVersionKind().GroupKind(), o.GetName()) == nil {
			if err := c.remove(ctx, o); err != nil {
				return "", err
			}
		}
	}
	for _, w := range wanted {
		o := live.find(w.object.GroupVersionKind().GroupKind(), w.object.GetName())
		if o, err = c.write(ctx, w.object, o); err != nil {
			return "", err
		}
		if w.state == nil {
			continue
		}
		text, err := w.state(ctx, o)
		if err != nil {
			return "", err
		}
		message = join(message, text)
	}
	return message, nil
}

func (c *Client) isClean(p *v1alpha1.RolloutPolicy) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.clean[p.UID]
	return ok
}

func (c *Client) setClean(p *v1alpha1.RolloutPolicy, clean bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !clean {
		delete(c.clean, p.UID)
		return
	}
	if c.clean == nil {
		c.clean = map[types.UID]struct{}{}
	}
	c.clean[p.UID] = struct{}{}
}

// want is an object that there should be.
type want struct {
	object *unstructured.Unstructured
	// state says what is waited for, from the object as it is; nil where it has nothing to say.
	state func(context.Context, *unstructured.Unstructured) (string, error)
}

type wants []want

func (w wants) find(kind schema.GroupKind, name string) *unstructured.Unstructured {
	for i := range w {
		if o := w[i].object; o.GroupVersionKind().GroupKind() == kind && o.GetName() == name {
			return o
		}
	}
	return nil
}

type objects []*unstructured.Unstructured

func (l objects) find(kind schema.GroupKind, name string) *unstructured.Unstructured {
	for _, o := range l {
		if o.GroupVersionKind().GroupKind() == kind && o.GetName() == name {
			return o
		}
	}
	return nil
}

// objects are this policy's, those first that ask for nodes. They are read as unstructured objects, which managers do not cache
// unless told to: what is made here is few, and is to be seen at once.
func (c *Client) objects(ctx context.Context, p *v1alpha1.RolloutPolicy) (objects, error) {
	kinds := []schema.GroupVersionKind{deploymentKind(), podTemplateKind()}
	for _, find := range []func() (schema.GroupVersionKind, error){c.capacityBuffer, c.provisioningRequest} {
		gvk, err := find()
		if _, missing := errors.AsType[missingError](err); missing {
			continue
		}
		if err != nil {
			return nil, err
		}
		kinds = append([]schema.GroupVersionKind{gvk}, kinds...)
	}
	var out objects
	for _, gvk := range kinds {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
		err := c.Client.List(ctx, list, client.InNamespace(p.Namespace), client.MatchingLabels{LabelPolicy: string(p.UID)})
		if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
			continue // the CRD has just gone
		}
		if err != nil {
			return nil, fmt.Errorf("cannot list %ss: %w", gvk.Kind, err)
		}
		for i := range list.Items {
			if o := &list.Items[i]; metav1.IsControlledBy(o, p) {
				out = append(out, o)
			}
		}
	}
	return out, nil
}

func (c *Client) remove(ctx context.Context, o *unstructured.Unstructured) error {
	if o.GetDeletionTimestamp() != nil {
		return nil
	}
	uid := o.GetUID()
	err := c.Client.Delete(ctx, o, client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) { // a conflict: another one of that name, for the next time
		return fmt.Errorf("cannot delete %s: %w", describe(o), err)
	}
	return nil
}

// write makes an object, or makes it as it should be again, and returns it as it is.
func (c *Client) write(ctx context.Context, o, live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if live != nil && (live.GetDeletionTimestamp() != nil || o.GetKind() == requestName || sameSpec(o, live)) {
		return live, nil
	}
	out := o.DeepCopy()
	if o.GetKind() == requestName {
		// Its spec cannot be changed: another one has another name.
		if err := c.Client.Create(ctx, out, client.FieldOwner(manager)); err != nil {
			return nil, fmt.Errorf("cannot create %s: %w", describe(o), err)
		}
		return out, nil
	}
	if err := c.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(out), client.FieldOwner(manager), client.ForceOwnership); err != nil {
		return nil, fmt.Errorf("cannot apply %s: %w", describe(o), err)
	}
	return out, nil
}

// sameSpec reports whether what is wanted is there; what the API server has defaulted may be there besides.
func sameSpec(o, live *unstructured.Unstructured) bool {
	for _, field := range []string{"spec", "template"} { // a PodTemplate has no spec
		if !equality.Semantic.DeepDerivative(o.Object[field], live.Object[field]) {
			return false
		}
	}
	return true
}

func describe(o *unstructured.Unstructured) string {
	return o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
}
