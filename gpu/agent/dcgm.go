package agent

import (
	"strconv"

	"headroom.dev/headroom/gpu"
)

// dcgmFamilies are figures under dcgm-exporter's names, for dashboards that know those: names, units and labels of
// dcgm-exporter 4.8 (etc/default-counters.csv, internal/pkg/rendermetrics). A device that is a single container's bears its
// labels; one that several share has one series without any, so that no sum counts twice. The containers' shares are in
// gpu_pod_….
func dcgmFamilies() []family {
	const percent, mebibyte, mega, perMilli = 100, 1.0 / (1 << 20), 1e-6, 1e3
	var all []family
	for _, row := range []struct {
		name, help, kind string
		unit             float64
		of               func(*device) gpu.Value
	}{
		{"DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", gauge, percent, func(d *device) gpu.Value { return d.summary.Mean }},
		{"DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB).", gauge, mebibyte, func(d *device) gpu.Value { return d.sample.Memory.Used }},
		{"DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).", gauge, mebibyte, func(d *device) gpu.Value { return d.sample.Memory.Free }},
		{"DCGM_FI_DEV_FB_RESERVED", "Framebuffer memory reserved (in MiB).", gauge, mebibyte, func(d *device) gpu.Value { return d.sample.Memory.Reserved }},
		{"DCGM_FI_DEV_SM_CLOCK", "SM clock frequency (in MHz).", gauge, mega, func(d *device) gpu.Value { return d.sample.Condition.SMClock }},
		{"DCGM_FI_DEV_MEM_CLOCK", "Memory clock frequency (in MHz).", gauge, mega, func(d *device) gpu.Value { return d.sample.Condition.MemoryClock }},
		{"DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).", gauge, 1, func(d *device) gpu.Value { return d.sample.Condition.Temperature }},
		{"DCGM_FI_DEV_MEMORY_TEMP", "Memory temperature (in C).", gauge, 1, func(d *device) gpu.Value { return d.sample.Condition.MemoryTemperature }},
		{"DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", gauge, 1, func(d *device) gpu.Value { return d.sample.Condition.Power }},
		{"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "Total energy consumption since boot (in mJ).", counter, perMilli, func(d *device) gpu.Value { return d.sample.Condition.Energy }},
		{"DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "Total number of PCIe retries.", counter, 1, func(d *device) gpu.Value { return d.sample.Condition.PCIeReplays }},
		{"DCGM_FI_DEV_ROW_REMAP_FAILURE", "Whether remapping of rows has failed.", gauge, 1, func(d *device) gpu.Value { return d.sample.Condition.RemapFailed }},
		{"DCGM_FI_PROF_GR_ENGINE_ACTIVE", "Ratio of time the graphics engine is active.", gauge, 1, func(d *device) gpu.Value { return d.sample.Activity.Graphics }},
		{"DCGM_FI_PROF_SM_ACTIVE", "Ratio of cycles an SM has at least 1 warp assigned.", gauge, 1, func(d *device) gpu.Value { return d.sample.Activity.SM }},
		{"DCGM_FI_PROF_SM_OCCUPANCY", "Ratio of number of warps resident on an SM.", gauge, 1, func(d *device) gpu.Value { return d.sample.Activity.Occupancy }},
		{"DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "Ratio of cycles the tensor (HMMA) pipe is active.", gauge, 1, func(d *device) gpu.Value { return d.sample.Activity.Tensor }},
		{"DCGM_FI_PROF_DRAM_ACTIVE", "Ratio of cycles the device memory interface is active.", gauge, 1, func(d *device) gpu.Value { return d.sample.Activity.DRAM }},
		{"DCGM_FI_PROF_PCIE_TX_BYTES", "Rate of data transmitted over PCIe (in bytes per second).", gauge, 1, func(d *device) gpu.Value { return d.sample.Activity.PCIeSent }},
		{"DCGM_FI_PROF_PCIE_RX_BYTES", "Rate of data received over PCIe (in bytes per second).", gauge, 1, func(d *device) gpu.Value { return d.sample.Activity.PCIeReceived }},
	} {
		all = append(all, each(row.name, row.help, row.kind, func(w *writer, f *family, d *device) {
			if number, ok := row.of(d).Get(); ok {
				w.number(f, d.dcgmLabels(w.agent.cfg.Node), gpu.Known(number*row.unit))
			}
		}))
	}
	return sorted(all)
}

func (d *device) dcgmLabels(node string) string {
	var o gpu.Owner
	if len(d.split.Shares) == 1 && d.split.Shares[0].Method == gpu.Exclusive {
		o = d.split.Shares[0].Owner
	}
	in, instance, profile := &d.sample.Device, "", ""
	if !in.Whole() {
		instance, profile = strconv.Itoa(in.Instance.GPU), in.Instance.Profile
	}
	return braces(label{"gpu", index(in)}, label{"UUID", in.UUID}, label{"pci_bus_id", in.BusID}, label{"device", "nvidia" + index(in)},
		label{"modelName", in.Name}, label{"GPU_I_PROFILE", profile}, label{"GPU_I_ID", instance}, label{"hostname", node},
		label{"namespace", o.Namespace}, label{"pod", o.Pod}, label{"container", o.Container})
}
