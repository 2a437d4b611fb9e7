package apiserver

import (
	"context"
	"errors"
	"io"
	"iter"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/api/query"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const scraped = "scraped 42s ago, at most 15s"

// reader has values by metric and object, and refuses what is not among its descriptors. It is the plainest Reader there
// can be, and says some objects twice.
type reader struct {
	mu          sync.Mutex
	descriptors []metric.Descriptor
	values      map[string]map[metric.Object]metric.Value
	series      map[string][]metric.Series
	ambiguous   string // an external metric that is so without a selector
}

func (r *reader) Metrics() []metric.Descriptor {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.descriptors)
}

func (r *reader) define(list ...metric.Descriptor) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.descriptors = list
}

func (r *reader) defines(name, resource string) bool {
	return slices.ContainsFunc(r.Metrics(), func(d metric.Descriptor) bool { return d.Name == name && d.Resource == resource })
}

func (r *reader) Lookup(name string, o metric.Object, _ time.Time) (metric.Value, error) {
	if !r.defines(name, o.Resource) {
		return metric.Value{}, &metric.UnknownError{Metric: name, Resource: o.Resource}
	}
	v, ok := r.values[name][o]
	if !ok {
		return v, &metric.AbsentError{Metric: name, Object: o, Reason: scraped}
	}
	return v, nil
}

func (r *reader) Objects(name, resource, namespace string) iter.Seq[metric.Object] {
	return func(yield func(metric.Object) bool) {
		for range 2 {
			for o := range r.values[name] {
				if o.Resource == resource && (namespace == "" || o.Namespace == namespace) && !yield(o) {
					return
				}
			}
		}
	}
}

func (r *reader) External(name, _ string, match func(map[string]string) bool, _ time.Time) ([]metric.Series, error) {
	if !r.defines(name, metric.External) {
		return nil, &metric.UnknownError{Metric: name, Resource: metric.External}
	}
	if name == r.ambiguous && match(nil) {
		return nil, &metric.AmbiguousError{Metric: name, Reason: "it is there per Service and per Deployment: select by service or by deployment"}
	}
	out := slices.DeleteFunc(slices.Clone(r.series[name]), func(s metric.Series) bool { return !match(s.Labels) })
	if len(out) == 0 {
		return nil, &metric.AbsentError{Metric: name, Object: metric.Object{Name: "external"}, Reason: "no series matches"}
	}
	return out, nil
}

func (r *reader) Candidates(name string, o metric.Object, now time.Time) []metric.Candidate {
	if !r.defines(name, o.Resource) {
		return nil
	}
	v, err := r.Lookup(name, o, now)
	return []metric.Candidate{
		{Rule: "first", Err: &metric.AbsentError{Metric: name, Object: o, Reason: "no series"}},
		{Rule: "second", Value: v, Err: err},
	}
}

// directory has what it knows by "namespace/name".
type directory map[string]metric.Pod

func (d directory) Pod(namespace, name string) (metric.Pod, bool) {
	p, ok := d[namespace+"/"+name]
	return p, ok
}

func (directory) Version() uint64 { return 1 }

// names has the labels of objects other than pods.
type names map[metric.Object]labels.Set

func (n names) Names(_ context.Context, resource, namespace string, selector labels.Selector) ([]string, error) {
	if resource == "nodes" {
		return nil, errors.New("forbidden")
	}
	var out []string
	for o, set := range n {
		if o.Resource == resource && o.Namespace == namespace && selector.Matches(set) {
			out = append(out, o.Name)
		}
	}
	return out, nil
}

func pod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	app, _, _ := strings.Cut(name, "-")
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: name, Labels: map[string]string{"app": app}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func terminating(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now} }
func failed(p *corev1.Pod)      { p.Status.Phase = corev1.PodFailed }

func object(resource, name string) metric.Object {
	return metric.Object{Resource: resource, Namespace: "demo", Name: name}
}

// cluster is everything that a Provider reads.
type cluster struct {
	*reader
	pods      cache.Indexer
	directory directory
	names     names
	kinds     *Kinds
	registry  *prometheus.Registry
	provider  *Provider
	server    *genericapiserver.GenericAPIServer
	url       string
}

