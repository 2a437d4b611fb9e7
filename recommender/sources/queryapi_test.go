package sources

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/adapter/profiles"
	"headroom.dev/headroom/adapter/promapi"
	"headroom.dev/headroom/adapter/rules"
	"headroom.dev/headroom/adapter/store"
	"headroom.dev/headroom/recommender"
)

const queryRoot = "/apis/query.headroom.dev/v1alpha1/prometheus"

// TestQueryAPI asks the adapter's own API over its own store, which keeps what the built-in rules read and no more.
func TestQueryAPI(t *testing.T) {
	built, err := profiles.Rules(profiles.Names()...)
	require.NoError(t, err)
	set, err := rules.Compile(built)
	require.NoError(t, err)
	st := store.New(store.Options{Keep: set.Needs()})
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	now := start
	for second := range 120 {
		now = start.Add(time.Duration(second) * time.Second)
		memory := 100.0
		if second == 75 { // within the last minute, and no more than a second long
			memory = 900
		}
		st.Append("agent", now, []store.Sample{
			at(t, `gpu_pod_memory_used_bytes{namespace="ml",pod="llm-0",container="llm",uuid="MIG-1"}`, memory),
			at(t, `gpu_pod_sm_active_ratio{namespace="ml",pod="llm-0",container="llm",uuid="MIG-1"}`, 0.7),
			at(t, `gpu_pod_tensor_active_ratio{namespace="ml",pod="llm-0",container="llm",uuid="MIG-1"}`, 0.35),
			at(t, `gpu_pod_share_info{namespace="ml",pod="llm-0",container="llm",uuid="MIG-1",method="process-samples"}`, 1),
			at(t, `gpu_mig_info{namespace="headroom-system",pod="headroom-agent-x",uuid="MIG-1",profile="1g.18gb"}`, 1),
			at(t, `gpu_pod_memory_used_bytes{namespace="other",pod="p",container="c",uuid="GPU-9"}`, 1),
		})
		st.Append("llm-0", now, []store.Sample{
			at(t, `vllm:kv_cache_usage_perc{namespace="ml",pod="llm-0",engine="0"}`, 0.5),
			at(t, `vllm:num_requests_waiting{namespace="ml",pod="llm-0",engine="0"}`, 3),
			at(t, `vllm:num_preemptions_total{namespace="ml",pod="llm-0",engine="0"}`, float64(second)*0.25),
			at(t, `vllm:cache_config_info{namespace="ml",pod="llm-0",engine="0",block_size="16",num_gpu_blocks="27000"}`, 1),
			at(t, `sglang:max_total_num_tokens{namespace="ml",pod="sgl-0"}`, 471258),
			at(t, `nv_trt_llm_kv_cache_block_metrics{namespace="ml",pod="triton-0",kv_cache_block_type="max"}`, 6000),
			at(t, `nv_trt_llm_kv_cache_block_metrics{namespace="ml",pod="triton-0",kv_cache_block_type="tokens_per"}`, 64),
		})
	}
	server := promapi.NewServer(st, promapi.ServerOptions{Clock: func() time.Time { return now }})
	q := NewQueryAPI(cluster(t, http.StripPrefix(queryRoot, server.Handler(""))))
	got, err := q.Samples(t.Context(), "ml")
	require.NoError(t, err)
	var out strings.Builder
	for i := range got {
		assert.Equal(t, now, got[i].At)
		got[i].At = time.Unix(0, 0)
	}
	write(&out, got, nil, q.Dropped())
	assert.Equal(t, `ml/llm-0/ kv-cache: 0.5@0s
ml/llm-0/ pre-emptions: 0.25@0s
ml/llm-0/ queue: 3@0s
ml/llm-0/llm gpu-compute: 0.1@0s (certainty 0.6)
ml/llm-0/llm gpu-memory: 900@0s (certainty 0.9)
ml/llm-0/llm gpu-tensor: 0.05@0s (certainty 0.6)
`, out.String())
	all, err := q.Samples(t.Context(), "")
	require.NoError(t, err)
	assert.Len(t, all, 7)
	require.ErrorIs(t, q.Past(t.Context(), recommender.Past{}, nil), ErrNoHistory)
	facts, err := q.Engines(t.Context(), "ml")
	require.NoError(t, err)
	out.Reset()
	writeFacts(&out, facts)
	assert.Equal(t, `ml/llm-0/ vLLM: block_size=16 engine=0 num_gpu_blocks=27000
ml/sgl-0/ SGLang: max_total_num_tokens=471258
ml/triton-0/ TensorRT-LLM: max_blocks=6000 tokens_per_block=64
`, out.String())
}

