package demo

import (
	"time"

	"headroom.dev/headroom/lab/load"
)

// baseRate is the calm demand, in requests per second of lightTokens each: 3 per pod, under a third of the HPA's target.
const (
	baseRate    = 6.0
	lightTokens = 100
)

// Cycle is one rise and fall of load that only one of the HPA's metrics calls for.
type Cycle struct {
	Metric string  // that must drive the scale-up
	Target float64 // of the HPA, per pod
	Rate   float64 // at the peak, requests per second
	Tokens int     // per request at the peak
	Why    string
}

// cycles, for two pods that serve 100 tokens in 20 ms (median):
//
//   - many light requests: 60/s are 30 per pod against a target of 10, while the GPUs are busy 1−e^(−30×0.021) = 47 % of the
//     time against a target of 60;
//   - few heavy ones: 12/s are 6 per pod against 10, and 2,000 tokens take 0.4 s, so the GPUs are busy 1−e^(−6×0.42) = 92 %.
func cycles() []Cycle {
	return []Cycle{
		{Metric: "requests_per_second", Target: 10, Rate: 60, Tokens: lightTokens, Why: "many light requests"},
		{Metric: "gpu_utilization_percent", Target: 60, Rate: 12, Tokens: 2000, Why: "few heavy requests"},
	}
}

// phase is a stretch of constant load.
type phase struct {
	begin, length time.Duration
	rate          float64
	tokens        int
	name          string
	cycle         int  // index; -1 before the first
	up            bool // the peak of its cycle
}

// script lays the cycles out in time for an HPA that decides every sync: the rise leaves room for one decision, the pods'
// start and a second decision; the fall for the metric's window (10 s), the example's stabilisation (15 s) and two decisions.
func script(all []Cycle, sync time.Duration) []phase {
	up, down := 20*time.Second+sync*3/2, 25*time.Second+2*sync
	phases := []phase{{length: 15 * time.Second, rate: baseRate, tokens: lightTokens, name: "calm", cycle: -1}}
	for i, c := range all {
		phases = append(phases,
			phase{length: up, rate: c.Rate, tokens: c.Tokens, name: c.Why, cycle: i, up: true},
			phase{length: down, rate: baseRate, tokens: lightTokens, name: "calm again", cycle: i})
	}
	for i := 1; i < len(phases); i++ {
		phases[i].begin = phases[i-1].begin + phases[i-1].length
	}
	return phases
}

func at(phases []phase, t time.Duration) phase {
	for i := len(phases) - 1; i > 0; i-- {
		if t >= phases[i].begin {
			return phases[i]
		}
	}
	return phases[0]
}

func total(phases []phase) time.Duration {
	last := phases[len(phases)-1]
	return last.begin + last.length
}

// demand turns the script into a load pattern and the size of each request.
func demand(phases []phase) (load.Pattern, func(int, load.Arrival) load.Tokens, error) {
	steps := make([]load.Step, len(phases))
	for i, p := range phases {
		steps[i] = load.Step{Rate: p.rate, For: p.length}
	}
	pattern, err := load.Steps(steps)
	tokens := func(_ int, a load.Arrival) load.Tokens {
		return load.Tokens{Prompt: 50, Output: at(phases, a.At).tokens}
	}
	return pattern, tokens, err
}
