package apiserver

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
)

// Lister finds the objects that a label selector means.
type Lister interface {
	// Names returns the names of the resource's objects in the namespace, "" for root-scoped resources, that match.
	Names(ctx context.Context, resource, namespace string, selector labels.Selector) ([]string, error)
}

// MetadataLister asks the API server. It needs the right to list each resource that is selected by labels.
type MetadataLister struct {
	Client metadata.Interface
	Kinds  *Kinds
}

var _ Lister = MetadataLister{}

// Names implements Lister.
func (l MetadataLister) Names(ctx context.Context, resource, namespace string, selector labels.Selector) ([]string, error) {
	gvk, err := l.Kinds.Of(resource)
	if err != nil {
		return nil, err
	}
	gvr := schema.ParseGroupResource(resource).WithVersion(gvk.Version)
	// From the API server's cache: a selection that is a second old is as good, and costs etcd nothing.
	list, err := l.Client.Resource(gvr).Namespace(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String(), ResourceVersion: "0"})
	if err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", resource, err)
	}
	names := make([]string, len(list.Items))
	for i := range list.Items {
		names[i] = list.Items[i].Name
	}
	return names, nil
}
