package main

import (
	"fmt"
	"math"
	"time"

	"headroom.dev/headroom/recommender"
)

// advice is what a policy recommends: the request, and between what it claims the need to lie (NaN where it claims nothing).
type advice struct {
	valid                 bool
	request, lower, upper float64
}

func none() advice { return advice{request: math.NaN(), lower: math.NaN(), upper: math.NaN()} }

// policy recommends requests for one container and one resource. It is told of nothing but the past.
type policy interface {
	add(at time.Time, value float64)
	oom(at time.Time, request float64) // memory: killed when it wanted more than the request
	version(at time.Time)              // a new version runs from now on
	recommend(now time.Time) advice
}

// setting is a policy with its parameters.
type setting struct {
	group string // of what it is: "VPA", "fixed", …
	name  string
	risk  float64       // its own, where it has one; what was needed is scored by it
	hold  time.Duration // for how long it claims an interval; 0 for the default estimator's default
	named bool          // told by name in the tables
	make  func(recommender.Resource) policy
}

// The groups.
const (
	groupVPA   = "VPA"      // the library at its default
	groupTuned = "VPA grid" // the library at other parameters
	groupTwin  = "vpa"      // recommender/vpa, which must do as the library does
	groupKRR   = "KRR"
	groupFixed = "fixed"
	groupOurs  = "headroom"
	groupHeld  = "headroom held" // the default estimator with a longer hold
)

// window recommends a quantile of what it saw in a window, times a factor.
type window struct {
	resource recommender.Resource
	length   time.Duration
	quantile float64
	factor   float64
	every    time.Duration // takes at most one sample in this time; 0: all
	bump     func(request float64) float64
	minimum  float64

	queue  []point
	values sorted
	next   time.Time
	bumped point
}

type point struct {
	at    time.Time
	value float64
}

func (w *window) add(at time.Time, value float64) {
	if w.every > 0 {
		if at.Before(w.next) {
			return
		}
		if w.next.IsZero() {
			w.next = at
		}
		for !w.next.After(at) {
			w.next = w.next.Add(w.every)
		}
	}
	w.queue = append(w.queue, point{at, value})
	w.values.add(value)
}

func (w *window) oom(at time.Time, request float64) {
	if v := w.bump(request); v >= w.bumped.value {
		w.bumped = point{at, v}
	}
}

func (w *window) version(time.Time) {}

func (w *window) recommend(now time.Time) advice {
	oldest := now.Add(-w.length)
	for len(w.queue) > 0 && w.queue[0].at.Before(oldest) {
		w.values.remove(w.queue[0].value)
		w.queue = w.queue[1:]
	}
	if w.bumped.at.Before(oldest) {
		w.bumped = point{}
	}
	if w.values.count == 0 {
		return none()
	}
	a := none()
	a.valid, a.request = true, max(w.values.quantile(w.quantile)*w.factor, w.bumped.value, w.minimum)
	return a
}

// vpaBump is the VPA's answer to a kill: 20 % more, and no less than 100 MiB more.
func vpaBump(request float64) float64 { return max(request*1.2, request+100<<20) }

// krr is KRR's rule, strategies/simple.py of v1.28: the 95th percentile of CPU, the maximum of memory with 15 % more, of
// two weeks of samples 75 s apart; with --use-oomkill-data 25 % more than the limit that was too low.
func krr(floors bool) setting {
	name := "KRR"
	if floors {
		name = "KRR, floors on"
	}
	return setting{group: groupKRR, name: name, named: true, make: func(r recommender.Resource) policy {
		w := &window{
			resource: r, length: 14 * 24 * time.Hour, quantile: 0.95, factor: 1, every: 75 * time.Second,
			bump: func(request float64) float64 { return request * 1.25 },
		}
		if r == recommender.Memory {
			w.quantile, w.factor = 1, 1.15
		}
		if floors {
			w.minimum = map[recommender.Resource]float64{recommender.CPU: 0.010, recommender.Memory: 100e6}[r]
		}
		return w
	}}
}

// fixed are percentiles over windows, and maxima with and without a margin.
func fixed() []setting {
	var list []setting
	for _, length := range []time.Duration{24 * time.Hour, 7 * 24 * time.Hour, 14 * 24 * time.Hour} {
		add := func(label string, quantile, factor float64) {
			list = append(list, setting{group: groupFixed, name: label + " " + days(length), make: func(r recommender.Resource) policy {
				return &window{resource: r, length: length, quantile: quantile, factor: factor, bump: vpaBump}
			}})
		}
		for _, q := range []float64{0.9, 0.95, 0.98, 0.99, 0.995, 0.999} {
			add(fmt.Sprintf("p%g", q*100), q, 1)
		}
		add("max", 1, 1)
		add("max×1.15", 1, 1.15)
	}
	for i := range list { // those that the published table has
		switch list[i].name {
		case "p98 24h", "p99 7d", "max×1.15 24h":
			list[i].named = true
		}
	}
	return list
}

func days(d time.Duration) string {
	if d > 24*time.Hour {
		return fmt.Sprintf("%.0fd", d.Hours()/24)
	}
	return fmt.Sprintf("%.0fh", d.Hours())
}

// settings are all that are tried, the VPA's default first.
func settings(short bool) ([]setting, error) {
	model, err := twinModel()
	if err != nil {
		return nil, err
	}
	list := append(stock(short), twin(model), krr(false), krr(true))
	list = append(list, fixed()...)
	return append(list, ours()...), nil
}
