package simulate_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/simulate"
)

// story runs a scenario: what people and clusters do, second by second, and what is then decided.
//
//	new [replicas=8] [gpus=9] [load=60] [drain=10] [demand=60] [strategy=Canary] [router] [manual] [queue] [stop] [provision=N]
//	run SECONDS          lets time pass, and writes each decision with the second and the Ready/wanted pods of each version
//	template V | undo    as kubectl writes it
//	scale N, demand N    as an HPA writes it; as a forecast has it
//	apply [paused=] ...  the manifest applied again by argocd, fields not named as the manifest has them
//	verdict RESULT       what the judge says from now on
//	command KIND         of a person
//	behave V crash|neverReady
//	take N, give N       others' GPUs
//	release, delete, sleep SECONDS
type story struct {
	*simulate.Driver
	out     strings.Builder
	verdict rollout.Verdict
	seconds int
	id      int
}

func (s *story) start(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	number := func(key string, otherwise int) int {
		if d.HasArg(key) {
			d.ScanArgs(t, key, &otherwise)
		}
		return otherwise
	}
	load, drain, strategy := number("load", 60), number("drain", 10), "Canary"
	if d.HasArg("strategy") {
		d.ScanArgs(t, "strategy", &strategy)
	}
	p := rollout.Policy{Strategy: rollout.Strategy(strategy), KeepOld: time.Minute, Hold: time.Minute, Downtime: strategy == "Recreate"}
	if p.Strategy == rollout.Canary {
		p.Steps = []rollout.CanaryStep{{Percent: 10}, {Percent: 40}}
		if d.HasArg("manual") {
			p.Steps[0].Gates = []rollout.Gate{{Manual: true}}
		}
	}
	if d.HasArg("queue") {
		p.OnNewTemplate = rollout.Queue
	}
	if d.HasArg("stop") {
		p.OnForeign = rollout.Stop
	}
	s.Driver = &simulate.Driver{
		World:  simulate.New(number("replicas", 8), 1, drain, simulate.Behavior{Load: load}, []int{number("gpus", 9)}),
		Period: 5, Policy: p, Demand: rollout.Constant(float64(number("demand", 60))),
		Service: rollout.Service{GPUs: 1, Capacity: 10, Router: d.HasArg("router"), StartUp: span(load), Drain: span(drain)},
	}
	if n := number("provision", 0); n > 0 {
		s.Sources = []rollout.Source{{Kind: rollout.Provision, Name: "spot", Replicas: n, Delay: time.Minute}}
	}
	s.seconds = 0
	s.verdict = rollout.Verdict{Result: rollout.Pass}
	s.Judge = func(_ string, since time.Duration) rollout.Verdict {
		if since < 30*time.Second {
			return rollout.Verdict{}
		}
		return s.verdict
	}
	last := ""
	s.Look = func(_, after rollout.State, o rollout.Observation, actions []rollout.Action) {
		text := simulate.Text(actions)
		if text == "" || text == last {
			last = text
			return
		}
		last = text
		fmt.Fprintf(&s.out, "%ds %s [%s]\n  %s\n", s.seconds, after.Phase, counts(o), strings.ReplaceAll(text, "\n", "\n  "))
	}
}

func (s *story) apply(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	f, template := rollout.Fields{ProgressDeadline: 600, Surge: "25%", Unavailable: "25%", Paused: s.World.Fields.Paused}, ""
	if d.HasArg("unpaused") {
		f.Paused = false
	}
	if d.HasArg("template") {
		d.ScanArgs(t, "template", &template)
	}
	s.World.Write("argocd", f, template)
}

func (s *story) do(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	word, n := "", 0
	if len(d.CmdArgs) > 0 && d.Cmd != "new" {
		word = d.CmdArgs[0].Key
		n, _ = strconv.Atoi(word)
	}
	switch d.Cmd {
	case "new":
		s.start(t, d)
	case "run":
		for range n {
			s.seconds++
			require.NoError(t, s.Tick(), d.Pos)
		}
	case "template":
		s.World.Write("kubectl", s.World.Fields, word)
	case "scale":
		s.World.Scale(n)
	case "demand":
		s.Demand = rollout.Constant(float64(n))
	case "apply":
		s.apply(t, d)
	case "verdict":
		s.verdict = rollout.Verdict{Result: rollout.Result(word), Message: "as told"}
	case "command":
		s.id++
		s.Command = rollout.Command{ID: strconv.Itoa(s.id), Kind: rollout.CommandKind(word), By: "ann"}
	case "behave":
		s.World.Behavior[word] = simulate.Behavior{Crash: d.HasArg("crash"), NeverReady: d.HasArg("neverReady")}
	case "take":
		s.World.Take(0, n)
	case "give":
		s.World.Take(0, -n)
	case "release":
		s.Release = true
	case "delete":
		s.World.Deleted = true
	case "sleep":
		s.World.Asleep = s.seconds + n
	default:
		d.Fatalf(t, "no command %s", d.Cmd)
	}
}

func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &story{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.out.Reset()
			s.do(t, d)
			if d.Cmd == "run" {
				state, err := s.State()
				require.NoError(t, err)
				fmt.Fprintf(&s.out, "%ds %s, stable %s, %s: %s\n", s.seconds, state.Phase, state.From, state.Reason, state.Message)
			}
			return s.out.String()
		})
	})
}
