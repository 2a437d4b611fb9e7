package hpa

import "time"

// Memory is what the controller keeps of one autoscaler from one look to the next. The zero value is that of an autoscaler
// just seen first. The controller loses all but ScaledToZero when it restarts.
type Memory struct {
	// ScaledToZero is the status's condition of that name: the controller itself scaled to 0, so it may scale up again.
	ScaledToZero bool

	recommendations []recommendation
	ups, downs      []event
	proposals       []Proposal // the last decision's
}

// recommendation is what the metrics asked for at one look, before stabilization.
type recommendation struct {
	replicas int32
	at       time.Time
}

// event is one change of replicas.
type event struct {
	change   int32 // not negative
	at       time.Time
	outdated bool // its place may be taken; it stays so even when a longer period is set later
}

// first records the replicas at first sight: they count like a recommendation.
func (m *Memory) first(current int32, now time.Time) {
	if m.recommendations == nil {
		m.recommendations = append(m.recommendations, recommendation{current, now})
	}
}

// record keeps the list in the controller's own order: the last of the old ones gives its place. Were all old ones dropped,
// a window that is made longer would not find those that the controller still has.
func (m *Memory) record(wanted int32, now time.Time, old int) {
	if old >= 0 {
		m.recommendations[old] = recommendation{wanted, now}
		return
	}
	m.recommendations = append(m.recommendations, recommendation{wanted, now})
}

// highest is stabilizeRecommendation, for autoscalers without behavior: the highest recommendation of at most the window's
// age counts. Its edge is within.
func (m *Memory) highest(window time.Duration, wanted int32, now time.Time) int32 {
	result, old, cutoff := wanted, -1, now.Add(-window)
	for i := range m.recommendations {
		r := &m.recommendations[i]
		if r.at.Before(cutoff) {
			old = i
		} else {
			result = max(result, r.replicas)
		}
	}
	m.record(wanted, now, old)
	return result
}

// stabilize is stabilizeRecommendationWithBehaviors: replicas go up to the lowest recommendation of the upper window, and
// down to the highest one of the lower window. The windows' edges are without; neither is a recommendation old there.
func (m *Memory) stabilize(up, down time.Duration, current, wanted int32, now time.Time) int32 {
	lowest, highest, old := wanted, wanted, -1
	upCutoff, downCutoff := now.Add(-up), now.Add(-down)
	for i := range m.recommendations {
		r := &m.recommendations[i]
		if r.at.After(upCutoff) {
			lowest = min(lowest, r.replicas)
		}
		if r.at.After(downCutoff) {
			highest = max(highest, r.replicas)
		}
		if r.at.Before(upCutoff) && r.at.Before(downCutoff) {
			old = i
		}
	}
	m.record(wanted, now, old)
	return min(max(current, lowest), highest)
}

// before is how many replicas there were at the start of the period, whose edge is without.
func (m *Memory) before(current int32, period time.Duration, now time.Time) int32 {
	cutoff := now.Add(-period)
	return current - changes(m.ups, cutoff) + changes(m.downs, cutoff)
}

func changes(list []event, cutoff time.Time) int32 {
	var sum int32
	for i := range list {
		if list[i].at.After(cutoff) {
			sum += list[i].change
		}
	}
	return sum
}

// Applied records that the scale was updated as the decision says, so that later ones are limited by it. Where the update
// fails, it must not be called: the controller forgets such a decision, but for the recommendation.
func (m *Memory) Applied(cfg *Config, a *Autoscaler, obs *Observation, d *Decision) {
	if !d.Rescale {
		return
	}
	if b := a.Behavior; b != nil {
		if d.Replicas > obs.Replicas {
			m.ups = store(m.ups, d.Replicas-obs.Replicas, b.Up.Longest(), obs.Now)
		} else {
			m.downs = store(m.downs, obs.Replicas-d.Replicas, b.Down.Longest(), obs.Now)
		}
	}
	m.ScaledToZero = cfg.ScaleToZero && obs.Replicas > 0 && d.Replicas == 0 && a.least() == 0 && a.readsWithoutPods()
}

// store is storeScaleEvent: the last of the outdated events gives its place.
func store(list []event, change int32, longest time.Duration, now time.Time) []event {
	old, cutoff := -1, now.Add(-longest)
	for i := range list {
		if list[i].at.Before(cutoff) {
			list[i].outdated = true
		}
		if list[i].outdated {
			old = i
		}
	}
	if old < 0 {
		return append(list, event{change: change, at: now})
	}
	list[old] = event{change: change, at: now}
	return list
}
