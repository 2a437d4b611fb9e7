package kube

import (
	"time"

	"headroom.dev/headroom/scaler"
)

// account adds up replica-hours: what the target had, and what it would have had by the policy's decisions. In mode Act the
// two are the same but for the time that the HPA and pods take.
type account struct {
	since                           time.Time
	used, policy, short, wouldShort float64 // replica-hours
	last                            time.Time
	would                           plant
}

// moment is what the account takes at a time.
type moment struct {
	now      time.Time
	replicas int32 // that the target asks for
	serving  int32 // of them
	wish     int32 // that the policy would have asked for since the last moment
	demand   scaler.Reading
	capacity float64 // of a replica; 0 where it is unknown
	startUp  time.Duration
}

// add counts the time since the last moment, unless that is longer than a pause: then nobody looked.
func (a *account) add(m moment, pause time.Duration) {
	if a.since.IsZero() {
		a.since = m.now
	}
	elapsed := m.now.Sub(a.last)
	if a.last.IsZero() || elapsed > pause {
		a.would = plant{serving: m.serving}
		a.would.order(m.now, m.replicas, m.startUp)
		a.last = m.now
		return
	}
	a.last = m.now
	hours := elapsed.Hours()
	a.would.order(m.now, m.wish, m.startUp)
	a.used += float64(m.replicas) * hours
	a.policy += float64(a.would.size()) * hours
	if m.capacity > 0 && m.demand.Missing == "" {
		needed := m.demand.Value / m.capacity
		a.short += max(needed-float64(m.serving), 0) * hours
		a.wouldShort += max(needed-float64(a.would.serving), 0) * hours
	}
}

// plant is the replicas that a policy would have: they cost from their order and serve after their start-up.
type plant struct {
	serving int32
	orders  []order // in the order of their time
}

type order struct {
	ready time.Time
	count int32
}

func (p *plant) size() int32 {
	n := p.serving
	for _, o := range p.orders {
		n += o.count
	}
	return n
}

// order asks for a number of replicas. Those that load go first when there are too many, as with a ReplicaSet.
func (p *plant) order(now time.Time, want int32, startUp time.Duration) {
	for len(p.orders) > 0 && !p.orders[0].ready.After(now) {
		p.serving += p.orders[0].count
		p.orders = p.orders[1:]
	}
	surplus := p.size() - want
	if surplus < 0 {
		p.orders = append(p.orders, order{now.Add(startUp), -surplus})
		return
	}
	for surplus > 0 && len(p.orders) > 0 {
		newest := &p.orders[len(p.orders)-1]
		n := min(surplus, newest.count)
		newest.count -= n
		surplus -= n
		if newest.count == 0 {
			p.orders = p.orders[:len(p.orders)-1]
		}
	}
	p.serving -= surplus
}
