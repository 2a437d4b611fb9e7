package simulate

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"headroom.dev/headroom/scaler"
)

// Headroom is our own scaler, as scaler/kube runs it: a decision every period, carried out by the HPA at its next look.
type Headroom struct {
	Config scaler.Config
	// Label replaces the name headroom, for a variant.
	Label   string
	service *scaler.Service
	pods    []scaler.Pod
	names   []string
	// Last is the last decision.
	Last scaler.Decision
}

// Name is the policy's.
func (h *Headroom) Name() string {
	if h.Label != "" {
		return h.Label
	}
	return "headroom"
}

// Setting is what is tuned.
func (h *Headroom) Setting() string {
	p := h.Config.Policy
	s := fmt.Sprintf("utilization %.2f", p.Utilization)
	if !h.Config.NoForecast {
		s += fmt.Sprintf(", quantile %.2f", p.Quantile)
	}
	if p.Window != 0 {
		s += ", window " + p.Window.String()
	}
	return s
}

// Period is the policy's, 15 s by default.
func (h *Headroom) Period() int {
	if p := h.Config.Policy.Period; p >= time.Second {
		return int(p / time.Second)
	}
	return 15
}

// Lag is the way of a decision through the metrics API to the HPA: a scrape and an evaluation (1.5 s), and half of the time
// that the HPA's clock and the controller's may be apart.
func (h *Headroom) Lag() int { return 5 }

// Prepare makes a service that has learnt nothing.
func (h *Headroom) Prepare(_ *Load, p Plant) error {
	c := h.Config
	if c.Policy.Max == 0 {
		c.Policy.Min, c.Policy.Max = p.Min, p.Max
	}
	s, err := scaler.NewService(c)
	h.service = s
	return err
}

// Decide observes and decides.
func (h *Headroom) Decide(v *View) int32 {
	now := v.Now()
	o := scaler.Observation{Now: now, Replicas: v.Replicas()}
	if v.Known() {
		o.Demand.Value, o.Queue.Value = v.Rate(), v.Waiting()
		if h.Config.Policy.Concurrency {
			o.Demand.Value = v.Running() + v.Waiting()
		}
	} else {
		o.Demand.Missing, o.Queue.Missing = "a gap of the trace", "a gap of the trace"
	}
	h.pods = h.pods[:0]
	start := now.Add(-time.Duration(v.Second()) * time.Second)
	v.EachPod(func(p PodView) {
		pod := scaler.Pod{Name: h.name(p.ID), Created: start.Add(time.Duration(p.Created) * time.Second), Serving: p.Ready}
		if p.Ready {
			pod.Ready = start.Add(time.Duration(p.ReadyAt) * time.Second)
		}
		h.pods = append(h.pods, pod)
	})
	o.Pods = h.pods
	if err := h.service.Observe(o); err != nil {
		return v.Replicas()
	}
	h.Last = h.service.Decide(now)
	return h.Last.Replicas
}

func (h *Headroom) name(id int) string {
	for len(h.names) <= id {
		h.names = append(h.names, strconv.Itoa(len(h.names)))
	}
	return h.names[id]
}

// Knowledge is what the policy learnt in the run.
func (h *Headroom) Knowledge() scaler.Knowledge { return h.service.Knowledge() }

// Clairvoyant knows all arrivals. For each replica it pays the time it is needed, and between two such times the cheaper of
// keeping it and starting it anew: the optimum among plans in which nothing waits, exact for each number of replicas apart
// (offline ski rental). Utilization below 1 keeps slots free, above 1 lets requests wait.
type Clairvoyant struct {
	Utilization float64
	plan        []int32
}

// Name is the policy's.
func (c *Clairvoyant) Name() string { return "clairvoyant" }

// Setting is what is tuned.
func (c *Clairvoyant) Setting() string { return fmt.Sprintf("utilization %.2f", c.Utilization) }

// Period is a second.
func (c *Clairvoyant) Period() int { return 1 }

// Prepare works the plan out. To have a replica at a second it must have been created a start-up earlier, so the replicas of a
// second are the most needed within a start-up time from then (a sliding maximum); that also bridges gaps shorter than a start.
// A deleted pod is paid for while it drains, so gaps shorter than that are bridged as well (a morphological closing).
func (c *Clairvoyant) Prepare(l *Load, p Plant) error {
	needed := make([]int32, l.Seconds())
	for s := range needed {
		needed[s] = max(int32(float64(l.needed[s])/(l.slots*c.Utilization)+1-1e-6), 0)
	}
	takes := int((p.StartUp + p.Scheduling + p.Jitter) / time.Second)
	drain := min(l.mean*math.Log(max(l.slots/drained, 1)), p.Drain.Seconds())
	c.plan = bridge(needed, takes, int(drain))
	return nil
}

// bridge plans replicas for what is needed, when a start takes and a drain costs so many seconds.
func bridge(needed []int32, takes, drain int) []int32 {
	plan := append(make([]int32, drain), needed...) // before the beginning nothing was needed
	plan = sliding(plan, takes+drain, func(a, b int32) bool { return a >= b })
	slices.Reverse(plan)
	plan = sliding(plan, drain, func(a, b int32) bool { return a <= b })
	slices.Reverse(plan)
	return plan[drain:]
}

// sliding returns for each index the value among those from it to width later that comes before all others.
func sliding(values []int32, width int, before func(a, b int32) bool) []int32 {
	out := make([]int32, len(values))
	var queue []int // indexes whose values none later comes before
	next := 0
	for i := range values {
		for ; next <= min(i+width, len(values)-1); next++ {
			for len(queue) > 0 && before(values[next], values[queue[len(queue)-1]]) {
				queue = queue[:len(queue)-1]
			}
			queue = append(queue, next)
		}
		for queue[0] < i {
			queue = queue[1:]
		}
		out[i] = values[queue[0]]
	}
	return out
}

// Decide follows the plan.
func (c *Clairvoyant) Decide(v *View) int32 { return c.plan[v.Second()] }
