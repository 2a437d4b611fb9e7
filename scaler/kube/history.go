package kube

import (
	"math"
	"time"
)

// historySpan is how far back demand is kept: four weeks tell a daily from a weekly pattern.
const historySpan = 28 * 24 * time.Hour

// maxSteps bounds a history whatever its step: 28 d at 1 min, 160 KiB.
const maxSteps = 28 * 24 * 60

// history is a service's demand, a mean for each step. NaN is a step in which it was not known.
type history struct {
	step   time.Duration
	start  time.Time // of the first step; a multiple of step
	values []float32

	sum   float64 // over the step that is not over
	count int
}

func newHistory(step time.Duration) *history { return &history{step: step} }

// end is the end of the last step that is over.
func (h *history) end() time.Time { return h.start.Add(time.Duration(len(h.values)) * h.step) }

// add takes what was measured at a time; NaN where nothing was. Times must not go back.
func (h *history) add(now time.Time, value float64) {
	at := now.Truncate(h.step)
	if len(h.values) == 0 && h.count == 0 {
		h.start = at
	}
	if at.After(h.end()) {
		h.close(at)
	}
	if !math.IsNaN(value) {
		h.sum += value
		h.count++
	}
}

// close ends the step in progress, and those without any measurement until at.
func (h *history) close(at time.Time) {
	mean := float32(math.NaN())
	if h.count > 0 {
		mean = float32(h.sum / float64(h.count))
	}
	h.sum, h.count = 0, 0
	h.values = append(h.values, mean)
	if gap := at.Sub(h.end()) / h.step; gap >= maxSteps { // nothing of before is left
		h.values, h.start = nil, at
		return
	}
	for at.After(h.end()) {
		h.values = append(h.values, float32(math.NaN()))
	}
	h.trim()
}

func (h *history) trim() {
	most := min(maxSteps, max(int(historySpan/h.step), 1))
	if n := len(h.values) - most; n > 0 {
		h.values = append(h.values[:0], h.values[n:]...)
		h.start = h.start.Add(time.Duration(n) * h.step)
	}
}

// known is how many steps have a value.
func (h *history) known() int {
	n := 0
	for _, v := range h.values {
		if !math.IsNaN(float64(v)) {
			n++
		}
	}
	return n
}

// replay calls feed with the end and the mean of each step, oldest first.
func (h *history) replay(feed func(end time.Time, mean float64) error) error {
	for i, v := range h.values {
		if err := feed(h.start.Add(time.Duration(i+1)*h.step), float64(v)); err != nil {
			return err
		}
	}
	return nil
}

// regrid returns the history on another step: the means over its steps, or its own means where it is the finer one.
func (h *history) regrid(step time.Duration) *history {
	if step == h.step {
		return h
	}
	out := newHistory(step)
	stride := min(step, h.step)
	for at := h.start; at.Before(h.end()); at = at.Add(stride) {
		out.add(at, float64(h.values[at.Sub(h.start)/h.step]))
	}
	return out
}
