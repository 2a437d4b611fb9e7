package traffic

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/rollout/route"
)

// releasedAnnotation is on helpers that no rule of ours names any more, and holds since when.
const releasedAnnotation = "headroom.dev/traffic-released"

// nameMax is the longest name of a Service.
const nameMax = 63

func services() kind { return kindOf("", "Service", "v1") }

// helper is the name of a version's Service.
func helper(service, hash string) string {
	return service[:max(0, min(len(service), nameMax-1-len(hash)))] + "-" + hash
}

// ensure makes the Services of versions that have none. None is made unless all can be.
func (t Target) ensure(ctx context.Context, hashes ...string) error {
	base, err := t.get(ctx, services(), t.Service)
	if err != nil {
		return err
	}
	var wanted []*unstructured.Unstructured
	for _, hash := range hashes {
		if hash == "" {
			continue
		}
		u, err := helperOf(base, hash)
		if err != nil {
			return err
		}
		have, err := t.get(ctx, services(), u.GetName())
		switch {
		case err == nil && !metav1.IsControlledBy(have, base):
			return fmt.Errorf("%w: %s exists and belongs to someone else; it is what the Service of version %s would be called", route.ErrInvalid, describe(have), hash)
		case err != nil && !gone(err):
			return err
		}
		wanted = append(wanted, u)
	}
	for _, u := range wanted {
		if err := t.apply(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

// apply writes an object of our own. Nobody else's fields are overwritten.
func (t Target) apply(ctx context.Context, u *unstructured.Unstructured) error {
	name := describe(u)
	err := t.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(Manager))
	if err != nil {
		return fmt.Errorf("cannot apply %s: %w", name, applied(name, err))
	}
	return nil
}

// helperOf is the Service of one version. Of the user's it has what reaches the pods and how; type and addresses of the
// outside stay with the user's, and so do labels, by which monitors would scrape each pod once more.
func helperOf(base *unstructured.Unstructured, hash string) (*unstructured.Unstructured, error) {
	selector, err := selectorAt(base, []string{"spec", "selector"})
	if err != nil {
		return nil, err
	}
	var service corev1.Service
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(base.Object, &service); err != nil {
		return nil, fmt.Errorf("%w %s: %w", route.ErrInvalid, describe(base), err)
	}
	if service.Spec.Type == corev1.ServiceTypeExternalName {
		return nil, fmt.Errorf("%w: spec.type of %s is ExternalName, which has no pods", route.ErrUnsupported, describe(base))
	}
	selector[HashLabel] = hash
	spec := corev1.ServiceSpec{
		Selector: selector, SessionAffinity: service.Spec.SessionAffinity, SessionAffinityConfig: service.Spec.SessionAffinityConfig,
		InternalTrafficPolicy: service.Spec.InternalTrafficPolicy, TrafficDistribution: service.Spec.TrafficDistribution,
		IPFamilies: service.Spec.IPFamilies, IPFamilyPolicy: service.Spec.IPFamilyPolicy,
	}
	if service.Spec.ClusterIP == corev1.ClusterIPNone {
		spec.ClusterIP = corev1.ClusterIPNone
	}
	for _, port := range service.Spec.Ports {
		port.NodePort = 0
		spec.Ports = append(spec.Ports, port)
	}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&corev1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{
			Name: helper(base.GetName(), hash), Namespace: base.GetNamespace(), Labels: map[string]string{ServiceLabel: base.GetName()},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(base, corev1.SchemeGroupVersion.WithKind("Service"))},
		},
		Spec: spec,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot make a Service for version %s of %s: %w", hash, describe(base), err)
	}
	delete(object, "status")
	u := &unstructured.Unstructured{Object: object}
	unstructured.RemoveNestedField(object, "metadata", "creationTimestamp")
	return u, nil
}

// release deletes the helpers of all versions but the given ones, once routers have left them: that is when seen says so
// and settle has passed since the first call that found them unused. It returns how many still wait.
func (t Target) release(ctx context.Context, seen bool, used ...string) (int, error) {
	var list corev1.ServiceList
	if err := t.Client.List(ctx, &list, client.InNamespace(t.Namespace), client.MatchingLabels{ServiceLabel: t.Service}); err != nil {
		return 0, fmt.Errorf("cannot list the Services of %s: %w", t.Namespace, err)
	}
	waiting, now := 0, t.Now()
	for i := range list.Items {
		s := &list.Items[i]
		if slices.Contains(used, s.Spec.Selector[HashLabel]) || s.DeletionTimestamp != nil {
			continue
		}
		if !ownedByService(s, t.Service) {
			continue // a label alone makes nothing ours
		}
		since, err := time.Parse(time.RFC3339, s.Annotations[releasedAnnotation])
		switch {
		case err != nil: // it has just fallen out of use
			waiting++
			err = t.change(ctx, services(), s.Name, func(u *unstructured.Unstructured) error {
				return unstructured.SetNestedField(u.Object, now.UTC().Format(time.RFC3339), "metadata", "annotations", releasedAnnotation)
			})
			if err != nil && !gone(err) {
				return waiting, err
			}
		case !seen || now.Sub(since) < t.settle():
			waiting++
		default:
			if err := t.Client.Delete(ctx, s, client.Preconditions{UID: &s.UID}); err != nil && !apierrors.IsNotFound(err) {
				return waiting, fmt.Errorf("cannot delete Service %s/%s: %w", s.Namespace, s.Name, err)
			}
		}
	}
	return waiting, nil
}

func ownedByService(object metav1.Object, service string) bool {
	owner := metav1.GetControllerOf(object)
	return owner != nil && owner.Kind == "Service" && owner.Name == service
}

// reclaim takes the mark of release from helpers that are in use again.
func (t Target) reclaim(ctx context.Context, hashes ...string) error {
	for _, hash := range hashes {
		if hash == "" {
			continue
		}
		err := t.change(ctx, services(), helper(t.Service, hash), func(u *unstructured.Unstructured) error {
			annotations := u.GetAnnotations()
			delete(annotations, releasedAnnotation)
			if len(annotations) == 0 {
				annotations = nil
			}
			u.SetAnnotations(annotations)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// answering checks that each version that is to get requests has ready endpoints behind its own Service.
func (t Target) answering(ctx context.Context, want, inForce route.Split) error {
	check := func(hash string) error {
		name := helper(t.Service, hash)
		ready, err := t.receiving(ctx, name)
		if err == nil && ready[hash] == 0 {
			err = &route.NotYetError{Want: want, InForce: inForce, Why: fmt.Sprintf("Service %s/%s has no ready endpoint", t.Namespace, name)}
		}
		return err
	}
	stable, canary := want.Gets()
	if stable {
		if err := check(want.Stable); err != nil {
			return err
		}
	}
	if canary {
		return check(want.Canary)
	}
	return nil
}
