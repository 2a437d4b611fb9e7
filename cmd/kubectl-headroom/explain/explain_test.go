package explain

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/adapter/apiserver"
	"headroom.dev/headroom/api/query"
)

// TestFallbackLabel holds the two sides of the wire together; this one must not bring a whole API server with it.
func TestFallbackLabel(t *testing.T) { assert.Equal(t, apiserver.FallbackLabel, FallbackLabel) }

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// TestScenarios runs the files in testdata. All ages are at noon of 23 Nov 2026. The commands:
//
//	hpa                      the HPA as YAML; resets everything else
//	scale replicas= created= [error]    of its target
//	pods [error]             a pod a line: NAME ready|loading|pending|deleted|failed [since=DURATION] [cpu=REQUEST], since which it
//	                         has started and has been so, an hour unless it is said; the request is its one container's, "main"
//	resources N              of the N-th metric, a pod a line: NAME CPU AGE, over 30 s
//	metric N [unit=] [absent] [unread] [partial]    the N-th metric. The input is the text of the flag, or an object a line:
//	                         NAME VALUE AGE RULE [why it is left out], NAME - [why it has none], {label=value,…} VALUE …
//	explain [wide]           the report
//	verdict                  each metric's arithmetic, and the sentence
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var in *Input
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "hpa":
				in = &Input{Now: noon, HPA: &autoscalingv2.HorizontalPodAutoscaler{}}
				require.NoError(t, yaml.UnmarshalStrict([]byte(d.Input), in.HPA))
				in.Metrics = make([]Source, len(in.HPA.Spec.Metrics))
			case "scale":
				if d.HasArg("error") {
					in.Scale, in.ScaleErr = nil, d.Input
					break
				}
				in.Scale = &autoscalingv1.Scale{Status: autoscalingv1.ScaleStatus{Selector: "app=chat"}}
				d.ScanArgs(t, "replicas", &in.Scale.Spec.Replicas)
				in.Scale.Status.Replicas = in.Scale.Spec.Replicas
				d.MaybeScanArgs(t, "created", &in.Scale.Status.Replicas)
			case "pods":
				in.Pods, in.PodsErr = nil, ""
				if d.HasArg("error") {
					in.PodsErr = d.Input
					break
				}
				for line := range strings.Lines(d.Input) {
					in.Pods = append(in.Pods, pod(t, strings.Fields(line)))
				}
			case "metric":
				i, err := strconv.Atoi(d.CmdArgs[0].Key)
				require.NoError(t, err)
				in.Metrics[i] = source(t, d)
			case "resources":
				i, err := strconv.Atoi(d.CmdArgs[0].Key)
				require.NoError(t, err)
				in.Metrics[i] = Source{PodMetrics: podMetrics(t, d.Input)}
			case "explain":
				var b strings.Builder
				require.NoError(t, OfHPA(in).Write(&b, d.HasArg("wide")))
				return b.String()
			case "verdict":
				var b strings.Builder
				report := OfHPA(in)
				for _, m := range report.Metrics {
					text := m.Unread + m.Error
					if m.Proposal != nil {
						text = m.Proposal.Text
					}
					fmt.Fprintf(&b, "%s: %s\n", m.Name, text)
				}
				return b.String() + report.Verdict.Sentence + "\n"
			default:
				d.Fatalf(t, "unknown command %q", d.Cmd)
			}
			return ""
		})
	})
}

func pod(t *testing.T, fields []string) corev1.Pod {
	t.Helper()
	require.GreaterOrEqual(t, len(fields), 2)
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fields[0]}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	p.Spec.Containers = []corev1.Container{{Name: "main"}}
	since := time.Hour
	for _, field := range fields[2:] {
		var err error
		if text, ok := strings.CutPrefix(field, "since="); ok {
			since, err = time.ParseDuration(text)
		} else {
			text, ok := strings.CutPrefix(field, "cpu=")
			require.True(t, ok, field)
			var q resource.Quantity
			q, err = resource.ParseQuantity(text)
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: q}
		}
		require.NoError(t, err)
	}
	p.Status.StartTime = new(metav1.NewTime(noon.Add(-since)))
	condition := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(noon.Add(-since))}
	switch fields[1] {
	case "ready":
		condition.Status = corev1.ConditionTrue
	case "pending":
		p.Status.Phase = corev1.PodPending
	case "deleted":
		p.DeletionTimestamp = new(metav1.NewTime(noon))
	case "failed":
		p.Status.Phase = corev1.PodFailed
	default:
		require.Equal(t, "loading", fields[1])
	}
	p.Status.Conditions = []corev1.PodCondition{condition}
	return p
}

