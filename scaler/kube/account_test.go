package kube

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"headroom.dev/headroom/scaler"
)

// TestAccount walks an hour in which the target stays at two replicas, demand asks for four from minute 20, and the policy
// orders them then; they serve 5 minutes later.
func TestAccount(t *testing.T) {
	var a account
	for minute := range 61 {
		demand, wish := 20.0, int32(2)
		if minute > 20 {
			demand, wish = 40, 4
		}
		a.add(moment{
			now: at(60 * minute), replicas: 2, serving: 2, wish: wish, demand: scaler.Reading{Value: demand}, capacity: 10, startUp: 5 * time.Minute,
		}, 2*time.Minute)
	}
	assert.InDelta(t, 2.0, a.used, 1e-9)
	assert.InDelta(t, 2+2*40/60.0, a.policy, 1e-9, "paid for from the order")
	assert.InDelta(t, 2*40/60.0, a.short, 1e-9)
	assert.InDelta(t, 2*5/60.0, a.wouldShort, 1e-9, "short until they serve")

	before := a
	a.add(moment{now: at(90 * 60), replicas: 2, serving: 2, wish: 4}, 2*time.Minute)
	assert.InDelta(t, before.used, a.used, 0, "nobody looked for half an hour")
	a.add(moment{now: at(91 * 60), replicas: 2, serving: 2, wish: 2, demand: scaler.Reading{Missing: "down"}, capacity: 10}, 2*time.Minute)
	assert.InDelta(t, before.used+2/60.0, a.used, 1e-9)
	assert.InDelta(t, before.short, a.short, 0, "of an unknown demand nothing is said")
}

// TestPlant: those that load go first, the newest before the others.
func TestPlant(t *testing.T) {
	var p plant
	p.order(at(0), 2, time.Minute)
	assert.Equal(t, plant{orders: []order{{at(60), 2}}}, p)
	p.order(at(60), 5, time.Minute)
	p.order(at(90), 7, time.Minute)
	assert.Equal(t, plant{serving: 2, orders: []order{{at(120), 3}, {at(150), 2}}}, p)
	p.order(at(91), 4, time.Minute)
	assert.Equal(t, plant{serving: 2, orders: []order{{at(120), 2}}}, p)
	p.order(at(92), 1, time.Minute)
	assert.Equal(t, int32(1), p.serving)
	assert.Empty(t, p.orders)
}
