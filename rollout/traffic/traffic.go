// Package traffic carries out a route.Split: it decides which pods get how much of a service's requests, by the means that
// the cluster has.
//
//   - Selector switches a Service between two versions, all or nothing (blue/green).
//   - Replicas writes nothing: without a router, a version's share is that of its ready endpoints.
//   - Rules sets the weights of two backends, and rules for headers and cookies, in an HTTPRoute, a GRPCRoute or an
//     Istio VirtualService.
//   - Ingress lets ingress-nginx split by the annotations of a second, canary, Ingress.
//
// # Objects
//
// The user's Service selects the pods of both versions. Where a router needs a backend for each, there is a Service per
// version beside it, NAME-HASH, with the version's pod-template-hash in its selector: owned by the user's Service, written
// by server-side apply under the field manager Manager, and gone after Restore. As it is named after the version, no
// change of roles ever empties a Service that gets requests.
//
// In the user's own objects, lists of rules and selectors are atomic, so that server-side apply would take the whole of
// them from whoever owns them. There the few fields that are ours are changed under an optimistic lock instead; all else,
// other rules included, stays as it is. What is needed to put them back stands in the annotation Annotation of the same
// object and is written in the same request: it is all there or not at all, and a process that dies anywhere loses
// nothing. A value of ours that someone else has changed is a route.ConflictError, which names them from managedFields. A
// manifest that is applied again in mid-rollout shows as one, too; Restore, then Set, asserts the split again.
//
// # Order
//
// Before a backend gets requests it has ready endpoints. Before helpers are deleted, the router has said that it has seen
// the change (status.parents of Gateway API), and Settle has passed. A version may lose its last pod once a Split that
// gives it nothing is in force. Set first lets the API server and its webhooks say, by a dry run, whether they would take the
// change of the router's object, so that nothing is made for a change that is refused.
//
// # What is believed
//
// Read returns weights only when the router has accepted the object's newest generation, and the backends that get
// requests have ready endpoints. Istio and ingress-nginx do not say when they have taken over a change; there Settle must
// pass. Each object is read live if the client's cache leaves out unstructured objects, as controller-runtime's does
// by default; endpoints may come from a cache.
package traffic

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/rollout/route"
)

const (
	// Manager is the field manager of all that is written here.
	Manager = "headroom-rollout"
	// Annotation holds, by the service's name, what is needed to put an object back.
	Annotation = "headroom.dev/traffic"
	// ServiceLabel is on each helper and holds the name of the user's Service.
	ServiceLabel = "headroom.dev/traffic-of"
	// HashLabel is what the Deployment controller tells versions apart by.
	HashLabel = "pod-template-hash"
	// DefaultSettle is above the time that Istio and ingress-nginx need to take over a change on a healthy cluster (about a
	// second each), and above kube-proxy's.
	DefaultSettle = 5 * time.Second
)

// Target is the service whose traffic is moved, and how to reach the cluster.
type Target struct {
	Client    client.Client
	Namespace string // of the Service, and of the router's objects
	Service   string // selects the pods of both versions; with Fixed backends only the name under which notes are kept
	Now       func() time.Time
	// Settle is how long after a change a router that does not report is taken to have followed. Never less than
	// DefaultSettle when 0.
	Settle time.Duration
}

func (t Target) settle() time.Duration {
	if t.Settle > 0 {
		return t.Settle
	}
	return DefaultSettle
}

func (t Target) key(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: t.Namespace, Name: name}
}

// kind is a kind of object in the versions that are understood, newest first.
type kind []schema.GroupVersionKind

func kindOf(group, name string, versions ...string) kind {
	var k kind
	for _, version := range versions {
		k = append(k, schema.GroupVersionKind{Group: group, Version: version, Kind: name})
	}
	return k
}

func (k kind) String() string {
	if k[0].Group == "" {
		return k[0].Kind
	}
	return k[0].Kind + "." + k[0].Group
}

// get reads an object in the first version that the API server knows.
func (t Target) get(ctx context.Context, k kind, name string) (*unstructured.Unstructured, error) {
	for _, gvk := range k {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(gvk)
		err := t.Client.Get(ctx, t.key(name), u)
		switch {
		case meta.IsNoMatchError(err):
			continue
		case apierrors.IsNotFound(err):
			return nil, fmt.Errorf("%s %s/%s: %w", k, t.Namespace, name, route.ErrNotFound)
		case err != nil:
			return nil, fmt.Errorf("cannot read %s %s/%s: %w", k, t.Namespace, name, err)
		}
		return u, nil
	}
	return nil, fmt.Errorf("%s: %w (CustomResourceDefinition)", k, route.ErrNotInstalled)
}

// describe names an object in messages.
func describe(u *unstructured.Unstructured) string {
	return fmt.Sprintf("%s %s/%s", u.GetKind(), u.GetNamespace(), u.GetName())
}

// gone reports whether an error says that there is nothing left to restore.
func gone(err error) bool {
	return errors.Is(err, route.ErrNotFound) || errors.Is(err, route.ErrNotInstalled)
}
