package accelerator

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Facts are what a running engine says of itself, one GPU's share of it.
type Facts struct {
	Kind EngineKind
	// Config is by name. Of vLLM they are the labels of vllm:cache_config_info; of SGLang max_total_num_tokens, page_size, num_pages,
	// context_len; of TensorRT-LLM max_blocks, tokens_per_block. Each may be missing.
	Config map[string]string
}

// Engine reads the facts. What is missing stays unknown; what is no number is an error that names it.
func (f Facts) Engine() (Engine, error) {
	e := NewEngine(f.Kind)
	var blocks, size float64
	var fields []field
	switch f.Kind {
	case VLLM:
		return FromVLLMConfig(f.Config)
	case SGLang:
		fields = []field{{"max_total_num_tokens", &e.KVTokens}, {"num_pages", &blocks}, {"page_size", &size}, {"context_len", &e.Longest}}
	case TensorRTLLM:
		fields = []field{{"max_blocks", &blocks}, {"tokens_per_block", &size}}
	}
	if err := read(f.Config, fields); err != nil {
		return NewEngine(f.Kind), fmt.Errorf("cannot read the metrics of %s: %w", f.Kind, err)
	}
	if math.IsNaN(e.KVTokens) {
		e.KVTokens = blocks * size
	}
	return e, nil
}

type field struct {
	name string
	into *float64
}

func read(from map[string]string, fields []field) error {
	for _, f := range fields {
		value, err := number(from[f.name])
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		*f.into = value
	}
	return nil
}

// FromVLLMConfig reads the labels of vllm:cache_config_info, whose labels are the fields of vLLM's CacheConfig (vllm/config/cache.py):
// num_gpu_blocks × block_size, or kv_cache_size_tokens where the version has it, which is right for hybrid models, too; kv_cache_memory_bytes
// where the size was set; gpu_memory_utilization. A field that is missing or None stays unknown; one that is no number is an error.
func FromVLLMConfig(labels map[string]string) (Engine, error) {
	e := NewEngine(VLLM)
	var blocks, size float64
	err := read(labels, []field{
		{"gpu_memory_utilization", &e.Fraction},
		{"num_gpu_blocks", &blocks},
		{"block_size", &size},
		{"kv_cache_size_tokens", &e.KVTokens},
		{"kv_cache_memory_bytes", &e.KVBytes},
	})
	if err != nil {
		return NewEngine(VLLM), fmt.Errorf("cannot read vllm:cache_config_info: %w", err)
	}
	e.KVSet = e.KVBytes > 0
	if math.IsNaN(e.KVTokens) {
		e.KVTokens = blocks * size
	}
	return e, nil
}

// number reads a label's value; NaN for one that is missing.
func number(text string) (float64, error) {
	if text == "" || text == "None" {
		return math.NaN(), nil
	}
	value, err := strconv.ParseFloat(text, 64)
	if err == nil && (math.IsNaN(value) || math.IsInf(value, 0) || value < 0) {
		err = fmt.Errorf("%q is not a size", text)
	}
	if err != nil {
		return math.NaN(), err
	}
	return value, nil
}

// FromFlags reads the setting, and what else there is, from a container's command line: --gpu-memory-utilization=0.8,
// --mem-fraction-static 0.85, --kv_cache_free_gpu_memory_fraction 0.7, --free_gpu_memory_fraction, --max-model-len,
// --context-length. The last one counts, as the engines have it. A setting that is not given is the engine's default, where it has one; one
// that cannot be read is what it was before.
func FromFlags(e Engine, arguments []string) (Engine, error) {
	_, byDefault := e.Kind.Setting()
	into := map[string]*float64{}
	switch e.Kind {
	case VLLM:
		into["gpu-memory-utilization"], into["max-model-len"], into["kv-cache-memory-bytes"] = &e.Fraction, &e.Longest, &e.KVBytes
	case SGLang:
		into["mem-fraction-static"], into["context-length"], into["max-total-tokens"] = &e.Fraction, &e.Longest, &e.KVTokens
	case TensorRTLLM:
		into["kv-cache-free-gpu-memory-fraction"], into["kv-cache-free-gpu-mem-fraction"] = &e.Fraction, &e.Fraction
		into["free-gpu-memory-fraction"], into["max-seq-len"] = &e.Fraction, &e.Longest
	}
	for i, argument := range arguments {
		name, value, inline := strings.Cut(argument, "=")
		name, isFlag := strings.CutPrefix(name, "--")
		field := into[strings.ReplaceAll(name, "_", "-")]
		if !isFlag || field == nil {
			continue
		}
		if !inline && i+1 < len(arguments) {
			value = arguments[i+1]
		}
		read, err := amount(value)
		if err != nil {
			return e, fmt.Errorf("cannot read --%s: %w", name, err)
		}
		*field = read
		e.KVSet = e.KVSet || e.Kind == VLLM && field == &e.KVBytes && read > 0
	}
	if math.IsNaN(e.Fraction) {
		e.Fraction = byDefault
	}
	return e, nil
}

// amount reads a number with one of the suffixes that vLLM takes for lengths and sizes: k, m, g for thousands, K, M, G for powers of 1024.
func amount(text string) (float64, error) {
	factors := map[byte]float64{'k': 1e3, 'm': 1e6, 'g': 1e9, 'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30}
	factor := 1.0
	if n := len(text); n > 0 {
		if f, ok := factors[text[n-1]]; ok {
			text, factor = text[:n-1], f
		}
	}
	if text == "" {
		return 0, errors.New("it has no value")
	}
	value, err := number(text)
	return value * factor, err
}
