package autoscaler

import (
	"fmt"
	"maps"
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"
)

// The fields of an HPA's spec that are held.
const (
	fieldMin      = "minReplicas"
	fieldBehavior = "behavior"
)

// noTolerance is that of both directions: the number of replicas is what the metric says, and no surge pod is taken for a wanted one.
const noTolerance = "0"

// fields are the held fields of a spec, as the API server serves them. One that is absent there is absent here.
type fields map[string]any

// record is what the annotation keeps.
type record struct {
	// For is the workload for which the HPA is held: Deployment/chat.
	For string `json:"for"`
	// Was is what the owner wrote, Wrote what was written over it, with what the API server filled in.
	Was   fields `json:"was,omitempty"`
	Wrote fields `json:"wrote,omitempty"`
	// NoTolerance says that the API server drops tolerances (HPAConfigurableTolerance is off): to write them again is of no use.
	NoTolerance bool `json:"noTolerance,omitempty"`
}

// recordOf returns what an HPA's annotation keeps, nil where it has none.
func recordOf(h *unstructured.Unstructured) (*record, error) {
	text, ok := h.GetAnnotations()[Annotation]
	if !ok {
		return nil, nil
	}
	r := &record{}
	if err := json.Unmarshal([]byte(text), r); err != nil { // whole numbers become int64, as in objects
		return nil, fmt.Errorf("cannot read the annotation %s of HorizontalPodAutoscaler %q: %w", Annotation, h.GetName(), err)
	}
	return r, nil
}

// pick returns the held fields of a spec.
func pick(spec map[string]any) fields {
	f := fields{}
	for _, name := range []string{fieldMin, fieldBehavior} {
		if v, ok := spec[name]; ok {
			f[name] = v
		}
	}
	return f
}

// put sets the held fields of a spec.
func put(spec map[string]any, f fields) {
	delete(spec, fieldMin)
	delete(spec, fieldBehavior)
	maps.Copy(spec, f)
}

// restored returns what the owner's fields are now: what was there before, where it still has what was written, and else what
// somebody else has written since.
func restored(now fields, r *record) fields {
	if r == nil {
		return now
	}
	return merge(now, r.Wrote, r.Was)
}

// merge takes from was what is in now as in wrote, and the rest from now: what was taken away since is not in it.
func merge(now, wrote, was map[string]any) map[string]any {
	out := map[string]any{}
	for name, n := range now {
		w, written := wrote[name]
		before, had := was[name]
		if written && reflect.DeepEqual(n, w) {
			if had {
				out[name] = before
			}
			continue
		}
		inner, isMap := n.(map[string]any)
		w0, wroteMap := w.(map[string]any)
		if !isMap || !wroteMap {
			out[name] = n
			continue
		}
		before0, _ := before.(map[string]any)
		if merged := merge(inner, w0, before0); len(merged) > 0 || had {
			out[name] = merged
		}
	}
	return out
}

// held returns the fields as they are to be written over the owner's: a minimum not below floor, as far as the maximum lets it, and
// no tolerance.
func held(owner fields, floor, most int64, tolerances bool) fields {
	f := fields(runtime.DeepCopyJSON(owner))
	if low := min(floor, most); low > least(owner) {
		f[fieldMin] = low
	}
	if !tolerances {
		return f
	}
	behavior := inner(f, fieldBehavior)
	for _, direction := range []string{"scaleUp", "scaleDown"} {
		inner(behavior, direction)["tolerance"] = noTolerance
	}
	return f
}

// drifts says whether an HPA counts surge pods for wanted ones: within the tolerance an Object or External metric with AverageValue
// answers status.replicas (kubernetes#138505, replica_calculator.go of 1.37.2). Others count from spec.replicas, and keep their
// tolerance: without it an HPA whose load is a whole number of replicas would go up and down at each look.
func drifts(spec map[string]any) bool {
	metrics, _ := spec["metrics"].([]any)
	for _, m := range metrics {
		for _, source := range []string{"object", "external"} {
			metric, _ := m.(map[string]any)
			kind, _, err := unstructured.NestedString(metric, source, "target", "type")
			if err == nil && kind == "AverageValue" {
				return true
			}
		}
	}
	return false
}

// least is the minimum as the HPA controller takes it.
func least(f fields) int64 {
	if n, ok := f[fieldMin].(int64); ok {
		return n
	}
	return 1
}

// hasTolerances says whether an API server kept what held wrote.
func hasTolerances(f fields) bool {
	behavior, _ := f[fieldBehavior].(map[string]any)
	for _, direction := range []string{"scaleUp", "scaleDown"} {
		rules, _ := behavior[direction].(map[string]any)
		if rules["tolerance"] != noTolerance {
			return false
		}
	}
	return true
}

// inner returns the map under a name, made if it is not there.
func inner(m map[string]any, name string) map[string]any {
	found, ok := m[name].(map[string]any)
	if !ok {
		found = map[string]any{}
		m[name] = found
	}
	return found
}
