package targets

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/stretchr/testify/require"
)

// parse returns the series of an exposition by their text.
func parse(t *testing.T, body []byte) map[string]float64 {
	t.Helper()
	p := textparse.NewPromParser(body, labels.NewSymbolTable(), false)
	out := map[string]float64{}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		if entry == textparse.EntrySeries {
			series, _, v := p.Series()
			require.NotContains(t, out, string(series), "each series once")
			out[string(series)] = v
		}
	}
}

func TestPodsExposeWhatVLLMDoes(t *testing.T) {
	for _, latency := range speeds() {
		e := vllm(latency)
		at := func(n, steps float64) map[string]float64 {
			answer := e.render(nil, n, steps)
			require.Len(t, answer, len(e.text), "the length never changes")
			return parse(t, answer[e.body:])
		}
		zero, later := at(0, 0), at(100_000, 500)
		require.Len(t, zero, podSeries)
		require.InDelta(t, 40_000, len(e.text)-e.body, 2_000)
		for series, v := range zero {
			require.GreaterOrEqual(t, later[series], v, series)
		}
		grown := func(series string) float64 { return later[series] - zero[series] }
		const model = `model_name="meta-llama/Llama-3.3-70B-Instruct"}`
		require.Equal(t, 80_500.0, grown(`vllm:request_success_total{engine="0",finished_reason="stop",`+model), "with the steps")
		require.Equal(t, 20_000.0, grown(`vllm:request_success_total{engine="0",finished_reason="length",`+model))
		require.Equal(t, 15_000_000.0, grown(`vllm:generation_tokens_total{engine="0",`+model))
		require.Equal(t, 100_000.0, grown(`vllm:e2e_request_latency_seconds_count{engine="0",`+model))
		require.Equal(t, 100_000.0, grown(`vllm:e2e_request_latency_seconds_bucket{engine="0",le="+Inf",`+model))
		require.InDelta(t, latency*100_000, grown(`vllm:e2e_request_latency_seconds_sum{engine="0",`+model), 20)
	}
}

func TestNumbersAreWrittenInPlace(t *testing.T) {
	b := &builder{}
	b.growing("a", "", count, 1)
	b.growing("b", "", sum, 0.5)
	b.growing("c", "", large, 1000).step = true
	e := b.finish()
	require.Equal(t, "a 100007.0\nb 100003.937500\nc 1.000797e+07\n", string(e.render(nil, 7.875, 100)[e.body:]))
	require.Equal(t, "a 123456.0\nb 111728.000000\nc 3.345600e+07\n", string(e.render(nil, 23456, 0)[e.body:]))
}

// TestAgentsExposeWhatOursDoes fails when gpu/agent's families are renamed.
func TestAgentsExposeWhatOursDoes(t *testing.T) {
	raw, err := os.ReadFile("../../../gpu/agent/testdata/metrics")
	require.NoError(t, err)
	e := agent("n", Namespace, [8]string{"chat-0"}, [8]float64{0.5})
	answer := e.render(nil, 0, 0)
	require.InDelta(t, 100, len(parse(t, answer[e.body:])), 30)
	for _, family := range regexp.MustCompile(`(?m)^# TYPE .*$`).FindAll(answer, -1) {
		require.True(t, bytes.Contains(raw, append(family, '\n')), "%s is not gpu/agent's", family)
	}
}

func TestServeAnswersAndSteps(t *testing.T) {
	// A port that is free at the first address is taken for free at the others: nobody else uses this block.
	free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.77.5.250:0")
	require.NoError(t, err)
	port := free.Addr().(*net.TCPAddr).Port
	require.NoError(t, free.Close())
	plan := Plan{First: netip.MustParseAddr("127.77.5.250"), Port: port, Pods: 12}
	in, commands := io.Pipe()
	reports, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- Serve(context.WithoutCancel(t.Context()), plan, in, out) }()
	lines := bufio.NewScanner(reports)
	require.True(t, lines.Scan())

	client := &http.Client{Timeout: 10 * time.Second}
	get := func(a netip.Addr) map[string]float64 {
		resp, err := client.Get("http://" + netip.AddrPortFrom(a, uint16(port)).String() + "/metrics")
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return parse(t, body)
	}
	const stop = `vllm:request_success_total{engine="0",finished_reason="stop",model_name="meta-llama/Llama-3.3-70B-Instruct"}`
	require.Less(t, get(plan.PodAddress(11))[stop], 102_000.0)
	_, err = io.WriteString(commands, `{"pod":11,"amount":5000}`+"\n")
	require.NoError(t, err)
	require.True(t, lines.Scan())
	require.Contains(t, lines.Text(), `"scrapes":1`)
	require.GreaterOrEqual(t, get(plan.PodAddress(11))[stop], 105_000.0)
	require.Less(t, get(plan.PodAddress(10))[stop], 102_000.0)

	agents := get(plan.AgentAddress(1))
	require.Contains(t, plan.AgentAddress(1).String(), "127.77.6.", "addresses run over the byte's end")
	found := 0
	for series, v := range agents {
		if strings.HasPrefix(series, "gpu_pod_utilization_ratio") && strings.Contains(series, Pod(11)) {
			found++
			want, _ := Utilization(11)
			require.Equal(t, want, v)
		}
	}
	require.Equal(t, 1, found)
	require.NoError(t, commands.Close())
	require.NoError(t, <-done)
}

func BenchmarkRender(b *testing.B) {
	e := vllm(1)
	b.SetBytes(int64(len(e.text)))
	var buffer []byte
	for b.Loop() {
		buffer = e.render(buffer[:0], 12345, 0)
	}
}