func newPods(tb testing.TB, pods ...*corev1.Pod) (cache.Indexer, directory) {
	tb.Helper()
	index := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	require.NoError(tb, index.AddIndexers(PodIndexers()))
	dir := directory{}
	for _, p := range pods {
		require.NoError(tb, index.Add(p))
		dir[p.Namespace+"/"+p.Name] = metric.Pod{}
	}
	return index, dir
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	second, window := now.Add(-time.Second), 30*time.Second
	both := []string{metric.Pods, metric.Services, metric.Deployments, metric.External}
	r := &reader{values: map[string]map[metric.Object]metric.Value{}, series: map[string][]metric.Series{}, ambiguous: "requests_per_second"}
	for _, resource := range both {
		r.descriptors = append(r.descriptors, metric.Descriptor{Name: "requests_per_second", Resource: resource, Namespaced: true, Unit: "1/s"})
	}
	r.descriptors = append(r.descriptors,
		metric.Descriptor{Name: "gpu_utilization_percent", Resource: metric.Pods, Namespaced: true, Unit: "percent"},
		metric.Descriptor{Name: "gpus_free", Resource: "nodes"},
		metric.Descriptor{Name: "quota_used", Resource: metric.Namespaces},
		metric.Descriptor{Name: "spin", Resource: "widgets.example.com", Namespaced: true},
		metric.Descriptor{Name: "queue_length", Resource: metric.External, Namespaced: true})
	r.values["requests_per_second"] = map[metric.Object]metric.Value{
		object(metric.Pods, "chat-1"):     {Value: 12.3456, Time: now.Add(-1500 * time.Millisecond), Window: window, Rule: "http"},
		object(metric.Pods, "chat-2"):     {Value: 0, Time: second, Window: window, Rule: "http"},
		object(metric.Pods, "chat-4"):     {Value: 99, Time: now},
		object(metric.Pods, "chat-5"):     {Value: 99, Time: now},
		object(metric.Pods, "slow-1"):     {Value: 1, Time: second},
		object(metric.Pods, "slow-2"):     {Value: 2, Time: second, IncludeLoading: true},
		object(metric.Pods, "held-1"):     {Value: 3, Time: now.Add(-time.Minute), Fallback: metric.HeldFallback},
		object(metric.Pods, "held-2"):     {Value: 4, Time: second},
		object(metric.Services, "chat"):   {Value: 12.3456, Time: second, Window: window},
		object(metric.Services, "embed"):  {Value: 7, Time: second, Window: window},
		object(metric.Deployments, "cd"):  {Value: 12.3456, Time: second, Window: window},
		object(metric.Deployments, "nan"): {Value: math.NaN(), Time: second},
	}
	r.values["gpu_utilization_percent"] = map[metric.Object]metric.Value{
		object(metric.Pods, "chat-1"): {Value: 87.5, Time: now},
		object(metric.Pods, "nan-1"):  {Value: math.NaN(), Time: now},
	}
	r.values["gpus_free"] = map[metric.Object]metric.Value{{Resource: "nodes", Name: "n1"}: {Value: 3, Time: now}, {Resource: "nodes", Name: "n2"}: {Value: 0, Time: now}}
	r.values["quota_used"] = map[metric.Object]metric.Value{{Resource: metric.Namespaces, Name: "demo"}: {Value: 5, Time: now}}
	r.values["spin"] = map[metric.Object]metric.Value{object("widgets.example.com", "w"): {Value: 0.5, Time: now}}
	r.series["queue_length"] = []metric.Series{
		{Labels: map[string]string{"queue": "a"}, Value: metric.Value{Value: 4, Time: second, Window: window, Rule: "queues"}},
		{Labels: map[string]string{"queue": "b", FallbackLabel: "forged"}, Value: metric.Value{Value: 6.5, Time: second}},
		{Labels: map[string]string{"queue": "c"}, Value: metric.Value{Value: 1, Time: now.Add(-time.Minute), Fallback: metric.SetFallback}},
		{Labels: map[string]string{"queue": "nan"}, Value: metric.Value{Value: math.NaN(), Time: now}},
	}
	r.series["requests_per_second"] = []metric.Series{
		{Labels: map[string]string{"service": "chat"}, Value: metric.Value{Value: 12.3456, Time: second, Window: window}},
		{Labels: map[string]string{"deployment": "cd"}, Value: metric.Value{Value: 12.3456, Time: second, Window: window}},
	}
	c := &cluster{reader: r, names: names{
		object(metric.Services, "chat"): {"tier": "front"}, object(metric.Services, "embed"): {"tier": "back"}, object(metric.Services, "idle"): {"tier": "none"},
	}}
	c.pods, c.directory = newPods(t,
		pod("chat-2"), pod("chat-1"), pod("chat-3"), pod("chat-4", terminating), pod("chat-5", failed),
		pod("lone-1"), pod("many-1"), pod("many-2"), pod("many-3"), pod("many-4"), pod("many-5"), pod("going-1", terminating), pod("nan-1"),
		pod("slow-1"), pod("slow-2"), pod("slow-3"), pod("held-1"), pod("held-2"), pod("new-1"), pod("over-1"))
	c.directory["demo/slow-1"] = metric.Pod{Loading: "container main has not been ready"}
	c.directory["demo/slow-2"] = metric.Pod{Loading: "container main has not been ready"}
	c.directory["demo/slow-3"] = metric.Pod{Loading: "container main has not been ready"}
	c.directory["demo/over-1"] = metric.Pod{Over: "the pod is terminating"}
	delete(c.directory, "demo/new-1")
	return c
}

