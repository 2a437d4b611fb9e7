package accelerator_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/recommender/accelerator"
)

// machine plays an engine: what it has for its KV-cache when it starts on a device with a setting, negative if it does not start.
func machine(kind accelerator.EngineKind, weights, working, device, fraction float64) float64 {
	switch kind {
	case accelerator.VLLM:
		return fraction*device - weights - working
	case accelerator.SGLang:
		if (1-fraction)*device < working*(1-1e-9) {
			return -1
		}
		return fraction*device - weights
	default:
		return fraction * (device - weights - working)
	}
}

// An engine is run as it may be now, and again as recommended: its KV-cache must then hold what the tail of its use says.
func TestTheSettingAndTheSizeHoldTheNeed(t *testing.T) {
	random := source(t)
	kinds := []accelerator.EngineKind{accelerator.VLLM, accelerator.SGLang, accelerator.TensorRTLLM}
	smaller, asked := 0, 0
	for range 3000 {
		e := accelerator.NewEngine(kinds[random.IntN(3)])
		m, _ := accelerator.Find([]string{"NVIDIA H200", "NVIDIA H100 80GB HBM3", "NVIDIA RTX PRO 6000 Blackwell Server Edition"}[random.IntN(3)])
		e.Device = float64(m.Bytes)
		weights, working := e.Device*(0.02+0.4*random.Float64()), e.Device*0.05*random.Float64()
		e.Fraction = 0.6 + 0.33*random.Float64()
		kv := machine(e.Kind, weights, working, e.Device, e.Fraction)
		if kv <= 0 {
			continue
		}
		asked++
		e.KVBytes = kv
		if random.IntN(2) == 0 {
			e.Weights, e.Working = weights, working
		}
		use, busiest := make([]float64, 24), random.Float64()
		for i := range use {
			use[i] = busiest * random.Float64()
		}
		e.KV = history(use...)
		in := accelerator.Input{
			Now: begin(), Workload: "llm", Model: m.Name, Replicas: 1, Policy: accelerator.DefaultPolicy(), Engine: &e,
			Present: accelerator.Request{Resource: "nvidia.com/gpu", Count: 1}, Compute: history(0.02, 0.02, 0.02, 0.02),
		}
		a := accelerator.Recommend(in)
		require.NotNil(t, a.Recommended, a.Why)
		require.Len(t, a.Settings, 1)
		if a.Reason == accelerator.ReasonLargest {
			continue
		}
		size, setting := a.Recommended.Size, a.Settings[0].Recommended
		if size.Share < 1 {
			smaller++
		}
		tail, _ := accelerator.NewTail(e.KV)
		want := kv * tail.Bound(in.Policy.Risk, in.Policy.Hold)
		got := machine(e.Kind, weights, working, float64(size.Bytes), setting)
		require.GreaterOrEqual(t, got, want*(1-1e-9), "%s: %+v", a.Why, a.Settings)
		require.LessOrEqual(t, setting, 0.95)
		require.GreaterOrEqual(t, float64(size.Bytes), a.Need*(1-1e-9))
	}
	assert.Greater(t, smaller, asked/20, "a smaller size is hardly ever recommended: the test shows little")
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	full := func() accelerator.Engine {
		e := accelerator.NewEngine(accelerator.VLLM)
		e.Fraction, e.Device, e.KVBytes, e.KV = 0.92, 139*gib, 100*gib, history(0.2, 0.3, 0.2, 0.3)
		return e
	}
	for _, c := range []struct {
		says   string
		change func(*accelerator.Engine)
	}{
		{"the engine \"Triton\" is not known", func(e *accelerator.Engine) { e.Kind = "Triton" }},
		{"its setting gpu_memory_utilization is not known", func(e *accelerator.Engine) { e.Fraction = math.NaN() }},
		{"its setting gpu_memory_utilization is not known", func(e *accelerator.Engine) { e.Fraction = 92 }},
		{"the memory of its GPU is not known", func(e *accelerator.Engine) { e.Device = math.NaN() }},
		{"neither the size of its KV-cache", func(e *accelerator.Engine) { e.KVBytes = math.NaN() }},
		{"neither the size of its KV-cache", func(e *accelerator.Engine) { e.KVBytes, e.KVTokens = math.NaN(), 1e6 }},
		{"the use of its KV-cache is known for 1 hours", func(e *accelerator.Engine) { e.KV = history(0.2, math.NaN()) }},
		{"contradicts itself", func(e *accelerator.Engine) { e.KVBytes = 138 * gib }},
		{"contradicts itself", func(e *accelerator.Engine) { e.Weights = 60 * gib }},
	} {
		e := full()
		c.change(&e)
		model := "NVIDIA H200"
		if math.IsNaN(e.Device) {
			model = "" // else its memory is known
		}
		a := accelerator.Recommend(accelerator.Input{Now: begin(), Model: model, Policy: accelerator.DefaultPolicy(), Engine: &e})
		assert.Nil(t, a.Recommended, c.says)
		assert.Equal(t, accelerator.ReasonPreallocated, a.Reason)
		assert.Contains(t, a.Why, c.says)
		assert.NotContains(t, a.Why, "NaN")
		assert.Equal(t, !strings.Contains(c.says, "hours"), a.ReadyAt.IsZero(), "%s: only hours come by themselves", c.says)
	}
	e := full()
	a := accelerator.Recommend(accelerator.Input{Now: begin(), Model: "NVIDIA H200", Policy: accelerator.DefaultPolicy(), Engine: &e})
	assert.NotNil(t, a.Recommended, a.Why)
}

