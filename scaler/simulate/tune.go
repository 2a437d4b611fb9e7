package simulate

import (
	"fmt"
	"time"
)

// Family is a policy with what an operator would tune: for each Variant the utilization that its target stands for.
type Family struct {
	Name string
	// Make returns a fresh policy that plans for a utilization of capacity (requests per second of a replica).
	Variants []func(utilization, capacity float64) Policy
}

// Trial is one setting of a family: how it did on the part it is tuned on, and on the part it is scored on.
type Trial struct {
	Tuned, Scored Result
}

// utilizations are tried from the top: 1.3 of what a replica can do on average, which only who knows the future can plan for, down
// to 0.2, where four of five GPUs stand idle. In the lower half the steps are wider: there hours grow by a quarter and more with each.
func utilizations() []float64 {
	var list []float64
	for twentieth := 26; twentieth >= 10; twentieth-- {
		list = append(list, float64(twentieth)/20)
	}
	return append(list, 0.4, 0.3, 0.2)
}

// Try runs every variant of a family over the load, at falling utilizations until the strictest goal is met on the part that it
// is tuned on: the quarter of the trace before cut. What comes before that is for learning what demand is like; what comes
// after cut decides nothing.
func Try(l *Load, f Family, strictest float64, cut time.Duration) ([]Trial, error) {
	var trials []Trial
	for _, variant := range f.Variants {
		for _, u := range utilizations() {
			policy := variant(u, l.Capacity())
			if policy == nil { // not one that it can be asked for
				continue
			}
			results, err := Run(l, policy, RunOptions{Cuts: []time.Duration{(cut / 2).Truncate(time.Second), cut}})
			if err != nil {
				return nil, fmt.Errorf("cannot tune %s: %w", f.Name, err)
			}
			if len(results) != 3 {
				return nil, fmt.Errorf("cannot tune %s: the trace ends before %s", f.Name, cut)
			}
			trials = append(trials, Trial{results[1], results[2]})
			if results[1].Attainment >= strictest {
				break
			}
		}
	}
	return trials, nil
}

// Best returns the trial that an operator would choose by the part it was tuned on: the cheapest that reaches the goal, or
// where none does the one that comes nearest to it.
func Best(trials []Trial, goal float64) (Trial, bool) {
	return best(trials, goal, func(t *Trial) *Result { return &t.Tuned })
}

// BestKnown is Best by the part that is scored: for a policy that knows it.
func BestKnown(trials []Trial, goal float64) (Trial, bool) {
	return best(trials, goal, func(t *Trial) *Result { return &t.Scored })
}

func best(trials []Trial, goal float64, by func(*Trial) *Result) (Trial, bool) {
	if len(trials) == 0 {
		return Trial{}, false
	}
	chosen := &trials[0]
	for i := range trials[1:] {
		if t := &trials[i+1]; by(t).Better(by(chosen), goal) {
			chosen = t
		}
	}
	return *chosen, true
}

// Better says whether an operator who wants goal prefers a result to another: fewer hours among those that reach it, else more
// requests on time.
func (r *Result) Better(than *Result, goal float64) bool {
	reaches, reached := r.Attainment >= goal, than.Attainment >= goal
	switch {
	case reaches != reached:
		return reaches
	case reaches || r.Attainment == than.Attainment:
		return r.ReplicaHours < than.ReplicaHours
	}
	return r.Attainment > than.Attainment
}
