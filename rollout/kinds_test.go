package rollout

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// observed is a workload of one version that is at rest.
func observed(f Fields, writers map[string]string) Observation {
	return Observation{
		Workload: &Workload{UID: "1", Replicas: 4, Template: "v1", Fields: f, Synced: true, Writers: writers},
		Versions: map[string]Version{"v1": {Replicas: 4, Ready: 4}},
		Stable:   "v1",
	}
}

// TestKindsFields takes each kind from its owner's fields to rest, forward, back and to its owner's fields again; what is asked for
// is what the API server would have afterwards: a Recreate has no numbers, only a RollingUpdate has a partition, and a DaemonSet
// has surge or unavailable pods.
func TestKindsFields(t *testing.T) {
	for name, c := range map[string]struct {
		kind                   Kind
		strategy               Strategy
		owner                  Fields
		rest, forward, backing Fields
	}{
		"Deployment that is recreated": {
			Deployment, Recreate,
			Fields{Surge: "25%", Unavailable: "25%", ProgressDeadline: 600},
			Fields{Surge: "25%", Unavailable: "25%", ProgressDeadline: 600, Paused: true},
			Fields{Recreate: true, ProgressDeadline: NoDeadline},
			Fields{Recreate: true, ProgressDeadline: NoDeadline},
		},
		"Recreate that is rolled": {
			Deployment, Rolling,
			Fields{Recreate: true, ProgressDeadline: 600},
			Fields{Recreate: true, ProgressDeadline: 600, Paused: true},
			Fields{Surge: "1", Unavailable: "0", ProgressDeadline: NoDeadline},
			Fields{Surge: "1", Unavailable: "0", ProgressDeadline: NoDeadline},
		},
		"StatefulSet without rollingUpdate": {
			StatefulSet, Rolling,
			Fields{Partition: -1},
			Fields{Partition: restPartition},
			Fields{},
			Fields{},
		},
		"StatefulSet updated on deletion": {
			StatefulSet, Rolling,
			Fields{OnDelete: true, Partition: -1},
			Fields{Partition: restPartition},
			Fields{},
			Fields{},
		},
		"DaemonSet with surge": {
			DaemonSet, Rolling,
			Fields{Surge: "1", Unavailable: "0"},
			Fields{Surge: "1", Unavailable: "0", OnDelete: true},
			Fields{Surge: "0", Unavailable: "1"},
			Fields{Surge: "0", Unavailable: "1"},
		},
		"DaemonSet updated on deletion": {
			DaemonSet, Rolling,
			Fields{OnDelete: true},
			Fields{OnDelete: true},
			Fields{Surge: "0", Unavailable: "1"},
			Fields{Surge: "0", Unavailable: "1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := Request{Now: time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC), Service: Service{Kind: c.kind, Replicas: 4, GPUs: 1, Capacity: 1}, Policy: Policy{Strategy: c.strategy, Downtime: true}}
			d := &decider{r: r, w: &Workload{Replicas: 4, Fields: c.owner, Template: "v2"}, o: &Observation{Versions: map[string]Version{}}, now: r.Now}
			d.Original = c.owner
			d.Schedule = &Schedule{Strategy: c.strategy, Kind: c.kind, Replicas: 4, Steps: []Step{{Surge: 1, New: 4}}}
			for phase, want := range map[Phase]Fields{Resting: c.rest, Moving: c.forward, GoingBack: c.backing} {
				if d.Phase = phase; phase == GoingBack {
					d.o.Versions = map[string]Version{"v2": {Replicas: 4, Ready: 4}}
				}
				assert.Equal(t, want, d.want(), "%s", phase)
			}
			d.Phase, d.o.Release = Resting, true
			released := d.want()
			assert.Equal(t, c.owner, released)
		})
	}
}

// TestLostState adopts a workload in the hold of a policy whose state is gone: what the hold wrote does not become the owner's.
func TestLostState(t *testing.T) {
	others := map[string]string{"template": "kubectl"}
	for name, c := range map[string]struct {
		kind         Kind
		found, owner Fields
		writers      map[string]string
	}{
		"paused by the hold":       {Deployment, Fields{Paused: true, Surge: "1"}, Fields{Surge: "1"}, others},
		"paused by its owner":      {Deployment, Fields{Paused: true, Surge: "1"}, Fields{Paused: true, Surge: "1"}, map[string]string{"paused": "kubectl"}},
		"held":                     {Deployment, Fields{MinReadySeconds: HoldSeconds, ProgressDeadline: NoDeadline, Surge: "1"}, Fields{ProgressDeadline: 600, Surge: "25%", Unavailable: "25%"}, others},
		"partition of the hold":    {StatefulSet, Fields{Partition: restPartition}, Fields{}, others},
		"partition of its owner":   {StatefulSet, Fields{Partition: 3}, Fields{Partition: 3}, others},
		"on deletion by the hold":  {DaemonSet, Fields{OnDelete: true, Unavailable: "1"}, Fields{Unavailable: "1"}, others},
		"on deletion by its owner": {DaemonSet, Fields{OnDelete: true}, Fields{OnDelete: true}, map[string]string{"updateStrategy.onDelete": "kubectl"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := Request{Now: time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC), Service: Service{Kind: c.kind, Replicas: 4, GPUs: 1}}
			s, actions := Next(State{}, r, observed(c.found, c.writers))
			assert.Equal(t, c.owner, s.Original)
			assert.NotEmpty(t, s.Phase)
			for _, a := range actions {
				require.IsType(t, Announce{}, a)
			}
		})
	}
}
