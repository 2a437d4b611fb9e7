package compare

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/lab/load"
)

func exampleFrame() frame {
	s := DefaultScenario()
	f := frame{
		scenario: s, elapsed: 2*s.Day + s.Day*30/100, demand: 31.4,
		state: state{
			counts: map[Side]counts{Stock: {Ready: 2, Loading: 4}, Policy: {Ready: 8, Loading: 1, Leaving: 1}},
			wanted: map[Side]int32{Stock: 6, Policy: 9},
			policy: policyState{ready: true, limit: "Forecast", desired: 9, reactive: 7, skilful: 2, message: strings.Repeat("why ", 40)},
		},
		windows: map[Side]load.Window{Stock: {OK: 15.2, Latency: &load.Latency{P95: 4871}}, Policy: {OK: 30.9}},
		today:   map[Side]Tally{Stock: {1000, 700, 200, 100}, Policy: {1000, 999, 1, 0}},
		before:  map[Side]Tally{},
	}
	for i := range 8 {
		c := change{when: zero().Add(2*s.Day + time.Duration(i)*time.Second), side: Side(i % 2), from: int32(i), to: int32(i + 2)}
		f.changes = append(f.changes, c.text(zero(), s))
	}
	return f
}

func TestScreen(t *testing.T) {
	datadriven.RunTest(t, "testdata/screen", func(_ *testing.T, d *datadriven.TestData) string {
		f := exampleFrame()
		if d.Cmd == "table" {
			return strings.Join(table(f), "\n") + "\n"
		}
		var out strings.Builder
		s := &screen{w: &out}
		for range 3 { // within one interval a plain screen prints once
			s.show(f)
			f.elapsed += time.Second
		}
		f.elapsed += plainEvery
		s.show(f)
		return out.String()
	})
}

func TestATerminalIsDrawnOver(t *testing.T) {
	var out strings.Builder
	s := &screen{w: &out, terminal: true}
	f := exampleFrame()
	s.show(f)
	s.show(f)
	require.Contains(t, out.String(), fmt.Sprintf("\x1b[%dA", len(table(f))), "the second table begins where the first did")
}

func TestAPolicyThatSaysNothingIsShown(t *testing.T) {
	f := exampleFrame()
	f.state.policy = policyState{message: "no controller has seen it"}
	require.Contains(t, strings.Join(table(f), "\n"), "policy       no controller has seen it")
	require.NotContains(t, line(f), "limit")
}

// TestReadPolicy: what a ScalePolicy says of itself, and what it says before a controller has seen it.
func TestReadPolicy(t *testing.T) {
	object := func(status string) *unstructured.Unstructured {
		var o unstructured.Unstructured
		require.NoError(t, yaml.Unmarshal([]byte("apiVersion: headroom.dev/v1alpha1\nkind: ScalePolicy\nmetadata: {name: x}\n"+status), &o.Object))
		return &o
	}
	p, err := readPolicy(object(""))
	require.NoError(t, err)
	require.Equal(t, policyState{known: true, message: "it says nothing of itself: no controller has seen it"}, p)
	p, err = readPolicy(object(`
status:
  limit: Forecast
  desiredReplicas: 9
  reactiveReplicas: 7
  conditions: [{type: Ready, status: "True", message: why, reason: Decided, lastTransitionTime: "2026-01-01T00:00:00Z"}]
  forecasts:
  - {horizon: 5s, method: last value, inUse: true, samples: 1}
  - {horizon: 1m20s, method: combination, inUse: true, samples: 1}
  - {horizon: 1m20s, method: last value, inUse: false, samples: 1}
`))
	require.NoError(t, err)
	require.Equal(t, policyState{known: true, ready: true, message: "why", limit: "Forecast", desired: 9, reactive: 7, skilful: 1}, p)
	require.True(t, p.ahead())
	require.False(t, policyState{limit: "ScaleDownWindow", desired: 9, reactive: 2}.ahead(), "what is only kept is not ordered ahead")
	p, err = readPolicy(object("status: {limit: 7}"))
	require.Error(t, err)
	require.False(t, p.ready)
}
