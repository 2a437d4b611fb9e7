package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/autoscaler"
	"headroom.dev/headroom/rollout/capacity"
	"headroom.dev/headroom/rollout/evidence"
	"headroom.dev/headroom/rollout/kube"
	"headroom.dev/headroom/rollout/route"
	"headroom.dev/headroom/rollout/traffic"
	"headroom.dev/headroom/rollout/workload"
)

// addRollouts lets a manager update workloads. Workloads, HPAs and routers are read live: a decision on a cache's old state could
// undo the last one.
func addRollouts(m manager.Manager, o *Options, p *plane, logger *slog.Logger) error {
	live, err := client.New(m.GetConfig(), client.Options{HTTPClient: m.GetHTTPClient(), Scheme: m.GetScheme(), Mapper: m.GetRESTMapper()})
	if err != nil {
		return fmt.Errorf("cannot make a client for rollouts: %w", err)
	}
	unfit := func(ctx context.Context) (map[string]map[string]int64, error) { return p.unfit(ctx, m.GetClient()) }
	c, err := kube.New(kube.Options{
		Client: m.GetClient(), Reader: live,
		Planner: &kube.Planner{
			Workloads: &workload.Client{Reader: live, Writer: live, Now: time.Now},
			Capacity:  &capacity.Client{Client: m.GetClient(), Now: time.Now, Unfit: unfit},
			Evidence:  &evidence.Client{Plane: labelled{p}, Pods: labelled{p}, Reader: m.GetClient(), Now: time.Now},
			Now:       time.Now,
		},
		Autoscalers: &autoscaler.Client{Reader: live, Writer: live},
		Routers:     func(p *v1alpha1.RolloutPolicy) (route.Router, error) { return routerOf(live, time.Now, p) },
		Budget:      o.RolloutGPUs, Period: o.Period, Now: time.Now,
		Recorder: m.GetEventRecorder(kube.FieldOwner), Registerer: metrics.Registry, Log: logger,
	})
	if err != nil {
		return err
	}
	w := watches{m.GetClient(), logger}
	// A status changes with every pod, and tells of what the last step has done.
	err = builder.ControllerManagedBy(m).Named("rolloutpolicy").
		// Commands of people are annotations.
		For(&v1alpha1.RolloutPolicy{}, builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		WatchesMetadata(&appsv1.Deployment{}, handler.EnqueueRequestsFromMapFunc(w.workload(rollout.Deployment))).
		WatchesMetadata(&appsv1.StatefulSet{}, handler.EnqueueRequestsFromMapFunc(w.workload(rollout.StatefulSet))).
		WatchesMetadata(&appsv1.DaemonSet{}, handler.EnqueueRequestsFromMapFunc(w.workload(rollout.DaemonSet))).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(w.pod)).
		Watches(&autoscalingv2.HorizontalPodAutoscaler{}, handler.EnqueueRequestsFromMapFunc(w.autoscaler), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: o.Workers}).
		Complete(c)
	if err != nil {
		return fmt.Errorf("cannot watch RolloutPolicies: %w", err)
	}
	return nil
}

// routerOf makes the router of a policy that has spec.traffic. The API server has checked that it names one.
func routerOf(c client.Client, now func() time.Time, p *v1alpha1.RolloutPolicy) (route.Router, error) {
	t := p.Spec.Traffic
	if t == nil {
		return nil, errors.New("spec.traffic: not set")
	}
	target := traffic.Target{Client: c, Namespace: p.Namespace, Service: t.Service, Now: now}
	rules := func(r *v1alpha1.RouteReference) traffic.RulesOptions {
		return traffic.RulesOptions{Name: r.Name, Rule: r.Rule}
	}
	switch {
	case t.Switch:
		return traffic.NewSelector(target), nil
	case t.HTTPRoute != nil:
		return traffic.HTTPRoute(target, rules(t.HTTPRoute)), nil
	case t.GRPCRoute != nil:
		return traffic.GRPCRoute(target, rules(t.GRPCRoute)), nil
	case t.VirtualService != nil:
		return traffic.VirtualService(target, rules(t.VirtualService)), nil
	case t.Ingress != nil:
		return traffic.NewIngress(target, t.Ingress.Name, t.Ingress.AnnotationsPrefix), nil
	}
	return nil, errors.New("spec.traffic: none of switch, httpRoute, grpcRoute, virtualService and ingress is set")
}

// watches tell which policies a change of something else concerns.
type watches struct {
	reader client.Reader // a cache
	log    *slog.Logger
}

// policies are those of a namespace for a workload.
func (w watches) policies(ctx context.Context, namespace string, about func(kind, name string) bool) []reconcile.Request {
	var list v1alpha1.RolloutPolicyList
	if err := w.reader.List(ctx, &list, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
		w.log.Error("cannot tell which RolloutPolicies a change concerns", "namespace", namespace, "err", err)
		return nil
	}
	var out []reconcile.Request
	for i := range list.Items {
		if t := &list.Items[i].Spec.TargetRef; about(t.Kind, t.Name) {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return out
}

func (w watches) workload(of rollout.Kind) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		return w.policies(ctx, o.GetNamespace(), func(kind, name string) bool { return kind == string(of) && name == o.GetName() })
	}
}

// pod finds the workload by the pod's owner; that of a ReplicaSet is in its name, before the hash.
func (w watches) pod(ctx context.Context, o client.Object) []reconcile.Request {
	owner := metav1.GetControllerOf(o)
	if owner == nil {
		return nil
	}
	hash := "-" + o.GetLabels()[traffic.HashLabel]
	return w.policies(ctx, o.GetNamespace(), func(kind, name string) bool {
		if kind == string(rollout.Deployment) {
			return owner.Kind == "ReplicaSet" && owner.Name == name+hash
		}
		return owner.Kind == kind && owner.Name == name
	})
}

func (w watches) autoscaler(ctx context.Context, o client.Object) []reconcile.Request {
	h, ok := o.(*autoscalingv2.HorizontalPodAutoscaler)
	if !ok {
		return nil
	}
	ref := h.Spec.ScaleTargetRef
	return w.policies(ctx, o.GetNamespace(), func(kind, name string) bool { return kind == ref.Kind && name == ref.Name })
}
