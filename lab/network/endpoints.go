package network

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// Endpoints watches the Ready pods that a Service selects, until ctx ends. The returned function gives their addresses on
// the Service's first port; it is cheap and may be called for every request. A selector that is changed is followed, as
// kube-proxy does: blue/green switches traffic by it. EndpointSlices cannot be used: they refuse loopback addresses.
func Endpoints(ctx context.Context, client kubernetes.Interface, namespace, service string) (func() []string, error) {
	s, err := client.CoreV1().Services(namespace).Get(ctx, service, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("cannot watch the endpoints of service %s/%s: %w", namespace, service, err)
	}
	if len(s.Spec.Ports) == 0 || len(s.Spec.Selector) == 0 {
		return nil, fmt.Errorf("cannot watch the endpoints of service %s/%s: it has no port or no selector", namespace, service)
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
	named := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", service).String()
		}))
	pods, services := factory.Core().V1().Pods(), named.Core().V1().Services()
	var current atomic.Pointer[[]string]
	current.Store(new([]string))
	var mu sync.Mutex // whoever comes last has read what is newest
	refresh := func() {
		mu.Lock()
		defer mu.Unlock()
		now, err := services.Lister().Services(namespace).Get(service)
		if err != nil || len(now.Spec.Ports) == 0 || len(now.Spec.Selector) == 0 {
			current.Store(new([]string)) // deleted, or it selects nothing
			return
		}
		list, _ := pods.Lister().List(labels.SelectorFromSet(now.Spec.Selector)) // a lister over a synced cache does not fail
		addresses := make([]string, 0, len(list))
		for _, pod := range list {
			if target, ok := TargetPort(pod, now.Spec.Ports[0]); ok && Ready(pod) {
				addresses = append(addresses, net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(int(target))))
			}
		}
		current.Store(&addresses)
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { refresh() }, UpdateFunc: func(any, any) { refresh() }, DeleteFunc: func(any) { refresh() },
	}
	for _, informer := range []cache.SharedIndexInformer{pods.Informer(), services.Informer()} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return nil, fmt.Errorf("cannot watch the endpoints of service %s/%s: %w", namespace, service, err)
		}
	}
	factory.Start(ctx.Done())
	named.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), pods.Informer().HasSynced, services.Informer().HasSynced) {
		return nil, fmt.Errorf("cannot watch the endpoints of service %s/%s: %w", namespace, service, ctx.Err())
	}
	refresh()
	return func() []string { return *current.Load() }, nil
}