func TestMoreUseOfTheKVCacheNeverGetsASmallerSize(t *testing.T) {
	random := source(t)
	for range 300 {
		e := accelerator.NewEngine(accelerator.VLLM)
		e.Fraction, e.Device, e.KVBytes = 0.92, 139*gib, (20+90*random.Float64())*gib
		before := 0.0
		for _, factor := range []float64{0.2, 0.5, 0.8, 1} {
			use := make([]float64, 12)
			for i := range use {
				use[i] = factor * (0.5 + 0.5*rand.New(rand.NewPCG(5, uint64(i))).Float64())
			}
			e.KV = history(use...)
			a := accelerator.Recommend(accelerator.Input{Now: begin(), Model: "NVIDIA H200", Policy: accelerator.DefaultPolicy(), Engine: &e})
			require.NotNil(t, a.Recommended)
			require.GreaterOrEqual(t, a.Recommended.Size.Share, before)
			before = a.Recommended.Size.Share
		}
	}
}

func TestVLLMConfig(t *testing.T) {
	e, err := accelerator.FromVLLMConfig(map[string]string{
		"block_size": "16", "num_gpu_blocks": "573", "gpu_memory_utilization": "0.82", "kv_cache_memory_bytes": "None", "cache_dtype": "auto",
	})
	require.NoError(t, err)
	assert.InDelta(t, 0.82, e.Fraction, 1e-12)
	assert.InDelta(t, 573*16, e.KVTokens, 1e-9)
	assert.True(t, math.IsNaN(e.KVBytes))
	e, err = accelerator.FromVLLMConfig(map[string]string{"kv_cache_size_tokens": "1000", "block_size": "16", "num_gpu_blocks": "573"})
	require.NoError(t, err)
	assert.InDelta(t, 1000, e.KVTokens, 1e-9)
	assert.True(t, math.IsNaN(e.Fraction), "what is missing stays unknown")
	_, err = accelerator.FromVLLMConfig(map[string]string{"num_gpu_blocks": "many"})
	assert.ErrorContains(t, err, "cannot read vllm:cache_config_info: num_gpu_blocks: ")
}

