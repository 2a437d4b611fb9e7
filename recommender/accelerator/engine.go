package accelerator

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// EngineKind is an inference engine that allocates its memory when it starts.
type EngineKind string

// The engines.
const (
	VLLM        EngineKind = "vLLM"
	SGLang      EngineKind = "SGLang"
	TensorRTLLM EngineKind = "TensorRT-LLM"
)

// Setting returns the flag that says how much memory the engine takes, and its default: what a flag that is not set means.
//
//	vLLM          gpu_memory_utilization: weights, working memory and KV-cache, of all memory. 0.92 (vllm/config/cache.py;
//	              0.9 up to 2025)
//	SGLang        mem_fraction_static: weights and KV-cache, of all memory. It has no fixed default: NaN
//	TensorRT-LLM  free_gpu_memory_fraction: KV-cache, of what weights and working memory leave free. 0.9
func (k EngineKind) Setting() (name string, byDefault float64) {
	switch k {
	case VLLM:
		return "gpu_memory_utilization", 0.92
	case SGLang:
		return "mem_fraction_static", math.NaN()
	case TensorRTLLM:
		return "free_gpu_memory_fraction", 0.9
	}
	return "", math.NaN()
}

// Engine is what is known of an engine, on one GPU. Numbers that are not known are NaN; NewEngine makes an Engine of which nothing is.
type Engine struct {
	Kind EngineKind
	// Fraction is the setting now, of Device: the memory that the engine sees, bytes.
	Fraction, Device float64
	// Weights of the model, and Working: activations, CUDA graphs and buffers; bytes.
	Weights, Working float64
	// KVBytes is the capacity of the KV-cache; or KVTokens and BytesPerToken say it.
	KVBytes, KVTokens, BytesPerToken float64
	// KVSet says that KVBytes was set (vLLM's kv_cache_memory_bytes): then Fraction says nothing, vLLM goes by KVBytes alone.
	KVSet bool
	// Longest is the longest request that the engine accepts, in tokens (max_model_len): it refuses to start if the KV-cache
	// cannot hold one.
	Longest float64
	// Running is how many requests run at once when it is busiest.
	Running float64

	// Used is the most memory of the GPU that was in use.
	Used float64

	KV, Queue, Preemptions History
}

// NewEngine returns an engine of which nothing but its kind is known.
func NewEngine(kind EngineKind) Engine {
	n := math.NaN()
	return Engine{
		Kind: kind, Fraction: n, Device: n, Weights: n, Working: n, KVBytes: n, KVTokens: n, BytesPerToken: n, Longest: n, Running: n, Used: n,
	}
}

// on is the engine with the memory that it sees: its MIG instance, else the whole GPU, also where others have slices of its time.
func (e *Engine) on(m Model, present Size, hasPresent bool) *Engine {
	if e == nil || e.Device > 0 {
		return e
	}
	seen := *e
	switch {
	case hasPresent && present.Sharing == MIG && present.Bytes > 0:
		seen.Device = float64(present.Bytes)
	case m.Bytes > 0:
		seen.Device = float64(m.Bytes)
	}
	return &seen
}

// KVBytesPerToken is what a token takes in the KV-cache of one GPU: a key and a value for each layer and head. kvHeads is the
// model's number of key-value heads (num_key_value_heads), elementBytes 2 for half precision and 1 for FP8; tensor parallelism
// divides the heads. Models with latent attention or a sliding window take less.
func KVBytesPerToken(layers, kvHeads, headDim int, elementBytes float64, tensorParallel int) float64 {
	heads := max(1, float64(kvHeads)/float64(max(1, tensorParallel)))
	return 2 * float64(layers) * heads * float64(headDim) * elementBytes
}

const (
	// mostFraction of the memory is what an engine is given at most: what it does not account for (CUDA contexts, NCCL,
	// fragmentation) needs the rest.
	mostFraction = 0.95
	// A working memory that is not known is taken as workingShare of the device, at least leastWorking.
	workingShare, leastWorking = 0.05, 2 << 30
	// full is when a KV-cache counts as full: engines set requests back a little before its last block.
	full = 0.95
	// more is by how much the demand for KV-cache is taken to exceed a full one if nothing says by how much.
	more = 1.25
)

// layout is an engine's memory, and what its KV-cache is needed for.
type layout struct {
	waiting  bool // all that is missing are hours
	kind     EngineKind
	fraction float64 // now
	unset    bool    // the fraction is not the engine's setting, but what it comes to
	fixed    float64 // weights, and working memory where the setting covers it
	reserve  float64 // what must stay outside of the setting; 0 for TensorRT-LLM, which counts what is free
	kv       float64 // capacity now
	floor    float64 // of the KV-cache
	factor   float64 // by which demand exceeds what is seen
	use      Tail    // of the KV-cache, 0 to 1
	note     []string
	doubt    []string // terms that are not measured
}

