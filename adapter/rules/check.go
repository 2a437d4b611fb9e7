package rules

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/prometheus/common/model"

	"headroom.dev/headroom/adapter/metric"
)

// check says what is wrong with a rule beside its expression; the error begins with the name of the field.
func check(r *Rule) error {
	switch {
	case r.Name == "":
		return errors.New("name: must not be empty")
	case r.Origin != UserDefined && r.Origin != BuiltIn:
		return fmt.Errorf("origin: %q is neither %q nor %q", r.Origin, UserDefined, BuiltIn)
	case r.Source != Embedded && r.Source != Prometheus:
		return fmt.Errorf("source: %q is neither %q nor %q", r.Source, Embedded, Prometheus)
	case r.MaxAge < 0 || r.MaxAge > MaxLookBack:
		return fmt.Errorf("maxAge: %s is not between 0 and %s", r.MaxAge, MaxLookBack)
	}
	if err := checkTarget(r); err != nil {
		return err
	}
	if r.Fallback == nil {
		return nil
	}
	return checkFallback(r.Fallback)
}

// checkTarget says why nobody could ask for what the rule defines, or why its results name nothing.
func checkTarget(r *Rule) error {
	t := &r.Target
	switch {
	case !inPath(r.Metric):
		return fmt.Errorf("metric: %q cannot stand in a URL path", r.Metric)
	case t.Resource == metric.External:
		return checkExternal(t)
	case !inPath(t.Resource):
		return fmt.Errorf("resource: %q cannot stand in a URL path", t.Resource)
	case t.NameLabel == "":
		return fmt.Errorf("nameLabel: must be stated for %s: which label of the results names the object?", t.Resource)
	case !isLabel(t.NameLabel):
		return fmt.Errorf("nameLabel: %q is not a label's name", t.NameLabel)
	case t.RootScoped && t.NamespaceLabel != "":
		return fmt.Errorf("namespaceLabel: %s live in no namespace", t.Resource)
	case !t.RootScoped && !isLabel(t.NamespaceLabel):
		return fmt.Errorf("namespaceLabel: %q is not a label's name", t.NamespaceLabel)
	case t.NameLabel == t.NamespaceLabel:
		return fmt.Errorf("nameLabel: %q names the namespace already", t.NameLabel)
	case t.RootScoped && r.Namespaces != nil && t.Resource != metric.Namespaces:
		return fmt.Errorf("namespaces: %s live in no namespace", t.Resource)
	case t.Labels != nil:
		return errors.New("labels: only external metrics have any")
	}
	return nil
}

func checkExternal(t *Target) error {
	switch {
	case t.NameLabel != "":
		return errors.New("nameLabel: an external metric describes no object; state a resource, too")
	case t.RootScoped:
		return errors.New("rootScoped: an external metric describes no object")
	case !isLabel(t.NamespaceLabel):
		return fmt.Errorf("namespaceLabel: %q is not a label's name", t.NamespaceLabel)
	}
	if i := slices.IndexFunc(t.Labels, func(l string) bool { return !isLabel(l) }); i >= 0 {
		return fmt.Errorf("labels: %q is not a label's name", t.Labels[i])
	}
	return nil
}

func checkFallback(f *Fallback) error {
	switch {
	case f.After < 0 || f.After > MaxLookBack:
		return fmt.Errorf("fallback.after: %s is not between 0 and %s", f.After, MaxLookBack)
	case f.HoldFor < 0 || f.HoldFor > MaxLookBack:
		return fmt.Errorf("fallback.holdFor: %s is not between 0 and %s", f.HoldFor, MaxLookBack)
	case (f.Value == nil) == (f.HoldFor == 0):
		return errors.New("fallback: state either value or holdFor")
	case f.Value != nil && (math.IsNaN(*f.Value) || math.IsInf(*f.Value, 0)):
		return fmt.Errorf("fallback.value: %v is no number that could be served", *f.Value)
	}
	return nil
}

// inPath reports whether s can be one segment of a URL path.
func inPath(s string) bool {
	return s != "" && s != "." && s != ".." && !strings.ContainsAny(s, "/%? \t\n")
}

func isLabel(s string) bool { return s != nameLabel && model.LegacyValidation.IsValidLabelName(s) }
