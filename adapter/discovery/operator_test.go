package discovery

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/kubernetes"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	promlabels "github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/yaml"
)

// TestLikeTheOperator compares, over random pods and Services, what we make of monitors with what Prometheus makes of them:
// its own Kubernetes discovery, and the configuration that the operator's own ConfigGenerator (v0.85.0, Prometheus v3.5.0,
// EndpointSlices) made of testdata/operator/monitors.yaml.
func TestLikeTheOperator(t *testing.T) {
	configs := readScrapeConfigs(t)
	monitors := readMonitors(t)
	compared := 0
	for range 20 {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		world := randomWorld(rand.New(rand.NewPCG(seed, 0)))
		pods, behind := world.discover(t)
		for _, m := range monitors {
			for i, e := range m.endpoints {
				require.NoError(t, e.mistake())
				job := fmt.Sprintf("%s%s/%s/%s/%d", strings.ToLower(m.kind[:1]), m.kind[1:], m.namespace, m.name, i)
				config, ok := configs[job]
				require.True(t, ok, job)
				groups := pods
				if config.SD[0].Role == "endpointslice" {
					groups = behind
				}
				one := *m
				one.endpoints = []*endpoint{e}
				compared += world.compare(t, &one, config, groups)
			}
		}
	}
	assert.Greater(t, compared, 500, "targets compared")
}

type scrapeConfig struct {
	Job string `json:"job_name"`
	SD  []struct {
		Role       string
		Namespaces struct{ Names []string }
	} `json:"kubernetes_sd_configs"`
	Path     string            `json:"metrics_path"`
	Scheme   string            `json:"scheme"`
	Params   url.Values        `json:"params"`
	Relabel  []json.RawMessage `json:"relabel_configs"`
	Metric   []json.RawMessage `json:"metric_relabel_configs"`
	relabels []*relabel.Config
}

func readScrapeConfigs(t *testing.T) map[string]*scrapeConfig {
	t.Helper()
	data, err := os.ReadFile("testdata/operator/prometheus.yaml")
	require.NoError(t, err)
	var file struct {
		Configs []*scrapeConfig `json:"scrape_configs"`
	}
	require.NoError(t, yaml.Unmarshal(data, &file))
	out := map[string]*scrapeConfig{}
	for _, c := range file.Configs {
		for _, raw := range c.Relabel {
			r := relabel.DefaultRelabelConfig
			raw = []byte(strings.ReplaceAll(string(raw), "$(SHARD)", "0"))
			require.NoError(t, json.Unmarshal(quoteRegex(t, raw), &r))
			require.NoError(t, r.Validate(model.UTF8Validation))
			c.relabels = append(c.relabels, &r)
		}
		out[c.Job] = c
	}
	return out
}

// quoteRegex makes "regex: 8000" a text, as YAML decoding into one does.
func quoteRegex(t *testing.T, raw []byte) []byte {
	t.Helper()
	var m map[string]any
	require.NoError(t, json.Unmarshal(raw, &m))
	if n, ok := m["regex"].(float64); ok {
		m["regex"] = fmt.Sprint(n)
	}
	out, err := json.Marshal(m)
	require.NoError(t, err)
	return out
}

func readMonitors(t *testing.T) []*monitor {
	t.Helper()
	data, err := os.ReadFile("testdata/operator/monitors.yaml")
	require.NoError(t, err)
	var out []*monitor
	for _, o := range readObjects(t, string(data)) {
		m := compileObject(t, o)
		m.resolve(nil)
		out = append(out, m)
	}
	return out
}

type world struct {
	pods     []*corev1.Pod
	services []*corev1.Service
}

