package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// Slices plays the endpointslice controller, which cannot work here: EndpointSlices refuse loopback addresses. It writes
// one slice per Service with a selector, in which each pod's 127.1.x.y stands as 198.18.x.y (RFC 2544's range for
// benchmarks, which nobody routes); Proxy translates back. The API server wants to see endpoints before it calls an
// aggregated API available.
type Slices struct {
	client   kubernetes.Interface
	log      *slog.Logger
	services corelisters.ServiceLister
	pods     corelisters.PodLister
	queue    workqueue.TypedRateLimitingInterface[cache.ObjectName]
}

const (
	managedBy = "headroom-lab"
	// maxEndpoints is the API's limit for one slice; a Service with more pods shows the first thousand here.
	maxEndpoints = 1000
	sliceRetry   = 50 * time.Millisecond
)

// advertised is what stands in an EndpointSlice for a pod's loopback address.
func advertised(pod netip.Addr) netip.Addr {
	a := pod.As4()
	return netip.AddrFrom4([4]byte{198, 18, a[2], a[3]})
}

// loopback is the opposite of advertised; other addresses stay as they are.
func loopback(address netip.Addr) netip.Addr {
	if !address.Is4() {
		return address
	}
	if a := address.As4(); a[0] == 198 && a[1] == 18 {
		return netip.AddrFrom4([4]byte{127, 1, a[2], a[3]})
	}
	return address
}

// RunSlices keeps the slices until ctx ends.
func RunSlices(ctx context.Context, client kubernetes.Interface, log *slog.Logger) error {
	factory := informers.NewSharedInformerFactory(client, 0)
	services, pods := factory.Core().V1().Services(), factory.Core().V1().Pods()
	s := &Slices{
		client: client, log: log, services: services.Lister(), pods: pods.Lister(),
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[cache.ObjectName](sliceRetry, 5*time.Second)),
	}
	enqueueService := func(item any) {
		if service, ok := item.(*corev1.Service); ok {
			s.queue.Add(cache.MetaObjectToName(service))
		}
	}
	_, err := services.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: enqueueService, UpdateFunc: func(_, now any) { enqueueService(now) },
	})
	if err != nil {
		return fmt.Errorf("cannot watch services: %w", err)
	}
	_, err = pods.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: s.enqueuePod, UpdateFunc: func(_, now any) { s.enqueuePod(now) }, DeleteFunc: s.enqueuePod,
	})
	if err != nil {
		return fmt.Errorf("cannot watch pods: %w", err)
	}
	factory.StartWithContext(ctx)
	factory.WaitForCacheSyncWithContext(ctx)
	stop := context.AfterFunc(ctx, s.queue.ShutDown)
	defer stop()
	for {
		key, quit := s.queue.Get()
		if quit {
			return nil
		}
		if err := s.reconcile(ctx, key); err != nil && ctx.Err() == nil {
			s.log.Debug("an EndpointSlice is tried again", "service", key, "err", err)
			s.queue.AddRateLimited(key)
		} else {
			s.queue.Forget(key)
		}
		s.queue.Done(key)
	}
}

// enqueuePod finds the Services that select a pod.
func (s *Slices) enqueuePod(item any) {
	if gone, ok := item.(cache.DeletedFinalStateUnknown); ok {
		item = gone.Obj
	}
	pod, ok := item.(*corev1.Pod)
	if !ok {
		return
	}
	all, _ := s.services.Services(pod.Namespace).List(labels.Everything()) // a lister over a cache does not fail
	for _, service := range all {
		if len(service.Spec.Selector) > 0 && labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)) {
			s.queue.Add(cache.MetaObjectToName(service))
		}
	}
}

func (s *Slices) reconcile(ctx context.Context, key cache.ObjectName) error {
	service, err := s.services.Services(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return nil // the slice is owned by the Service and goes with it
	}
	if err != nil || len(service.Spec.Selector) == 0 {
		return err
	}
	pods, err := s.pods.Pods(key.Namespace).List(labels.SelectorFromSet(service.Spec.Selector))
	if err != nil {
		return err
	}
	want := slice(service, pods)
	api := s.client.DiscoveryV1().EndpointSlices(key.Namespace)
	have, err := api.Get(ctx, want.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = api.Create(ctx, want, metav1.CreateOptions{})
	case err == nil && (!equality.Semantic.DeepEqual(have.Endpoints, want.Endpoints) || !equality.Semantic.DeepEqual(have.Ports, want.Ports)):
		want.ResourceVersion = have.ResourceVersion
		_, err = api.Update(ctx, want, metav1.UpdateOptions{})
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot write the EndpointSlice of service %s", key), err)
	}
	return nil
}

// slice is what the endpointslice controller would write, with advertised addresses.
func slice(service *corev1.Service, pods []*corev1.Pod) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: service.Name + "-lab", Namespace: service.Namespace,
			Labels:          map[string]string{discoveryv1.LabelServiceName: service.Name, discoveryv1.LabelManagedBy: managedBy},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(service, corev1.SchemeGroupVersion.WithKind("Service"))},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	pods = slices.SortedFunc(slices.Values(pods), func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	for _, pod := range pods {
		address, err := netip.ParseAddr(pod.Status.PodIP)
		if err != nil || !address.Is4() || len(s.Endpoints) == maxEndpoints {
			continue
		}
		if len(s.Ports) == 0 {
			s.Ports = ports(service, pod)
		}
		terminating := pod.DeletionTimestamp != nil
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{advertised(address).String()},
			Conditions: discoveryv1.EndpointConditions{
				Ready: new(Ready(pod)), Serving: new(podReady(pod)), Terminating: &terminating,
			},
			NodeName:  &pod.Spec.NodeName,
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		})
	}
	return s
}

func ports(service *corev1.Service, pod *corev1.Pod) []discoveryv1.EndpointPort {
	var out []discoveryv1.EndpointPort
	for _, p := range service.Spec.Ports {
		if target, ok := TargetPort(pod, p); ok {
			protocol := cmp.Or(p.Protocol, corev1.ProtocolTCP)
			out = append(out, discoveryv1.EndpointPort{Name: new(p.Name), Port: &target, Protocol: &protocol})
		}
	}
	return out
}