// start makes the real API server, less TLS. An allow-all takes the place of authorization unless there is a better one.
func (c *cluster) start(tb testing.TB, change ...func(*genericapiserver.Config)) *cluster {
	tb.Helper()
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(schema.GroupVersionKind{Group: "example.com", Version: "v1alpha7", Kind: "Widget"}, meta.RESTScopeNamespace)
	c.registry = prometheus.NewRegistry()
	c.kinds = NewKinds(mapper)
	c.provider = NewProvider(Options{
		Reader: c.reader, Pods: c.pods, Directory: c.directory, Kinds: c.kinds, Names: c.names,
		Now: func() time.Time { return now },
		Why: func(_ string, o metric.Object) string {
			if o.Name == "many-2" || o.Resource != metric.Pods {
				return ""
			}
			return "connection refused"
		},
		Rules: func(time.Time) []query.Rule {
			return []query.Rule{
				{Name: "first", Origin: "MetricRule", Metric: "requests_per_second", Resource: metric.Pods},
				{Name: "second", Origin: "built-in", Metric: "requests_per_second", Resource: metric.Pods},
				{Name: "queues", Metric: "queue_length", External: true},
			}
		},
		Prometheus: func(namespace string) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				_, _ = io.WriteString(w, strings.Join([]string{r.Method, namespace, r.URL.Path, r.URL.RawQuery, string(body)}, " "))
			})
		},
		Registerer: c.registry,
	})
	config := NewConfig()
	config.ExternalAddress = "127.0.0.1:443"
	config.LoopbackClientConfig = &rest.Config{}
	config.Authorization.Authorizer = authorizer.AuthorizerFunc((&recorder{}).Authorize)
	for _, f := range change {
		f(&config.Config)
	}
	var err error
	c.server, err = New(&config.Config, informers.NewSharedInformerFactory(fake.NewClientset(), 0), c.provider)
	require.NoError(tb, err)
	c.server.PrepareRun()
	srv := httptest.NewServer(c.server.Handler)
	tb.Cleanup(srv.Close)
	c.url = srv.URL
	return c
}

// serve starts the usual cluster.
func serve(t *testing.T) *cluster {
	t.Helper()
	c := newCluster(t).start(t)
	c.provider.learnKinds(now)
	return c
}

// recorder allows what it is told to, everything by default, and keeps what it was asked.
type recorder struct {
	mu    sync.Mutex
	asked []authorizer.AttributesRecord
	allow func(authorizer.Attributes) bool
}

func (r *recorder) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, authorizer.AttributesRecord{
		User: a.GetUser(), Verb: a.GetVerb(), Namespace: a.GetNamespace(), APIGroup: a.GetAPIGroup(), APIVersion: a.GetAPIVersion(),
		Resource: a.GetResource(), Subresource: a.GetSubresource(), Name: a.GetName(), ResourceRequest: a.IsResourceRequest(), Path: a.GetPath(),
	})
	if r.allow == nil || r.allow(a) {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

func (r *recorder) last() authorizer.AttributesRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked[len(r.asked)-1]
}

// tokens authenticates by bearer token, which is the user's name.
func tokens(users ...string) authenticator.Request {
	return authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
		name, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || !slices.Contains(users, name) {
			return nil, false, nil
		}
		return &authenticator.Response{User: &user.DefaultInfo{Name: name}}, true, nil
	})
}

func get(t *testing.T, address, accept string) (int, string, []byte) {
	t.Helper()
	return do(t, http.MethodGet, address, "", http.Header{"Accept": {accept}})
}

func do(t *testing.T, method, address, body string, header http.Header) (int, string, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	require.NoError(t, err)
	maps.Copy(req.Header, header)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, resp.Header.Get("Content-Type"), answer
}