func TestFacts(t *testing.T) {
	for _, c := range []struct {
		kind    accelerator.EngineKind
		config  map[string]string
		tokens  float64
		longest float64
	}{
		{accelerator.VLLM, map[string]string{"num_gpu_blocks": "573", "block_size": "16"}, 9168, math.NaN()},
		{accelerator.SGLang, map[string]string{"max_total_num_tokens": "471258", "context_len": "8192"}, 471258, 8192},
		{accelerator.SGLang, map[string]string{"num_pages": "1000", "page_size": "64"}, 64000, math.NaN()},
		{accelerator.TensorRTLLM, map[string]string{"max_blocks": "1e+06", "tokens_per_block": "32"}, 32e6, math.NaN()},
		{accelerator.TensorRTLLM, map[string]string{"tokens_per_block": "32"}, math.NaN(), math.NaN()},
		{accelerator.TensorRTLLM, nil, math.NaN(), math.NaN()},
	} {
		e, err := accelerator.Facts{Kind: c.kind, Config: c.config}.Engine()
		require.NoError(t, err)
		assert.Equal(t, c.kind, e.Kind)
		for _, v := range [][2]float64{{c.tokens, e.KVTokens}, {c.longest, e.Longest}} {
			assert.True(t, v[0] == v[1] || math.IsNaN(v[0]) && math.IsNaN(v[1]), "%v: %v", c, v)
		}
	}
	_, err := accelerator.Facts{Kind: accelerator.SGLang, Config: map[string]string{"page_size": "big"}}.Engine()
	assert.ErrorContains(t, err, "cannot read the metrics of SGLang: page_size: ")
}

// TestAKVCacheInBytesOutweighsTheFraction: vLLM goes by kv_cache_memory_bytes alone where that is set.
func TestAKVCacheInBytesOutweighsTheFraction(t *testing.T) {
	e, err := accelerator.FromFlags(accelerator.NewEngine(accelerator.VLLM), []string{"--kv-cache-memory-bytes=20G"})
	require.NoError(t, err)
	e.KV = history(0.2, 0.3, 0.2, 0.3)
	in := accelerator.Input{
		Now: begin(), Model: "NVIDIA H200", Policy: accelerator.DefaultPolicy(), Engine: &e, Present: accelerator.Request{Resource: "nvidia.com/gpu", Count: 1},
		Compute: history(0.02, 0.02, 0.02, 0.02),
	}
	a := accelerator.Recommend(in)
	assert.Nil(t, a.Recommended)
	assert.Contains(t, a.Why, "its KV-cache was set in bytes")
	e.Weights = 16 * gib
	a = accelerator.Recommend(in)
	require.NotNil(t, a.Recommended, a.Why)
	assert.Less(t, a.Need, 40.0*gib, a.Why)
	assert.True(t, math.IsNaN(a.Settings[0].Now), "the fraction is not set")
	assert.Contains(t, a.Why, "in place of kv_cache_memory_bytes")
}

// TestTheDeviceIsWhatTheEngineSees: its MIG instance, else the whole GPU.
func TestTheDeviceIsWhatTheEngineSees(t *testing.T) {
	for resource, says := range map[string]string{"nvidia.com/mig-3g.71gb": "0.92 of 69.5 GiB", "nvidia.com/gpu": "0.92 of 140.4 GiB"} {
		e := accelerator.NewEngine(accelerator.VLLM)
		e.Fraction, e.KVBytes, e.KV = 0.92, 200*gib, history(0.2, 0.3, 0.2, 0.3)
		a := accelerator.Recommend(accelerator.Input{
			Now: begin(), Model: "NVIDIA H200", Policy: accelerator.DefaultPolicy(), Engine: &e, Present: accelerator.Request{Resource: resource, Count: 1},
		})
		assert.Contains(t, a.Why, says)
	}
}

// TestSGLangsFractionFollowsFromItsParts, where it has none set and chose by itself.
func TestSGLangsFractionFollowsFromItsParts(t *testing.T) {
	e := accelerator.NewEngine(accelerator.SGLang)
	e.KVTokens, e.BytesPerToken, e.Weights, e.Working, e.KV = 800_000, 131072, 16*gib, 4*gib, history(0.2, 0.3, 0.2, 0.3)
	a := accelerator.Recommend(accelerator.Input{Now: begin(), Model: "NVIDIA H200", Policy: accelerator.DefaultPolicy(), Engine: &e})
	require.NotNil(t, a.Recommended, a.Why)
	assert.True(t, math.IsNaN(a.Settings[0].Now))
	assert.Contains(t, a.Why, "16.0 GiB that do not depend on load")
}

