package workload

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
)

const (
	// idLength is in hexadecimal digits: 40 bits, of which the few dozen templates of one workload share none by chance.
	idLength = 10
	// patchKey is what a ControllerRevision's template has besides the template.
	patchKey = "$patch"
)

// identify returns the ID of a pod template as the API server serves it. Templates have the same one if and only if the
// Deployment controller takes them for the same: labels that controllers add, order, the spelling of quantities, and what is absent,
// null or empty make no difference; what this program does not know of a newer API server does.
func identify(template map[string]any) string {
	raw, err := json.Marshal(canonical(clean(template), reflect.TypeFor[corev1.PodTemplateSpec]()))
	if err != nil {
		// Decoded JSON has nothing that cannot be encoded again.
		raw = []byte(err.Error())
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])[:idLength]
}

// clean returns a copy of a template without what controllers add to it.
func clean(template map[string]any) map[string]any {
	out := runtime.DeepCopyJSON(template)
	delete(out, patchKey)
	meta, _ := out["metadata"].(map[string]any)
	labels, ok := meta["labels"].(map[string]any)
	if !ok {
		return out
	}
	delete(labels, appsv1.DefaultDeploymentUniqueLabelKey)
	delete(labels, appsv1.ControllerRevisionHashLabelKey)
	if len(labels) == 0 {
		delete(meta, "labels")
	}
	return out
}

// typed decodes a template.
func typed(template map[string]any) (*corev1.PodTemplateSpec, error) {
	out := &corev1.PodTemplateSpec{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(template, out); err != nil {
		return nil, fmt.Errorf("cannot decode the pod template: %w", err)
	}
	return out, nil
}

// canonical brings decoded JSON into the one form that all values have which are semantically equal as a Go value of the type;
// nil is a type that is not known.
func canonical(v any, t reflect.Type) any {
	if t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch v := v.(type) {
	case map[string]any:
		if t != nil && t.Kind() == reflect.Struct && !leaf(t) {
			return canonicalStruct(v, t)
		}
		out := make(map[string]any, len(v))
		for key, value := range v {
			out[key] = canonical(value, element(t, reflect.Map))
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, value := range v {
			out[i] = canonical(value, element(t, reflect.Slice))
		}
		return out
	}
	if t == reflect.TypeFor[resource.Quantity]() {
		return quantity(v)
	}
	return v
}

func canonicalStruct(v map[string]any, t reflect.Type) map[string]any {
	out := make(map[string]any, len(v))
	for key, value := range v {
		field := fieldOf(t, key)
		if value = canonical(value, field); !empty(value, field) {
			out[key] = value
		}
	}
	return out
}

// empty says whether a struct's field has the value that it has when it is absent: a pointer to nothing much is not absent.
func empty(v any, t reflect.Type) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0 && t != nil && (t.Kind() == reflect.Map || t.Kind() == reflect.Struct)
	}
	return t != nil && t.Kind() != reflect.Pointer && !leaf(t) && reflect.ValueOf(v).IsZero()
}

// leaf says whether values of the type have a JSON form of their own.
func leaf(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]())
}

func element(t reflect.Type, kind reflect.Kind) reflect.Type {
	if t == nil || t.Kind() != kind {
		return nil
	}
	return t.Elem()
}

// fieldOf is the type of the field that JSON calls so, nil if there is none.
func fieldOf(t reflect.Type, name string) reflect.Type {
	for f := range t.Fields() {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case tag == name:
			return f.Type
		case tag == "" && f.Anonymous && f.Type.Kind() == reflect.Struct:
			if inner := fieldOf(f.Type, name); inner != nil {
				return inner
			}
		}
	}
	return nil
}

// quantity spells equal quantities alike: 1Gi, 1024Mi and 1073741824.
func quantity(v any) any {
	q, err := resource.ParseQuantity(fmt.Sprint(v))
	if err != nil {
		return v
	}
	text := q.AsDec().String()
	if strings.Contains(text, ".") {
		text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	}
	return text
}