// layout computes what the engine's memory consists of, or says what is missing for that.
func (e Engine) layout() (l layout, missing string) {
	name, _ := e.Kind.Setting()
	switch {
	case name == "":
		return l, fmt.Sprintf("the engine %q is not known", e.Kind)
	case !(e.Device > 0):
		return l, "the memory of its GPU is not known"
	}
	l = layout{kind: e.Kind, kv: e.KVBytes, factor: 1}
	if !(l.kv > 0) {
		l.kv = e.KVTokens * e.BytesPerToken
	}
	if missing := l.sums(&e); missing != "" {
		return l, missing
	}
	if !(e.Fraction > 0 && e.Fraction <= 1) {
		return l, "its setting " + name + " is not known"
	}
	l.fraction = e.Fraction
	if missing := l.divide(e); missing != "" {
		return l, missing
	}
	perToken := e.BytesPerToken
	if !(perToken > 0) {
		perToken = l.kv / e.KVTokens
	}
	if e.Longest > 0 && perToken > 0 {
		l.floor = e.Longest * perToken
	}
	var ok bool
	if l.use, ok = NewTail(e.KV); !ok {
		l.waiting = true
		return l, fmt.Sprintf("the use of its KV-cache is known for %d hours, and %d are needed", len(e.KV.known()), minHours)
	}
	l.censor(e)
	return l, ""
}

// sums finds the fraction from the parts where it is none that was set: vLLM with a KV-cache in bytes, SGLang where it chose by itself.
func (l *layout) sums(e *Engine) (missing string) {
	switch {
	case e.Kind == VLLM && e.KVSet:
		if !(e.Weights > 0) {
			return "its KV-cache was set in bytes, so that gpu_memory_utilization says nothing, and the size of its weights is not known"
		}
		e.Fraction = min(1, (e.Weights+e.working()+l.kv)/e.Device)
		l.note = append(l.note, "it is to be started with gpu_memory_utilization in place of kv_cache_memory_bytes")
	case e.Kind == SGLang && !(e.Fraction > 0) && l.kv > 0 && e.Weights > 0:
		e.Fraction = min(1, (e.Weights+l.kv)/e.Device)
	default:
		return ""
	}
	l.unset = true
	return ""
}

// working is the working memory, or what it is taken as.
func (e *Engine) working() float64 {
	if e.Working >= 0 {
		return e.Working
	}
	return max(leastWorking, workingShare*e.Device)
}

// divide finds the parts of the memory:
//
//	vLLM          setting × device = weights + working + KV
//	SGLang        setting × device = weights + KV, and working memory fits into the rest
//	TensorRT-LLM  setting × (device − weights − working) = KV
func (l *layout) divide(e Engine) (missing string) {
	working := e.working()
	derived := l.kv > 0
	if !derived && !(e.Weights > 0) {
		if e.KVTokens > 0 {
			return fmt.Sprintf("neither the size of its KV-cache in bytes nor that of its weights is known: the cache holds %.0f tokens, and what one takes is not known", e.KVTokens)
		}
		return "neither the size of its KV-cache in bytes (number of blocks, block size and bytes per token) nor that of its weights is known"
	}
	budget := e.Fraction * e.Device
	if !derived {
		l.kv = map[EngineKind]float64{
			VLLM: budget - e.Weights - working, SGLang: budget - e.Weights, TensorRTLLM: budget - e.Fraction*(e.Weights+working),
		}[e.Kind]
		if !(e.Working >= 0) && e.Kind != SGLang {
			l.doubt = append(l.doubt, "working memory is taken as "+gib(working))
		}
	}
	l.fixed = budget - l.kv
	if e.Kind == TensorRTLLM {
		l.fixed = e.Device - l.kv/e.Fraction
	}
	l.outside(e)
	if l.kv <= 0 || l.fixed <= 0 || e.Weights > l.fixed*1.02 {
		return fmt.Sprintf("what is known of it contradicts itself: a KV-cache of %s and weights of %s do not fit into the setting %.2f of %s",
			gib(l.kv), gib(e.Weights), e.Fraction, gib(e.Device))
	}
	return ""
}

