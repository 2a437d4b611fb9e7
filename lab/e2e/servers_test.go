package e2e

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/lab/binaries"
	"headroom.dev/headroom/lab/process"
)

// realServer is a Prometheus-compatible server as people run it, out of Debian's package.
type realServer struct {
	pkg, program string
	args         func(listen, config, data string) []string
	adapter      []string // flags of the adapter that docs/metrics.md names for it
}

func realServers() []realServer {
	return []realServer{
		{"prometheus", "usr/bin/prometheus", func(listen, config, data string) []string {
			return []string{"--web.listen-address=" + listen, "--config.file=" + config, "--storage.tsdb.path=" + data}
		}, nil},
		{"victoria-metrics", "usr/bin/victoria-metrics", func(listen, config, data string) []string {
			return []string{"-httpListenAddr=" + listen, "-promscrape.config=" + config, "-storageDataPath=" + data}
		}, []string{"--prometheus-param=latency_offset=1ms", "--prometheus-param=nocache=1"}},
	}
}

// remoteRules are expressions that every Prometheus-compatible server and the embedded store must understand alike.
func remoteRules() map[string]v1alpha1.MetricRuleSpec {
	specs := map[string]v1alpha1.MetricRuleSpec{}
	for name, expr := range map[string]string{
		"rate":     "sum by (namespace, pod) (rate(work_requests_total[10s]))",
		"quantile": "1000 * histogram_quantile(0.95, sum by (namespace, pod, le) (rate(work_seconds_bucket[30s])))",
		"gauge":    "max by (namespace, pod) (work_depth) # as it is",
		"offset":   "max by (namespace, pod) (work_depth offset 5s)",
		"ratio":    "100 * sum by (namespace, pod) (work_depth) / sum by (namespace, pod) (work_limit)",
		"filtered": `sum by (namespace, pod) (work_part{part=~"a|b"}) > 0`,
	} {
		specs[name] = ofPodsWith(name, expr)
	}
	specs["external"] = v1alpha1.MetricRuleSpec{Metric: "external", Expr: "sum by (pod) (work_depth)", External: &v1alpha1.ExternalTarget{Labels: []string{"pod"}}}
	return specs
}

// steadyWork is an exporter whose every rate is steady, so that the moment of a scrape does not matter.
func steadyWork(pace float64) *exporter {
	e, began := &exporter{}, time.Now()
	e.use(func(w io.Writer) error {
		n := pace * time.Since(began).Seconds()
		_, err := fmt.Fprintf(w, `# TYPE work_requests_total counter
work_requests_total{code="200"} %g
work_requests_total{code="500"} %g
# TYPE work_seconds histogram
work_seconds_bucket{le="0.1"} %g
work_seconds_bucket{le="0.5"} %g
work_seconds_bucket{le="+Inf"} %g
work_seconds_sum %g
work_seconds_count %g
work_depth %g
work_limit 50
work_part{part="a"} 3
work_part{part="b"} 4
work_part{part="c"} 5
`, n, n/10, 0.9*n, n, n, 0.1*n, n, pace)
		return err
	})
	return e
}

// TestPrometheusCompatibleServers runs the same rules over the embedded store and over real servers that scrape the same pods.
func TestPrometheusCompatibleServers(t *testing.T) {
	if !fullScale() {
		t.Skipf("downloads Debian's packages of the servers; %s=full, or make test-servers, runs it", scaleVariable)
	}
	c := ownCluster(t, 2)
	namespace := c.namespace(t)
	pods := c.export(t, namespace, map[string]*exporter{"slow": steadyWork(10), "quick": steadyWork(40)})
	for name, spec := range remoteRules() {
		spec.Metric = "embedded_" + name
		c.rule(t, "embedded-"+name, spec)
	}
	for _, server := range realServers() {
		t.Run(server.pkg, func(t *testing.T) { c.compareWith(t, &server, namespace, pods) })
	}
}

