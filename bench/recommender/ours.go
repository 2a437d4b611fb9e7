package main

import (
	"fmt"
	"time"

	"headroom.dev/headroom/recommender"
)

// ours is the default estimator at its default policy, and along a sweep of the risk.
func ours() []setting {
	list := []setting{{group: groupOurs, name: "headroom", named: true, make: func(r recommender.Resource) policy {
		return newOurs(r, recommender.DefaultPolicy(r))
	}}, {group: groupHeld, name: "headroom, held 24h", named: true, hold: 24 * time.Hour, make: func(r recommender.Resource) policy {
		p := recommender.DefaultPolicy(r)
		p.Hold = 24 * time.Hour
		return newOurs(r, p)
	}}}
	for _, risk := range []float64{0.0001, 0.0003, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4} {
		list = append(list, setting{group: groupOurs, name: fmt.Sprintf("headroom, risk %.3g%%", risk*100), risk: risk, make: func(r recommender.Resource) policy {
			p := recommender.DefaultPolicy(r)
			p.Risk = risk
			return newOurs(r, p)
		}})
	}
	return list
}

type oursPolicy struct{ usage *recommender.Usage }

func newOurs(r recommender.Resource, p recommender.Policy) oursPolicy {
	return oursPolicy{recommender.NewUsage(r, p)}
}

func (p oursPolicy) add(at time.Time, value float64) { p.usage.Add(at, value, 1, at) }

func (p oursPolicy) oom(at time.Time, request float64) { p.usage.AddOOM(at, request, at) }

func (p oursPolicy) version(at time.Time) { p.usage.NewVersion(at) }

func (p oursPolicy) recommend(now time.Time) advice {
	r := recommender.Estimate(p.usage, now)
	if !r.Valid {
		return none()
	}
	return advice{true, r.Request, r.Lower, r.Upper}
}
