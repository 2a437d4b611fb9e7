package rollout_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/rollout"
)

// noon is the moment that plans in scenarios begin at, unless they say otherwise.
func noon() time.Time { return time.Date(2026, 11, 30, 2, 0, 0, 0, time.UTC) }

// planned writes a schedule, or a refusal, as a person would read it.
func planned(s rollout.Schedule, refusal *rollout.Refusal) string {
	var b strings.Builder
	if refusal != nil {
		fmt.Fprintf(&b, "refused %s: %s\n", refusal.Reason, refusal.Message)
		for _, r := range refusal.Remedies {
			fmt.Fprintf(&b, "  possible: %s\n", r.Message)
		}
		return b.String()
	}
	fmt.Fprintf(&b, "%s in %s (typically %s), needs %d + %d of %d\n", s.Strategy, s.Makespan, s.Typical, s.Needed, s.Reserve, s.Replicas)
	for _, t := range s.Steps {
		fmt.Fprintf(&b, "  %s: surge %d unavailable %d, %d old %d new, weight %.3f", t.Name, t.Surge, t.Unavailable, t.Old, t.New, t.Weight)
		if t.Held {
			b.WriteString(", held")
		}
		if t.Judged {
			b.WriteString(", judged")
		}
		fmt.Fprintf(&b, "; from %s to %s, least %d, back in %s\n", t.Starts, t.Settles, t.Least, t.Return)
	}
	fmt.Fprintf(&b, "  least: %d replicas serve %.4g of %.4g after %s\n", s.Least.Replicas, s.Least.Capacity, s.Least.Demand, s.Least.After)
	if s.Downtime > 0 {
		fmt.Fprintf(&b, "  downtime: %s\n", s.Downtime)
	}
	fmt.Fprintf(&b, "  GPUs: %d at most, %d extra, %.3f GPU-hours\n", s.Peak, s.Extra, s.GPUHours)
	for _, u := range s.Uses {
		fmt.Fprintf(&b, "  from %s %s: %d replicas, %d GPUs\n", u.Source.Kind, u.Source.Name, u.Replicas, u.GPUs)
	}
	for _, n := range s.Notes {
		fmt.Fprintf(&b, "  note: %s\n", n)
	}
	return b.String()
}

// Each plan's input is JSON that is laid over 8 replicas of a GPU each, of capacity 10, that load for 180 s (median 120 s) and
// drain for 30 s.
func TestPlans(t *testing.T) {
	read := func(t *testing.T, d *datadriven.TestData) rollout.Request {
		t.Helper()
		r := rollout.Request{Now: noon(), Service: rollout.Service{
			Replicas: 8, GPUs: 1, Capacity: 10, Router: true,
			StartUp: rollout.Span{P50: 2 * time.Minute, P90: 3 * time.Minute}, Drain: rollout.Span{P50: 30 * time.Second, P90: 30 * time.Second},
		}}
		decoder := json.NewDecoder(strings.NewReader(d.Input))
		decoder.DisallowUnknownFields()
		require.NoError(t, decoder.Decode(&r), d.Pos)
		return r
	}
	datadriven.RunTest(t, "testdata/plans", func(t *testing.T, d *datadriven.TestData) string {
		r := read(t, d)
		switch d.Cmd {
		case "plan":
			return planned(rollout.Plan(r))
		case "advise":
			s := rollout.Situation{Change: rollout.ImageOnly}
			for _, a := range d.CmdArgs {
				v := ""
				if len(a.Vals) > 0 {
					v = a.Vals[0]
				}
				switch a.Key {
				case "change":
					s.Change = rollout.Change(v)
				case "risky":
					s.Risky = true
				case "detect":
					s.Detect, _ = time.ParseDuration(v)
				case "downtime":
					s.Downtime, _ = time.ParseDuration(v)
				case "judge":
					s.Judge = strings.ReplaceAll(v, "_", " ")
				}
			}
			var b strings.Builder
			for _, o := range rollout.Advise(r, s) {
				fmt.Fprintf(&b, "%s: %s\n", o.Strategy, strings.Join(o.Why, "; "))
			}
			return b.String()
		default:
			d.Fatalf(t, "no command %s", d.Cmd)
			return ""
		}
	})
}
