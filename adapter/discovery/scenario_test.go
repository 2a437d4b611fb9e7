package discovery

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/datadriven"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// recorder is a Sink that knows what is scraped and fails on what tells it nothing.
type recorder struct {
	t       *testing.T
	mu      sync.Mutex
	targets map[string]Target
	events  []string
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	return &recorder{t: t, targets: map[string]Target{}}
}

func (r *recorder) Add(target Target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, ok := r.targets[target.ID]; ok && old.Equal(target) {
		r.t.Errorf("%s is added again as it is", target.ID)
	}
	r.targets[target.ID] = target
	r.events = append(r.events, "add "+target.ID)
}

func (r *recorder) Remove(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.targets[id]; !ok {
		r.t.Errorf("%s is removed and was not there", id)
	}
	delete(r.targets, id)
	r.events = append(r.events, "remove "+id)
}

// TestScenarios tells stories, one in each file. The commands are
//
//	trust NAMESPACE…            begins anew with these trusted namespaces
//	apply                       the objects of the input (YAML); prints what the sink and the log are told
//	delete KIND NAMESPACE/NAME  likewise
//	terminate NAMESPACE/NAME    likewise, for a pod
//	forbid KIND NAMESPACE/NAME  a Secret or ConfigMap may not be read; likewise
//	targets                     prints what is scraped, and how
//	why NAMESPACE/NAME…         prints why a pod is not scraped
//	pod NAMESPACE/NAME…         prints what the directory says
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		s := newStory(t, nil)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var args []string
			for _, a := range d.CmdArgs {
				args = append(args, a.Key)
			}
			switch d.Cmd {
			case "trust":
				s = newStory(t, args)
				return ""
			case "targets":
				return cmp.Or(s.describe(), "none\n")
			case "why", "pod":
				var out strings.Builder
				for _, name := range args {
					namespace, pod, _ := strings.Cut(name, "/")
					v, ok := s.cluster.look(namespace, pod)
					if d.Cmd == "why" {
						fmt.Fprintf(&out, "%s: %s\n", name, cmp.Or(v.why, "nothing"))
					} else {
						fmt.Fprintf(&out, "%s: %t %+v\n", name, ok, v.Pod)
					}
				}
				return out.String()
			}
			s.sink.events = nil
			s.log.Reset()
			s.change(t, d, args)
			told := strings.TrimSpace(strings.Join(s.sink.events, "\n") + "\n" + s.log.String())
			return cmp.Or(told, "nothing") + "\n"
		})
	})
}

type story struct {
	cluster *cluster
	sink    *recorder
	log     *bytes.Buffer
	pods    map[string]*corev1.Pod
}

func newStory(t *testing.T, trusted []string) *story {
	t.Helper()
	s := &story{sink: newRecorder(t), log: &bytes.Buffer{}, pods: map[string]*corev1.Pod{}}
	logger := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}}))
	s.cluster = newCluster(trusted, s.sink, logger)
	s.cluster.start()
	return s
}

func (s *story) change(t *testing.T, d *datadriven.TestData, args []string) {
	t.Helper()
	if d.Cmd == "apply" {
		for _, o := range readObjects(t, d.Input) {
			s.apply(t, o)
		}
		return
	}
	namespace, name, _ := strings.Cut(args[len(args)-1], "/")
	switch d.Cmd {
	case "terminate":
		pod := s.pods[namespace+"/"+name].DeepCopy()
		pod.DeletionTimestamp = &metav1.Time{}
		s.apply(t, pod)
	case "forbid":
		s.cluster.setObject(objectID{args[0], namespace, name}, content{err: errors.New("forbidden")})
	case "delete":
		switch args[0] {
		case "Pod":
			s.cluster.deletePod(namespace, name)
		case "Service":
			s.cluster.deleteService(namespace, name)
		default:
			s.cluster.setMonitor(monitorID{args[0], namespace, name}, nil)
		}
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
}

func (s *story) apply(t *testing.T, o runtime.Object) {
	t.Helper()
	trimmed, err := Trim(o)
	require.NoError(t, err)
	from := len(s.sink.events)
	// A monitor's pods are visited in any order; what happens to one pod is told in the order in which it happens.
	defer func() {
		slices.SortStableFunc(s.sink.events[from:], func(a, b string) int { return cmp.Compare(strings.Fields(a)[1], strings.Fields(b)[1]) })
	}()
	switch o := trimmed.(type) {
	case *corev1.Pod:
		s.pods[o.Namespace+"/"+o.Name] = o
		s.cluster.setPod(o)
	case *corev1.Service:
		s.cluster.setService(o)
	case *corev1.Secret:
		s.cluster.setObject(objectID{"secret", o.Namespace, o.Name}, content{data: o.StringData})
	case *corev1.ConfigMap:
		s.cluster.setObject(objectID{"configmap", o.Namespace, o.Name}, content{data: o.Data})
	case *monitoringv1.PodMonitor, *monitoringv1.ServiceMonitor:
		m := compileObject(t, trimmed.(runtime.Object))
		s.cluster.setMonitor(m.monitorID, m)
	}
}

func (s *story) describe() string {
	var out strings.Builder
	for _, id := range slices.Sorted(maps.Keys(s.sink.targets)) {
		target := s.sink.targets[id]
		fmt.Fprintf(&out, "%s\n  %s\n", id, target.Labels)
		set := target.Settings
		for _, part := range []struct {
			show bool
			text string
		}{
			{target.HonorLabels, "honours labels"},
			{set.Timeout > 0, "timeout " + set.Timeout.String()},
			{set.SampleLimit > 0, fmt.Sprint("at most ", set.SampleLimit, " samples")},
			{set.BodyLimit > 0, fmt.Sprint("at most ", set.BodyLimit, " bytes")},
			{set.RefuseRedirects, "refuses redirects"},
			{set.Auth.Scheme != "", fmt.Sprintf("authorization %s %s", set.Auth.Scheme, string(set.Auth.Credentials))},
			{set.Auth.Username != "", fmt.Sprintf("basic %s %s", set.Auth.Username, string(set.Auth.Password))},
			{set.TLS != TLS{}, fmt.Sprintf("tls ca=%d bytes cert=%d bytes server=%q insecure=%t", len(set.TLS.CA), len(set.TLS.Cert), set.TLS.ServerName, set.TLS.InsecureSkipVerify)},
			{len(set.Relabel) > 0, fmt.Sprint(len(set.Relabel), " metric relabelings")},
		} {
			if part.show {
				out.WriteString("  " + part.text + "\n")
			}
		}
	}
	return out.String()
}
