package profiles

// agent reads headroom-agent. A container's series is its own part of a device, so that parts of one device add up;
// percentages are means over the devices of the object, bytes are sums over them, and health is that of the worst. What the
// agent cannot attribute has no pod and is in none of these.
func agent(b *builder) {
	const perDevice = "sum by ($by, uuid) "
	part := func(name, series string) { b.add(name, "100 * avg by ($by) ("+perDevice+"("+series+"))") }
	part("gpu_utilization_percent", "gpu_pod_utilization_ratio")
	part("gpu_sm_active_percent", "gpu_pod_sm_active_ratio")
	part("gpu_tensor_active_percent", "gpu_pod_tensor_active_ratio")
	part("gpu_dram_active_percent", "gpu_pod_dram_bandwidth_ratio")
	b.add("gpu_memory_used_bytes", "sum by ($by) (gpu_pod_memory_used_bytes)")
	// A device that several containers of the object share is there once.
	b.add("gpu_memory_used_percent", "100 * sum by ($by) (gpu_pod_memory_used_bytes) / sum by ($by) (max by ($by, uuid) (gpu_pod_memory_total_bytes))")
	// The recommender's: what it asks of the embedded store is there because rules look back that far.
	b.addPods("gpu_memory_peak_bytes", "sum by ($by) (max_over_time(gpu_pod_memory_used_bytes[1m]))")
	b.addPods("gpu_exclusive_percent", `100 * avg by ($by) (gpu_pod_share_info{method="exclusive"} or 0 * gpu_pod_share_info)`)
	b.addNodes("gpu_mig_instances", "count by ($by) (gpu_mig_info)")
	b.add("gpu_healthy", "min by ($by) (gpu_pod_healthy)")
	b.addNodes("gpu_utilization_percent", "100 * avg by ($by) (gpu_utilization_ratio)")
	b.addNodes("gpu_memory_used_bytes", "sum by ($by) (gpu_memory_used_bytes)")
	b.addNodes("gpu_memory_used_percent", "100 * sum by ($by) (gpu_memory_used_bytes) / sum by ($by) (gpu_memory_total_bytes)")
	b.addNodes("gpu_healthy", "min by ($by) (gpu_healthy)")
	b.addNodes("gpus_healthy", "sum by ($by) (gpu_healthy)")
}

// dcgm reads dcgm-exporter, which speaks about other pods: its namespace must be among --trusted-namespaces. Where it
// is not, the scraped labels become exported_pod and the series bear the exporter's own name; such series are left out,
// for they say nothing about the pod that they name. A GPU that several pods share shows its whole use for each of them,
// which is the exporter's doing; the agent's figures are asked first.
func dcgm(b *builder) {
	const own = `{pod!="",exported_pod=""}`
	const perDevice = "max by ($by, UUID, GPU_I_ID) "
	b.add("gpu_utilization_percent", "avg by ($by) ("+perDevice+"(DCGM_FI_DEV_GPU_UTIL"+own+"))")
	// Framebuffer figures are in MiB.
	b.add("gpu_memory_used_bytes", "1048576 * sum by ($by) ("+perDevice+"(DCGM_FI_DEV_FB_USED"+own+"))")
	b.add("gpu_memory_used_percent", "100 * sum by ($by) ("+perDevice+"(DCGM_FI_DEV_FB_USED"+own+")) / "+
		"(sum by ($by) ("+perDevice+"(DCGM_FI_DEV_FB_USED"+own+")) + sum by ($by) ("+perDevice+"(DCGM_FI_DEV_FB_FREE"+own+")))")
	b.add("gpu_sm_active_percent", "100 * avg by ($by) ("+perDevice+"(DCGM_FI_PROF_SM_ACTIVE"+own+"))")
	b.add("gpu_tensor_active_percent", "100 * avg by ($by) ("+perDevice+"(DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"+own+"))")
	b.add("gpu_dram_active_percent", "100 * avg by ($by) ("+perDevice+"(DCGM_FI_PROF_DRAM_ACTIVE"+own+"))")
}