func podMetrics(t *testing.T, text string) *metricsv1beta1.PodMetricsList {
	t.Helper()
	list := &metricsv1beta1.PodMetricsList{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		require.Len(t, f, 3)
		age, err := time.ParseDuration(f[2])
		require.NoError(t, err)
		list.Items = append(list.Items, metricsv1beta1.PodMetrics{
			ObjectMeta: metav1.ObjectMeta{Name: f[0]}, Timestamp: metav1.NewTime(noon.Add(-age)), Window: metav1.Duration{Duration: 30 * time.Second},
			Containers: []metricsv1beta1.ContainerMetrics{{Name: "main", Usage: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(f[1])}}},
		})
	}
	return list
}

func source(t *testing.T, d *datadriven.TestData) Source {
	t.Helper()
	switch {
	case d.HasArg("absent"):
		return Source{Absent: d.Input}
	case d.HasArg("unread"):
		return Source{Unread: d.Input}
	}
	x := &query.Explanation{}
	var s Source
	if d.HasArg("partial") {
		s.Partial = "query.headroom.dev is not registered"
	}
	unit := ""
	d.MaybeScanArgs(t, "unit", &unit)
	for line := range strings.Lines(d.Input) {
		x.Objects = append(x.Objects, object(t, strings.Fields(line)))
	}
	if s.Partial == "" {
		x.Rules = []query.Rule{
			{Name: "http", Origin: "built-in", Source: "Embedded", Unit: unit, MaxAge: 5, Expr: "sum by (namespace, pod) (rate(http_requests_total[10s]))", Evaluated: new(noon)},
			{Name: "vllm", Origin: "built-in", Source: "Embedded", Unit: unit, MaxAge: 5, Expr: "vllm", Evaluated: new(noon)},
		}
	}
	s.Explanation = x
	return s
}

func object(t *testing.T, f []string) query.Object {
	t.Helper()
	o := query.Object{Name: f[0]}
	if strings.HasPrefix(f[0], "{") {
		o.Name, o.Labels = "", map[string]string{}
		for pair := range strings.SplitSeq(strings.Trim(f[0], "{}"), ",") {
			name, value, _ := strings.Cut(pair, "=")
			o.Labels[name] = value
		}
	}
	if f[1] == "-" {
		o.Reason = strings.Join(f[2:], " ")
		o.Rules = []query.Candidate{{Rule: "http", Reason: o.Reason}, {Rule: "vllm", Reason: "no series"}}
		return o
	}
	value, err := strconv.ParseFloat(f[1], 64)
	require.NoError(t, err)
	age, err := strconv.ParseFloat(f[2], 64)
	require.NoError(t, err)
	rule, fallback, _ := strings.Cut(f[3], "/")
	o.Value = &query.Value{Value: query.Number(value), Age: age, Rule: rule, Window: 10, Fallback: fallback}
	o.Reason = strings.Join(f[4:], " ")
	o.LeftOut = o.Reason != ""
	o.Rules = []query.Candidate{{Rule: "http", Value: o.Value}, {Rule: "vllm", Reason: "no series"}}
	return o
}

func TestText(t *testing.T) {
	f := func(want, got string) {
		t.Helper()
		assert.Equal(t, want, got)
	}
	f("14.2/s", WithUnit(14.2, "1/s"))
	f("350ms", WithUnit(350, "ms"))
	f("63.125%", WithUnit(63.125, "percent"))
	f("100", WithUnit(100, "requests"))
	f("0", WithUnit(-0.0001, ""))
	f("0", Bytes(0))
	f("23.1Gi", Bytes(23.1*(1<<30)))
	f("1023", Bytes(1023))
	f("100", Short(99.96))
	f("10", Short(9.999))
	f("1.5", Short(1.5))
	f("0.017", Short(0.0171))
	f("12346", Short(12345.6))
	f("0.3s", Age(0.26))
	f("12s", Age(12.4))
	f("42m", Age(42*60))
	f("26h", Age(26*3600))
	f("3d", Age(80*3600))
	f("13µs", Duration(13.4e-6))
	f("1.23s", Duration(1.234))
	f("-", Duration(0))
}
