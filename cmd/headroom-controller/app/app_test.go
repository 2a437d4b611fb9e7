package app

import (
	"bytes"
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"headroom.dev/headroom/adapter/promapi"
	"headroom.dev/headroom/scaler/kube"
)

func TestBadFlagsAreNamed(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "headroom-system")
	for args, want := range map[string]string{
		"--period=10ms":                                  "--period 10ms is not between 1s and 5m",
		"--lease-duration=1s":                            "--lease-duration 1s is less than 3s",
		"--workers=0":                                    "--workers 0 is not positive",
		"--rollout-gpus=-1":                              "--rollout-gpus -1 is negative",
		"--lease=":                                       "--lease is empty",
		"--namespace=":                                   "--namespace is required",
		"--metrics-listen=9402":                          "--metrics-listen: address 9402: missing port in address",
		"--log-level=loud":                               `--log-level "loud" is none of debug, info, warn, error`,
		"--recommend-interval=1h":                        "--recommend-interval 1h0m0s is not between 1s and 10m",
		"--recommend-checkpoint-interval=1s":             "--recommend-checkpoint-interval 1s is not between 10s and 24h",
		"--recommend-writes-per-second=0":                "--recommend-writes-per-second 0 is not above 0 and at most 1000",
		"--recommend-history=-1s":                        "--recommend-history -1s is not between 0 and 2160h",
		"--recommend-floors=cpu":                         `--recommend-floors: "cpu" is not RESOURCE=QUANTITY`,
		"--recommend-floors=cpu=25m,memory=-1Mi":         `--recommend-floors: "memory=-1Mi" is not RESOURCE=QUANTITY`,
		"--recommend-floors=gpu=1":                       `--recommend-floors: "gpu" is neither cpu nor memory`,
		"--prometheus-url=ftp://x":                       "--prometheus-…: URL: must be http://HOST… or https://HOST…",
		"--prometheus-url=http://x --prometheus-param=y": `--prometheus-param "y" is not NAME=VALUE`,
		"--kubeconfig=/none":                             "stopped: cannot read the cluster's address and credentials: stat /none: no such file or directory",
		"extra":                                          `unknown command "extra"`,
	} {
		var stderr bytes.Buffer
		cmd := NewCommand()
		cmd.SetErr(&stderr)
		cmd.SetArgs(strings.Fields(args))
		err := cmd.ExecuteContext(t.Context())
		require.ErrorContains(t, err, want, args)
		assert.Empty(t, stderr.String(), "main prints the error, once")
	}
}

// server answers each path with a body, and others as an API server does.
func server(t *testing.T, answers map[string]string) (*plane, *[]string) {
	t.Helper()
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		asked = append(asked, r.URL.Path+"?"+r.Form.Encode())
		body, ok := answers[r.URL.Path]
		w.Header().Set("Content-Type", "application/json")
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: 404, Reason: "NotFound", Message: "no x of pods: no sample in 10s"})
			return
		}
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	clients, err := kubernetes.NewForConfig(&rest.Config{Host: s.URL})
	require.NoError(t, err)
	client, err := promapi.NewClient(promapi.ClientOptions{URL: s.URL + "/prometheus"})
	require.NoError(t, err)
	return &plane{api: clients.Discovery().RESTClient(), server: client}, &asked
}

func TestPlane(t *testing.T) {
	const namespace = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/"
	p, asked := server(t, map[string]string{
		namespace + "pods/*/requests_per_second":                                    `{"items":[{"describedObject":{"name":"a"},"timestamp":"2026-11-28T12:00:00Z","value":"1500m"}]}`,
		namespace + "deployments.apps/chat/p95_ms":                                  `{"items":[{"describedObject":{"name":"chat"},"timestamp":"2026-11-28T12:00:00Z","value":"250"}]}`,
		"/apis/query.headroom.dev/v1alpha1/namespaces/prod/prometheus/api/v1/query": `{"data":{"resultType":"vector","result":[{"metric":{},"value":[1795867200.5,"7"]}]}}`,
	})
	selector := labels.SelectorFromSet(labels.Set{"app": "chat"})
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	values, err := p.Pods(t.Context(), "prod", selector, "requests_per_second")
	require.NoError(t, err)
	require.Len(t, values, 1)
	assert.Equal(t, 1.5, values["a"].Value)
	assert.True(t, at.Equal(values["a"].At))
	assert.Contains(t, (*asked)[0], "labelSelector=app%3Dchat")
	one, err := p.Deployment(t.Context(), "prod", "chat", "p95_ms")
	require.NoError(t, err)
	assert.Equal(t, 250.0, one.Value)
	_, err = p.Pods(t.Context(), "prod", selector, "x")
	require.EqualError(t, err, "no x of pods: no sample in 10s", "what the adapter says reaches the policy's status")

	p.server = nil
	list, err := p.Query(t.Context(), "prod", "sum(x)")
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, 7.0, list[0].Value)
}