func randomWorld(r *rand.Rand) *world {
	w := &world{}
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	some := func(m map[string]string, key string, values ...string) {
		if v := pick(append(values, "")...); v != "" {
			m[key] = v
		}
	}
	for i := range 24 {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: pick("a", "a", "b", "c"), Name: fmt.Sprintf("pod-%d", i), UID: "u",
				Labels: map[string]string{}, Annotations: map[string]string{},
			},
			Spec:   corev1.PodSpec{NodeName: pick("n1", "n2")},
			Status: corev1.PodStatus{Phase: corev1.PodPhase(pick("Running", "Running", "Running", "Pending", "Failed", "Succeeded")), PodIP: fmt.Sprintf("10.0.0.%d", i), HostIP: "10.9.9.9"},
		}
		some(p.Labels, "app", "chat", "embed")
		some(p.Labels, "team", "red", "blue")
		some(p.Labels, "app.kubernetes.io/name", "n")
		some(p.Labels, "app.kubernetes.io/version", "1.2")
		some(p.Labels, "canary", "true", "", "", "")
		some(p.Labels, "pod-template-hash", "abc")
		some(p.Annotations, "prometheus.io/path", "/custom")
		some(p.Annotations, "example.com/port", "1234", "none")
		if r.IntN(5) == 0 {
			p.Status.PodIP = ""
		}
		if r.IntN(2) == 0 {
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "rs", Controller: new(true)}}
		}
		if r.IntN(2) == 0 {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionStatus(pick("True", "False"))}}
		}
		for j := range 1 + r.IntN(3) {
			c := corev1.Container{Name: fmt.Sprintf("c%d", j)}
			for range r.IntN(3) {
				c.Ports = append(c.Ports, corev1.ContainerPort{Name: pick("metrics", "http", ""), ContainerPort: []int32{8000, 9090, 80}[r.IntN(3)], Protocol: corev1.ProtocolTCP})
			}
			if j == 2 && len(c.Ports) > 0 {
				c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
				p.Spec.InitContainers = append(p.Spec.InitContainers, c)
				continue
			}
			p.Spec.Containers = append(p.Spec.Containers, c)
		}
		w.pods = append(w.pods, p)
	}
	for i := range 8 {
		s := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: pick("a", "a", "b"), Name: fmt.Sprintf("svc-%d", i), Labels: map[string]string{}, Annotations: map[string]string{}},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{}},
		}
		some(s.Labels, "team", "red", "blue")
		some(s.Labels, "monitored", "yes", "no")
		some(s.Annotations, "example.com/note", "hello")
		some(s.Spec.Selector, "app", "chat", "embed")
		some(s.Spec.Selector, "team", "red")
		for _, name := range []string{"metrics", "web"} {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{
				Name: name, Port: 80, Protocol: corev1.ProtocolTCP,
				TargetPort: []intstr.IntOrString{{}, intstr.FromInt32(8000), intstr.FromString("metrics"), intstr.FromString("http")}[r.IntN(4)],
			})
		}
		w.services = append(w.services, s)
	}
	return w
}

// discover has Prometheus' own discovery find the pods, by themselves and behind the Services.
func (w *world) discover(t *testing.T) (pods, behind []*targetgroup.Group) {
	t.Helper()
	var objects []runtime.Object
	for _, p := range w.pods {
		objects = append(objects, p)
	}
	count := 0
	for _, s := range w.services {
		objects = append(objects, s)
		for _, slice := range w.endpointSlices(s) {
			objects = append(objects, slice)
			count++
		}
	}
	factory := informers.NewSharedInformerFactory(fake.NewClientset(objects...), 0)
	podInformer := factory.Core().V1().Pods().Informer()
	events := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "events_total", Help: "Events."}, []string{"role", "event"})
	byPods := kubernetes.NewPod(nil, podInformer, nil, nil, nil, nil, false, false, false, events)
	sliceInformer := factory.Discovery().V1().EndpointSlices().Informer()
	require.NoError(t, sliceInformer.AddIndexers(cache.Indexers{"service": func(any) ([]string, error) { return nil, nil }}))
	bySlices := kubernetes.NewEndpointSlice(nil, sliceInformer, factory.Core().V1().Services().Informer(), podInformer,
		nil, nil, nil, nil, false, false, false, events)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	factory.StartWithContext(ctx)
	factory.WaitForCacheSyncWithContext(ctx)
	collect := func(run func(context.Context, chan<- []*targetgroup.Group), count int) []*targetgroup.Group {
		ch := make(chan []*targetgroup.Group)
		go run(ctx, ch)
		found := map[string]*targetgroup.Group{}
		for deadline := time.After(10 * time.Second); len(found) < count; {
			select {
			case groups := <-ch:
				for _, g := range groups {
					found[g.Source] = g
				}
			case <-deadline:
				t.Fatalf("%d of %d groups", len(found), count)
			}
		}
		out := make([]*targetgroup.Group, 0, len(found))
		for _, g := range found {
			out = append(out, g)
		}
		return out
	}
	return collect(byPods.Run, len(w.pods)), collect(bySlices.Run, count)
}

