package agent

import (
	"strconv"
	"time"

	"headroom.dev/headroom/gpu"
)

// deviceFamilies are all that is told of devices. GPUs and MIG instances have families of their own (gpu_…, gpu_mig_…), so
// that a sum over one counts nothing twice. Static facts are in the info families alone.
func deviceFamilies() []family {
	var all []family
	of := func(prefix string, list []quantity, wanted func(*device) bool) {
		for _, q := range list {
			all = append(all, family{name: prefix + q.name, help: q.help, kind: q.kind, render: func(w *writer, f *family) {
				w.devices(func(d *device) {
					if wanted(d) {
						w.number(f, d.deviceLabels(), q.of(d))
					}
				})
			}})
		}
	}
	whole := func(d *device) bool { return d.sample.Device.Whole() }
	of("gpu_", quantities("gpu", "GPU"), whole)
	of("gpu_mig_", quantities("gpu_mig", "MIG instance"), func(d *device) bool { return !whole(d) })
	of("gpu_", conditions(), func(d *device) bool { return whole(d) && !d.sample.Condition.Time.IsZero() })
	for _, p := range parts() {
		all = append(all, family{name: "gpu_pod_" + p.name, help: p.help, kind: gauge, render: func(w *writer, f *family) {
			w.devices(func(d *device) {
				for i := range d.split.Shares {
					w.number(f, d.ownerLabels(d.split.Shares[i].Owner), p.of(d, i))
				}
			})
		}})
	}
	all = append(all, factFamilies()...)
	all = append(all, healthFamilies()...)
	all = append(all, containerFamilies()...)
	return sorted(append(all, agentFamilies()...))
}

// each is a family whose series have more labels than their device.
func each(name, help, kind string, render func(w *writer, f *family, d *device)) family {
	return family{name: name, help: help, kind: kind, render: func(w *writer, f *family) {
		w.devices(func(d *device) { render(w, f, d) })
	}}
}

func one(yes bool) gpu.Value {
	if yes {
		return gpu.Known(1)
	}
	return gpu.Known(0)
}

// factFamilies are what does not change, and what comes in kinds.
func factFamilies() []family {
	return []family{
		each("gpu_info", "Static facts about a GPU; always 1.", gauge, func(w *writer, f *family, d *device) {
			if !d.sample.Device.Whole() {
				return
			}
			minor := ""
			if n, ok := d.sample.Device.Minor.Get(); ok {
				minor = strconv.Itoa(int(n))
			}
			w.number(f, d.with(label{"minor", minor}, label{"model", d.sample.Device.Name}, label{"pci_bus_id", d.sample.Device.BusID},
				label{"driver", w.node.driver}, label{"node", w.agent.cfg.Node}), gpu.Known(1))
		}),
		each("gpu_mig_info", "Static facts about a MIG instance; always 1.", gauge, func(w *writer, f *family, d *device) {
			if in := d.sample.Device.Instance; !d.sample.Device.Whole() {
				w.number(f, d.with(label{"parent", in.Parent}, label{"gpu_instance", strconv.Itoa(in.GPU)},
					label{"compute_instance", strconv.Itoa(in.Compute)}, label{"profile", in.Profile}, label{"node", w.agent.cfg.Node}), gpu.Known(1))
			}
		}),
		each("gpu_ecc_errors_total", "Memory errors since the driver was loaded: corrected, uncorrected.", counter, func(w *writer, f *family, d *device) {
			if c := &d.sample.Condition; d.sample.Device.Whole() {
				w.number(f, d.with(label{"kind", "corrected"}), c.ECCCorrected)
				w.number(f, d.with(label{"kind", "uncorrected"}), c.ECCUncorrected)
			}
		}),
		each("gpu_nvlink_errors_total", "Errors over all NVLinks of the GPU: replay, recovery, crc.", counter, func(w *writer, f *family, d *device) {
			if c := &d.sample.Condition; d.sample.Device.Whole() {
				w.number(f, d.with(label{"kind", "crc"}), c.LinkCRCErrors)
				w.number(f, d.with(label{"kind", "recovery"}), c.LinkRecoveries)
				w.number(f, d.with(label{"kind", "replay"}), c.LinkReplays)
			}
		}),
		each("gpu_clock_limited", "1 while the reason keeps the GPU's clocks down.", gauge, func(w *writer, f *family, d *device) {
			mask, ok := d.sample.Condition.ClockReasons.Get()
			if !ok || !d.sample.Device.Whole() {
				return
			}
			for _, reason := range gpu.ClockReasons() {
				w.number(f, d.with(label{"reason", reason.Name}), one(uint64(mask)&reason.Mask != 0))
			}
		}),
	}
}

