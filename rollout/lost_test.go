package rollout

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// lostRequest is one for a service that nothing is planned for.
func lostRequest(now time.Time) Request {
	return Request{Now: now, Policy: Policy{Strategy: Rolling}, Service: Service{Kind: Deployment, Replicas: 4, GPUs: 1, Capacity: 10}, Demand: Constant(10)}
}

// A version that nobody keeps any more is not asked for, however often it is wanted; each case says so once.
func TestLostVersions(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	user := Fields{Surge: "25%", Unavailable: "25%", ProgressDeadline: 600}
	held := user
	held.Paused = true
	for name, c := range map[string]struct {
		state   State
		command CommandKind
		lost    string
		reason  string
	}{
		"undo of nothing":       {State{From: "v1"}, Undo, "", "NothingToUndo"},
		"undo of what is lost":  {State{From: "v1", Previous: "v0"}, Undo, "v0", "VersionLost"},
		"retry of what is lost": {State{From: "v1", Failed: "v2"}, Retry, "v2", "VersionLost"},
		"what waited is lost":   {State{From: "v1", Queued: "v2", NotBefore: at}, "", "v2", "VersionLost"},
	} {
		t.Run(name, func(t *testing.T) {
			s := c.state
			s.Phase, s.UID, s.Original = Resting, "1", user
			for i := range 3 {
				o := observed(held, nil)
				o.Lost, o.Announced = []string{c.lost}, s.Seq
				if c.command != "" {
					o.Command = Command{ID: "a", Kind: c.command, By: "test"}
				}
				var actions []Action
				s, actions = Next(s, lostRequest(at.Add(time.Duration(i)*time.Minute)), o)
				for _, a := range actions {
					require.IsType(t, Announce{}, a, "only said")
				}
			}
			require.Equal(t, Resting, s.Phase)
			require.Equal(t, c.reason, s.Reason)
			require.Len(t, s.Events, 1)
			require.Equal(t, []string{c.state.Failed, c.state.Queued}, []string{s.Failed, s.Queued})
		})
	}
}

// Where the old version is lost in the middle of going back, what there is stays, and that is said.
func TestLostWhileGoingBack(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	user := Fields{Surge: "25%", Unavailable: "25%", ProgressDeadline: 600}
	s := State{Phase: GoingBack, UID: "1", Original: user, From: "v0", To: "v1", Failed: "v1", Since: at}
	o := observed(user, nil)
	o.Lost = []string{"v0"}
	for range 4 {
		var actions []Action
		s, actions = Next(s, lostRequest(at), o)
		for _, a := range actions {
			switch a := a.(type) {
			case Patch:
				require.Empty(t, a.Template)
				o.Workload.Fields = a.Fields
			case Finish:
				o.Stable = a.Stable
			}
		}
	}
	require.Equal(t, Resting, s.Phase)
	require.Equal(t, "v1", s.From)
	require.Equal(t, "VersionLost", s.Reason)
	require.True(t, o.Workload.Fields.Paused)
}

// A step with a match sends nothing else to the new version, the match is read back as the weight is, and the old version must be
// able to carry all that does not match.
func TestMatchedSteps(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := lostRequest(at)
	r.Policy = Policy{Strategy: Canary, Steps: []CanaryStep{{Replicas: 2, Match: "header a: b", Unjudged: true}}}
	r.Service.Router = true
	r.Sources = []Source{{Kind: Free, Replicas: 1}, {Kind: Spare}}
	schedule, refusal := Plan(r)
	require.Nil(t, refusal)
	i := len(schedule.Steps) - 2
	require.Equal(t, "header a: b", schedule.Steps[i].Match)
	require.Zero(t, schedule.Steps[i].Weight)

	f := Fields{Paused: true, MinReadySeconds: HoldSeconds, ProgressDeadline: NoDeadline, Surge: "1", Unavailable: "1"}
	s := State{Phase: Settled, UID: "1", Original: Fields{ProgressDeadline: 600}, From: "v0", To: "v1", Schedule: &schedule, Step: i, Replicas: 4, Since: at, Passed: true}
	o := observed(f, nil)
	o.Versions = map[string]Version{"v0": {Replicas: 3, Ready: 3}, "v1": {Replicas: 2, Ready: 2}}
	o.Stable, o.Weight = "v0", new(0.0)
	next, actions := Next(s, r, o)
	require.Contains(t, actions, SetWeight{Old: "v0", New: "v1", Match: "header a: b"})
	require.Equal(t, Settled, next.Phase)
	o.Match = "header a: b"
	next, _ = Next(s, r, o)
	require.Equal(t, Moving, next.Phase)

	r.Demand = Constant(40)
	r.Sources[0].Replicas = 1
	r.Policy.Steps[0].Replicas = 1
	_, refusal = Plan(r)
	require.Nil(t, refusal, "four old replicas carry it")
}

// What others write to a router ends an update where the policy says Stop, without a command, and without waiting for the router.
func TestRouterConflictStops(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := lostRequest(at)
	r.Policy.OnForeign, r.Service.Router = Stop, true
	r.Sources = []Source{{Kind: Free, Replicas: 1}}
	schedule, refusal := Plan(r)
	require.Nil(t, refusal)
	s := State{Phase: Moving, UID: "1", Original: Fields{ProgressDeadline: 600}, From: "v0", To: "v1", Schedule: &schedule, Replicas: 4, Since: at, Handled: "1"}
	o := observed(Fields{ProgressDeadline: NoDeadline, Surge: "1", Unavailable: "0"}, nil)
	o.Versions, o.Stable = map[string]Version{"v0": {Replicas: 4, Ready: 4}, "v1": {Replicas: 1, Ready: 1}}, "v0"
	o.Conflict = "gitops wrote spec.rules"
	o.Command = Command{ID: "1", Kind: Pause}
	next, actions := Next(s, r, o)
	require.Equal(t, GoingBack, next.Phase)
	require.Equal(t, "ForeignWrite", next.Reason)
	require.Contains(t, next.Message, "gitops wrote spec.rules")
	require.Equal(t, "v1", next.Failed)
	require.Equal(t, "1", next.Handled)
	require.Condition(t, func() bool {
		for _, a := range actions {
			if p, ok := a.(Patch); ok {
				return p.Template == "v0"
			}
		}
		return false
	})
	r.Policy.OnForeign = ""
	next, _ = Next(s, r, o)
	require.Equal(t, Moving, next.Phase)
}
