package traffic

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/rollout/route"
)

// DefaultPrefix is ingress-nginx's of annotations; its flag --annotations-prefix changes it.
const DefaultPrefix = "nginx.ingress.kubernetes.io"

// Ingress moves traffic by ingress-nginx: the user's Ingress is pointed at the stable version's Service, and a second one
// with the same hosts and paths, NAME-SERVICE-canary, at the canary's.
type Ingress struct {
	target Target
	name   string
	prefix string
}

var _ route.Router = (*Ingress)(nil)

// NewIngress returns the router of an Ingress. An empty prefix means DefaultPrefix.
func NewIngress(t Target, name, prefix string) *Ingress {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	return &Ingress{t, name, prefix}
}

func ingresses() kind { return kindOf("networking.k8s.io", "Ingress", "v1") }

func (r *Ingress) canaryName() string {
	suffix := "-" + r.target.Service + "-canary"
	return r.name[:min(len(r.name), 253-len(suffix))] + suffix
}

// main is the Service that the user's Ingress names under a split. Once the canary gets everything it is the canary's:
// ingress-nginx answers 503 where the main backend has no endpoints, whatever the weight of a canary beside it.
func (r *Ingress) main(s route.Split) string {
	if s.Share == 1 {
		return helper(r.target.Service, s.Canary)
	}
	return helper(r.target.Service, s.Stable)
}

// annotations are the ones of the canary's Ingress. ingress-nginx goes by the header, then by the cookie, then by weight.
func (r *Ingress) annotations(s route.Split) (map[string]string, error) {
	total := route.Total(s.Share, 100, 10_000)
	_, weight := route.Round(s.Share, total)
	out := map[string]string{"canary": "true", "canary-weight": strconv.FormatInt(weight, 10), "canary-weight-total": strconv.FormatInt(total, 10)}
	for _, m := range s.Matches {
		switch {
		case m.Cookie != "" && m.Value != "always":
			return nil, fmt.Errorf("%w: ingress-nginx goes by a cookie only if its value is always, not %q", route.ErrUnsupported, m.Value)
		case out["canary-by-cookie"] != "" && m.Cookie != "" || out["canary-by-header"] != "" && m.Header != "":
			return nil, fmt.Errorf("%w: ingress-nginx goes by one header and one cookie, not by %s as well", route.ErrUnsupported, m)
		case m.Cookie != "":
			out["canary-by-cookie"] = m.Cookie
		default:
			out["canary-by-header"], out["canary-by-header-value"] = m.Header, m.Value
		}
	}
	prefixed := map[string]string{}
	for name, value := range out {
		prefixed[r.prefix+"/"+name] = value
	}
	return prefixed, nil
}

// rewrite points the user's Ingress at a version's Service, in memory. canary is the second Ingress.
func (r *Ingress) rewrite(u *unstructured.Unstructured, s route.Split) (canary *networkingv1.Ingress, err error) {
	rec, err := recordOf(u, r.target.Service)
	if err != nil {
		return nil, err
	}
	if u.GetAnnotations()[r.prefix+"/canary"] == "true" {
		return nil, fmt.Errorf("%w: annotation %s/canary of %s: it is a canary itself", route.ErrInvalid, r.prefix, describe(u))
	}
	from := r.target.Service
	if rec != nil {
		from = r.main(rec.Wanted)
	}
	in, err := typed(u)
	if err != nil {
		return nil, err
	}
	switch {
	case rec != nil && (named(in, from) == 0 || named(in, r.target.Service) > 0):
		return nil, conflict(u, "spec", "rules")
	case named(in, from) == 0:
		return nil, fmt.Errorf("%s: no backend in spec.rules or spec.defaultBackend is Service %s: %w", describe(u), from, route.ErrNotFound)
	}
	if rec == nil || !rec.Wanted.Equal(s) {
		rename(u, from, r.main(s))
		if err := keep(u, r.target.Service, rec.next(s, r.target.Now())); err != nil {
			return nil, err
		}
	}
	return r.canary(in, from, s)
}

