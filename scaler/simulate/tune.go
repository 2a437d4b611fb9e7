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

// utilizations are tried from the top, in steps of a twentieth.
const (
	highest = 26 // twentieths: 1.3 of what a replica can do on average, which only who knows the future can plan for
	lowest  = 2
)

// Try runs every variant of a family over the load, at falling utilizations until the strictest goal is met on the part before
// cut. Nothing that it knows of the part after cut decides what is run.
func Try(l *Load, f Family, strictest float64, cut time.Duration, points int) ([]Trial, error) {
	var trials []Trial
	for _, variant := range f.Variants {
		for u := highest; u >= lowest; u-- {
			policy := variant(float64(u)/20, l.Capacity())
			if policy == nil { // not one that it can be asked for
				continue
			}
			results, err := Run(l, policy, RunOptions{Cuts: []time.Duration{cut}, Points: points})
			if err != nil {
				return nil, fmt.Errorf("cannot tune %s: %w", f.Name, err)
			}
			if len(results) != 2 {
				return nil, fmt.Errorf("cannot tune %s: the trace ends before %s", f.Name, cut)
			}
			trials = append(trials, Trial{results[0], results[1]})
			if results[0].Attainment >= strictest {
				break
			}
		}
	}
	return trials, nil
}

// Best returns the trial that an operator would choose by the part it was tuned on: the cheapest that reaches the goal, or
// where none does the one that comes nearest to it.
func Best(trials []Trial, goal float64) (Trial, bool) {
	var best Trial
	found := false
	for _, t := range trials {
		a, b := t.Tuned, best.Tuned
		better := !found
		switch {
		case found && a.Attainment >= goal && b.Attainment >= goal:
			better = a.ReplicaHours < b.ReplicaHours
		case found && a.Attainment >= goal || found && b.Attainment >= goal:
			better = a.Attainment >= goal
		case found:
			better = a.Attainment > b.Attainment
		}
		if better {
			best, found = t, true
		}
	}
	return best, found
}
