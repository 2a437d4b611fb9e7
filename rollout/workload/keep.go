package workload

import (
	"context"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/rollout"
)

// labelKept bears the UID of the Deployment that a ControllerRevision keeps a template for.
const labelKept = "headroom.dev/rollout-kept-for"

// Fleeting says that nothing but the workload itself has its template: a Deployment that is paused makes no ReplicaSet.
func (s *Seen) Fleeting(template string) bool {
	return s.Kind == rollout.Deployment && s.Workload != nil && s.Workload.Template == template && s.Versions[template].Hash == ""
}

// Keep has the workload's present template kept, before another one is written over it, in a ControllerRevision that the workload
// owns: whoever may write those may make pods anyway, which is not so for ConfigMaps. It can be repeated.
func (c *Client) Keep(ctx context.Context, seen *Seen) error {
	t := seen.Workload.Template
	raw, err := json.Marshal(map[string]any{"spec": map[string]any{"template": clean(seen.Versions[t].raw)}})
	if err != nil {
		return fmt.Errorf("cannot keep template %s of %s: %w", t, seen.Ref, err)
	}
	gvk := appsv1.SchemeGroupVersion.WithKind(string(seen.Kind))
	r := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: seen.Namespace, Name: keptName(seen.Ref, t), Labels: map[string]string{labelKept: string(seen.Object.GetUID())},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind, Name: seen.Name, UID: seen.Object.GetUID(), Controller: new(true),
			}},
		},
		Data: runtime.RawExtension{Raw: raw},
	}
	if err := c.Writer.Create(ctx, r, client.FieldOwner(Manager)); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("cannot keep template %s of %s: %w", t, seen.Ref, err)
	}
	return nil
}

// Recall adds a template that was kept to the versions that were seen. One that is not there, or is not what its name says, adds nothing.
func (c *Client) Recall(ctx context.Context, seen *Seen, template string) error {
	if seen.Workload == nil || seen.Keeps(template) {
		return nil
	}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("ControllerRevision"))
	err := c.Reader.Get(ctx, types.NamespacedName{Namespace: seen.Namespace, Name: keptName(seen.Ref, template)}, u)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("cannot read template %s of %s, which was kept: %w", template, seen.Ref, err)
	}
	raw := revisionTemplate(u.Object)
	if raw == nil || !controlledBy(u, seen.Object.GetUID()) || identify(raw) != template {
		return nil
	}
	t, err := typed(raw)
	if err != nil {
		return fmt.Errorf("cannot read template %s of %s, which was kept: %w", template, seen.Ref, err)
	}
	v := seen.Versions[template]
	v.ID, v.Template, v.raw = template, t, raw
	seen.Versions[template] = v
	return nil
}

// Forget deletes what Keep made. It can be repeated.
func (c *Client) Forget(ctx context.Context, ref Ref, template string) error {
	r := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: ref.Namespace, Name: keptName(ref, template)}}
	if err := c.Writer.Delete(ctx, r); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot delete template %s of %s, which was kept: %w", template, ref, err)
	}
	return nil
}

// keptName is that of a template's ControllerRevision.
func keptName(r Ref, template string) string {
	const most = 253 - len("headroom--") - idLength
	return "headroom-" + r.Name[:min(len(r.Name), most)] + "-" + template
}
