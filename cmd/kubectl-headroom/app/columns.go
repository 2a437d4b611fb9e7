package app

import (
	"headroom.dev/headroom/cmd/kubectl-headroom/explain"
)

// column is a metric as top shows it.
type column struct {
	key    string // for --sort-by
	header string
	metric string
	cell   func(v float64) string
	wide   bool // with -o wide alone
	rare   bool // of GPUs: left out where none has it
}

func podColumns() []column {
	return []column{
		{key: "requests", header: "REQ/S", metric: "requests_per_second", cell: explain.Short},
		{key: "p50", header: "P50 MS", metric: "request_latency_p50_ms", cell: explain.Short, wide: true},
		{key: "p95", header: "P95 MS", metric: "request_latency_p95_ms", cell: explain.Short},
		{key: "p99", header: "P99 MS", metric: "request_latency_p99_ms", cell: explain.Short, wide: true},
		{key: "first-token", header: "TTFT P95 MS", metric: "time_to_first_token_p95_ms", cell: explain.Short},
		{key: "errors", header: "ERR %", metric: "request_error_percent", cell: explain.Short},
		{key: "in-flight", header: "IN FLIGHT", metric: "requests_in_flight", cell: explain.Short},
		{key: "waiting", header: "WAITING", metric: "requests_waiting", cell: explain.Short},
		{key: "tokens", header: "TOKENS/S", metric: "tokens_per_second", cell: explain.Short},
		{key: "kv", header: "KV %", metric: "kv_cache_usage_percent", cell: explain.Short},
		{key: "gpu", header: "GPU %", metric: "gpu_utilization_percent", cell: explain.Short},
		{key: "gpu-memory", header: "GPU MEM", metric: "gpu_memory_used_bytes", cell: explain.Bytes},
		{key: "gpu-memory-percent", header: "GPU MEM %", metric: "gpu_memory_used_percent", cell: explain.Short},
		{key: "sm", header: "SM %", metric: "gpu_sm_active_percent", cell: explain.Short, wide: true},
		{key: "tensor", header: "TENSOR %", metric: "gpu_tensor_active_percent", cell: explain.Short, wide: true},
		{key: "dram", header: "DRAM %", metric: "gpu_dram_active_percent", cell: explain.Short, wide: true},
	}
}

func nodeColumns() []column {
	return []column{
		{key: "gpu", header: "GPU %", metric: "gpu_utilization_percent", cell: explain.Short},
		{key: "gpu-memory", header: "GPU MEM", metric: "gpu_memory_used_bytes", cell: explain.Bytes},
		{key: "gpu-memory-percent", header: "GPU MEM %", metric: "gpu_memory_used_percent", cell: explain.Short},
	}
}

// gpuColumns are figures of package api/gpus.
func gpuColumns() []column {
	return []column{
		{header: "UTIL", metric: "utilization_ratio", cell: percent},
		{header: "P95", metric: "utilization_p95_ratio", cell: percent},
		{header: "MEM-USED", metric: "memory_used_bytes", cell: explain.Bytes},
		{header: "MEM-TOTAL", metric: "memory_total_bytes", cell: explain.Bytes},
		{header: "SM", metric: "sm_active_ratio", cell: percent, rare: true},
		{header: "TENSOR", metric: "tensor_active_ratio", cell: percent, rare: true},
		{header: "DRAM", metric: "dram_bandwidth_ratio", cell: percent, rare: true},
		{header: "POWER", metric: "power_watts", cell: func(v float64) string { return explain.Short(v) + "W" }},
		{header: "TEMP", metric: "temperature_celsius", cell: func(v float64) string { return explain.Short(v) + "C" }},
		{header: "PROCESSES", metric: "processes", cell: explain.Short, wide: true},
	}
}

func percent(ratio float64) string { return explain.Short(ratio*100) + "%" }
