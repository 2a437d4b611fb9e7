package apiserver

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"sigs.k8s.io/custom-metrics-apiserver/pkg/provider"

	"headroom.dev/headroom/adapter/metric"
)

// fixedReader has a value for everything, at the cost of one look into a map, as a snapshot has.
type fixedReader struct {
	*reader
	values map[metric.Object]metric.Value
}

func (r *fixedReader) Lookup(name string, o metric.Object, _ time.Time) (metric.Value, error) {
	v, ok := r.values[o]
	if !ok {
		return v, &metric.AbsentError{Metric: name, Object: o, Reason: "no sample"}
	}
	return v, nil
}

func (r *fixedReader) External(string, string, func(map[string]string) bool, time.Time) ([]metric.Series, error) {
	return r.series["queue_length"][:1], nil
}

// newBench has 5,000 pods in one namespace, 50 for each app.
func newBench(b *testing.B) *cluster {
	b.Helper()
	c := &cluster{reader: &reader{series: map[string][]metric.Series{"queue_length": {{Labels: map[string]string{"queue": "a"}, Value: metric.Value{Value: 3, Time: now}}}}}}
	c.reader.define(metric.Descriptor{Name: "requests_per_second", Resource: metric.Pods, Namespaced: true}, metric.Descriptor{Name: "queue_length", Resource: metric.External})
	fast := &fixedReader{reader: c.reader, values: map[metric.Object]metric.Value{}}
	var pods []*corev1.Pod
	for i := range 5000 {
		name := fmt.Sprintf("app%02d-7c5ddbdf54-%05d", i%100, i)
		pods = append(pods, pod(name, func(p *corev1.Pod) {
			p.Labels = map[string]string{
				"app": "app" + strconv.Itoa(i%100), "app.kubernetes.io/part-of": "bench", "pod-template-hash": "7c5ddbdf54", "unique": name,
			}
		}))
		fast.values[object(metric.Pods, name)] = metric.Value{Value: float64(i) * 1.0003, Time: now.Add(-time.Second), Window: 30 * time.Second}
	}
	c.pods, c.directory = newPods(b, pods...)
	c.start(b, func(config *genericapiserver.Config) {
		config.Authentication.Authenticator = tokens("hpa")
		config.MaxRequestsInFlight = 0
	})
	c.provider.opts.Reader = fast
	return c
}

// BenchmarkGet asks as HPA controllers do, over TLS and HTTP/2 and through the whole chain of filters but for the network
// of authentication and authorization, whose answers are cached. Client and server share the CPUs.
func BenchmarkGet(b *testing.B) {
	c := newBench(b)
	srv := httptest.NewUnstartedServer(c.server.Handler)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	b.Cleanup(srv.Close)
	for name, path := range map[string]string{
		"pods":     v2 + "/namespaces/demo/pods/%2A/requests_per_second?labelSelector=app%3Dapp7",
		"pod":      v2 + "/namespaces/demo/pods/app07-7c5ddbdf54-00007/requests_per_second",
		"external": ext + "/namespaces/demo/queue_length?labelSelector=queue%3Da",
		"version":  "/version",
	} {
		for _, clients := range []int{1, 8, 64} {
			b.Run(name+"/"+strconv.Itoa(clients), func(b *testing.B) {
				b.ReportAllocs()
				start := cpuTime()
				b.SetParallelism(clients) // GOMAXPROCS goroutines for each
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, srv.URL+path, http.NoBody)
						if err != nil {
							b.Error(err)
							return
						}
						req.Header.Set("Accept", "application/vnd.kubernetes.protobuf,application/json")
						req.Header.Set("Authorization", "Bearer hpa")
						resp, err := srv.Client().Do(req)
						if err != nil {
							b.Error(err)
							return
						}
						_, _ = io.Copy(io.Discard, resp.Body)
						_ = resp.Body.Close()
						if resp.StatusCode != http.StatusOK {
							b.Error(resp.Status)
							return
						}
					}
				})
				b.ReportMetric(float64((cpuTime()-start).Microseconds())/float64(b.N), "cpu-µs/op")
			})
		}
	}
}

// BenchmarkHandler is the server's part of it alone.
func BenchmarkHandler(b *testing.B) {
	c := newBench(b)
	for name, path := range map[string]string{
		"pods":     v2 + "/namespaces/demo/pods/%2A/requests_per_second?labelSelector=app%3Dapp7",
		"external": ext + "/namespaces/demo/queue_length?labelSelector=queue%3Da",
		"version":  "/version",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			start := cpuTime()
			for b.Loop() {
				req := httptest.NewRequestWithContext(b.Context(), http.MethodGet, path, http.NoBody)
				req.Header.Set("Accept", "application/vnd.kubernetes.protobuf,application/json")
				req.Header.Set("Authorization", "Bearer hpa")
				rec := httptest.NewRecorder()
				c.server.Handler.ServeHTTP(rec, req)
				require.Equal(b, http.StatusOK, rec.Code)
			}
			b.ReportMetric(float64((cpuTime()-start).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

// cpuTime is what this process has used: on a machine that others use too it says more than the clock.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkProvider is what is ours of BenchmarkHandler.
func BenchmarkProvider(b *testing.B) {
	c := newBench(b)
	selector := labels.SelectorFromSet(labels.Set{"app": "app7"})
	info := provider.CustomMetricInfo{GroupResource: schema.GroupResource{Resource: metric.Pods}, Namespaced: true, Metric: "requests_per_second"}
	b.ReportAllocs()
	start := cpuTime()
	for b.Loop() {
		list, err := c.provider.GetMetricBySelector(b.Context(), "demo", selector, info, labels.Everything())
		require.NoError(b, err)
		require.Len(b, list.Items, 50)
	}
	b.ReportMetric(float64((cpuTime()-start).Microseconds())/float64(b.N), "cpu-µs/op")
}
