package agent

import (
	"cmp"

	"headroom.dev/headroom/gpu"
)

// Kinds of metrics in the text format.
const (
	gauge   = "gauge"
	counter = "counter"
)

// quantity is a number that devices of one kind have, under its name in the exposition.
type quantity struct {
	name string // without the family's prefix
	help string
	kind string
	of   func(*device) gpu.Value
}

// quantities are those that GPUs and MIG instances have alike.
func quantities(prefix, what string) []quantity {
	return append(append(useOf(what), activity()...), holdingOf(prefix, what)...)
}

// useOf are utilization and memory.
func useOf(what string) []quantity {
	return []quantity{
		{
			"utilization_ratio", "Mean part of the time in the window in which a kernel ran on the " + what + ".", gauge,
			func(d *device) gpu.Value { return d.summary.Mean },
		},
		{
			"utilization_p50_ratio", "Median of the utilization samples in the window.", gauge,
			func(d *device) gpu.Value { return d.summary.P50 },
		},
		{
			"utilization_p95_ratio", "95th percentile of the utilization samples in the window.", gauge,
			func(d *device) gpu.Value { return d.summary.P95 },
		},
		{
			"utilization_max_ratio", "Highest utilization sample in the window.", gauge,
			func(d *device) gpu.Value { return d.summary.Max },
		},
		{
			"utilization_samples", "Utilization samples in the window.", gauge,
			func(d *device) gpu.Value { return gpu.Known(float64(d.summary.Samples)) },
		},
		{"memory_total_bytes", "Memory of the " + what + ".", gauge, func(d *device) gpu.Value { return d.sample.Memory.Total }},
		{
			"memory_used_bytes", "Memory that programs have allocated, without what the driver reserves.", gauge,
			func(d *device) gpu.Value { return d.sample.Memory.Used },
		},
		{"memory_free_bytes", "Memory that programs can allocate.", gauge, func(d *device) gpu.Value { return d.sample.Memory.Free }},
		{
			"memory_reserved_bytes", "Memory that the driver and the firmware keep.", gauge,
			func(d *device) gpu.Value { return d.sample.Memory.Reserved },
		},
	}
}

// activity is what the hardware counters say.
func activity() []quantity {
	return []quantity{
		{
			"graphics_active_ratio", "Part of the time since the last pass in which an engine for graphics or compute was active.", gauge,
			func(d *device) gpu.Value { return d.sample.Activity.Graphics },
		},
		{
			"sm_active_ratio", "Mean part of the multiprocessors that were busy since the last pass.", gauge,
			func(d *device) gpu.Value { return d.sample.Activity.SM },
		},
		{
			"sm_occupancy_ratio", "Resident warps of those possible, since the last pass.", gauge,
			func(d *device) gpu.Value { return d.sample.Activity.Occupancy },
		},
		{
			"tensor_active_ratio", "Part of the time since the last pass in which tensor cores were active.", gauge,
			func(d *device) gpu.Value { return d.sample.Activity.Tensor },
		},
		{
			"dram_bandwidth_ratio", "Part of the memory bandwidth that was used since the last pass.", gauge,
			func(d *device) gpu.Value { return d.sample.Activity.DRAM },
		},
		{
			"context_switch_ratio", "Part of the time since the last pass that went into switching between contexts.", gauge,
			func(d *device) gpu.Value { return d.sample.Activity.ContextSwitch },
		},
		{"pcie_sent_bytes_per_second", "Rate to the host since the last pass.", gauge, func(d *device) gpu.Value { return d.sample.Activity.PCIeSent }},
		{
			"pcie_received_bytes_per_second", "Rate from the host since the last pass.", gauge,
			func(d *device) gpu.Value { return d.sample.Activity.PCIeReceived },
		},
		{
			"nvlink_sent_bytes_per_second", "Rate over all NVLinks since the last pass.", gauge,
			func(d *device) gpu.Value { return d.sample.Activity.LinkSent },
		},
		{
			"nvlink_received_bytes_per_second", "Rate over all NVLinks since the last pass.", gauge,
			func(d *device) gpu.Value { return d.sample.Activity.LinkReceived },
		},
	}
}

