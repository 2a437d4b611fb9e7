package apiserver

import (
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
)

// kindRetry is how long a kind that discovery does not know stays unknown: each try fetches the whole discovery.
const kindRetry = 30 * time.Second

// Kinds knows the kind and the version of resources: of Kubernetes' own by heart, of others once the API server has told.
// Asking never waits for the API server; learning does.
type Kinds struct {
	mapper meta.RESTMapper // nil: only what is built in

	mu      sync.RWMutex
	known   map[string]schema.GroupVersionKind // by resource, "deployments.apps"
	failed  map[string]error                   // why a resource is not known
	retryAt time.Time
}

// NewKinds returns Kinds that ask the mapper for what is not built into Kubernetes; it may be nil.
func NewKinds(mapper meta.RESTMapper) *Kinds {
	k := &Kinds{mapper: mapper, known: map[string]schema.GroupVersionKind{}, failed: map[string]error{}}
	for _, gv := range scheme.Scheme.PrioritizedVersionsAllGroups() { // the preferred version of a group comes first
		for kind := range scheme.Scheme.KnownTypes(gv) {
			plural, _ := meta.UnsafeGuessKindToResource(gv.WithKind(kind))
			resource := plural.GroupResource().String()
			if _, ok := k.known[resource]; !ok {
				k.known[resource] = gv.WithKind(kind)
			}
		}
	}
	return k
}

// Of returns the kind of a resource, or why it is not known.
func (k *Kinds) Of(resource string) (schema.GroupVersionKind, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if gvk, ok := k.known[resource]; ok {
		return gvk, nil
	}
	if err := k.failed[resource]; err != nil {
		return schema.GroupVersionKind{}, fmt.Errorf("the kind of %s is not known: %w", resource, err)
	}
	return schema.GroupVersionKind{}, fmt.Errorf("the kind of %s is not known yet", resource)
}

// learn asks the API server for those of the resources that are not known. It may take long.
func (k *Kinds) learn(now time.Time, resources map[string]bool) {
	if k.mapper == nil {
		return
	}
	for _, resource := range k.missing(now, resources) {
		gvk, err := k.mapper.KindFor(schema.ParseGroupResource(resource).WithVersion(""))
		k.mu.Lock()
		if err == nil {
			k.known[resource] = gvk
			delete(k.failed, resource)
		} else {
			k.failed[resource] = err
			k.retryAt = now.Add(kindRetry)
		}
		k.mu.Unlock()
	}
}

// missing returns what to ask for now: what has never been asked, and after a while what failed.
func (k *Kinds) missing(now time.Time, resources map[string]bool) []string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	var list []string
	for resource := range resources {
		_, known := k.known[resource]
		if !known && (k.failed[resource] == nil || !now.Before(k.retryAt)) {
			list = append(list, resource)
		}
	}
	return list
}