func TestFlags(t *testing.T) {
	for _, c := range []struct {
		kind      accelerator.EngineKind
		arguments string
		fraction  float64
		longest   float64
	}{
		{accelerator.VLLM, "serve llama --gpu-memory-utilization=0.8 --max-model-len 32k", 0.8, 32000},
		{accelerator.VLLM, "serve llama --gpu_memory_utilization 0.7 --gpu-memory-utilization 0.75", 0.75, math.NaN()},
		{accelerator.VLLM, "serve llama", 0.92, math.NaN()},
		{accelerator.SGLang, "--mem-fraction-static 0.85 --context-length 8192", 0.85, 8192},
		{accelerator.SGLang, "", math.NaN(), math.NaN()},
		{accelerator.TensorRTLLM, "--kv_cache_free_gpu_memory_fraction 0.6 --max_seq_len=4096", 0.6, 4096},
		{accelerator.TensorRTLLM, "", 0.9, math.NaN()},
	} {
		e, err := accelerator.FromFlags(accelerator.NewEngine(c.kind), strings.Fields(c.arguments))
		require.NoError(t, err, c.arguments)
		assert.Equal(t, math.IsNaN(c.fraction), math.IsNaN(e.Fraction), c.arguments)
		assert.Equal(t, math.IsNaN(c.longest), math.IsNaN(e.Longest), c.arguments)
		if !math.IsNaN(c.fraction) {
			assert.InDelta(t, c.fraction, e.Fraction, 1e-12, c.arguments)
		}
		if !math.IsNaN(c.longest) {
			assert.InDelta(t, c.longest, e.Longest, 1e-9, c.arguments)
		}
	}
	for _, wrong := range []string{"--gpu-memory-utilization", "--gpu-memory-utilization=", "--gpu-memory-utilization=x", "--max-model-len=-5"} {
		_, err := accelerator.FromFlags(accelerator.NewEngine(accelerator.VLLM), []string{wrong})
		assert.Error(t, err, wrong)
	}
}

func FuzzFlags(f *testing.F) {
	f.Add("--gpu-memory-utilization=0.8 --max-model-len 32k")
	f.Add("--mem-fraction-static NaN")
	f.Fuzz(func(t *testing.T, line string) {
		for _, kind := range []accelerator.EngineKind{accelerator.VLLM, accelerator.SGLang, accelerator.TensorRTLLM} {
			e, err := accelerator.FromFlags(accelerator.NewEngine(kind), strings.Split(line, " "))
			if err == nil && (math.IsInf(e.Fraction, 0) || e.Fraction < 0 || e.Longest < 0) {
				t.Fatalf("%q gives %+v", line, e)
			}
		}
		config := map[string]string{}
		for name := range strings.FieldsSeq("num_gpu_blocks block_size gpu_memory_utilization max_total_num_tokens page_size max_blocks tokens_per_block") {
			config[name] = line
		}
		for _, kind := range []accelerator.EngineKind{accelerator.VLLM, accelerator.SGLang, accelerator.TensorRTLLM, "other"} {
			if e, err := (accelerator.Facts{Kind: kind, Config: config}).Engine(); err == nil && (e.KVTokens < 0 || e.Fraction < 0) {
				t.Fatalf("%q gives %+v", line, e)
			}
		}
	})
}

func TestKVBytesPerToken(t *testing.T) {
	// Llama 3.1 8B: 32 layers, 8 key-value heads of 128, half precision: 128 KiB a token.
	assert.InDelta(t, 131072, accelerator.KVBytesPerToken(32, 8, 128, 2, 1), 1e-9)
	assert.InDelta(t, 32768, accelerator.KVBytesPerToken(32, 8, 128, 2, 4), 1e-9)
	assert.InDelta(t, 16384, accelerator.KVBytesPerToken(32, 8, 128, 2, 16), 1e-9, "heads are repeated, not split")
}
