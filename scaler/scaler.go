// Package scaler decides how many replicas a GPU inference service needs.
//
// Demand is what adds up over pods: requests per second, tokens per second, or requests in flight. A replica's capacity is
// the demand it serves within the SLO, learnt from what is seen (Capacity) or stated. New replicas serve after the
// service's own start-up time (StartUp), so the demand that counts for ordering them is the one forecast for then
// (scaler/forecast); it only ever adds to what present demand asks for, and only while it beats last-value.
//
// Decide is a pure function of an Input; a Service gathers what is observed into Inputs. Both know nothing of Kubernetes
// or clocks, and run as they are in the controller (scaler/kube) and in the simulator (scaler/simulate).
package scaler

import (
	"time"

	"headroom.dev/headroom/scaler/forecast"
)

// Policy is what the owner of a service asks for. Zero values mean the defaults.
type Policy struct {
	Min, Max int32

	// Capacity is the demand that one replica serves within the SLO, where it is stated; 0: it is learnt.
	Capacity float64
	// StartUp is the time from a pod's creation to its first answer, where it is stated; 0: it is learnt.
	StartUp time.Duration
	// Utilization is the share of their capacity at which replicas are planned to run: what is left absorbs the noise
	// within a decision period, while the forecast's quantile is the margin for what comes. Default 0.9.
	Utilization float64
	// Quantile is the quantile of the forecast that replicas must be ready for. Default 0.95.
	Quantile float64
	// Drain is the time within which a queue is to be gone: it adds queue/Drain to a demand in 1/s. Default 30 s.
	Drain time.Duration
	// Concurrency says that demand is requests in flight, which waiting requests are part of: a queue then adds nothing.
	Concurrency bool
	// Window is for how long replicas are kept after the last moment at which they were wanted, where no skilful forecast
	// says that they are not needed. Default 5 min, the HPA's.
	Window time.Duration
	// Period is the time between two decisions. Default 15 s, the HPA's.
	Period time.Duration
	// Schedule are floors by the clock.
	Schedule []Floor
}

// Floor is a number of replicas wanted from Start to End, whatever demand is.
type Floor struct {
	Name       string
	Start, End time.Time
	Replicas   int32
}

// Reading is a value, or why there is none.
type Reading struct {
	Value   float64
	Age     time.Duration
	Missing string // why there is no value; "" where there is one
}

// Input is all that a decision rests on.
type Input struct {
	Now    time.Time
	Policy Policy
	// Replicas are those that the target's spec asks for now.
	Replicas int32
	// Pods count the target's pods that are not being deleted.
	Pods PodCount
	// Demand is the sum over the service, Queue the requests that wait for a replica.
	Demand, Queue Reading
	// Growth is by how many waiting requests per second the queue grows, negative where it shrinks; 0 where unknown. What
	// servers count is what they have finished: under a growing queue demand is that much higher.
	Growth float64
	// Capacity is the demand one replica serves within the SLO.
	Capacity Estimate
	// StartUp is the time after which a replica ordered now serves: the upper end of what was seen.
	StartUp Estimate
	// Ahead is demand forecast for Now + StartUp and the decision period, Peak the largest of the forecasts from now until
	// then: what must not be given away, because it could not be had back in time.
	Ahead, Peak Expected
	Memory      Memory
}

// PodCount counts pods by what they are good for.
type PodCount struct {
	Ready     int32 // they serve
	Loading   int32 // created, not serving yet, and within the time that start-ups take
	Overdue   int32 // created, and not serving long after they should have
	Unhealthy int32 // of the above, those on a GPU that is unfit: they are no capacity
}

// Estimate is a number and where it comes from.
type Estimate struct {
	Value  float64
	Source Source
	// Samples is the number of observations behind a learnt value.
	Samples int
}

// Source says where an Estimate comes from.
type Source uint8

// Nothing is known; a person stated it; it was learnt; what was learnt is only a bound (nothing worse was seen yet).
const (
	Unknown Source = iota
	Stated
	Learnt
	AtLeast
)

// Expected is a quantile of a forecast.
type Expected struct {
	forecast.Forecast
	Demand float64 // at the policy's quantile
}
