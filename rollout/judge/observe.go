package judge

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"sort"
	"time"
)

// Observations is what the metric plane knows at a look.
type Observations struct {
	New []Pod `json:"new"`
	Old []Pod `json:"old"`
	// Increments says that counters are the increase since the look before, instead of what the pods expose.
	Increments bool `json:"increments,omitempty"`
	// Mix names how requests are split between the versions, where the caller knows when it changes that: another name begins a
	// stratum, and what only looks like another split, with few requests at a look, does not.
	Mix string `json:"mix,omitempty"`
}

// Pod is one pod, or a whole version where the metric plane only has sums; sums hide how much pods differ.
type Pod struct {
	Name string `json:"name"`
	// Age is how long it has been Ready.
	Age time.Duration `json:"age"`
	// Values by metric name; a metric that the pod does not report is absent.
	Values map[string]Value `json:"values"`
}

// Value is of one metric; which fields count depends on its kind.
type Value struct {
	Requests float64 `json:"requests,omitempty"` // Errors: all requests
	Errors   float64 `json:"errors,omitempty"`   // Errors: failed ones
	// Bounds are a histogram's finite upper bounds, ascending; Counts how many requests were at or below each, and at last all of them
	// (the +Inf bucket), as Prometheus has them.
	Bounds []float64 `json:"bounds,omitempty"`
	Counts []float64 `json:"counts,omitempty"`
	Gauge  float64   `json:"gauge,omitempty"`
}

// FromSamples puts samples into a histogram; those that are not numbers are left out. Steps of 5 % keep nearly all of what they say.
func FromSamples(samples, bounds []float64) Value {
	v := Value{Bounds: bounds, Counts: make([]float64, len(bounds)+1)}
	for _, s := range samples {
		if !math.IsNaN(s) {
			v.Counts[sort.SearchFloat64s(bounds, s)]++
		}
	}
	for i := range bounds {
		v.Counts[i+1] += v.Counts[i]
	}
	return v
}

// check says why a value cannot be used.
func (v Value) check(kind Kind) error {
	switch kind {
	case Errors:
		if !within(v.Requests, 0, maxCount) || !within(v.Errors, 0, maxCount) {
			return fmt.Errorf("requests %v, errors %v: not counts", v.Requests, v.Errors)
		}
		if v.Errors > v.Requests*(1+1e-9) {
			return fmt.Errorf("%v errors in %v requests", v.Errors, v.Requests)
		}
	case Latency:
		return v.checkHistogram()
	case Gauge:
		if !finite(v.Gauge) {
			return fmt.Errorf("%v is not a number", v.Gauge)
		}
	}
	return nil
}

func (v Value) checkHistogram() error {
	if len(v.Bounds) < 2 || len(v.Counts) != len(v.Bounds)+1 {
		return fmt.Errorf("%d bounds and %d counts are no histogram", len(v.Bounds), len(v.Counts))
	}
	for i, b := range v.Bounds {
		if !within(b, math.SmallestNonzeroFloat64, math.MaxFloat64) || i > 0 && b <= v.Bounds[i-1] {
			return fmt.Errorf("bounds %v do not ascend from above 0", v.Bounds)
		}
	}
	for i, n := range v.Counts {
		if !within(n, 0, maxCount) || i > 0 && n < v.Counts[i-1] {
			return fmt.Errorf("buckets %v do not ascend from 0", v.Counts)
		}
	}
	return nil
}

const maxCount = 1e15 // a counter beyond cannot count single requests in a float64

// since returns the increase from an earlier value, or why there is none.
func (v Value) since(before Value, kind Kind) (Value, error) {
	switch kind {
	case Errors:
		v.Requests -= before.Requests
		v.Errors -= before.Errors
		if v.Requests < 0 || v.Errors < 0 {
			return v, errReset
		}
	case Latency:
		if !slices.Equal(v.Bounds, before.Bounds) {
			return v, errLayout
		}
		counts := slices.Clone(v.Counts)
		for i := range counts {
			counts[i] -= before.Counts[i]
			if counts[i] < 0 {
				return v, errReset
			}
		}
		v.Counts = counts
	case Gauge:
	}
	return v, v.check(kind)
}

// arm is the usable part of a version at one look.
type arm struct {
	pods   int
	value  Value   // sums; for a gauge the mean
	groups []Value // sums of fixed parts of the pods
	notes  []string
	// first says that pods were left out because they were seen for the first time, warm that they were too young.
	first, warm int
}

// gather sums what pods say about a metric since the look before, and remembers it in last.
func gather(spec Spec, m Metric, bounds []float64, pods []Pod, increments bool, last map[string]Value) (arm, map[string]Value) {
	a, next := arm{groups: make([]Value, maxGroups)}, map[string]Value{}
	for _, p := range pods {
		v, ok := p.Values[m.Name]
		if !ok {
			continue
		}
		if err := v.check(m.Kind); err != nil {
			a.note(p.Name, err)
			continue
		}
		if !increments && m.Kind != Gauge {
			before, seen := last[p.Name]
			next[p.Name] = v
			if !seen {
				a.first++
				continue
			}
			var err error
			if v, err = v.since(before, m.Kind); err != nil {
				a.note(p.Name, err)
				continue
			}
		}
		if p.Age < spec.WarmUp {
			a.warm++
			continue
		}
		if m.Kind == Latency {
			var ok bool
			if v, ok = v.onto(bounds); !ok {
				a.note(p.Name, errLayout)
				continue
			}
		}
		a.pods++
		a.value = a.value.plus(v)
		g := groupOf(p.Name)
		a.groups[g] = a.groups[g].plus(v)
	}
	if m.Kind == Gauge && a.pods > 0 {
		a.value.Gauge /= float64(a.pods)
	}
	return a, next
}

func (a *arm) note(pod string, err error) {
	if len(a.notes) < 3 { // three examples are enough for a person
		a.notes = append(a.notes, fmt.Sprintf("%s: %v", pod, err))
	}
}

func groupOf(pod string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(pod)) // never fails
	return int(h.Sum32() % maxGroups)
}

func (v Value) plus(o Value) Value {
	v.Requests += o.Requests
	v.Errors += o.Errors
	v.Gauge += o.Gauge
	if o.Counts != nil {
		counts := slices.Clone(o.Counts)
		for i, n := range v.Counts {
			counts[i] += n
		}
		v.Bounds, v.Counts = o.Bounds, counts
	}
	return v
}

// onto leaves the histogram only the given bounds; false where it lacks one.
func (v Value) onto(bounds []float64) (Value, bool) {
	if slices.Equal(v.Bounds, bounds) {
		return v, true
	}
	out := Value{Bounds: bounds, Counts: make([]float64, 0, len(bounds)+1)}
	for _, b := range bounds {
		i, ok := slices.BinarySearch(v.Bounds, b)
		if !ok {
			return v, false
		}
		out.Counts = append(out.Counts, v.Counts[i])
	}
	out.Counts = append(out.Counts, v.Counts[len(v.Bounds)])
	return out, len(bounds) >= 2
}

// sharedBounds are those that every usable histogram of both versions has.
func sharedBounds(metric string, pods ...[]Pod) []float64 {
	var shared []float64
	first := true
	for _, p := range slices.Concat(pods...) {
		v, ok := p.Values[metric]
		if !ok || v.check(Latency) != nil {
			continue
		}
		if first {
			shared, first = slices.Clone(v.Bounds), false
			continue
		}
		shared = slices.DeleteFunc(shared, func(b float64) bool {
			_, there := slices.BinarySearch(v.Bounds, b)
			return !there
		})
	}
	return shared
}
