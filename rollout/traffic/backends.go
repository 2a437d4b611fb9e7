package traffic

import (
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"headroom.dev/headroom/rollout/route"
)

// backends calls visit for the backend of each path of an Ingress, and for the default one.
func backends(spec *networkingv1.IngressSpec, visit func(field string, b *networkingv1.IngressBackend)) {
	if spec.DefaultBackend != nil {
		visit("spec.defaultBackend", spec.DefaultBackend)
	}
	for i := range spec.Rules {
		if spec.Rules[i].HTTP == nil {
			continue
		}
		for j := range spec.Rules[i].HTTP.Paths {
			visit(fmt.Sprintf("spec.rules[%d].http.paths[%d].backend", i, j), &spec.Rules[i].HTTP.Paths[j].Backend)
		}
	}
}

func typed(u *unstructured.Unstructured) (*networkingv1.Ingress, error) {
	var out networkingv1.Ingress
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &out); err != nil {
		return nil, fmt.Errorf("%w %s: %w", route.ErrInvalid, describe(u), err)
	}
	return &out, nil
}

// named counts the backends that name a Service.
func named(in *networkingv1.Ingress, service string) int {
	n := 0
	backends(&in.Spec, func(_ string, b *networkingv1.IngressBackend) {
		if b.Service != nil && b.Service.Name == service {
			n++
		}
	})
	return n
}

// rename changes the Service of backends in an object as it came, so that nothing else of it is touched.
func rename(u *unstructured.Unstructured, from, to string) {
	service := func(value any, path ...string) {
		object, _ := value.(map[string]any)
		for _, field := range path {
			object, _ = object[field].(map[string]any)
		}
		if object["name"] == from {
			object["name"] = to
		}
	}
	service(u.Object, "spec", "defaultBackend", "service")
	spec, _ := u.Object["spec"].(map[string]any)
	rules, _ := spec["rules"].([]any)
	for _, value := range rules {
		rule, _ := value.(map[string]any)
		http, _ := rule["http"].(map[string]any)
		paths, _ := http["paths"].([]any)
		for _, path := range paths {
			service(path, "backend", "service")
		}
	}
}