// healthFamilies are what is wrong with GPUs.
func healthFamilies() []family {
	return []family{
		each("gpu_xid_errors_total", "XIDs that the driver reported since the agent started, by NVIDIA's catalogue number.", counter,
			func(w *writer, f *family, d *device) {
				d.xids.Each(func(xid, count uint64, _ time.Time) {
					w.number(f, d.with(label{"xid", strconv.FormatUint(xid, 10)}), gpu.Known(float64(count)))
				})
			}),
		each("gpu_xid_last_timestamp_seconds", "When the XID was last reported.", gauge, func(w *writer, f *family, d *device) {
			d.xids.Each(func(xid, _ uint64, last time.Time) {
				w.number(f, d.with(label{"xid", strconv.FormatUint(xid, 10)}), gpu.Known(float64(last.UnixMilli())/1000))
			})
		}),
		each("gpu_healthy", "1 if the GPU can be counted on to run work, 0 if not; gpu_health_finding says why.", gauge,
			func(w *writer, f *family, d *device) {
				if d.sample.Device.Whole() {
					w.number(f, d.deviceLabels(), one(gpu.Fit(d.found)))
				}
			}),
		each("gpu_health_finding", "1 for each thing that is wrong with the GPU; unfit says whether it takes the GPU out of service.", gauge,
			func(w *writer, f *family, d *device) {
				if !d.sample.Device.Whole() {
					return
				}
				for _, finding := range d.found {
					w.number(f, d.with(label{"code", finding.Code}, label{"unfit", strconv.FormatBool(finding.Unfit)}), gpu.Known(1))
				}
			}),
	}
}

// containerFamilies are what is told of containers besides their parts.
func containerFamilies() []family {
	return []family{
		each("gpu_pod_share_info",
			"How the container's part of the device is known: exclusive (it has the device alone), process-samples, memory-only; always 1.", gauge,
			func(w *writer, f *family, d *device) {
				for i := range d.split.Shares {
					s := &d.split.Shares[i]
					w.number(f, braces(label{"namespace", s.Owner.Namespace}, label{"pod", s.Owner.Pod}, label{"container", s.Owner.Container},
						label{"uuid", d.sample.Device.UUID}, label{"method", string(s.Method)}), gpu.Known(1))
				}
			}),
		each("gpu_pod_process_samples", "The driver's samples of the container's processes in the window.", gauge, func(w *writer, f *family, d *device) {
			if w.agent.unseen() != "" || d.sample.ProcessFail != "" {
				return
			}
			for i := range d.split.Shares {
				w.number(f, d.ownerLabels(d.split.Shares[i].Owner), gpu.Known(float64(d.split.Shares[i].Samples)))
			}
		}),
		each("gpu_pod_healthy", "1 if the GPU that the container was given can be counted on, 0 if not.", gauge, func(w *writer, f *family, d *device) {
			for _, o := range d.users() {
				w.number(f, d.ownerLabels(o), one(gpu.Fit(d.found)))
			}
		}),
	}
}

// agentFamilies are what the agent knows of its own work.
func agentFamilies() []family {
	single := func(name, help string, value func(w *writer) gpu.Value) family {
		return family{name: name, help: help, kind: gauge, render: func(w *writer, f *family) { w.number(f, "", value(w)) }}
	}
	absent := gpu.Unknown("nothing was read")
	return []family{
		single("gpu_agent_last_tick_timestamp_seconds", "When the last pass over the GPUs ended, successful or not.", func(w *writer) gpu.Value {
			if o := w.agent.reading.Load(); o != nil {
				return gpu.Known(float64(o.finished.UnixMilli()) / 1000)
			}
			return absent
		}),
		single("gpu_agent_attribution_age_seconds",
			"Age of the kubelet's last answer about which containers hold which GPUs. Absent before the first.", func(w *writer) gpu.Value {
				if o := w.agent.holders.Load(); o != nil && !o.at.IsZero() {
					return gpu.Known(w.now.Sub(o.at).Seconds())
				}
				return absent
			}),
		single("gpu_agent_process_attribution",
			"1 if processes can be told apart (needs hostPID), so that shares of shared GPUs are known; else 0.",
			func(w *writer) gpu.Value { return one(w.agent.unseen() == "") }),
		single("gpu_agent_paused", "1 while the agent leaves the hardware alone, so that MIG can be reconfigured.", func(w *writer) gpu.Value {
			if o := w.agent.reading.Load(); o != nil {
				return one(o.paused())
			}
			return absent
		}),
		single("gpu_agent_unreadable_devices", "GPUs that the driver counts but cannot identify.", func(w *writer) gpu.Value {
			if !w.live {
				return absent
			}
			return gpu.Known(float64(w.node.unreadable))
		}),
		single("gpu_agent_unmatched_devices",
			"Device IDs of GPU resources that containers hold and that are not those of a device read here.", func(w *writer) gpu.Value {
				if !w.live || !w.node.known {
					return absent
				}
				return gpu.Known(float64(w.node.unmatched))
			}),
		{
			name: "gpu_agent_processes", help: "Processes on the GPUs in the last pass, by what is known of them.", kind: gauge,
			render: func(w *writer, f *family) {
				for _, k := range w.node.kinds {
					if w.live {
						w.number(f, braces(label{"kind", k.kind}), gpu.Known(float64(k.n)))
					}
				}
			},
		},
	}
}
