package rulewatch

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/adapter/rules"
	"headroom.dev/headroom/api/v1alpha1"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestStatus(t *testing.T) {
	good := &judgement{object: object{generation: 7}}
	pods := rules.Rule{Target: rules.Target{Resource: metric.Pods}}
	f := func(j *judgement, s *rules.Status, want string) {
		t.Helper()
		got := status(j, s, &v1alpha1.MetricRuleStatus{}, noon)
		require.EqualValues(t, 7, got.ObservedGeneration)
		require.Len(t, got.Conditions, 1)
		c := got.Conditions[0]
		require.Equal(t, "Ready", c.Type)
		require.EqualValues(t, 7, c.ObservedGeneration)
		require.Equal(t, noon, c.LastTransitionTime.UTC())
		text := fmt.Sprintf("%s %s: %s; for %q", c.Status, c.Reason, c.Message, got.ServedFor)
		if got.Series != nil {
			text += fmt.Sprintf(", %d series, %d objects, %s", *got.Series, *got.Objects, got.LastEvaluationDuration.Duration)
		}
		if got.LastEvaluationTime != nil {
			text += ", at " + got.LastEvaluationTime.UTC().Format(time.TimeOnly)
		}
		require.Equal(t, want, text)
	}
	at := noon.Add(-time.Second)
	f(good, &rules.Status{Rule: pods, Evaluated: at, Duration: 1234567, Series: 30, Objects: 10},
		`True Evaluated: ; for "pods", 30 series, 10 objects, 1.23ms, at 11:59:59`)
	f(good, &rules.Status{Rule: pods, Evaluated: at},
		`True Evaluated: no series match the expression; for "pods", 0 series, 0 objects, 0s, at 11:59:59`)
	f(good, &rules.Status{Rule: pods, Evaluated: at, Series: 1},
		`True Evaluated: the expression has no results now; for "pods", 1 series, 0 objects, 0s, at 11:59:59`)
	f(good, &rules.Status{Rule: pods, Evaluated: at, Series: 9, Objects: 3, Shadowed: 2, Unlabelled: 4, Notes: []string{"result {a} has no pod"}},
		`True Evaluated: 4 results lack a label that names their object; 2 of 3 objects have their value from a rule that is asked earlier; `+
			`result {a} has no pod; for "pods", 9 series, 3 objects, 0s, at 11:59:59`)
	f(good, &rules.Status{Rule: rules.Rule{Target: rules.Target{Resource: metric.Services, External: true}}, Evaluated: at, Series: 1, Objects: 1},
		`True Evaluated: ; for "services, external", 1 series, 1 objects, 0s, at 11:59:59`)
	f(good, &rules.Status{Rule: rules.Rule{Target: rules.Target{Resource: metric.External}}, Err: errors.New("timed out after 5s"), Duration: 5 * time.Second},
		`False EvaluationFailed: timed out after 5s; for "external", 0 series, 0 objects, 5s`)
	f(good, &rules.Status{Rule: pods, Err: &rules.RuleError{Rule: "r", Err: errors.New("1:6: parse error: unclosed left parenthesis")}},
		`False Invalid: 1:6: parse error: unclosed left parenthesis; for "pods"`)
	f(&judgement{object: good.object, err: errors.New("spec.namespaceSelector: no")}, nil, `False Invalid: spec.namespaceSelector: no; for ""`)
	f(&judgement{object: good.object, err: ErrNamespacesUnknown}, nil,
		`Unknown Pending: spec.namespaceSelector: the namespaces are not known yet; for ""`)
}

func TestLongMessagesAreCutBetweenCharacters(t *testing.T) {
	for pad := range 4 {
		message := strings.Repeat("x", pad) + strings.Repeat("€", 1000)
		got := status(&judgement{}, &rules.Status{Err: errors.New(message)}, &v1alpha1.MetricRuleStatus{}, noon).Conditions[0].Message
		assert.True(t, utf8.ValidString(got))
		assert.LessOrEqual(t, len(got), longest)
		assert.Greater(t, len(got), longest-4)
		assert.True(t, strings.HasSuffix(got, "…"))
	}
}