// canary makes the second Ingress of the paths that are the service's. TLS stays with the first: ingress-nginx merges both.
func (r *Ingress) canary(in *networkingv1.Ingress, from string, s route.Split) (*networkingv1.Ingress, error) {
	annotations, err := r.annotations(s)
	if err != nil || s.Canary == "" {
		return nil, err
	}
	const class = "kubernetes.io/ingress.class" // what spec.ingressClassName was before
	if name, ok := in.Annotations[class]; ok && in.Spec.IngressClassName == nil {
		annotations[class] = name
	}
	out := &networkingv1.Ingress{
		TypeMeta: metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "Ingress"},
		ObjectMeta: metav1.ObjectMeta{
			Name: r.canaryName(), Namespace: in.Namespace, Annotations: annotations, Labels: map[string]string{ServiceLabel: r.target.Service},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(in, networkingv1.SchemeGroupVersion.WithKind("Ingress"))},
		},
		Spec: networkingv1.IngressSpec{IngressClassName: in.Spec.IngressClassName},
	}
	for _, rule := range in.Spec.DeepCopy().Rules {
		if rule.HTTP == nil {
			continue
		}
		var paths []networkingv1.HTTPIngressPath
		for _, path := range rule.HTTP.Paths {
			if path.Backend.Service != nil && path.Backend.Service.Name == from {
				path.Backend.Service.Name = helper(r.target.Service, s.Canary)
				paths = append(paths, path)
			}
		}
		if rule.HTTP.Paths = paths; len(paths) > 0 {
			out.Spec.Rules = append(out.Spec.Rules, rule)
		}
	}
	if len(out.Spec.Rules) == 0 {
		return nil, fmt.Errorf("%w: spec.rules of Ingress %s/%s: ingress-nginx has no canaries of a default backend", route.ErrUnsupported, in.Namespace, in.Name)
	}
	return out, nil
}

// Set implements route.Router.
func (r *Ingress) Set(ctx context.Context, s route.Split) error {
	if err := r.set(ctx, s); err != nil {
		return fmt.Errorf("cannot move traffic by Ingress %s/%s: %w", r.target.Namespace, r.name, err)
	}
	return nil
}

func (r *Ingress) set(ctx context.Context, s route.Split) error {
	if err := s.Validate(); err != nil {
		return err
	}
	inForce := unknown(s)
	var canary *networkingv1.Ingress
	err := r.target.change(ctx, ingresses(), r.name, func(u *unstructured.Unstructured) error {
		if rec, err := recordOf(u, r.target.Service); err == nil && rec != nil {
			inForce = rec.Wanted
		}
		if err := r.free(ctx, u); err != nil {
			return err
		}
		var err error
		canary, err = r.rewrite(u, s)
		return err
	}, client.DryRunAll)
	if err != nil {
		return err
	}
	if err := r.target.ensure(ctx, s.Stable, s.Canary); err != nil {
		return err
	}
	if err := r.target.reclaim(ctx, s.Stable, s.Canary); err != nil {
		return err
	}
	if err := r.target.answering(ctx, s, inForce); err != nil {
		return err
	}
	return r.write(ctx, canary, s)
}

// write changes both objects: where a canary is there, its Ingress first, so that the stable version is never alone by
// accident when it is about to get nothing.
func (r *Ingress) write(ctx context.Context, canary *networkingv1.Ingress, s route.Split) error {
	if canary != nil {
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(canary)
		if err != nil {
			return fmt.Errorf("cannot make Ingress %s/%s: %w", r.target.Namespace, r.canaryName(), err)
		}
		delete(object, "status")
		u := &unstructured.Unstructured{Object: object}
		unstructured.RemoveNestedField(object, "metadata", "creationTimestamp")
		if err := r.target.apply(ctx, u); err != nil {
			return err
		}
	}
	err := r.target.change(ctx, ingresses(), r.name, func(u *unstructured.Unstructured) error {
		_, err := r.rewrite(u, s)
		return err
	})
	if err == nil && canary == nil {
		err = r.drop(ctx)
	}
	if err == nil {
		_, err = r.target.release(ctx, true, s.Stable, s.Canary)
	}
	return err
}

// free checks that the name of the second Ingress is ours to use.
func (r *Ingress) free(ctx context.Context, owner *unstructured.Unstructured) error {
	have, err := r.target.get(ctx, ingresses(), r.canaryName())
	switch {
	case gone(err):
		return nil
	case err == nil && !metav1.IsControlledBy(have, owner):
		return fmt.Errorf("%w: %s exists and belongs to someone else; it is what the canary's Ingress would be called", route.ErrInvalid, describe(have))
	}
	return err
}

