package app

import (
	"fmt"
	"time"

	"headroom.dev/headroom/scaler"
	"headroom.dev/headroom/scaler/report"
	"headroom.dev/headroom/scaler/simulate"
)

// policyNames are those that --policies knows, in the order in which they are shown.
func policyNames() []string { return []string{"hpa", "headroom", report.Clairvoyant} }

func shapeNames() []string { return simulate.Shapes() }

func checkShape(shape string, length time.Duration) error {
	_, err := simulate.Synthetic(shape, length, 1)
	if err != nil {
		return fmt.Errorf("--synthetic: %w", err)
	}
	return nil
}

// makeUp makes demand of a known shape.
func (d *demandOptions) makeUp(seed uint64) (*simulate.Trace, error) {
	t, err := simulate.Synthetic(d.synthetic, time.Duration(d.length), seed)
	if err != nil {
		return nil, fmt.Errorf("--synthetic: %w", err)
	}
	return t.Scaled(d.peak, false), nil
}

// service is what the policies are told.
type service struct {
	capacity float64 // requests per second of a replica, as the plant has it
	scaler   scaler.Config
	target   float64
	notes    []string
}

// candidate is a policy at one setting. Policies remember, so each run has its own.
type candidate struct {
	family string
	own    bool
	policy func() simulate.Policy
}

// service reads the manifests, and the bounds from them into the plant.
func (b *backtest) service(m *manifests, plant *simulate.Plant) (*service, error) {
	s := &service{capacity: plant.Capacity()}
	s.target = 0.7 * s.capacity
	if b.target > 0 {
		s.target = b.target
	}
	s.scaler.Policy = scaler.Policy{Min: plant.Min, Max: plant.Max, Capacity: b.plant.capacity}
	return s, nil
}

// candidates are all policies at all settings to try.
func (b *backtest) candidates(s *service) []candidate {
	var list []candidate
	add := func(family string, own bool, policy func() simulate.Policy) {
		if own || b.tune || b.frontier {
			list = append(list, candidate{family, own, policy})
		}
	}
	for _, family := range b.policies {
		switch family {
		case "hpa":
			for _, f := range []float64{1, 0.4, 0.55, 0.7, 0.85, 1.15, 1.3} {
				add(family, f == 1, func() simulate.Policy { return &simulate.HPA{Target: s.target * f, Window: 5 * time.Minute} })
			}
		case "headroom":
			for _, u := range []float64{0.8, 0.5, 0.6, 0.7, 0.9, 1} {
				c := s.scaler
				c.Policy.Utilization = u
				add(family, u == 0.8, func() simulate.Policy { return &simulate.Headroom{Config: c} })
			}
		case report.Clairvoyant:
			for _, u := range []float64{1, 0.8, 0.9, 1.05, 1.1} {
				add(family, u == 1, func() simulate.Policy { return &simulate.Clairvoyant{Utilization: u} })
			}
		}
	}
	return list
}
