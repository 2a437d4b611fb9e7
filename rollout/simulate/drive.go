package simulate

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"headroom.dev/headroom/rollout"
)

// Driver takes a world through rollouts by rollout.Next, as a controller does: it looks every Period seconds, stores the state
// as JSON, and carries the actions out.
type Driver struct {
	World   *World
	Service rollout.Service // Kind, Replicas and Serial come from the world
	Policy  rollout.Policy
	Demand  rollout.Forecast
	// Sources are those that the world does not know; the free one and the spare one are added.
	Sources []rollout.Source
	Period  int
	// Judge gives the verdict about what a key names; Verdict.Key is filled in.
	Judge func(key string, since time.Duration) rollout.Verdict
	// Gates are results of webhooks about what a key names.
	Gates func(key, name string) rollout.Result
	// Most is how many replicas beyond its own the budget has in all, 0: no budget.
	Most int
	// Wait is why the budget does not let it start; a Fleet sets it.
	Wait string
	// Command and Release are what is asked for next.
	Command rollout.Command
	Release bool
	// Crash says after how many actions the decider dies, and whether it had stored its new state before; negative: it lives.
	Crash func(actions int) (after int, stored bool)
	// Lost says that a write does not arrive.
	Lost func() bool
	// Look, where set, sees each decision before its actions.
	Look func(before, after rollout.State, o rollout.Observation, actions []rollout.Action)

	stored    []byte
	state     rollout.State
	read      bool // state is what is stored
	announced int
	settled   int
	key       string
}

// State is what was last stored.
func (d *Driver) State() (rollout.State, error) {
	if d.stored == nil || d.read {
		return d.state, nil
	}
	d.state, d.read = rollout.State{}, true
	if err := json.Unmarshal(d.stored, &d.state); err != nil {
		return d.state, fmt.Errorf("cannot read the stored state: %w", err)
	}
	return d.state, nil
}

// Request is what plans rest on now.
func (d *Driver) Request() rollout.Request {
	s := d.Service
	s.Replicas, s.Kind, s.Serial = d.World.Replicas, d.World.Kind, d.World.Serial
	free := d.World.Placeable()
	if d.Most > 0 {
		free = min(free, d.Most)
	}
	sources := append([]rollout.Source{{Kind: rollout.Free, Replicas: free}}, d.Sources...)
	return rollout.Request{Now: d.World.Now(), Service: s, Policy: d.Policy, Demand: d.Demand, Sources: append(sources, rollout.Source{Kind: rollout.Spare})}
}

// Tick lets a second pass, and decides when it is time to.
func (d *Driver) Tick() error {
	d.World.Tick()
	if d.World.cluster.now%max(1, d.Period) != 0 {
		return nil
	}
	return d.decide()
}

func (d *Driver) decide() error {
	s, err := d.State()
	if err != nil {
		return err
	}
	o := d.observe(&s)
	next, actions := rollout.Next(s, d.Request(), o)
	if d.Look != nil {
		d.Look(s, next, o, actions)
	}
	bytes, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("cannot store the state: %w", err)
	}
	same := string(bytes) == string(d.stored)
	if s.Phase != rollout.Adopting && !same {
		if err := d.replays(next, o, actions); err != nil {
			return err
		}
	}
	if d.act(next.Phase, actions) && !same {
		d.stored, d.read = bytes, false
	}
	return nil
}

// act carries the actions out, unless the decider dies in between; it says whether the new state was stored.
func (d *Driver) act(phase rollout.Phase, actions []rollout.Action) (stored bool) {
	after, stored := len(actions), true
	if d.Crash != nil {
		if n, kept := d.Crash(len(actions)); n >= 0 {
			after, stored = min(n, after), kept
		}
	}
	for _, a := range actions[:after] {
		if e, ok := a.(rollout.Announce); ok {
			d.announced = max(d.announced, e.Seq)
			continue
		}
		if d.Lost == nil || !d.Lost() {
			d.World.Apply(a)
		}
	}
	if after == len(actions) && (phase == rollout.Moving || phase == rollout.GoingBack) {
		d.World.Unblock()
	}
	return stored
}

func (d *Driver) observe(s *rollout.State) rollout.Observation {
	o := d.World.Observe(d.Service.Router)
	o.Command, o.Release, o.Announced, o.Wait = d.Command, d.Release, d.announced, d.Wait
	if s.Phase != rollout.Settled {
		d.key = ""
		return o
	}
	if key := s.Key(); key != d.key {
		d.key, d.settled = key, d.World.cluster.now
	}
	if d.Judge != nil {
		o.Verdict = d.Judge(d.key, time.Duration(d.World.cluster.now-d.settled)*time.Second)
		o.Verdict.Key = d.key
	}
	o.Gates = map[string]rollout.Verdict{}
	for _, g := range gates(s) {
		if d.Gates != nil && g.Webhook {
			o.Gates[g.Name] = rollout.Verdict{Key: d.key, Result: d.Gates(d.key, g.Name)}
		}
	}
	return o
}

// gates are those of the present step.
func gates(s *rollout.State) []rollout.Gate {
	if s.Schedule == nil || s.Step >= len(s.Schedule.Steps) {
		return nil
	}
	return s.Schedule.Steps[s.Step].Gates
}

// replays checks that the same observation, after the state was stored and read, gives the same actions.
func (d *Driver) replays(s rollout.State, o rollout.Observation, actions []rollout.Action) error {
	bytes, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("cannot store the state: %w", err)
	}
	var read rollout.State
	if err := json.Unmarshal(bytes, &read); err != nil {
		return fmt.Errorf("cannot read the state: %w", err)
	}
	again, repeated := rollout.Next(read, d.Request(), o)
	if !reflect.DeepEqual(actions, repeated) {
		return fmt.Errorf("in %q, a second look gives %s, not %s", s.Phase, Text(repeated), Text(actions))
	}
	twice, err := json.Marshal(again)
	if err != nil {
		return fmt.Errorf("cannot store the state: %w", err)
	}
	if string(twice) != string(bytes) {
		return fmt.Errorf("a second look changes the state from %s to %s", bytes, twice)
	}
	return nil
}

// Text writes actions in a line each.
func Text(actions []rollout.Action) string {
	lines := make([]string, 0, len(actions))
	for _, a := range actions {
		switch a := a.(type) {
		case rollout.Patch:
			f := a.Fields
			line := fmt.Sprintf("patch paused=%v minReady=%d deadline=%d surge=%s unavailable=%s", f.Paused, f.MinReadySeconds, f.ProgressDeadline, f.Surge, f.Unavailable)
			if f.Recreate {
				line += " recreate"
			}
			if f.Partition != 0 {
				line += fmt.Sprintf(" partition=%d", f.Partition)
			}
			if f.OnDelete {
				line += " onDelete"
			}
			if a.Template != "" {
				line += " template=" + a.Template
			}
			lines = append(lines, line)
		case rollout.SetWeight:
			line := fmt.Sprintf("weight %s=%.3f", a.New, a.Weight)
			if a.Match != "" {
				line += " match=" + a.Match
			}
			lines = append(lines, line)
		case rollout.Finish:
			lines = append(lines, "finish stable="+a.Stable)
		case rollout.Yield:
			lines = append(lines, "yield "+a.Template)
		case rollout.Clean:
			lines = append(lines, "clean")
		case rollout.Announce:
			lines = append(lines, "event "+a.Reason+": "+a.Message)
		}
	}
	return strings.Join(lines, "\n")
}
