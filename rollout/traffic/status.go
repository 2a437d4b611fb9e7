package traffic

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// condition is one of a status, as far as it matters here.
type condition struct {
	Type               string `json:"type"`
	Status             string `json:"status"`
	Reason             string `json:"reason"`
	Message            string `json:"message"`
	ObservedGeneration int64  `json:"observedGeneration"`
}

// routeObject is what is read of a route of Gateway API.
type routeObject struct {
	Spec struct {
		ParentRefs []map[string]any `json:"parentRefs"`
	} `json:"spec"`
	Status struct {
		Parents []struct {
			ParentRef  map[string]any `json:"parentRef"`
			Conditions []condition    `json:"conditions"`
		} `json:"parents"`
	} `json:"status"`
}

// decode reads part of a foreign object.
func decode(u *unstructured.Unstructured, into any) error {
	raw, err := json.Marshal(u.Object)
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	return err
}

// accepted says why a route is not served as it stands, or nothing: each of its parents must have Accepted and ResolvedRefs
// True for the newest generation. Several controllers may report on one parent; all of them must.
func accepted(u *unstructured.Unstructured) string {
	var o routeObject
	if err := decode(u, &o); err != nil {
		return fmt.Sprintf("the status of %s cannot be read: %v", describe(u), err)
	}
	if len(o.Spec.ParentRefs) == 0 {
		return describe(u) + " has no spec.parentRefs: nobody serves it"
	}
	for i, ref := range o.Spec.ParentRefs {
		reports := 0
		for _, parent := range o.Status.Parents {
			if !sameParent(parent.ParentRef, ref) {
				continue
			}
			reports++
			for _, kind := range []string{"Accepted", "ResolvedRefs"} {
				if why := holds(parent.Conditions, kind, u.GetGeneration()); why != "" {
					return fmt.Sprintf("%s: parent %v: %s", describe(u), ref["name"], why)
				}
			}
		}
		if reports == 0 {
			return fmt.Sprintf("%s: nobody reports on spec.parentRefs[%d] (%v)", describe(u), i, ref["name"])
		}
	}
	return ""
}

// sameParent compares references by what identifies a parent; defaults may stand on one side only.
func sameParent(a, b map[string]any) bool {
	for field, absent := range map[string]any{
		"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": nil, "namespace": nil, "sectionName": nil, "port": nil,
	} {
		x, y := a[field], b[field]
		if x == nil {
			x = absent
		}
		if y == nil {
			y = absent
		}
		if field == "namespace" && (x == nil || y == nil) {
			continue // absent means the route's own, which controllers may write out
		}
		if !reflect.DeepEqual(x, y) {
			return false
		}
	}
	return true
}

// holds says why a condition is not True for a generation, or nothing.
func holds(conditions []condition, kind string, generation int64) string {
	for _, c := range conditions {
		switch {
		case c.Type != kind:
			continue
		case c.ObservedGeneration < generation:
			return fmt.Sprintf("%s is of generation %d, and the newest is %d", kind, c.ObservedGeneration, generation)
		case c.Status != "True":
			return fmt.Sprintf("%s is %s (%s): %s", kind, c.Status, c.Reason, c.Message)
		}
		return ""
	}
	return kind + " is not reported"
}

// istioObject is what is read of a VirtualService. Istio reports only where it is told to (status of analysis, distribution).
type istioObject struct {
	Status struct {
		ObservedGeneration any         `json:"observedGeneration"` // a number or, as protobuf has it, a text
		Conditions         []condition `json:"conditions"`
		ValidationMessages []struct {
			Level string `json:"level"`
			Type  struct {
				Name string `json:"name"`
				Code string `json:"code"`
			} `json:"type"`
		} `json:"validationMessages"`
	} `json:"status"`
}

// reconciled says why Istio does not serve a VirtualService as it stands, as far as it says so.
func reconciled(u *unstructured.Unstructured) string {
	var o istioObject
	if err := decode(u, &o); err != nil {
		return fmt.Sprintf("the status of %s cannot be read: %v", describe(u), err)
	}
	observed := fmt.Sprint(o.Status.ObservedGeneration)
	if f, ok := o.Status.ObservedGeneration.(float64); ok {
		observed = strconv.FormatInt(int64(f), 10)
	}
	current := o.Status.ObservedGeneration == nil || observed == strconv.FormatInt(u.GetGeneration(), 10)
	for _, m := range o.Status.ValidationMessages {
		if current && m.Level == "ERROR" {
			return fmt.Sprintf("%s: Istio says %s %s", describe(u), m.Type.Code, m.Type.Name)
		}
	}
	for _, c := range o.Status.Conditions {
		if c.Type == "Reconciled" && (c.Status != "True" || !current) {
			return fmt.Sprintf("%s: Reconciled is %s for generation %s, and the newest is %d: %s", describe(u), c.Status, observed, u.GetGeneration(), c.Message)
		}
	}
	return ""
}
