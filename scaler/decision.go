package scaler

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Decision is how many replicas a service should have, and why.
type Decision struct {
	Replicas int32
	// Valid says that it rests on present data. Otherwise replicas are held, and only floors can raise them.
	Valid bool
	// Limit is what bound the decision: the last consideration that changed the number.
	Limit Limit
	// Reactive is what present demand and the queue alone would ask for, within Min and Max; 0 where they are unknown.
	Reactive int32
	// Steps say how the number came about, in order: the first is present demand.
	Steps  []Step
	Memory Memory
}

// Limit is what bound a decision.
type Limit uint8

// The limits, in the order in which they are considered.
const (
	LimitDemand    Limit = iota // present demand
	LimitQueue                  // requests wait, and are to be gone within Policy.Drain
	LimitTolerance              // demand is too little above what the replicas are planned for
	LimitForecast               // demand forecast for when a replica ordered now serves
	LimitMargin                 // as much more than now as demand has risen within such a time before
	LimitSchedule               // a floor by the clock
	LimitUnhealthy              // replicas on unfit GPUs are replaced
	LimitMissing                // no present data: replicas are held
	LimitBurst                  // the queue grows: nothing is removed
	LimitPeak                   // demand forecast until a replica removed now could be back
	LimitWindow                 // replicas were wanted a moment ago
	LimitLoading                // replicas that load their weights would be the first to go
	LimitMin                    // the policy's bounds
	LimitMax
	limits // their number
)

func (l Limit) String() string {
	names := [limits]string{
		"Demand", "Queue", "WithinTolerance", "Forecast", "Margin", "Schedule", "UnhealthyGPUs", "MissingData", "QueueGrows", "ForecastPeak",
		"ScaleDownWindow", "LoadingPods", "MinReplicas", "MaxReplicas",
	}
	if int(l) < len(names) {
		return names[l]
	}
	return fmt.Sprintf("Limit(%d)", uint8(l))
}

// Step is one consideration of a decision.
type Step struct {
	Limit    Limit
	Replicas int32 // after it
	// Demand is what the step rests on, and Horizon for how far ahead; PerReplica what one replica is planned to serve.
	Demand, PerReplica float64
	Horizon            time.Duration
	Text               string // what was missing, or the name of a floor
}

// Memory is what a decision must know of those before it. The zero value remembers nothing.
type Memory struct {
	// wanted is a queue of the replicas wanted before, falling with time: an entry that a later one reaches is dropped.
	wanted []wanted
}

type wanted struct {
	at       time.Time
	replicas int32
}

// add returns a Memory with one more entry and without those older than window; the receiver stays as it is.
func (m Memory) add(now time.Time, replicas int32, window time.Duration) Memory {
	kept := make([]wanted, 0, len(m.wanted)+1)
	for _, w := range m.wanted {
		if now.Sub(w.at) < window && w.replicas > replicas {
			kept = append(kept, w)
		}
	}
	return Memory{append(kept, wanted{now, replicas})}
}

// most returns the most replicas wanted within the window.
func (m Memory) most(now time.Time, window time.Duration) int32 {
	for _, w := range m.wanted {
		if now.Sub(w.at) < window {
			return w.replicas
		}
	}
	return 0
}

// Message says in one line how the number came about.
func (d Decision) Message() string {
	parts := make([]string, len(d.Steps))
	for i, s := range d.Steps {
		parts[i] = s.String()
	}
	return strings.Join(parts, "; ")
}

func (s Step) String() string {
	switch s.Limit {
	case LimitDemand:
		return fmt.Sprintf("demand %.4g at %.4g per replica needs %d", s.Demand, s.PerReplica, s.Replicas)
	case LimitQueue:
		return s.queue()
	case LimitTolerance:
		return fmt.Sprintf("%d are within the tolerance", s.Replicas)
	case LimitForecast:
		return fmt.Sprintf("%.4g is forecast in %s and needs %d", s.Demand, s.Horizon, s.Replicas)
	case LimitMargin:
		return fmt.Sprintf("up to %.4g was seen to follow such a demand within %s and needs %d", s.Demand, s.Horizon, s.Replicas)
	case LimitSchedule:
		return fmt.Sprintf("schedule %q wants %d", s.Text, s.Replicas)
	case LimitUnhealthy:
		return fmt.Sprintf("replicas on unfit GPUs are replaced: %d", s.Replicas)
	case LimitMissing:
		return fmt.Sprintf("held at %d: %s", s.Replicas, s.Text)
	case LimitBurst:
		return fmt.Sprintf("the queue grows, nothing is removed: %d", s.Replicas)
	case LimitPeak:
		return fmt.Sprintf("up to %.4g is forecast within %s and needs %d", s.Demand, s.Horizon, s.Replicas)
	case LimitWindow:
		return fmt.Sprintf("%d were wanted within %s", s.Replicas, s.Horizon)
	case LimitLoading:
		return fmt.Sprintf("%s, and would be the first to go: %d", s.Text, s.Replicas)
	case LimitMin:
		return fmt.Sprintf("the minimum is %d", s.Replicas)
	case LimitMax:
		return fmt.Sprintf("the maximum is %d", s.Replicas)
	default:
		return s.Limit.String()
	}
}

func (s Step) queue() string {
	if s.Text != "" {
		return fmt.Sprintf("%s: %d", s.Text, s.Replicas)
	}
	return fmt.Sprintf("with the queue, %.4g needs %d", s.Demand, s.Replicas)
}

// need is how many replicas demand takes. A millionth of a replica is rounding, not demand.
func need(demand, perReplica float64) int32 {
	n := math.Ceil(demand/perReplica - 1e-6)
	if n > math.MaxInt32/2 {
		return math.MaxInt32 / 2
	}
	return int32(max(n, 0))
}