// outside finds what an engine takes beside its setting: of SGLang the working memory, of vLLM what it does not account for.
func (l *layout) outside(e Engine) {
	switch free := (1 - e.Fraction) * e.Device; {
	case e.Kind == VLLM && e.Used > e.Fraction*e.Device:
		l.reserve = min(free, e.Used-e.Fraction*e.Device)
	case e.Kind == SGLang && e.Working >= 0:
		l.reserve = min(free, e.Working)
	case e.Kind == SGLang:
		l.reserve = free
		l.doubt = append(l.doubt, "all that the setting leaves free now ("+gib(free)+") counts as working memory")
	}
}

// censor notes whether requests wanted more KV-cache than there was: then use says how much there was.
func (l *layout) censor(e Engine) {
	waiting, set := e.Queue.busy(), e.Preemptions.busy()
	if l.use.Peak() < full || !(waiting > 0 || set > 0) {
		return
	}
	l.factor = more
	why := "a quarter more than there is, since the KV-cache was full with " + blocked(waiting, set)
	if e.Running > 0 && waiting > 0 {
		l.factor = 1 + waiting/e.Running
		why = fmt.Sprintf("%.2f times what there is, since the KV-cache was full for %.0f running requests with %s", l.factor, e.Running, blocked(waiting, set))
	} else {
		l.doubt = append(l.doubt, "how much more KV-cache the waiting requests want")
	}
	l.note = append(l.note, why)
}

func blocked(waiting, set float64) string {
	var parts []string
	if waiting > 0 {
		parts = append(parts, fmt.Sprintf("%.0f requests waiting", waiting))
	}
	if set > 0 {
		parts = append(parts, fmt.Sprintf("%.2g pre-emptions a second", set))
	}
	return strings.Join(parts, " and ")
}

// most is the highest setting that a size allows.
func (l layout) most(bytes float64) float64 {
	return min(mostFraction, 1-l.reserve/bytes)
}

// room is the largest KV-cache that a size allows, negative if not even the weights fit.
func (l layout) room(bytes float64) float64 {
	if l.kind == TensorRTLLM {
		return (bytes - l.fixed) * l.most(bytes)
	}
	return bytes*l.most(bytes) - l.fixed
}

// demand is the KV-cache that is enough with a risk.
func (l layout) demand(risk float64, within time.Duration) float64 {
	return max(l.floor, l.kv*l.factor*l.use.Bound(risk, within))
}

// need is the memory that holds a KV-cache: weights, working memory and what the engine does not account for included.
func (l layout) need(kv float64) float64 {
	if l.kind == TensorRTLLM {
		return l.fixed + kv/mostFraction
	}
	return max(l.fixed+kv+l.reserve, (l.fixed+kv)/mostFraction)
}

// risk is the probability that a size's KV-cache does not hold the demand.
func (l layout) risk(bytes float64, within time.Duration) float64 {
	room := l.room(bytes)
	if room < l.floor || room <= 0 {
		return 1
	}
	return l.use.Risk(room/(l.kv*l.factor), within)
}

// divisible reports whether the engine can be given a time slice: vLLM keeps to a fraction of the GPU, whatever others use. What
// SGLang and TensorRT-LLM take depends on what is free when they start.
func (l layout) divisible() bool { return l.kind == VLLM }

// setting for a size: at least what the demand needs. A size that is the workload's alone is used as far as it was before, since
// memory left free serves nobody, while a larger KV-cache keeps more prefixes; in a time slice it is as little as the demand needs.
func (l layout) setting(s Size, kv float64) float64 {
	bytes := float64(s.Bytes)
	if s.Sharing == TimeSlicing {
		// The engine sees the whole GPU, and its setting is a fraction of that.
		return math.Ceil((l.fixed+kv)/bytes/float64(s.Replicas)*1000-1e-9) / 1000
	}
	least := (l.fixed + kv) / bytes
	if l.kind == TensorRTLLM {
		least = kv / (bytes - l.fixed)
	}
	least = max(least, min(l.fraction, l.most(bytes)))
	// Rounded up, or, where there is not that much room, down to what still holds the need.
	most := l.most(bytes)
	if up := math.Ceil(least*100-1e-9) / 100; up <= most {
		return up
	}
	if down := math.Floor(most*1e4) / 1e4; down >= least {
		return down
	}
	return most
}

// now is the setting as it is, NaN where it is not set.
func (l layout) now() float64 {
	if l.unset {
		return math.NaN()
	}
	return l.fraction
}

func gib(bytes float64) string {
	if math.IsNaN(bytes) {
		return "an unknown size"
	}
	return fmt.Sprintf("%.1f GiB", bytes/(1<<30))
}
