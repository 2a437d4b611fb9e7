package observe

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Reading is one answer of the custom-metrics API for all pods of the service.
type Reading struct {
	Time    time.Time     // when the answer was there
	Metric  string        //
	Mean    float64       // over the pods that have a value
	Pods    int           // that have one
	Age     time.Duration // of the oldest value; the API carries whole seconds, so up to 1 s more than the truth
	Missing string        // why there is no value, in the server's words; the other fields are zero then
}

// Scale is the HPA's wish at a time.
type Scale struct {
	Time   time.Time
	Wanted int32
}

// PodReady is the moment at which a pod was first seen Ready.
type PodReady struct {
	Time time.Time
	Pod  string
}

// Rescale is the HPA's own word on a change: the event SuccessfulRescale.
type Rescale struct {
	Time   time.Time `json:"time"`
	Size   int32     `json:"size"`
	Reason string    `json:"reason"` // "pods metric requests_per_second above target"
}

// parseRescale reads the message of a SuccessfulRescale event (kubernetes/pkg/controller/podautoscaler/horizontal.go).
func parseRescale(at time.Time, message string) (Rescale, error) {
	var size int32
	head, reason, ok := strings.Cut(message, "; reason: ")
	if _, err := fmt.Sscanf(head, "New size: %d", &size); err != nil || !ok {
		return Rescale{}, fmt.Errorf("cannot read the event message %q", message)
	}
	return Rescale{Time: at, Size: size, Reason: reason}, nil
}

// History is everything seen so far, each list in order of time.
type History struct {
	Readings []Reading
	Scales   []Scale
	Ready    []PodReady
	Rescales []Rescale
}

// Elapsed is a duration since a step in load, or nothing where the awaited has not happened.
type Elapsed struct {
	Seconds float64 `json:"seconds"`
	Seen    bool    `json:"seen"`
}

func (e Elapsed) String() string {
	if !e.Seen {
		return "not seen"
	}
	return fmt.Sprintf("%.1fs", e.Seconds)
}

// Reaction is how long after a step in load each link of the loop showed it.
type Reaction struct {
	Metric   Elapsed `json:"metric"`   // the first API response in which the metric's mean is above the threshold
	Decision Elapsed `json:"decision"` // the HPA wants more replicas than before the step
	Ready    Elapsed `json:"ready"`    // the first pod that was not Ready before is Ready
}

// React finds the reaction to a step at a time: threshold is what the mean of metric must pass, the HPA's target with its
// tolerance. A reading, wish or pod from before the step never counts.
func (h History) React(step time.Time, metric string, threshold float64) Reaction {
	var r Reaction
	for _, reading := range after(h.Readings, step, func(x Reading) time.Time { return x.Time }) {
		if reading.Metric == metric && reading.Missing == "" && reading.Mean > threshold {
			r.Metric = elapsed(step, reading.Time)
			break
		}
	}
	before := h.WantedAt(step)
	for _, s := range after(h.Scales, step, func(x Scale) time.Time { return x.Time }) {
		if s.Wanted > before {
			r.Decision = elapsed(step, s.Time)
			break
		}
	}
	for _, p := range after(h.Ready, step, func(x PodReady) time.Time { return x.Time }) {
		r.Ready = elapsed(step, p.Time)
		break
	}
	return r
}

// WantedAt returns the HPA's wish at a time; 0 before the first one was seen.
func (h History) WantedAt(t time.Time) int32 {
	var wanted int32
	for _, s := range h.Scales {
		if s.Time.After(t) {
			break
		}
		wanted = s.Wanted
	}
	return wanted
}

// RescalesSince returns the HPA's changes after a time.
func (h History) RescalesSince(t time.Time) []Rescale {
	return after(h.Rescales, t, func(x Rescale) time.Time { return x.Time })
}

// Latest returns the newest reading of a metric.
func (h History) Latest(metric string) (Reading, bool) {
	for _, r := range slices.Backward(h.Readings) {
		if r.Metric == metric {
			return r, true
		}
	}
	return Reading{}, false
}

func (h History) clone() History {
	return History{
		Readings: slices.Clone(h.Readings), Scales: slices.Clone(h.Scales), Ready: slices.Clone(h.Ready), Rescales: slices.Clone(h.Rescales),
	}
}

func after[T any](list []T, t time.Time, at func(T) time.Time) []T {
	i := slices.IndexFunc(list, func(x T) bool { return at(x).After(t) })
	if i < 0 {
		return nil
	}
	return list[i:]
}

func elapsed(from, to time.Time) Elapsed { return Elapsed{Seconds: to.Sub(from).Seconds(), Seen: true} }
