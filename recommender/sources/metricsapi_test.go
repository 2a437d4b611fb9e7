package sources

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"headroom.dev/headroom/recommender"
)

// cluster returns a REST client of an API server that is a handler.
func cluster(tb testing.TB, h http.Handler) rest.Interface {
	tb.Helper()
	srv := httptest.NewServer(h)
	tb.Cleanup(srv.Close)
	c, err := discovery.NewDiscoveryClientForConfig(&rest.Config{Host: srv.URL})
	require.NoError(tb, err)
	return c.RESTClient()
}

func podMetricsOf(namespace, pod string, at time.Time, containers ...metricsv1beta1.ContainerMetrics) metricsv1beta1.PodMetrics {
	return metricsv1beta1.PodMetrics{
		ObjectMeta: metav1.ObjectMeta{Name: pod, Namespace: namespace, Labels: map[string]string{"name": "label"}},
		Timestamp:  metav1.NewTime(at), Window: metav1.Duration{Duration: 15 * time.Second}, Containers: containers,
	}
}

func used(name, cpu, memory string) metricsv1beta1.ContainerMetrics {
	return metricsv1beta1.ContainerMetrics{
		Name:  name,
		Usage: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)},
	}
}

// TestMetricsAPI asks as the API server is asked, and compares with what its own types decode.
func TestMetricsAPI(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var asked []string
	m := NewMetricsAPI(cluster(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		if strings.Contains(r.URL.Path, "/namespaces/bank/") {
			http.Error(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"the server is currently unable to handle the request"}`, http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(metricsv1beta1.PodMetricsList{Items: []metricsv1beta1.PodMetrics{
			podMetricsOf("shop", "web-0", at, used("web", "123456789n", "65536Ki"), used("proxy", "250m", "1Mi")),
			podMetricsOf("shop", "empty-0", at),
		}})
	})))
	got, err := m.Samples(t.Context(), "shop")
	require.NoError(t, err)
	web := recommender.ContainerID{Namespace: "shop", Pod: "web-0", Container: "web"}
	proxy := recommender.ContainerID{Namespace: "shop", Pod: "web-0", Container: "proxy"}
	assert.Equal(t, []recommender.Sample{
		{Container: web, Resource: recommender.CPU, At: at, Value: 0.123456789, Certainty: 1},
		{Container: web, Resource: recommender.Memory, At: at, Value: 64 << 20, Certainty: 1},
		{Container: proxy, Resource: recommender.CPU, At: at, Value: 0.25, Certainty: 1},
		{Container: proxy, Resource: recommender.Memory, At: at, Value: 1 << 20, Certainty: 1},
	}, got)
	_, err = m.Samples(t.Context(), "")
	require.NoError(t, err)
	assert.Equal(t, []string{"/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods", "/apis/metrics.k8s.io/v1beta1/pods"}, asked)

	_, err = m.Samples(t.Context(), "bank")
	require.ErrorContains(t, err, "cannot list usage from metrics.k8s.io: ")
	require.ErrorContains(t, err, "unable to handle the request")
	require.ErrorIs(t, m.Past(t.Context(), recommender.Past{}, nil), ErrNoHistory)
}

// TestMetricsAPIGarbage: what one container says wrongly harms no other.
func TestMetricsAPIGarbage(t *testing.T) {
	const good = `{"metadata":{"name":"p","namespace":"n"},"timestamp":"2026-01-02T03:04:05Z","containers":[{"name":"c","usage":{"cpu":"1","memory":"2"}}]}`
	for _, test := range []struct {
		items   string
		samples int
		dropped Dropped
	}{
		{good, 2, Dropped{}},
		{`{"containers":[{"usage":{"memory":"2","cpu":"1"},"name":"c"}],"timestamp":"2026-01-02T03:04:05Z","metadata":{"namespace":"n","name":"p","labels":{"name":"x"}}}`, 2, Dropped{}},
		{good + `,{"metadata":{"name":"p"},"timestamp":"2026-01-02T03:04:05Z","containers":[{"name":"c","usage":{"cpu":"1"}}]},` + good, 4, Dropped{Unreadable: 1}},
		{strings.Replace(good, "2026-01-02T03:04:05Z", "yesterday", 1), 0, Dropped{Unreadable: 2}},
		{strings.Replace(good, `"2026-01-02T03:04:05Z"`, "null", 1), 0, Dropped{Unreadable: 2}},
		{strings.Replace(good, `"cpu":"1"`, `"cpu":"1x"`, 1), 1, Dropped{Unreadable: 1}},
		{strings.Replace(good, `"cpu":"1"`, `"cpu":7`, 1), 1, Dropped{Unreadable: 1}},
		{strings.Replace(good, `"cpu":"1"`, `"cpu":"-1"`, 1), 1, Dropped{Negative: 1}},
		{strings.Replace(good, `"cpu":"1"`, `"cpu":"`+strings.Repeat("9", 1000)+`"`, 1), 1, Dropped{Unreadable: 1}},
		{strings.Replace(good, `"name":"c",`, ``, 1), 0, Dropped{Unreadable: 2}},
		{`null,3,"x",[],{},{"metadata":[],"containers":{}},{"containers":[null,1]}`, 0, Dropped{}},
	} {
		var c counts
		got, err := decodePodMetrics(strings.NewReader(`{"kind":"PodMetricsList","items":[`+test.items+`]}`), &c)
		require.NoError(t, err, test.items)
		assert.Len(t, got, test.samples, test.items)
		assert.Equal(t, test.dropped, c.Dropped(), test.items)
	}
	for _, body := range []string{"", "null", "[]", "no", "{}", `{"items":[` + good, `{"items":[{]}`, "<html>Bad Gateway</html>"} {
		_, err := decodePodMetrics(strings.NewReader(body), &counts{})
		require.ErrorContains(t, err, "not a PodMetricsList", body)
	}
	got, err := decodePodMetrics(strings.NewReader(`{"items":null}`), &counts{})
	require.NoError(t, err)
	assert.Empty(t, got)
}

// FuzzDecodePodMetrics compares with what Kubernetes' own types make of the same bytes.
func FuzzDecodePodMetrics(f *testing.F) {
	f.Add([]byte(`{"items":[{"metadata":{"name":"p","namespace":"n"},"timestamp":"2026-01-02T03:04:05Z","containers":[{"name":"c","usage":{"cpu":"1","memory":"2Ki"}}]}]}`))
	f.Add([]byte(`{"items":[{"metadata":{"name":"p","namespace":"n"},"timestamp":"2026-01-02T03:04:05Z","containers":[{"name":"c","usage":{"cpu":"12n"}}]},{"containers":null}]}`))
	f.Add([]byte(`{"items":null,"x":[1,2,{"items":[]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := decodePodMetrics(bytes.NewReader(body), &counts{})
		if err != nil {
			return
		}
		for _, s := range got {
			if s.Value < 0 || s.Value != s.Value || s.Container.Pod == "" || s.Container.Namespace == "" || s.Container.Container == "" || s.At.IsZero() {
				t.Fatalf("took %+v", s)
			}
		}
		// Names that occur twice, and names that only Go's decoder takes for the same, are read differently.
		var strict metricsv1beta1.PodMetricsList
		if json.Unmarshal(body, &strict) != nil || strings.Count(string(body), `"items"`) != 1 || strings.ToLower(string(body)) != string(body) || strings.Contains(string(body), `\`) {
			return
		}
		want := 0
		for _, pod := range strict.Items {
			for _, c := range pod.Containers {
				for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
					if q, ok := c.Usage[name]; ok && q.Sign() >= 0 && c.Name != "" && pod.Name != "" && pod.Namespace != "" && !pod.Timestamp.IsZero() {
						want++
					}
				}
			}
		}
		if len(got) > want && strings.Count(string(body), `"containers"`) <= len(strict.Items) && strings.Count(string(body), `"usage"`) <= 1 {
			t.Fatalf("read %d samples where Kubernetes reads %d: %s", len(got), want, body)
		}
	})
}

// FuzzParseQuantity compares with Kubernetes' own parser.
func FuzzParseQuantity(f *testing.F) {
	for _, s := range []string{"1", "250m", "123456789n", "65536Ki", "1.5Gi", "1e3", "-2", "999999999999999u", "1234567890123456n", "", "Ki", "1k", "0.1", "+3Mi"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parseQuantity(s)
		if len(s) > maxQuantity {
			return
		}
		q, err := resource.ParseQuantity(s)
		if ok != (err == nil) {
			t.Fatalf("%q: read: %v, Kubernetes: %v", s, ok, err)
		}
		if want := q.AsApproximateFloat64(); ok && got != want && !(got > want*(1-1e-12) && got < want*(1+1e-12)) && !(got < 0 && got < want*(1-1e-12) && got > want*(1+1e-12)) {
			t.Fatalf("%q: %v, Kubernetes reads %v", s, got, want)
		}
	})
}

// TestParseQuantityOfUse holds the forms that kubelets write to Kubernetes' parser.
func TestParseQuantityOfUse(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		q := resource.NewScaledQuantity(rng.Int64N(1<<rng.IntN(62)+1), resource.Nano)
		if rng.IntN(2) == 0 {
			q = resource.NewQuantity(rng.Int64N(1<<rng.IntN(45)+1), resource.BinarySI)
		}
		got, ok := parseQuantity(q.String())
		require.True(t, ok, q.String())
		require.InEpsilon(t, q.AsApproximateFloat64()+1, got+1, 1e-12, q.String())
	}
}

// list writes a PodMetricsList of n containers, two in each pod, as metrics-server does.
func list(n int) []byte {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l := metricsv1beta1.PodMetricsList{TypeMeta: metav1.TypeMeta{Kind: "PodMetricsList", APIVersion: "metrics.k8s.io/v1beta1"}}
	for i := range n / 2 {
		l.Items = append(l.Items, podMetricsOf(fmt.Sprintf("team-%d", i%50), fmt.Sprintf("service-%d-7d4b9c6f5d-%05d", i%500, i), at,
			used("server", fmt.Sprintf("%dn", 1000003*(i+1)%4000000000), fmt.Sprintf("%dKi", 1000+i)), used("proxy", "3141592n", "12345Ki")))
	}
	body, err := json.Marshal(l)
	if err != nil {
		return nil
	}
	return body
}

// BenchmarkMetricsAPI decodes the usage of 100,000 containers, as it comes and with Kubernetes' own types. live-MB is what is in
// memory at the end besides the answer.
func BenchmarkMetricsAPI(b *testing.B) {
	const containers = 100_000
	body := list(containers)
	for _, bench := range []struct {
		name   string
		decode func(r io.Reader) (any, error)
	}{
		{"streamed", func(r io.Reader) (any, error) { return decodePodMetrics(r, &counts{}) }},
		{"types", func(r io.Reader) (any, error) {
			whole, err := io.ReadAll(r)
			if err != nil {
				return nil, err
			}
			var l metricsv1beta1.PodMetricsList
			return []any{whole, &l}, json.Unmarshal(whole, &l)
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			var live uint64
			for b.Loop() {
				var before, after runtime.MemStats
				b.StopTimer()
				runtime.GC()
				runtime.ReadMemStats(&before)
				b.StartTimer()
				kept, err := bench.decode(bytes.NewReader(body))
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				runtime.GC()
				runtime.ReadMemStats(&after)
				live = after.HeapAlloc - before.HeapAlloc
				runtime.KeepAlive(kept)
				b.StartTimer()
			}
			b.ReportMetric(float64(live)/(1<<20), "live-MB")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/containers, "ns/container")
		})
	}
}
