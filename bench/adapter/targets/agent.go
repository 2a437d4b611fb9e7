package targets

import "fmt"

// devicesPerAgent is how many GPUs a node has.
const devicesPerAgent = 8

// agent is what gpu/agent exposes on a node with eight GPUs, each of which one of the owners (pod names, "" for none) has.
func agent(node, namespace string, owners [devicesPerAgent]string, utilization [devicesPerAgent]float64) *exposition {
	b := &builder{}
	uuid := func(g int) string { return fmt.Sprintf("GPU-%s-%04d", node, g) }
	device := func(g int) string { return fmt.Sprintf(`{gpu="%d",uuid="%s"}`, g, uuid(g)) }
	family := func(name, help string, write func(g int)) {
		b.family(name, "gauge", help)
		for g := range devicesPerAgent {
			write(g)
		}
	}
	family("gpu_info", "Static facts about a GPU; always 1.", func(g int) {
		b.fixed("gpu_info", fmt.Sprintf(`{driver="570.124.06",gpu="%d",minor="%d",model="NVIDIA H100 80GB HBM3",node="%s",uuid="%s"}`, g, g, node, uuid(g)), "1")
	})
	family("gpu_memory_total_bytes", "Memory of the GPU.", func(g int) { b.fixed("gpu_memory_total_bytes", device(g), "8.5520809984e+10") })
	family("gpu_memory_used_bytes", "Memory allocated on the GPU, without what the driver reserves.", func(g int) {
		b.growing("gpu_memory_used_bytes", device(g), large, 1000)
	})
	owned := func(name, help string, write func(labels string, g int)) {
		family(name, help, func(g int) {
			if owners[g] != "" {
				write(fmt.Sprintf(`{container="vllm",namespace="%s",pod="%s",uuid="%s"}`, namespace, owners[g], uuid(g)), g)
			}
		})
	}
	owned("gpu_pod_memory_used_bytes", "Part of gpu_memory_used_bytes that is the container's. Absent for containers that share the GPU.",
		func(labels string, _ int) { b.growing("gpu_pod_memory_used_bytes", labels, large, 1000) })
	owned("gpu_pod_utilization_ratio", "Part of gpu_utilization_ratio that is the container's. Absent for containers that share the GPU.",
		func(labels string, g int) {
			b.fixed("gpu_pod_utilization_ratio", labels, fmt.Sprintf("%.2f", utilization[g]))
		})
	family("gpu_sharers", "Containers that were given the GPU.", func(g int) {
		sharers := "1"
		if owners[g] == "" {
			sharers = "0"
		}
		b.fixed("gpu_sharers", device(g), sharers)
	})
	family("gpu_unattributed_memory_used_bytes", "Part of gpu_memory_used_bytes that is no single container's.",
		func(g int) { b.fixed("gpu_unattributed_memory_used_bytes", device(g), "0") })
	family("gpu_unattributed_utilization_ratio", "Part of gpu_utilization_ratio that is no single container's.",
		func(g int) { b.fixed("gpu_unattributed_utilization_ratio", device(g), "0") })
	family("gpu_utilization_ratio", "Part of the driver's last sampling period (1/6 to 1 s) in which a kernel ran on the GPU.",
		func(g int) { b.fixed("gpu_utilization_ratio", device(g), fmt.Sprintf("%.2f", utilization[g])) })

	b.family("gpu_agent_nvml_call_duration_seconds", "histogram", "How long calls into NVIDIA's management library took.")
	for _, call := range []string{"nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo_v2", "nvmlInit_v2"} {
		for _, bound := range []string{"1e-06", "1e-05", "0.0001", "0.001", "0.01", "0.1", "1", "10", "+Inf"} {
			b.growing("gpu_agent_nvml_call_duration_seconds_bucket", fmt.Sprintf(`{call="%s",le="%s"}`, call, bound), count, 1)
		}
		b.growing("gpu_agent_nvml_call_duration_seconds_sum", `{call="`+call+`"}`, sum, 0.001)
		b.growing("gpu_agent_nvml_call_duration_seconds_count", `{call="`+call+`"}`, count, 1)
	}
	return b.finish()
}