func TestResults(t *testing.T) {
	f := func(kind, raw string, want []float64, wrong string) {
		t.Helper()
		got, err := results(kind, json.RawMessage(raw))
		if wrong != "" {
			require.ErrorContains(t, err, wrong)
			return
		}
		require.NoError(t, err)
		var values []float64
		for _, v := range got {
			values = append(values, v.Value)
		}
		assert.Equal(t, want, values)
	}
	f("vector", `[]`, nil, "")
	f("vector", `[{"value":[1,"2"]},{"value":[1,"3"]}]`, []float64{2, 3}, "")
	f("scalar", `[1,"2.5"]`, []float64{2.5}, "")
	f("vector", `[{"value":[1,"+Inf"]}]`, []float64{math.Inf(1)}, "")
	f("matrix", `[]`, nil, `the query's result is of type "matrix"`)
	f("vector", `[{"histogram":[1,{}]}]`, nil, "cannot read the query's sample")
	f("vector", `[{"value":[1,"x"]}]`, nil, "cannot read the query's sample")
	f("scalar", `{}`, nil, "cannot read the query's scalar")
}

func TestNarrowed(t *testing.T) {
	f := func(expr, want string) {
		t.Helper()
		got, err := narrowed(expr, "prod", podNames(&kube.Target{Kind: "Deployment", Name: "chat.v1"}))
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	const added = `namespace="prod",pod=~"chat\\.v1-[a-z0-9]+-[a-z0-9]{5}"`
	f(`sum by (namespace, pod) (rate(x[10s]))`, `sum by (namespace, pod) (rate(x{`+added+`}[10s]))`)
	f(`a{b="c"} or 0 * d`, `a{b="c",`+added+`} or 0 * d{`+added+`}`)
	assert.Equal(t, "chat-[0-9]+", podNames(&kube.Target{Kind: "StatefulSet", Name: "chat"}))
	assert.Equal(t, "chat-.+", podNames(&kube.Target{Kind: "LeaderWorkerSet", Name: "chat"}))
}

// TestHistory asks in parts that Prometheus does not refuse, for each rule that defines the metric.
func TestHistory(t *testing.T) {
	p, asked := server(t, map[string]string{
		"/apis/query.headroom.dev/v1alpha1/rules": `{"items":[{"metric":"rps","resource":"pods","expr":"a"},{"metric":"rps","resource":"services","expr":"b"},{"metric":"rps","resource":"pods","expr":"c"}]}`,
		"/prometheus/api/v1/query_range":          `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[60,"1"],[120,"NaN"],[180,"3"]]}]}}`,
	})
	start := time.Unix(0, 0).UTC()
	of := kube.Past{Namespace: "prod", Target: kube.Target{Kind: "Job", Name: "j"}, Metric: "rps", Start: start, End: start.Add(15_000 * time.Minute), Step: time.Minute}
	values, err := p.History(t.Context(), of)
	require.NoError(t, err)
	require.Len(t, values, 4, "twice the server's two values that are numbers")
	assert.Equal(t, 3.0, values[1].Value)
	require.Len(t, *asked, 3)
	assert.Contains(t, (*asked)[1], "query=sum%28%28a%7B")
	assert.Contains(t, (*asked)[1], "end=599940")
	assert.Contains(t, (*asked)[2], "start=600000")
	of.Metric = "unknown"
	_, err = p.History(t.Context(), of)
	require.EqualError(t, err, "no rule defines unknown for pods")
}
