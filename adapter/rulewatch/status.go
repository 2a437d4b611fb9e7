package rulewatch

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/adapter/rules"
	"headroom.dev/headroom/api/v1alpha1"
)

const (
	// refresh is how often a status is written of which nothing of note changed.
	refresh = 30 * time.Second
	// calm is how long a status stays, so that a rule that fails now and then does not write without end.
	calm = 5 * time.Second
	// longest is the longest message in bytes.
	longest = 1024
)

// status returns what a MetricRule's status should say at now. known is what stands there, for the time of its last
// transition; evaluated is nil for a rule that serves nothing.
func status(j *judgement, evaluated *rules.Status, known *v1alpha1.MetricRuleStatus, now time.Time) v1alpha1.MetricRuleStatus {
	out := v1alpha1.MetricRuleStatus{ObservedGeneration: j.object.generation}
	ready := metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonEvaluated,
		ObservedGeneration: j.object.generation, LastTransitionTime: metav1.NewTime(now).Rfc3339Copy(),
	}
	var bad *rules.RuleError
	switch {
	case errors.Is(j.err, ErrNamespacesUnknown):
		ready.Status, ready.Reason, ready.Message = metav1.ConditionUnknown, v1alpha1.ReasonPending, j.err.Error()
	case j.err != nil:
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, v1alpha1.ReasonInvalid, j.err.Error()
	case errors.As(evaluated.Err, &bad):
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, v1alpha1.ReasonInvalid, bad.Err.Error()
	case evaluated.Err != nil:
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, v1alpha1.ReasonEvaluationFailed, evaluated.Err.Error()
	default:
		ready.Message = notes(evaluated)
	}
	ready.Message = shorten(ready.Message)
	if evaluated != nil && j.err == nil {
		out.ServedFor = servedFor(&evaluated.Rule.Target)
		if bad == nil {
			out.Series, out.Objects = new(int64(evaluated.Series)), new(int64(evaluated.Objects))
			out.LastEvaluationDuration = &metav1.Duration{Duration: evaluated.Duration.Round(10 * time.Microsecond)}
			if !evaluated.Evaluated.IsZero() {
				out.LastEvaluationTime = new(metav1.NewTime(evaluated.Evaluated).Rfc3339Copy())
			}
		}
	}
	if before := meta.FindStatusCondition(known.Conditions, ready.Type); before != nil && before.Status == ready.Status {
		ready.LastTransitionTime = before.LastTransitionTime
	}
	out.Conditions = []metav1.Condition{ready}
	return out
}

// notes says what of the results comes to nothing.
func notes(s *rules.Status) string {
	var parts []string
	switch {
	case s.Series == 0:
		parts = append(parts, "no series match the expression")
	case s.Objects == 0 && s.Unlabelled == 0:
		parts = append(parts, "the expression has no results now")
	}
	if s.Unlabelled > 0 {
		parts = append(parts, fmt.Sprintf("%d results lack a label that names their object", s.Unlabelled))
	}
	if s.Shadowed > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d objects have their value from a rule that is asked earlier", s.Shadowed, s.Objects))
	}
	return strings.Join(append(parts, s.Notes...), "; ")
}

func servedFor(t *rules.Target) string {
	const external = "external"
	switch {
	case t.Resource == metric.External:
		return external
	case t.External:
		return t.Resource + ", " + external
	}
	return t.Resource
}

func shorten(s string) string {
	if len(s) <= longest {
		return s
	}
	const more = "…"
	cut := longest - len(more)
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + more
}

// due reports whether a status must be written, since is how long ago the last attempt for this rule was.
func due(have, want *v1alpha1.MetricRuleStatus, since time.Duration) bool {
	switch {
	case have.ObservedGeneration != want.ObservedGeneration:
		return true
	case notable(have, want):
		return since >= calm
	}
	return since >= refresh && !reflect.DeepEqual(have, want)
}

// notable reports whether a person who watches the rule would want to know.
func notable(have, want *v1alpha1.MetricRuleStatus) bool {
	before, after := meta.FindStatusCondition(have.Conditions, v1alpha1.ConditionReady), &want.Conditions[0]
	return before == nil || before.Status != after.Status || before.Reason != after.Reason ||
		have.ServedFor != want.ServedFor || leapt(have.Series, want.Series) || leapt(have.Objects, want.Objects)
}

// leapt reports whether a count appeared, vanished, became zero or something, or changed by half or more.
func leapt(a, b *int64) bool {
	if a == nil || b == nil {
		return a != b
	}
	low, high := min(*a, *b), max(*a, *b)
	return low != high && 2*low <= high
}

// sameRule reports whether a status is about the rule as it was handed out: what that left open may have been filled in.
func sameRule(out, evaluated rules.Rule) bool {
	if out.MaxAge == 0 {
		evaluated.MaxAge = 0
	}
	if out.Source == "" {
		evaluated.Source = ""
	}
	t := &evaluated.Target
	if out.Target.NameLabel == "" {
		t.NameLabel = ""
	}
	if out.Target.NamespaceLabel == "" {
		t.NamespaceLabel = ""
	}
	if !out.Target.RootScoped {
		t.RootScoped = false
	}
	return reflect.DeepEqual(out, evaluated)
}