// drop deletes the second Ingress, if it is ours.
func (r *Ingress) drop(ctx context.Context) error {
	have, err := r.target.get(ctx, ingresses(), r.canaryName())
	if gone(err) || err == nil && have.GetLabels()[ServiceLabel] != r.target.Service {
		return nil
	}
	if err == nil {
		uid := have.GetUID()
		err = client.IgnoreNotFound(r.target.Client.Delete(ctx, have, client.Preconditions{UID: &uid}))
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cannot delete Ingress %s/%s: %w", r.target.Namespace, r.canaryName(), err)
	}
	return nil
}

// Read implements route.Router.
func (r *Ingress) Read(ctx context.Context) (route.Split, error) {
	s, err := r.read(ctx)
	if err != nil {
		return s, fmt.Errorf("cannot tell the split by Ingress %s/%s: %w", r.target.Namespace, r.name, err)
	}
	return s, nil
}

func (r *Ingress) read(ctx context.Context) (route.Split, error) {
	u, err := r.target.get(ctx, ingresses(), r.name)
	if err != nil {
		return unknown(route.Split{}), err
	}
	rec, err := recordOf(u, r.target.Service)
	if err == nil && rec == nil {
		err = route.ErrNotSet
	}
	if err != nil {
		return unknown(route.Split{}), err
	}
	if _, err := r.rewrite(u, rec.Wanted); err != nil {
		return unknown(rec.Wanted), err
	}
	s := rec.Wanted
	if s.Canary != "" {
		if s.Share, err = r.share(ctx, s); err != nil {
			return unknown(s), err
		}
	}
	if r.target.Now().Sub(rec.Written) < r.target.settle() {
		why := fmt.Sprintf("%s was changed less than %s ago", describe(u), r.target.settle())
		return rec.inForce(), &route.NotYetError{Want: rec.Wanted, InForce: rec.inForce(), Why: why}
	}
	if err := r.target.answering(ctx, s, unknown(s)); err != nil {
		return unknown(s), err
	}
	return s, nil
}

// share is what the annotations of the second Ingress say, which must be what we wrote.
func (r *Ingress) share(ctx context.Context, s route.Split) (float64, error) {
	u, err := r.target.get(ctx, ingresses(), r.canaryName())
	if err != nil {
		return 0, err
	}
	want, err := r.annotations(s)
	if err != nil {
		return 0, err
	}
	have := u.GetAnnotations()
	for name, value := range have {
		if strings.HasPrefix(name, r.prefix+"/canary") && want[name] != value {
			return 0, conflict(u, "metadata", "annotations", name)
		}
	}
	for name, value := range want {
		if have[name] != value {
			return 0, conflict(u, "metadata", "annotations", name)
		}
	}
	in, err := typed(u)
	if err != nil {
		return 0, err
	}
	if n := named(in, helper(r.target.Service, s.Canary)); n == 0 {
		return 0, conflict(u, "spec", "rules")
	}
	weight, _ := strconv.ParseInt(want[r.prefix+"/canary-weight"], 10, 64)      // we wrote it
	total, _ := strconv.ParseInt(want[r.prefix+"/canary-weight-total"], 10, 64) // the same
	return route.Share(total-weight, weight), nil
}

// Restore implements route.Router.
func (r *Ingress) Restore(ctx context.Context) error {
	want := unknown(route.Split{})
	err := r.target.change(ctx, ingresses(), r.name, func(u *unstructured.Unstructured) error {
		rec, err := recordOf(u, r.target.Service)
		if err != nil || rec == nil {
			return err
		}
		want = rec.Wanted
		rename(u, r.main(rec.Wanted), r.target.Service)
		return keep(u, r.target.Service, nil)
	})
	if gone(err) {
		err = nil
	}
	if err == nil {
		err = r.drop(ctx)
	}
	if err != nil {
		return fmt.Errorf("cannot restore Ingress %s/%s: %w", r.target.Namespace, r.name, err)
	}
	waiting, err := r.target.release(ctx, true)
	if err == nil && waiting > 0 {
		err = &route.NotYetError{Want: want, InForce: unknown(want), Why: "helpers are kept until requests have left them"}
	}
	if err != nil {
		return fmt.Errorf("cannot remove the Services of versions of %s/%s: %w", r.target.Namespace, r.target.Service, err)
	}
	return nil
}
