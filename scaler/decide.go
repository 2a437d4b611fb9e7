package scaler

import (
	"fmt"
	"time"
)

// tolerance is by how much demand may exceed what the replicas are planned for before present demand adds one, so that noise does
// not: the HPA's default, but at most half of what is left to a full replica.
func tolerance(utilization float64) float64 { return min(0.1, (1/utilization-1)/2) }

// underway is for how long a wish may be on its way before its pods can be seen: a scrape of ours, two looks of the HPA. Until then
// nothing is taken back, or pods that are about to load would be the first to go.
const underway = 32 * time.Second

// decision is a Decision in the making.
type decision struct {
	Decision
	in         Input
	perReplica float64 // what one replica is planned to serve
}

// Decide decides how many replicas a service should have.
//
// Present demand, and a queue on top of it, count at once. A forecast only raises that, and only while it is skilful:
// for the time at which a replica ordered now would serve. Fewer replicas than there are must be allowed by the forecasts
// until a removed one could be back (without a skilful forecast by Policy.Window), by the queue, and by pods that are still
// loading, because the ReplicaSet controller would delete those first. Data that is missing holds the replicas; while only the
// capacity is not known and a queue grows, one is added at a time.
func Decide(in Input) Decision {
	in.Policy = in.Policy.WithDefaults()
	d := &decision{in: in, perReplica: in.Capacity.Value * in.Policy.Utilization}
	d.Steps = make([]Step, 0, 6)
	d.Memory = in.Memory
	if missing := in.missing(); missing != "" {
		d.Replicas = in.Replicas
		d.step(Step{Limit: LimitMissing, Replicas: in.Replicas, Text: missing})
		if d.perReplica > 0 {
			d.forecast()
		} else if in.Demand.Missing == "" && in.queues() {
			d.raise(Step{Limit: LimitQueue, Replicas: in.Replicas + 1, Text: "requests wait, and more do"})
		}
		d.floors()
	} else {
		d.Valid = true
		d.present()
		d.forecast()
		d.floors()
		d.Memory = in.Memory.add(in.Now, d.Replicas, in.Policy.Window)
		d.keep()
	}
	d.bound()
	return d.Decision
}

// missing says which datum is lacking for a decision.
func (in Input) missing() string {
	switch {
	case in.Demand.Missing != "":
		return "demand is unknown: " + in.Demand.Missing
	case in.Capacity.Source == Unknown || in.Capacity.Value <= 0:
		return "the capacity of a replica is not known yet"
	}
	return ""
}

func (d *decision) step(s Step) {
	s.PerReplica = d.perReplica
	if len(d.Steps) == 0 || s.Replicas != d.Replicas || s.Limit == LimitMissing {
		d.Limit = s.Limit
	}
	d.Replicas = s.Replicas
	d.Steps = append(d.Steps, s)
}

// raise is a step where it asks for more than what stands.
func (d *decision) raise(s Step) {
	if s.Replicas > d.Replicas {
		d.step(s)
	}
}

// queues says whether a queue stands and grows.
func (in Input) queues() bool { return in.Growth > 0 && in.Queue.Missing == "" && in.Queue.Value >= 1 }

// offered is present demand with what the queue takes up.
func (in Input) offered() float64 { return max(in.Demand.Value+max(in.Growth, 0), 0) }

// present is what demand and the queue ask for now.
func (d *decision) present() {
	in, p := d.in, d.in.Policy
	demand := max(in.Demand.Value, 0)
	d.step(Step{Limit: LimitDemand, Replicas: need(demand, d.perReplica), Demand: demand})
	if !p.Concurrency && in.Queue.Missing == "" {
		demand = in.offered() + max(in.Queue.Value, 0)/p.Drain.Seconds()
		d.raise(Step{Limit: LimitQueue, Replicas: need(demand, d.perReplica), Demand: demand})
	}
	if d.Replicas > in.Replicas && in.Replicas > 0 && demand <= float64(in.Replicas)*d.perReplica*(1+tolerance(p.Utilization)) {
		d.step(Step{Limit: LimitTolerance, Replicas: in.Replicas})
	}
	d.Reactive = min(max(d.Replicas, p.Min), p.Max)
}

// forecast is what will be needed when a replica ordered now serves: by a skilful forecast, else by how much demand has risen within
// that time before (the upper quantiles of last-value's own errors).
func (d *decision) forecast() {
	e := d.in.Ahead
	if !e.Valid {
		return
	}
	limit := LimitMargin
	if e.Skilful {
		limit = LimitForecast
	}
	d.raise(Step{Limit: limit, Replicas: need(e.Demand, d.perReplica), Demand: e.Demand, Horizon: e.Horizon})
}

// floors are those of the clock, ordered a start-up time early, and the replacement of what is no capacity.
func (d *decision) floors() {
	ahead := d.in.Now.Add(time.Duration(d.in.StartUp.Value * float64(time.Second)))
	for _, f := range d.in.Policy.Schedule {
		if f.Start.After(ahead) || !f.End.After(d.in.Now) {
			continue
		}
		d.raise(Step{Limit: LimitSchedule, Replicas: f.Replicas, Text: f.Name})
	}
	if n := d.in.Pods.Unhealthy; n > 0 && d.Valid {
		d.raise(Step{Limit: LimitUnhealthy, Replicas: d.Replicas + n})
	}
}

// keep is what must not be given away yet.
func (d *decision) keep() {
	in, p := d.in, d.in.Policy
	if d.Replicas >= in.Replicas {
		return
	}
	if in.queues() {
		d.step(Step{Limit: LimitBurst, Replicas: in.Replicas})
		return
	}
	window := p.Window
	if e := in.Peak; e.Valid && e.Skilful {
		n := min(need(e.Demand, d.perReplica), in.Replicas)
		d.raise(Step{Limit: LimitPeak, Replicas: n, Demand: e.Demand, Horizon: e.Horizon})
		window = min(window, underway)
	}
	n := min(d.Memory.most(in.Now, window), in.Replicas)
	d.raise(Step{Limit: LimitWindow, Replicas: n, Horizon: window})
	if n := in.Pods.Loading; n > 0 && d.Replicas < in.Replicas {
		d.step(Step{Limit: LimitLoading, Replicas: in.Replicas, Text: fmt.Sprintf("%d pods are loading", n)})
	}
}

// bound is within the policy's limits, which hold whatever else is known.
func (d *decision) bound() {
	if p := d.in.Policy; d.Replicas < p.Min {
		d.step(Step{Limit: LimitMin, Replicas: p.Min})
	} else if d.Replicas > p.Max {
		d.step(Step{Limit: LimitMax, Replicas: p.Max})
	}
}