// endpointSlices does the control plane's work: a slice for each pod that the Service selects.
func (w *world) endpointSlices(s *corev1.Service) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for _, p := range w.pods {
		if len(s.Spec.Selector) == 0 || p.Namespace != s.Namespace || p.Status.PodIP == "" || ended(p) ||
			!labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(p.Labels)) {
			continue
		}
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name + "-" + p.Name, Labels: map[string]string{discoveryv1.LabelServiceName: s.Name}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints: []discoveryv1.Endpoint{{
				Addresses: []string{p.Status.PodIP}, NodeName: &p.Spec.NodeName,
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name},
			}},
		}
		for _, sp := range s.Spec.Ports {
			number := sp.TargetPort.IntVal
			if sp.TargetPort.Type == intstr.String {
				for _, c := range append(slices.Clone(p.Spec.Containers), p.Spec.InitContainers...) {
					for _, cp := range c.Ports {
						if number == 0 && cp.Name == sp.TargetPort.StrVal {
							number = cp.ContainerPort
						}
					}
				}
				if number == 0 {
					continue
				}
			} else if number == 0 {
				number = sp.Port
			}
			slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &sp.Name, Port: &number, Protocol: &sp.Protocol})
		}
		if len(slice.Ports) > 0 {
			out = append(out, slice)
		}
	}
	return out
}

// compare holds our targets of a monitor with one endpoint against Prometheus', and returns their number.
func (w *world) compare(t *testing.T, m *monitor, config *scrapeConfig, groups []*targetgroup.Group) int {
	t.Helper()
	theirs := map[string][]string{} // URL to labels; several where several Services or containers lead there
	for _, g := range groups {
		namespace := string(g.Labels[meta+"namespace"])
		if names := config.SD[0].Namespaces.Names; len(names) > 0 && !slices.Contains(names, namespace) {
			continue
		}
		for _, target := range g.Targets {
			if u, ls, ok := prometheusTarget(config, g.Labels.Merge(target)); ok {
				theirs[u] = append(theirs[u], ls)
			}
		}
	}
	trusted := map[string]bool{"a": true}
	ours := map[string]string{}
	for _, p := range w.pods {
		around := surroundings{trusted: trusted, annotated: annotated(), monitors: []*monitor{m}}
		if !m.inNamespace(p.Namespace) {
			continue
		}
		for _, s := range w.services {
			if made := newService(s); s.Namespace == p.Namespace && made.selector.Matches(labels.Set(p.Labels)) {
				around.services = append(around.services, made)
			}
		}
		trimmed, err := Trim(p)
		require.NoError(t, err)
		targets, _ := around.targets(trimmed.(*corev1.Pod))
		for _, target := range targets {
			b := promlabels.NewBuilder(target.Labels)
			require.Equal(t, p.Spec.NodeName, b.Get("node"))
			ours[target.URL] = b.Del("node").Labels().String()
		}
	}
	for u, ls := range ours {
		assert.Contains(t, theirs[u], ls, "%s of %s", u, config.Job)
	}
	for u := range theirs {
		assert.Contains(t, ours, u, "of %s", config.Job)
	}
	return len(ours)
}

// prometheusTarget is scrape.PopulateLabels and Target.URL, whose package brings too much along.
func prometheusTarget(config *scrapeConfig, discovered model.LabelSet) (u, ls string, ok bool) {
	b := promlabels.NewBuilder(promlabels.EmptyLabels())
	for name, value := range discovered {
		b.Set(string(name), string(value))
	}
	b.Set("job", config.Job)
	b.Set("__scheme__", strings.ToLower(config.Scheme))
	if config.Scheme == "" {
		b.Set("__scheme__", "http")
	}
	b.Set("__metrics_path__", config.Path)
	if config.Path == "" {
		b.Set("__metrics_path__", "/metrics")
	}
	for name, values := range config.Params {
		b.Set("__param_"+name, values[0])
	}
	if !relabel.ProcessBuilder(b, config.relabels...) {
		return "", "", false
	}
	if b.Get("instance") == "" {
		b.Set("instance", b.Get("__address__"))
	}
	query := url.Values{}
	for name, values := range config.Params {
		query[name] = slices.Clone(values)
	}
	b.Range(func(l promlabels.Label) {
		if name, ok := strings.CutPrefix(l.Name, "__param_"); ok {
			query[name] = append([]string{l.Value}, query[name][min(1, len(query[name])):]...)
		}
	})
	address := url.URL{Scheme: b.Get("__scheme__"), Host: b.Get("__address__"), Path: b.Get("__metrics_path__"), RawQuery: query.Encode()}
	b.Range(func(l promlabels.Label) {
		if strings.HasPrefix(l.Name, "__") {
			b.Del(l.Name)
		}
	})
	return address.String(), b.Labels().String(), true
}
