package vpa

import (
	"errors"
	"fmt"
	"time"
)

// Instance is what must be known of one container of one pod, 40 bytes. The zero value is a container without samples.
type Instance struct {
	lastCPU, lastMemory int64 // of the newest samples, in Unix nanoseconds; 0 for none
	windowEnd           int64 // of the current memory interval
	// memoryPeak and oomPeak are the highest use and the highest need after a kill in that interval, in bytes.
	memoryPeak, oomPeak int64
}

// State is what an Instance holds, for those who look into it.
type State struct {
	LastCPU, LastMemory time.Time // of the newest samples; zero for none
	WindowEnd           time.Time // of the current memory interval
	// MemoryPeak is the highest use in it, OOMPeak the highest need after a kill, in bytes.
	MemoryPeak, OOMPeak int64
}

// State returns what the instance holds.
func (i *Instance) State() State {
	return State{
		LastCPU: date(i.lastCPU), LastMemory: date(i.lastMemory), WindowEnd: date(i.windowEnd),
		MemoryPeak: i.memoryPeak, OOMPeak: i.oomPeak,
	}
}

// maxRequest is an exbibyte: the largest request to which a bump-up can be added.
const maxRequest = 1 << 60

// The ways in which a kill is not taken.
var (
	ErrOld     = errors.New("the OOM kill is too old")
	ErrInvalid = errors.New("the OOM kill's time or request makes no sense")
)

// AddCPU takes the mean use of an interval that began at a time, and says whether it did: what is not later than the newest
// sample is refused, and so is what is negative.
func (i *Instance) AddCPU(a *Aggregate, at time.Time, millicores int64) bool {
	ns, ok := nanoseconds(at)
	if !ok || millicores < 0 || ns <= i.lastCPU || !a.addCPU(ns, millicores) {
		return false
	}
	i.lastCPU = ns
	return true
}

// AddMemory takes a working set, and says whether it did: what is earlier than the newest sample is refused, and so is what is
// negative. Of each interval the highest counts, once, with the time of the interval's end, which is ahead.
func (i *Instance) AddMemory(a *Aggregate, at time.Time, bytes int64) bool {
	ns, ok := nanoseconds(at)
	if !ok || bytes < 0 || ns < i.lastMemory {
		return false
	}
	return i.addMemory(a, ns, bytes, &i.memoryPeak)
}

// addMemory takes a sample; peak is which of the two it can become.
func (i *Instance) addMemory(a *Aggregate, at, bytes int64, peak *int64) bool {
	i.lastMemory = at
	if i.windowEnd == 0 {
		i.windowEnd = at
	}
	if at < i.windowEnd {
		// A peak of 0 stays for its interval: the library takes it for none, and takes only what it can take away again.
		old := i.peak()
		if old == 0 || bytes <= old {
			return true
		}
		a.memory.Subtract(float64(old), memoryWeight, i.windowEnd)
	} else {
		interval := int64(a.model.config.MemoryInterval)
		i.windowEnd += (at-i.windowEnd)/interval*interval + interval
		i.memoryPeak, i.oomPeak = 0, 0
	}
	*peak = bytes
	return a.memory.Add(float64(bytes), memoryWeight, i.windowEnd)
}

func (i *Instance) peak() int64 { return max(i.memoryPeak, i.oomPeak) }

// AddOOM takes a kill for want of memory as a memory sample: the request or the highest use of the interval, whichever is more,
// and --oom-min-bump-up-bytes or --oom-bump-up-ratio on top, whichever is more. The need after an earlier kill does not count to
// it, lest kills chase each other. The error is ErrOld for a kill of more than an interval before the newest memory sample,
// ErrInvalid for what makes no sense.
//
// As in the library, it is the newest sample even if there were later ones.
func (i *Instance) AddOOM(a *Aggregate, at time.Time, request int64) error {
	ns, ok := nanoseconds(at)
	if !ok || request < 0 || request > maxRequest {
		return fmt.Errorf("%w: %v, %d bytes", ErrInvalid, at, request)
	}
	if i.lastMemory != 0 && ns < i.lastMemory-int64(a.model.config.MemoryInterval) {
		return fmt.Errorf("%w: it was at %v, the newest sample at %v", ErrOld, at, date(i.lastMemory))
	}
	used := max(request, i.memoryPeak)
	need := max(used+amount(a.model.config.OOMMinBumpUp), scale(used, a.model.config.OOMBumpUpRatio))
	if !i.addMemory(a, ns, need, &i.oomPeak) {
		return fmt.Errorf("%w: %v, %d bytes", ErrInvalid, at, need)
	}
	return nil
}
