package app

import (
	"fmt"
	"math"
	"slices"
	"time"

	"headroom.dev/headroom/scaler"
	"headroom.dev/headroom/scaler/hpa"
	"headroom.dev/headroom/scaler/report"
	"headroom.dev/headroom/scaler/simulate"
)

// The policies, in the order in which they are shown.
const (
	policyHPA       = "hpa"
	policyKPA       = "kpa"
	policyKEDA      = "keda"
	policyLastValue = "last-value"
	policyHeadroom  = "headroom"
)

func policyNames() []string {
	return []string{policyHPA, policyKPA, policyKEDA, policyLastValue, policyHeadroom, report.Clairvoyant}
}

func shapeNames() []string { return simulate.Shapes() }

func checkShape(shape string, length time.Duration) error {
	if _, err := simulate.Synthetic(shape, length, 1); err != nil {
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
	return t.Scaled(d.peak), nil
}

// candidate is a policy at one setting. Policies remember, so each run has its own.
type candidate struct {
	family string
	own    bool // it is the manifest's own setting
	policy func() simulate.Policy
}

// factors of the HPA's targets that are tried beside the manifest's own: few for the frontier, finer steps for tuning. Above 1
// they are for targets that leave much room.
func (b *backtest) factors() []float64 {
	switch {
	case b.tune:
		return steps(0.3, 1.6, 0.1)
	case b.frontier:
		return []float64{0.5, 0.65, 0.8, 1.15, 1.3, 1.5}
	}
	return nil
}

// utilizations are those of their capacity at which replicas are planned to run.
func (b *backtest) utilizations() []float64 {
	switch {
	case b.tune:
		return steps(0.3, 1, 0.05)
	case b.frontier:
		return []float64{0.5, 0.6, 0.7, 0.8, 0.9, 1}
	}
	return nil
}

// steps are from first to last, rounded to hundredths.
func steps(first, last, step float64) []float64 {
	var list []float64
	for i := 0; first+float64(i)*step <= last+1e-9; i++ {
		list = append(list, math.Round((first+float64(i)*step)*100)/100)
	}
	return list
}

// around is a policy's own setting, and the others once each.
func around(own float64, others []float64) []float64 {
	list := []float64{own}
	for _, v := range others {
		if v != own {
			list = append(list, v)
		}
	}
	return list
}

// candidates are all policies at all settings to try, the own one of each first.
func (b *backtest) candidates(s *service) []candidate {
	var list []candidate
	add := func(family string, own bool, policy func() simulate.Policy) {
		list = append(list, candidate{family, own, policy})
	}
	for _, family := range b.policies {
		switch family {
		case policyHPA, policyKEDA:
			for i, f := range around(1, b.factors()) {
				add(family, i == 0, autoscaler(family, &s.hpa, f))
			}
		case policyKPA:
			for i, u := range around(usualUtilization, b.utilizations()) { // Knative's default too
				add(family, i == 0, func() simulate.Policy { return &simulate.KPA{Utilization: u} })
			}
		case policyLastValue, policyHeadroom:
			for i, u := range around(ownUtilization(&s.scaler), b.utilizations()) {
				c := s.scaler
				c.Policy.Utilization = u
				c.NoForecast = c.NoForecast || family == policyLastValue
				add(family, i == 0, func() simulate.Policy { return &simulate.Headroom{Config: c, Label: family} })
			}
		case report.Clairvoyant:
			for i, u := range []float64{1, 0.9, 1.05, 1.1, 1.15, 1.2, 1.3} {
				add(family, i == 0, func() simulate.Policy { return &simulate.Clairvoyant{Utilization: u} })
			}
		}
	}
	return list
}

func ownUtilization(c *scaler.Config) float64 {
	if u := c.Policy.Utilization; u != 0 {
		return u
	}
	return 0.8 // the scaler's default
}

// autoscaler makes the HPA with its targets times a factor; for KEDA with its metrics as external ones that are polled, which
// is what KEDA gives an HPA.
func autoscaler(family string, own *hpa.Autoscaler, factor float64) func() simulate.Policy {
	a := *own
	a.Metrics = slices.Clone(own.Metrics)
	for j := range a.Metrics {
		m := &a.Metrics[j]
		m.Target = max(int64(math.Round(float64(m.Target)*factor)), 1)
		if family == policyKEDA && m.Source == hpa.Pods {
			m.Source = hpa.External
		}
	}
	return func() simulate.Policy {
		if family == policyKEDA {
			return &simulate.StockHPA{Autoscaler: a, Poll: 30 * time.Second, Label: family} // its default
		}
		return &simulate.StockHPA{Autoscaler: a}
	}
}
