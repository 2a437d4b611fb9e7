package direct

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

const testMaxAge = 4 * time.Second

func seeded(t *testing.T, seed uint64) *rand.Rand {
	t.Helper()
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// TestEngine compares plans with the engine, values, labels, failures and dates, over histories of random data.
func TestEngine(t *testing.T) {
	for i := range 12 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			differ(t, seeded(t, 0), 60)
		})
	}
}

// differ plays one history and compares some expressions after each step.
func differ(t *testing.T, rng *rand.Rand, steps int) {
	w := newWorld(rng)
	ev := New(w.st)
	type rule struct {
		text string
		plan *Plan
		opts Options
	}
	memberships := []string{"", "filter", "service"}
	var rules []rule
	results, failures := 0, 0
	for range steps {
		for range 1 + rng.IntN(3) {
			w.step()
		}
		// Rules come and go, but mostly stay, so that what is kept between runs counts.
		if i := rng.IntN(16); i < len(rules) {
			rules = slices.Delete(rules, i, i+1)
		}
		for len(rules) < 8 {
			opts := Options{MaxAge: testMaxAge, MembershipLabel: []string{"", "service"}[rng.IntN(2)]}
			g := &generator{rng: rng, exact: opts.MembershipLabel == "", depth: 3}
			opts.ObjectLabels = [][]string{nil, {"namespace", "pod"}, {"pod"}, {"namespace", "service"}}[rng.IntN(4)]
			text := g.vector()
			plan, err := Compile(parse(t, text), opts)
			if unsupported := (*UnsupportedError)(nil); errors.As(err, &unsupported) {
				continue
			}
			require.NoError(t, err, text)
			rules = append(rules, rule{text, plan, opts})
		}
		now := w.now.Add(time.Duration(rng.IntN(3)) * 500 * time.Millisecond)
		run := ev.Run(now)
		for _, r := range rules {
			m := w.membership(memberships[rng.IntN(len(memberships))])
			if m.Of != nil {
				m.Label = r.opts.MembershipLabel
				m.ID += m.Label
			}
			got, err := run.Evaluate(r.plan, m)
			want, wantErr := w.engine(t, r.text, m, now)
			what := fmt.Sprintf("%s under %q/%q at %d", r.text, m.ID, m.Label, now.UnixMilli())
			if wantErr != nil {
				require.Error(t, err, "%s: the engine says %v", what, wantErr)
				failures++
				continue
			}
			require.NoError(t, err, what)
			compareVectors(t, want, got.Results, what)
			compareDates(t, w.dates(t, r.text, r.opts, m, now), got, r.opts, what)
			results += len(got.Results)
		}
	}
	t.Logf("%d results, %d failures", results, failures)
	require.Greater(t, results, steps)
}

func parse(tb testing.TB, text string) parser.Expr {
	tb.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	require.NoError(tb, err, text)
	return expr
}

func compareVectors(t *testing.T, want promql.Vector, got []Result, what string) {
	t.Helper()
	values := map[string]float64{}
	for _, r := range got {
		key := r.Labels.String()
		_, twice := values[key]
		require.False(t, twice, "%s: %s twice", what, key)
		values[key] = r.Value
	}
	for _, s := range want {
		v, ok := values[s.Metric.String()]
		require.True(t, ok, "%s: no result %s = %g; got %v", what, s.Metric, s.F, values)
		require.True(t, alike(s.F, v), "%s: %s is %g, not %g", what, s.Metric, v, s.F)
	}
	require.Len(t, got, len(want), "%s: %v", what, values)
}

func alike(a, b float64) bool {
	switch {
	case math.IsNaN(a) || math.IsNaN(b):
		return math.IsNaN(a) && math.IsNaN(b)
	case math.IsInf(a, 0) || math.IsInf(b, 0):
		return a == b
	}
	return math.Abs(a-b) <= 1e-9*math.Max(math.Abs(a), math.Abs(b))+1e-12
}
