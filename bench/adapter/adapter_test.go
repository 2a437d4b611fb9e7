package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/bench/adapter/targets"
)

func TestRequestsAreTheHPAs(t *testing.T) {
	d := newDoor("127.0.0.1:6443")
	d.header["X-Remote-Group"] = []string{"a", "b"}
	request, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(d.request(listPath("app-001", rateMetric)))))
	require.NoError(t, err)
	require.Equal(t, "/apis/custom.metrics.k8s.io/v1beta2/namespaces/bench/pods/%2A/requests_per_second?labelSelector=app%3Dapp-001", request.RequestURI)
	require.Equal(t, []string{"a", "b"}, request.Header["X-Remote-Group"])
	require.True(t, strings.HasPrefix(request.Header.Get("Accept"), "application/vnd.kubernetes.protobuf"))
	require.Equal(t, "127.0.0.1:6443", request.Host)
}

func TestValuesAreDecodedFromProtobuf(t *testing.T) {
	var list v1beta2.MetricValueList
	for pod, v := range map[string]string{"a": "1500m", "b": "12345", "c": "-3m"} {
		item := v1beta2.MetricValue{Value: resource.MustParse(v)}
		item.DescribedObject.Name = pod
		list.Items = append(list.Items, item)
	}
	raw, err := list.Marshal()
	require.NoError(t, err)
	envelope, err := (&runtime.Unknown{Raw: raw}).Marshal()
	require.NoError(t, err)
	have, err := values(append([]byte("k8s\x00"), envelope...))
	require.NoError(t, err)
	require.Equal(t, map[string]float64{"a": 1.5, "b": 12345, "c": -0.003}, have)
	_, err = values([]byte(`{"items":[]}`))
	require.ErrorContains(t, err, "not protobuf")
	_, err = values([]byte("k8s\x00\xff\xff"))
	require.Error(t, err)
}

func TestDifferences(t *testing.T) {
	var a apart
	a.add(map[string]float64{"x": 10, "y": 0, "z": 1}, map[string]float64{"x": 8, "y": 0, "w": 1})
	d := a.difference("n")
	require.Equal(t, difference{name: "n", median: 0, max: 0.2, pairs: 2, lone: 2}, d)
}

func TestFlags(t *testing.T) {
	parse := func(args ...string) (options, error) { return parseFlags(args, io.Discard) }
	o, err := parse()
	require.NoError(t, err)
	require.Equal(t, []int{100, 1000, 5000}, o.pods)
	o, err = parse("--short", "--adapter-flags=--a=1 --b")
	require.NoError(t, err)
	require.Equal(t, []int{100}, o.pods)
	require.Equal(t, []string{"--a=1", "--b"}, o.flags)
	o, err = parse("--short", "--pods=50,150")
	require.NoError(t, err)
	require.Equal(t, []int{50, 150}, o.pods)
	for _, bad := range []string{"--pods=60", "--pods=100,100", "--pods=", "--pods=0", "--pods=10000"} {
		_, err = parse(bad)
		require.Error(t, err, bad)
	}
	require.ErrorContains(t, dispatch(t.Context(), []string{"limits"}), "own commands")
}

