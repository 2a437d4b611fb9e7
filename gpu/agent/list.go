package agent

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"headroom.dev/headroom/api/gpus"
	"headroom.dev/headroom/gpu"
)

func (a *Agent) serveGPUs(w http.ResponseWriter, _ *http.Request) {
	text, err := json.MarshalIndent(a.list(time.Now()), "", "  ")
	if err != nil {
		http.Error(w, "cannot write the GPUs as JSON: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(text, '\n')) // a client that has gone needs no answer
}

// list is what /gpus answers.
func (a *Agent) list(now time.Time) gpus.List {
	out := gpus.List{
		Node: a.cfg.Node, Window: a.cfg.Window.Seconds(), Problems: a.unready(now), Devices: []gpus.Device{},
	}
	if why := a.unseen(); why != "" {
		out.Problems = append(out.Problems, "processes: "+why)
	}
	if a.cfg.Problems != nil {
		out.Problems = append(out.Problems, a.cfg.Problems()...)
	}
	o := a.reading.Load()
	if o == nil || !a.fresh(o.at, now) || o.paused() {
		return out
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	out.Driver, out.Time = a.node.driver, a.node.at
	for _, d := range a.node.devices {
		if a.fresh(d.sample.Time, now) {
			out.Devices = append(out.Devices, a.listed(d))
		}
	}
	slices.SortStableFunc(out.Devices, func(x, y gpus.Device) int { return cmp.Compare(x.GPU, y.GPU) })
	return out
}

func (a *Agent) listed(d *device) gpus.Device {
	s := &d.sample
	out := gpus.Device{
		UUID: s.Device.UUID, GPU: s.Device.Index, Model: s.Device.Name, BusID: s.Device.BusID,
		Parent: s.Device.Instance.Parent, Profile: s.Device.Instance.Profile, Partitioned: s.Device.Partitioned,
		Healthy: gpu.Fit(d.found), Figures: map[string]float64{}, Missing: map[string]string{},
		Attribution: d.split.Problem, Unattributed: usage(d.split.Unattributed),
	}
	for _, f := range d.found {
		out.Findings = append(out.Findings, gpus.Finding{Code: f.Code, Text: f.Text, Unfit: f.Unfit, Since: f.Since})
	}
	lists := [][]quantity{quantities("gpu", "GPU")}
	if s.Device.Whole() && !s.Condition.Time.IsZero() {
		lists = append(lists, conditions())
	}
	for _, list := range lists {
		for _, q := range list {
			if v := q.of(d); v.Reason() == "" {
				out.Figures[q.name], _ = v.Get()
			} else {
				out.Missing[q.name] = v.Reason()
			}
		}
	}
	for i := range d.split.Shares {
		share := &d.split.Shares[i]
		out.Containers = append(out.Containers, gpus.Container{
			Namespace: share.Owner.Namespace, Pod: share.Owner.Pod, Container: share.Owner.Container,
			Method: string(share.Method), Samples: share.Samples, Processes: share.Processes,
			Usage: usage(share.Usage), Peak: number(d.peakOf(i)),
		})
	}
	for _, o := range d.users()[len(d.split.Shares):] {
		out.Containers = append(out.Containers, gpus.Container{Namespace: o.Namespace, Pod: o.Pod, Container: o.Container})
	}
	return out
}

func usage(u gpu.Usage) gpus.Usage {
	return gpus.Usage{
		Utilization: number(u.Utilization), SM: number(u.SM), Tensor: number(u.Tensor), DRAM: number(u.DRAM), Memory: number(u.MemoryUsed),
	}
}

func number(v gpu.Value) *float64 {
	if n, ok := v.Get(); ok {
		return &n
	}
	return nil
}
