package evidence

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubelabels "k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/adapter/store"
	"headroom.dev/headroom/api/v1alpha1"
)

const step = 15 * time.Second

// scraped is the storage of the metric plane after scrapes of pods every step from the epoch on. The input is as promqltest has it:
// name{labels} values; each pod is a target, a value that is missing (_) or stale is not in its scrape.
func scraped(t *testing.T, lines string) *store.Store {
	t.Helper()
	keep := map[string]time.Duration{}
	targets := map[string][][]store.Sample{}
	for line := range strings.Lines(lines) {
		ls, values, err := parser.NewParser(parser.Options{}).ParseSeriesDesc(strings.TrimSpace(line))
		require.NoError(t, err, line)
		keep[ls.Get(nameLabel)] = 24 * time.Hour
		pod := ls.Get(podLabel)
		for len(targets[pod]) < len(values) {
			targets[pod] = append(targets[pod], nil)
		}
		ls = labels.NewBuilder(ls).Set(namespaceLabel, "prod").Labels()
		for i, v := range values {
			if !v.Omitted && !value.IsStaleNaN(v.Value) {
				targets[pod][i] = append(targets[pod][i], store.Sample{Labels: ls, Value: v.Value})
			}
		}
	}
	st := store.New(store.Options{Keep: keep})
	for pod, scrapes := range targets {
		for i, samples := range scrapes {
			if len(samples) > 0 { // one without any has failed
				st.Append(pod, time.Unix(0, 0).Add(time.Duration(i)*step), samples)
			}
		}
	}
	return st
}

// server is Prometheus' engine over a storage.
type server struct {
	engine  *promql.Engine
	storage storage.Queryable
	now     func() time.Time
	broken  bool
	asked   []string
}

func newServer(over storage.Queryable, now func() time.Time) *server {
	return &server{engine: promql.NewEngine(promql.EngineOpts{MaxSamples: 1e7, Timeout: time.Minute, LookbackDelta: time.Minute}), storage: over, now: now}
}

func (s *server) Query(ctx context.Context, _, expr string) ([]Sample, error) {
	s.asked = append(s.asked, expr)
	if s.broken {
		return nil, errors.New("cannot query http://prometheus:9090: HTTP 503:\n no store")
	}
	query, err := s.engine.NewInstantQuery(ctx, s.storage, nil, expr, s.now())
	if err != nil {
		return nil, err
	}
	defer query.Close()
	vector, err := query.Exec(ctx).Vector()
	if err != nil {
		return nil, err
	}
	var list []Sample
	for _, one := range vector {
		of := map[string]string{}
		one.Metric.Range(func(l labels.Label) { of[l.Name] = l.Value })
		list = append(list, Sample{Labels: of, Value: one.F, At: time.UnixMilli(one.T)})
	}
	return list, nil
}

// podMetrics are values of metrics by pod.
type podMetrics map[string]map[string]Sample

func (m podMetrics) Pods(_ context.Context, _ string, _ kubelabels.Selector, metric string) (map[string]Sample, error) {
	if m[metric] == nil {
		return nil, errors.New("there is no metric " + metric)
	}
	return m[metric], nil
}

func newPod(name string, ready time.Time) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name, Labels: map[string]string{"app": "chat", "name": name}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(ready)},
		}},
	}
}

// script is the state of a scenario.
type script struct {
	*testing.T

	client *Client
	server *server
	policy *v1alpha1.RolloutPolicy
	now    time.Time
	ready  time.Duration
	state  []byte
}

// TestScenarios runs looks over series in a real Prometheus. The commands:
//
//	load        what the pods of the namespace prod expose, see scraped
//	analysis    of the policy, as YAML; forgets nothing
//	ready at=T  when the pods became Ready; from 0s by default
//	corrupt     cuts the stored state in half
//	broken / mended  the server stops answering, and answers again
//	look key=K at=T [until=T] [every=D] new=(…) old=(…)  looks, at once or until something is decided, and prints the last one
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &script{T: t, policy: &v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "chat"}}}
		s.client = &Client{Now: func() time.Time { return s.now }, Pods: podMetrics{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.run(t, d) })
	})
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	switch d.Cmd {
	case "load":
		s.server = newServer(scraped(t, d.Input), func() time.Time { return s.now })
		s.client.Plane = s.server
	case "analysis":
		s.policy.Spec.Analysis = v1alpha1.Analysis{}
		require.NoError(t, yaml.UnmarshalStrict([]byte(d.Input), &s.policy.Spec.Analysis))
		if err := Validate(&s.policy.Spec.Analysis); err != nil {
			return oneLine(err) + "\n"
		}
	case "ready":
		s.ready = duration(t, d, "at")
	case "corrupt":
		s.state = s.state[:len(s.state)/2]
	case "broken", "mended":
		s.server.broken = d.Cmd == "broken"
	case "look":
		return s.look(t, d)
	default:
		d.Fatalf(t, "there is no command %s", d.Cmd)
	}
	return ""
}

func duration(t *testing.T, d *datadriven.TestData, name string) time.Duration {
	t.Helper()
	var text string
	d.ScanArgs(t, name, &text)
	v, err := time.ParseDuration(text)
	require.NoError(t, err)
	return v
}

func (s *script) look(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	pods := func(arg string) (list []*corev1.Pod) {
		for _, a := range d.CmdArgs {
			if a.Key == arg {
				for _, name := range a.Vals {
					list = append(list, newPod(name, time.Unix(0, 0).Add(s.ready)))
				}
			}
		}
		return list
	}
	l := Look{New: pods("new"), Old: pods("old")}
	d.ScanArgs(t, "key", &l.Key)
	at := duration(t, d, "at")
	until := at
	if d.HasArg("until") {
		until = duration(t, d, "until")
	}
	every := 15 * time.Second
	if d.HasArg("every") {
		every = duration(t, d, "every")
	}
	var v Judged
	for ; at <= until; at += every {
		s.now = time.Unix(0, 0).Add(at)
		var err error
		v, err = s.client.Judge(t.Context(), s.policy, s.state, l)
		require.NoError(t, err)
		s.state = v.State
		if v.Verdict.Result == "Fail" || v.Verdict.Result == "Pass" {
			break
		}
	}
	require.Equal(t, l.Key, v.Verdict.Key)
	var b strings.Builder
	fmt.Fprintf(&b, "%s %q (%s) after %d looks, next at %s\n  %s\n", s.now.Sub(time.Unix(0, 0)), v.Verdict.Result, v.Status.Reason, v.Status.Looks, v.Next.Sub(time.Unix(0, 0)), v.Verdict.Message)
	for _, m := range v.Status.Metrics {
		fmt.Fprintf(&b, "  %s: %s (%s) old %q new %q ratio %q\n", m.Name, m.Result, m.Reason, m.Old, m.New, m.Ratio)
	}
	return b.String()
}
