package app

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"headroom.dev/headroom/adapter/promapi"
	"headroom.dev/headroom/recommender"
	"headroom.dev/headroom/recommender/accelerator"
)

// TestUsageComesFromTheBestEvidence: CPU from the metrics API, memory from the Prometheus-compatible server, each from the other where one has
// none, engines from the adapter.
func TestUsageComesFromTheBestEvidence(t *testing.T) {
	const empty = `{"status":"success","data":{"resultType":"vector","result":[]}}`
	vector := func(labels, value string) string {
		return fmt.Sprintf(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{%s},"value":[%d,%q]}]}}`, labels, time.Now().Unix(), value)
	}
	serverDown, metricsDown := false, false
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.Contains(r.URL.Path, "metrics.k8s.io") && metricsDown:
			http.Error(w, "down", http.StatusServiceUnavailable)
		case strings.Contains(r.URL.Path, "metrics.k8s.io"):
			_, _ = fmt.Fprintf(w, `{"kind":"PodMetricsList","items":[{"metadata":{"namespace":"n","name":"p"},"timestamp":%q,"window":"15s","containers":[{"name":"c","usage":{"cpu":"1","memory":"100"}}]}]}`,
				time.Now().UTC().Format(time.RFC3339))
		case strings.Contains(r.FormValue("query"), "vllm:cache_config_info"):
			_, _ = w.Write([]byte(vector(`"__name__":"vllm:cache_config_info","namespace":"n","pod":"p","block_size":"16"`, "1")))
		default:
			_, _ = w.Write([]byte(empty))
		}
	}))
	defer api.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		const container = `"namespace":"n","pod":"p","container":"c"`
		switch query := r.FormValue("query"); {
		case serverDown:
			http.Error(w, "down", http.StatusServiceUnavailable)
		case strings.Contains(query, "container_cpu_usage_seconds_total"):
			_, _ = w.Write([]byte(vector(container, "2")))
		case strings.Contains(query, "container_memory_working_set_bytes"):
			_, _ = w.Write([]byte(vector(container, "200")))
		default:
			_, _ = w.Write([]byte(empty))
		}
	}))
	defer server.Close()
	discovered, err := discovery.NewDiscoveryClientForConfig(&rest.Config{Host: api.URL})
	require.NoError(t, err)
	client, err := promapi.NewClient(promapi.ClientOptions{URL: server.URL, Timeout: time.Minute})
	require.NoError(t, err)
	defer client.CloseIdleConnections()
	u, err := newUsage(discovered.RESTClient(), client, prometheus.NewRegistry())
	require.NoError(t, err)
	values := func() map[recommender.Resource]float64 {
		samples, _ := u.Samples(t.Context(), "n") // what is down is said
		got := map[recommender.Resource]float64{}
		for _, s := range samples {
			got[s.Resource] = s.Value
		}
		return got
	}
	assert.Equal(t, map[recommender.Resource]float64{recommender.CPU: 1, recommender.Memory: 200}, values())
	serverDown = true
	assert.Equal(t, map[recommender.Resource]float64{recommender.CPU: 1, recommender.Memory: 100}, values())
	serverDown, metricsDown = false, true
	assert.Equal(t, map[recommender.Resource]float64{recommender.CPU: 2, recommender.Memory: 200}, values())

	facts, err := u.Engines(t.Context(), "n")
	require.NoError(t, err)
	assert.Equal(t, accelerator.VLLM, facts[recommender.ContainerID{Namespace: "n", Pod: "p"}].Kind)
}