// TestReportMarksGoalsAtTheirSizeAlone has ours exactly at the goals at 1,000 pods, and the peer missing beyond.
func TestReportMarksGoalsAtTheirSizeAlone(t *testing.T) {
	filled := func(stack string, pods int, by float64) *sheet {
		s := newSheet(stack, pods)
		s.idleCPU, s.askedCPU, s.idlePeak, s.askedPeak = by, by, by*mib, by*mib
		s.fresh = []float64{0.5, 1.9}
		for _, n := range clientCounts() {
			s.direct[n] = asked{rate: 100 / by, p50: by / 1000, p99: by / 1000, count: 5}
		}
		return s
	}
	o := outcome{main: 1000, limits: map[int]limit{1000: {Read: 0.01, Parse: 0.02, Bytes: 4e7}}, sheets: []*sheet{
		filled(oursName, 100, 1), filled(peerName, 100, 1), filled(oursName, 1000, 1), filled(peerName, 1000, 4), filled(oursName, 5000, 3),
	}, lean: newSheet(peerName, 1000)}
	o.lean.idleCPU = 2
	var text bytes.Buffer
	dir := t.TempDir()
	require.NoError(t, o.report(&text, dir))
	raw, err := os.ReadFile(filepath.Join(dir, "adapter.json"))
	require.NoError(t, err)
	var back struct {
		Figures []struct {
			Name string
			Goal string
			Met  *bool
		}
	}
	require.NoError(t, json.Unmarshal(raw, &back))
	met := map[string]bool{}
	for _, f := range back.Figures {
		if f.Met != nil {
			require.True(t, strings.HasPrefix(f.Name, "1000 pods, "), f.Name)
			met[strings.TrimPrefix(f.Name, "1000 pods, ")] = *f.Met
		}
	}
	require.True(t, met["CPU, only scraping, ours as a share of theirs"])
	require.True(t, met["peak RSS, asked by HPAs, ours as a share of theirs"])
	require.True(t, met["freshness, p99, goal"])
	require.False(t, met["requests, 8 clients, ours as a multiple of theirs"], "4 times is not 10")
	require.False(t, met["p99, 64 clients, ours as a share of theirs"], "a quarter is not a tenth")
	require.Len(t, met, 11)
	require.Contains(t, text.String(), "MISSED")
	require.Contains(t, text.String(), "takes 1.67 times the first, 0.556 times the second")
	require.Contains(t, text.String(), "lean Prometheus alone")
	require.Contains(t, text.String(), "5000 pods")
}

func TestUnknownMissesItsGoal(t *testing.T) {
	for _, r := range rows() {
		if goal, met := r.goal(math.NaN(), 1); goal != "" {
			require.False(t, met, r.name)
		}
		if goal, met := r.goal(0, math.NaN()); goal != "" && r.most == 0 {
			require.False(t, met, r.name)
		}
	}
}

func TestPeerConfigurationIsYAML(t *testing.T) {
	var rules struct {
		Rules []struct {
			Name struct{ As string }
		}
	}
	require.NoError(t, yaml.UnmarshalStrict(adapterConfig, &struct {
		Rules []map[string]any
	}{}))
	require.NoError(t, yaml.Unmarshal(adapterConfig, &rules))
	var names []string
	for _, r := range rules.Rules {
		names = append(names, r.Name.As)
	}
	require.Equal(t, []string{rateMetric, p95Metric, gpuMetric}, names)

	for _, keep := range []string{"", "a|b"} {
		var out bytes.Buffer
		require.NoError(t, template.Must(template.New("").Parse(prometheusConfig)).Execute(&out, map[string]string{"Pods": "p", "Agents": "a", "Keep": keep}))
		var config struct {
			ScrapeConfigs []map[string]any `json:"scrape_configs"`
		}
		require.NoError(t, yaml.Unmarshal(out.Bytes(), &config), out.String())
		require.Len(t, config.ScrapeConfigs, 2)
		for _, c := range config.ScrapeConfigs {
			_, has := c["metric_relabel_configs"]
			require.Equal(t, keep != "", has)
		}
	}

	pods, agents, err := targetFiles(targets.Plan{First: netip.MustParseAddr("127.1.0.20"), Port: 8000, Pods: 100}, 50)
	require.NoError(t, err)
	require.Equal(t, 50, bytes.Count(pods, []byte(":8000")))
	require.Contains(t, string(agents), "127.1.0.120:8000", "agents come after all pods, also those that are not there yet")
}

// TestLimitReadsTheTargets runs the measuring process's code over a real fleet.
func TestLimitReadsTheTargets(t *testing.T) {
	plan := targets.Plan{First: netip.MustParseAddr("127.77.9.1"), Port: 8000, Pods: 2}
	in, commands := io.Pipe()
	out, reports := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- targets.Serve(context.WithoutCancel(t.Context()), plan, in, reports) }()
	var listening targets.Report
	require.NoError(t, json.NewDecoder(out).Decode(&listening))
	all, err := dialAll(t.Context(), plan, 2)
	require.NoError(t, err)
	require.Len(t, all, 3, "two pods and their agent")
	for _, s := range all {
		for range 3 {
			body, err := s.read(make([]byte, 0, 256<<10))
			require.NoError(t, err)
			require.True(t, bytes.HasSuffix(body, []byte("\n")))
			require.NoError(t, parse(body, nil))
		}
	}
	require.NoError(t, commands.Close())
	require.NoError(t, <-done)
}