func at(t *testing.T, series string, v float64) store.Sample {
	t.Helper()
	ls, err := parser.NewParser(parser.Options{}).ParseMetric(series)
	require.NoError(t, err)
	return store.Sample{Labels: labels.NewBuilder(ls).Labels(), Value: v}
}

// TestQueryAPIWhenDown: an adapter that is not there is asked twice, not thirty times.
func TestQueryAPIWhenDown(t *testing.T) {
	requests := 0
	q := NewQueryAPI(cluster(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests++
		http.Error(w, "service unavailable", http.StatusServiceUnavailable)
	})))
	got, err := q.Samples(t.Context(), "ml")
	require.ErrorContains(t, err, "gpu-memory: cannot query query.headroom.dev: ")
	assert.Empty(t, got)
	assert.Equal(t, 2, requests)
}

// TestQueryAPIInPart: one resource that cannot be asked for does not cost the others.
func TestQueryAPIInPart(t *testing.T) {
	q := NewQueryAPI(cluster(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch expr := r.FormValue("query"); {
		case strings.Contains(expr, "sm_active"):
			http.Error(w, "no", http.StatusInternalServerError)
		case strings.Contains(expr, "num_requests_waiting"):
			_, _ = w.Write([]byte(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"namespace":"ml","pod":"p"},"value":[5,"2"]}]}}`))
		default:
			_, _ = w.Write([]byte(`{"status":"success","data":{"resultType":"vector","result":[]}}`))
		}
	})))
	got, err := q.Samples(t.Context(), "ml")
	require.ErrorAs(t, err, new(*PartialError))
	require.ErrorContains(t, err, "gpu-compute: ")
	require.Len(t, got, 1)
	assert.Equal(t, 2.0, got[0].Value)
}

func FuzzDecodeVector(f *testing.F) {
	f.Add([]byte(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"namespace":"ml","pod":"p"},"value":[5.1,"2"]}]}}`))
	f.Add([]byte(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1e300,"NaN"]},{"value":[1,"1e999"]},{}]}}`))
	f.Add([]byte(`{"status":"error","error":"no"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		v, err := decodeVector(strings.NewReader(string(body)), 1<<16)
		if err != nil && v != nil {
			t.Fatal("an error, and a vector")
		}
		for _, s := range v {
			_ = s.Metric.String()
			_ = fromMillis(s.T).Format(time.RFC3339)
		}
	})
}

func TestDecodeVectorRefuses(t *testing.T) {
	for body, want := range map[string]string{
		`{"status":"error","error":"parse error"}`:                                            "the query failed: parse error",
		`{"status":"success","data":{"resultType":"matrix","result":[]}}`:                     `the result is of type "matrix", not an instant vector`,
		`{"status":"success","data":{"resultType":"vector","result":[{"metric":{}}]}}`:        "a result has no value",
		`{"status":"success","data":{"resultType":"vector","result":[{"value":[1]}]}}`:        "cannot read the sample [1]",
		`{"status":"success","data":{"resultType":"vector","result":[{"value":[1,2]}]}}`:      "cannot read the sample [1,2]",
		`{"status":"success","data":{"resultType":"vector","result":[{"value":[1e18,"2"]}]}}`: "cannot read the sample",
		strings.Repeat(" ", 1<<16) + `{}`:                                                     "it is larger than 65536 bytes",
	} {
		_, err := decodeVector(strings.NewReader(body), 1<<16)
		require.ErrorContains(t, err, want)
	}
}
