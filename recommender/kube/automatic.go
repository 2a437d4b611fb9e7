package kube

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
)

// create makes the ResourceRecommendation of a workload in a namespace that wants one for each. It goes with the workload.
func (c *Controller) create(ctx context.Context, j job) error {
	w := c.workload(j.id)
	if w == nil {
		return nil
	}
	c.mu.Lock()
	top := w.top
	c.mu.Unlock()
	r := &v1alpha1.ResourceRecommendation{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: j.name.Namespace, Name: j.name.Name, Labels: map[string]string{managedBy: managedByUs},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: top.apiVersion, Kind: top.id.Kind, Name: top.id.Name, UID: top.uid, Controller: new(true),
			}},
		},
		Spec: v1alpha1.ResourceRecommendationSpec{TargetRef: top.reference()},
	}
	err := c.write(ctx, "recommendation", func(ctx context.Context) error {
		return c.opts.Client.Create(ctx, r, client.FieldOwner(FieldOwner))
	})
	if apierrors.IsAlreadyExists(err) { // the cache has not seen it yet, or a person's has that name
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot create a ResourceRecommendation for %s: %w", top.id, err)
	}
	return nil
}

// remove deletes a ResourceRecommendation that this controller made: its namespace does not want it any more, or a person wrote
// another one.
func (c *Controller) remove(ctx context.Context, j job) error {
	var r v1alpha1.ResourceRecommendation
	if err := c.opts.Client.Get(ctx, j.name, &r); err != nil {
		return client.IgnoreNotFound(err)
	}
	if !automatic(&r) {
		return nil
	}
	err := c.write(ctx, "recommendation", func(ctx context.Context) error {
		return client.IgnoreNotFound(c.opts.Client.Delete(ctx, &r, client.Preconditions{UID: &r.UID}))
	})
	if err != nil {
		return fmt.Errorf("cannot delete a ResourceRecommendation: %w", err)
	}
	return nil
}
