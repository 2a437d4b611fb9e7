package simulate

import (
	"fmt"
	"time"

	"headroom.dev/headroom/scaler/hpa"
)

// HPA is the stock HorizontalPodAutoscaler on requests per second and pod.
type HPA struct {
	Target float64 // requests per second and pod
	Window time.Duration
	Poll   int // seconds between two values of the metric; 0: each look has a fresh one (KEDA polls)
	recs   []rec
	pods   []hpa.Pod
	milli  []int64
}

type rec struct {
	at int
	n  int32
}

// Name is the policy's.
func (h *HPA) Name() string { return "hpa" }

// Setting is what is tuned.
func (h *HPA) Setting() string { return fmt.Sprintf("target %.3g/s, window %s", h.Target, h.Window) }

// Period is the controller's.
func (h *HPA) Period() int { return 15 }

// Decide is the controller's reconcile.
func (h *HPA) Decide(v *View) int32 {
	if !v.Known() {
		return v.Replicas()
	}
	h.pods = h.pods[:0]
	if cap(h.milli) < 2000 {
		h.milli = make([]int64, 0, 2000)
	}
	h.milli = h.milli[:0]
	v.EachPod(func(p PodView) {
		pod := hpa.Pod{}
		if p.Measured {
			h.milli = append(h.milli, int64(p.Rate*1000))
			pod.Milli = &h.milli[len(h.milli)-1]
		}
		h.pods = append(h.pods, pod)
	})
	p, err := hpa.ForPods(v.Replicas(), int64(h.Target*1000), h.pods, hpa.DefaultTolerances())
	if err != nil {
		return v.Replicas()
	}
	n := min(p.Replicas, hpa.HighestWithoutBehavior(v.Replicas()))
	kept := h.recs[:0]
	most := n
	for _, r := range h.recs {
		if v.Second()-r.at < int(h.Window/time.Second) {
			kept = append(kept, r)
			most = max(most, r.n)
		}
	}
	h.recs = append(kept, rec{v.Second(), n})
	return most
}