func TestTransitionTimeIsOfTheStatusAlone(t *testing.T) {
	failed := &rules.Status{Err: errors.New("a")}
	first := status(&judgement{}, failed, &v1alpha1.MetricRuleStatus{}, noon)
	other := status(&judgement{}, &rules.Status{Err: errors.New("b")}, &first, noon.Add(time.Minute))
	require.Equal(t, first.Conditions[0].LastTransitionTime, other.Conditions[0].LastTransitionTime)
	well := status(&judgement{}, &rules.Status{}, &other, noon.Add(2*time.Minute))
	require.Equal(t, noon.Add(2*time.Minute), well.Conditions[0].LastTransitionTime.UTC())
}

func TestDue(t *testing.T) {
	base := func() *v1alpha1.MetricRuleStatus {
		s := status(&judgement{object: object{generation: 1}}, &rules.Status{Series: 100, Objects: 10, Evaluated: noon}, &v1alpha1.MetricRuleStatus{}, noon)
		return &s
	}
	require.False(t, due(base(), base(), time.Hour), "the same")
	require.True(t, due(&v1alpha1.MetricRuleStatus{}, base(), 0), "never written")
	f := func(wait time.Duration, change func(s *v1alpha1.MetricRuleStatus)) {
		t.Helper()
		want := base()
		change(want)
		require.True(t, due(base(), want, wait))
		if wait > 0 {
			require.False(t, due(base(), want, wait-1))
		}
	}
	f(0, func(s *v1alpha1.MetricRuleStatus) { s.ObservedGeneration++ })
	f(calm, func(s *v1alpha1.MetricRuleStatus) { s.Conditions[0].Status = metav1.ConditionFalse })
	f(calm, func(s *v1alpha1.MetricRuleStatus) { s.Conditions[0].Reason = "Other" })
	f(calm, func(s *v1alpha1.MetricRuleStatus) { s.ServedFor = "pods" })
	f(calm, func(s *v1alpha1.MetricRuleStatus) { *s.Series = 0 })
	f(calm, func(s *v1alpha1.MetricRuleStatus) { *s.Series = 200 })
	f(calm, func(s *v1alpha1.MetricRuleStatus) { *s.Objects = 5 })
	f(calm, func(s *v1alpha1.MetricRuleStatus) { s.Objects = nil })
	f(refresh, func(s *v1alpha1.MetricRuleStatus) { *s.Objects = 6 })
	f(refresh, func(s *v1alpha1.MetricRuleStatus) { s.Conditions[0].Message = "timed out after 1.002s" })
	f(refresh, func(s *v1alpha1.MetricRuleStatus) { s.LastEvaluationTime = &metav1.Time{Time: noon.Add(time.Second)} })
}

// TestSameRule: what Compile fills in makes no other rule, what a person changes does.
func TestSameRule(t *testing.T) {
	out := rules.Rule{Name: "r", Origin: rules.UserDefined, Metric: "m", Expr: "m", Target: rules.Target{Resource: "nodes"}}
	set, err := rules.Compile([]rules.Rule{out})
	require.NoError(t, err)
	compiled := set.Rules()[0].Rule
	require.NotEqual(t, out, compiled)
	require.True(t, sameRule(out, compiled))
	for _, change := range []func(*rules.Rule){
		func(r *rules.Rule) { r.Expr = "n" },
		func(r *rules.Rule) { r.MaxAge = time.Second },
		func(r *rules.Rule) { r.Source = rules.Prometheus },
		func(r *rules.Rule) { r.Target.NameLabel = "instance" },
		func(r *rules.Rule) { r.Namespaces = []string{} },
		func(r *rules.Rule) { r.Fallback = &rules.Fallback{} },
	} {
		changed := out
		change(&changed)
		require.False(t, sameRule(changed, compiled))
	}
}