// holdingOf is who was given the device, and what of it is nobody's.
func holdingOf(prefix, what string) []quantity {
	return []quantity{
		{"sharers", "Containers that were given the " + what + ".", gauge, func(d *device) gpu.Value {
			switch {
			case d.sample.Device.Partitioned:
				return d.split.Unattributed.Utilization
			case !d.held:
				return gpu.Unknown("the kubelet has not said")
			}
			return gpu.Known(float64(len(d.holders.Owners)))
		}},
		{"processes", "Processes with a context on the " + what + ".", gauge, func(d *device) gpu.Value {
			if d.sample.ProcessFail != "" || d.lost.Code != "" || d.sample.Device.Partitioned {
				return gpu.Unknown(cmp.Or(d.sample.ProcessFail, d.lost.Text, "MIG is on: see its instances"))
			}
			return gpu.Known(float64(d.listed))
		}},
		{
			"unattributed_utilization_ratio", "Part of " + prefix + "_utilization_ratio that is not known to be a container's.", gauge,
			func(d *device) gpu.Value { return d.split.Unattributed.Utilization },
		},
		{
			"unattributed_sm_active_ratio", "Part of " + prefix + "_sm_active_ratio that is not known to be a container's.", gauge,
			func(d *device) gpu.Value { return d.split.Unattributed.SM },
		},
		{
			"unattributed_tensor_active_ratio", "Part of " + prefix + "_tensor_active_ratio that is not known to be a container's.", gauge,
			func(d *device) gpu.Value { return d.split.Unattributed.Tensor },
		},
		{
			"unattributed_dram_bandwidth_ratio", "Part of " + prefix + "_dram_bandwidth_ratio that is not known to be a container's.", gauge,
			func(d *device) gpu.Value { return d.split.Unattributed.DRAM },
		},
		{
			"unattributed_memory_used_bytes", "Part of " + prefix + "_memory_used_bytes that is not known to be a container's.", gauge,
			func(d *device) gpu.Value { return d.split.Unattributed.MemoryUsed },
		},
	}
}

// conditions are what only whole GPUs have.
func conditions() []quantity {
	return []quantity{
		{"power_watts", "Power that the GPU draws.", gauge, func(d *device) gpu.Value { return d.sample.Condition.Power }},
		{"power_limit_watts", "Power limit in force.", gauge, func(d *device) gpu.Value { return d.sample.Condition.PowerLimit }},
		{"energy_joules_total", "Energy since the driver was loaded.", counter, func(d *device) gpu.Value { return d.sample.Condition.Energy }},
		{"temperature_celsius", "Temperature of the chip.", gauge, func(d *device) gpu.Value { return d.sample.Condition.Temperature }},
		{"memory_temperature_celsius", "Temperature of the memory.", gauge, func(d *device) gpu.Value { return d.sample.Condition.MemoryTemperature }},
		{"sm_clock_hertz", "Clock of the multiprocessors.", gauge, func(d *device) gpu.Value { return d.sample.Condition.SMClock }},
		{"memory_clock_hertz", "Clock of the memory.", gauge, func(d *device) gpu.Value { return d.sample.Condition.MemoryClock }},
		{"pcie_replays_total", "PCIe packets sent again.", counter, func(d *device) gpu.Value { return d.sample.Condition.PCIeReplays }},
		{
			"ecc_uncorrected_lifetime_errors_total", "Uncorrected memory errors over the GPU's life.", counter,
			func(d *device) gpu.Value { return d.sample.Condition.ECCUncorrectedEver },
		},
		{
			"remapped_rows_total", "Memory rows that were remapped over the GPU's life.", counter,
			func(d *device) gpu.Value { return d.sample.Condition.RemappedRows },
		},
		{
			"row_remap_pending", "1 while memory rows wait for a reset to be remapped.", gauge,
			func(d *device) gpu.Value { return d.sample.Condition.RemapPending },
		},
		{"row_remap_failed", "1 if a memory row could not be remapped.", gauge, func(d *device) gpu.Value { return d.sample.Condition.RemapFailed }},
		{
			"recovery_action", "What the driver asks for: 0 nothing, 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset.", gauge,
			func(d *device) gpu.Value { return d.sample.Condition.RecoveryAction },
		},
	}
}

// part is a number that each container's share of a device has.
type part struct {
	name string // without "gpu_pod_"
	help string
	of   func(d *device, i int) gpu.Value
}

func parts() []part {
	usage := func(d *device, i int) *gpu.Usage { return &d.split.Shares[i].Usage }
	return []part{
		{
			"utilization_ratio", "Part of the device's utilization that is the container's. Absent where it cannot be known.",
			func(d *device, i int) gpu.Value { return usage(d, i).Utilization },
		},
		{
			"sm_active_ratio", "Part of the device's sm_active_ratio that is the container's.",
			func(d *device, i int) gpu.Value { return usage(d, i).SM },
		},
		{
			"tensor_active_ratio", "Part of the device's tensor_active_ratio that is the container's.",
			func(d *device, i int) gpu.Value { return usage(d, i).Tensor },
		},
		{
			"dram_bandwidth_ratio", "Part of the device's dram_bandwidth_ratio that is the container's.",
			func(d *device, i int) gpu.Value { return usage(d, i).DRAM },
		},
		{
			"memory_used_bytes", "Part of the device's memory_used_bytes that is the container's.",
			func(d *device, i int) gpu.Value { return usage(d, i).MemoryUsed },
		},
		{
			"memory_peak_bytes", "Most of the device's memory that was the container's since it got the device.",
			func(d *device, i int) gpu.Value { return d.peakOf(i) },
		},
		{
			"memory_total_bytes", "Memory of the device that the container was given, shared or not.",
			func(d *device, _ int) gpu.Value { return d.sample.Memory.Total },
		},
	}
}
