package vpa

import (
	"fmt"
	"math"
	"time"

	"headroom.dev/headroom/recommender/histogram"
)

const (
	// cpuWeight is a CPU sample's weight. Before 1.4.0 it was the request, of at least 0.1 cores.
	cpuWeight    = 0.1
	memoryWeight = 1.0
	epsilon      = 0.001 * cpuWeight
	// maxAmount is the largest amount, of millicores or bytes.
	maxAmount = 1e14
	// lastSecond is 2200-01-01.
	lastSecond = 7258118400
)

// Aggregate is what is known of the containers of one name of a workload.
type Aggregate struct {
	model   *Model
	samples int // of CPU
	// first and last are of CPU samples, in Unix nanoseconds; 0 for none.
	first, last int64
	// cpu is in cores, one sample for each of each container; memory is in bytes, one sample for the peak of each interval of each
	// container.
	cpu, memory histogram.Histogram
}

// NewAggregate makes an empty aggregate.
func (m *Model) NewAggregate() *Aggregate {
	return &Aggregate{model: m, cpu: histogram.New(m.cpu), memory: histogram.New(m.memory)}
}

// Model returns the model that the aggregate was made by.
func (a *Aggregate) Model() *Model { return a.model }

// CPU returns the distribution of CPU samples, in cores. It must not be changed.
func (a *Aggregate) CPU() *histogram.Histogram { return &a.cpu }

// Memory returns the distribution of memory peaks, in bytes. It must not be changed.
func (a *Aggregate) Memory() *histogram.Histogram { return &a.memory }

// First returns the time of the first CPU sample; the zero time without one.
func (a *Aggregate) First() time.Time { return date(a.first) }

// Last returns the time of the last CPU sample; the zero time without one.
func (a *Aggregate) Last() time.Time { return date(a.last) }

// Samples returns the number of CPU samples; memory is not counted.
func (a *Aggregate) Samples() int { return a.samples }

// Empty says whether there are no CPU samples.
func (a *Aggregate) Empty() bool { return a.samples == 0 }

// Expired says whether there were no CPU samples for as long as the memory intervals reach back; since it was created, if there
// were none at all.
func (a *Aggregate) Expired(now, created time.Time) bool {
	since := created
	if !a.Empty() {
		since = a.Last()
	}
	return now.Sub(since) >= a.model.config.MemoryInterval*time.Duration(a.model.config.MemoryIntervals)
}

// AddCPU takes a CPU sample past any Instance, as from a history whose containers are gone. See Instance.AddCPU.
func (a *Aggregate) AddCPU(at time.Time, millicores int64) bool {
	if ns, ok := nanoseconds(at); ok && millicores >= 0 {
		return a.addCPU(ns, millicores)
	}
	return false
}

func (a *Aggregate) addCPU(at, millicores int64) bool {
	if !a.cpu.Add(float64(millicores)/1000.0, cpuWeight, at) {
		return false
	}
	a.last = max(a.last, at)
	if a.first == 0 || at < a.first {
		a.first = at
	}
	a.samples++
	return true
}

// AddMemoryPeak takes a peak past any Instance. It is one sample more, whatever there was at that time.
func (a *Aggregate) AddMemoryPeak(at time.Time, bytes int64) bool {
	ns, ok := nanoseconds(at)
	return ok && bytes >= 0 && a.memory.Add(float64(bytes), memoryWeight, ns)
}

// Merge adds all of another aggregate. As in the library, both histograms' reference times are aligned, the other's too: that
// changes none of its percentiles. The error, of aggregates with different half-lives, leaves both as they were.
func (a *Aggregate) Merge(o *Aggregate) error {
	if a.model.cpu.Options() != o.model.cpu.Options() || a.model.memory.Options() != o.model.memory.Options() {
		return fmt.Errorf("cannot merge aggregates: %w", histogram.ErrShape)
	}
	if err := a.cpu.Merge(&o.cpu); err != nil {
		return fmt.Errorf("cannot merge aggregates: %w", err)
	}
	if err := a.memory.Merge(&o.memory); err != nil {
		return fmt.Errorf("cannot merge aggregates: %w", err)
	}
	if a.first == 0 || o.first != 0 && o.first < a.first {
		a.first = o.first
	}
	a.last = max(a.last, o.last)
	a.samples += o.samples
	return nil
}

// FromCores returns millicores, truncated and 1e14 at most; ok is false for what is negative or not a number.
func FromCores(cores float64) (millicores int64, ok bool) { return amount(cores * 1000.0), cores >= 0 }

// FromBytes returns bytes, truncated and 1e14 at most; ok is false for what is negative or not a number.
func FromBytes(bytes float64) (whole int64, ok bool) { return amount(bytes), bytes >= 0 }

// amount truncates. What is not a number becomes 0: the library's int64(NaN) is the least there is on amd64 and 0 on arm64, and
// its floors, never below 0, make both the same.
func amount(v float64) int64 {
	switch {
	case v > maxAmount:
		return maxAmount
	case v >= 0:
		return int64(v)
	}
	return 0
}

func scale(v int64, factor float64) int64 { return amount(float64(v) * factor) }

// nanoseconds returns a time in Unix nanoseconds, and whether it is one that samples can have.
func nanoseconds(t time.Time) (ns int64, ok bool) {
	second := t.Unix()
	return t.UnixNano(), second > 0 && second < lastSecond
}

func date(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// confidence is in units of the interval: the days for which there was a sample a minute, if it is a day.
func (a *Aggregate) confidence(interval time.Duration) float64 {
	span := float64(a.last-a.first) / float64(interval)
	return math.Min(span, float64(a.samples)/interval.Minutes())
}