func (c *cluster) compareWith(t *testing.T, server *realServer, namespace string, pods map[string]corev1.Pod) {
	t.Helper()
	ctx := t.Context()
	address := startServer(t, server, pods)
	counting := newCountingProxy(t, "http://"+address)
	c.reconfigure(t, append([]string{"--prometheus-url=" + counting.url, "--prometheus-interval=1s"}, server.adapter...)...)
	for name, spec := range remoteRules() {
		spec.Metric, spec.Source = "remote_"+name, v1alpha1.SourcePrometheus
		spec.MaxAge = &metav1.Duration{Duration: 10 * time.Second}
		c.rule(t, "remote-"+name, spec)
	}
	for name := range remoteRules() {
		c.awaitRule(t, "remote-"+name, metav1.ConditionTrue, v1alpha1.ReasonEvaluated, "")
		var difference float64
		var age time.Duration
		eventually(t, time.Minute, func(t require.TestingT) { // a quantile looks back half a minute
			here, there := c.both(ctx, t, namespace, name)
			require.Len(t, here.values, len(pods), "embedded")
			require.Equal(t, slices.Sorted(maps.Keys(here.values)), slices.Sorted(maps.Keys(there.values)))
			difference, age = 0, 0
			for pod, v := range here.values {
				difference = max(difference, math.Abs(v-there.values[pod])/v)
				age = max(age, there.ages[pod])
			}
			require.Less(t, difference, 0.01)
			require.LessOrEqual(t, age, 4*time.Second+wholeSecond)
			require.GreaterOrEqual(t, age, time.Duration(0), "nothing is from the future")
		})
		t.Logf("%s: relative difference %.1e, at most %s old", name, difference, age.Round(tick))
	}

	queries, began := counting.queries.Load(), time.Now()
	eventually(t, 20*time.Second, func(t require.TestingT) { require.Greater(t, time.Since(began), 5*time.Second) })
	perRule := float64(counting.queries.Load()-queries) / time.Since(began).Seconds() / float64(2*len(remoteRules()))
	t.Logf("%.2f queries a second for each rule and replica, all by POST: %v", perRule, counting.others.Load() == 0)
	assert.InDelta(t, 1, perRule, 0.35, "one query for each rule and interval, whoever asks")
	assert.Zero(t, counting.others.Load(), "requests that are no POST to /api/v1/query")
}

// served are a metric's values and ages, by pod.
type served struct {
	values map[string]float64
	ages   map[string]time.Duration
}

// both reads one rule's values from the embedded store and from the server.
func (c *cluster) both(ctx context.Context, t require.TestingT, namespace, name string) (here, there served) {
	read := func(metric string) served {
		s := served{map[string]float64{}, map[string]time.Duration{}}
		if name == "external" {
			a := c.get(ctx, t, external+"/namespaces/"+namespace+"/"+metric)
			for _, v := range externalValues(t, a) {
				s.values[v.MetricLabels["pod"]], s.ages[v.MetricLabels["pod"]] = v.Value.AsApproximateFloat64(), a.began.Sub(v.Timestamp.Time)
			}
			return s
		}
		a := c.get(ctx, t, ofPods(custom2, namespace, metric, "app=service"))
		values, err := a.values()
		require.NoError(t, err)
		for pod, v := range values {
			s.values[pod], s.ages[pod] = number(v), a.began.Sub(v.Timestamp.Time)
		}
		return s
	}
	return read("embedded_" + name), read("remote_" + name)
}

// startServer runs a server that scrapes the pods every second, until the test ends, and returns its address.
func startServer(t *testing.T, server *realServer, pods map[string]corev1.Pod) string {
	t.Helper()
	dir := t.TempDir()
	path, err := binaries.Debian(t.Context(), server.pkg, server.program, shared.Progress)
	require.NoError(t, err)
	var config strings.Builder
	config.WriteString("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n- job_name: pods\n  static_configs:\n")
	for _, pod := range pods {
		fmt.Fprintf(&config, "  - targets: ['%s:%d']\n    labels: {namespace: %s, pod: %s}\n", pod.Status.PodIP, exporterPort, pod.Namespace, pod.Name)
	}
	file := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(file, []byte(config.String()), 0o600))
	free, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := free.Addr().String()
	require.NoError(t, free.Close())

	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), path, server.args(address, file, filepath.Join(dir, "data"))...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Wait() // the test's context has ended it
		_ = log.Close()
		if t.Failed() {
			t.Log(process.Tail(log.Name(), 25))
		}
	})
	// VictoriaMetrics hides the last 30 s, unless it is told not to; Prometheus ignores that.
	const count = "/api/v1/query?query=count(work_depth)&latency_offset=1ms&nocache=1"
	eventually(t, 30*time.Second, func(c require.TestingT) {
		a, err := fetch(t.Context(), http.DefaultClient, "http://"+address+count)
		require.NoError(c, err)
		require.Contains(c, a.body, fmt.Sprintf(`"%d"]`, len(pods)))
	})
	return address
}

// countingProxy stands before a server and counts what it is asked.
type countingProxy struct {
	url             string
	queries, others atomic.Int64
}

func newCountingProxy(t *testing.T, target string) *countingProxy {
	t.Helper()
	to, err := url.Parse(target)
	require.NoError(t, err)
	p := &countingProxy{}
	forward := httputil.NewSingleHostReverseProxy(to)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/api/v1/query" {
			p.queries.Add(1)
		} else {
			p.others.Add(1)
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}
