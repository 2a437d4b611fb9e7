package route

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMatched(t *testing.T) {
	assert.InDelta(t, 1.0/9, Matched(1, 8), 1e-15)
	assert.Equal(t, 0.0, Matched(0, 8))
	assert.Equal(t, 1.0, Matched(3, 0))
	assert.True(t, math.IsNaN(Matched(0, 0)), "no pod is no share")
	assert.True(t, math.IsNaN(Matched(-1, 2)))
}

// TestRound holds Round to a search over all weights.
func TestRound(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for range 20_000 {
		share, total := random.Float64(), random.Int64N(300)+2
		if random.IntN(4) == 0 {
			share = float64(random.Int64N(total+1)) / float64(total)
		}
		stable, canary := Round(share, total)
		require.Equal(t, total, stable+canary)
		best := math.Inf(1)
		for c := range total + 1 {
			if share > 0 && share < 1 && (c == 0 || c == total) {
				continue
			}
			best = min(best, math.Abs(float64(c)-share*float64(total)))
		}
		require.InDelta(t, best, math.Abs(float64(canary)-share*float64(total)), 1e-9, "share %v of %d", share, total)
		require.InDelta(t, float64(canary)/float64(total), Share(stable, canary), 1e-15)
	}
}

func TestRoundAtTheEdges(t *testing.T) {
	f := func(share float64, total, wantStable, wantCanary int64) {
		t.Helper()
		stable, canary := Round(share, total)
		assert.Equal(t, []int64{wantStable, wantCanary}, []int64{stable, canary})
	}
	f(0, 100, 100, 0)
	f(1, 100, 0, 100)
	f(1e-9, 100, 99, 1)
	f(1-1e-9, 100, 1, 99)
	f(1.0/9, 100, 89, 11)
	f(math.NaN(), 100, 100, 0)
	f(-1, 100, 100, 0)
	f(7, 100, 0, 100)
	f(0.5, 1, 0, 1)
	f(0.2, 1, 1, 0)
	f(0.5, 0, 0, 0)
	assert.True(t, math.IsNaN(Share(0, 0)))
}

func TestTotal(t *testing.T) {
	assert.EqualValues(t, 100, Total(0.29, 100, 10_000))
	assert.EqualValues(t, 10_000, Total(1.0/9, 100, 10_000))
	assert.EqualValues(t, 10_000, Total(0.0025, 100, 10_000))
	assert.EqualValues(t, 100, Total(0, 100, 10_000))
}

func TestSame(t *testing.T) {
	a := Split{Stable: "a", Canary: "b", Share: 1.0 / 9}
	assert.True(t, Same(a, Split{Stable: "a", Canary: "b", Share: 0.11}, 100))
	assert.False(t, Same(a, Split{Stable: "a", Canary: "b", Share: 0.12}, 100))
	assert.False(t, Same(a, Split{Stable: "a", Canary: "b", Share: math.NaN()}, 100))
	assert.False(t, Same(a, Split{Stable: "a", Canary: "c", Share: 1.0 / 9}, 100))
	assert.False(t, Same(a, Split{Stable: "a", Canary: "b", Share: 1.0 / 9, Matches: []Match{{Header: "x", Value: "y"}}}, 100))
}

func TestValidate(t *testing.T) {
	f := func(s Split, problem string) {
		t.Helper()
		err := s.Validate()
		if problem == "" {
			assert.NoError(t, err)
			return
		}
		require.ErrorIs(t, err, ErrInvalid)
		assert.ErrorContains(t, err, problem)
	}
	ok := Split{Stable: "5d8c", Canary: "7f9b", Share: 0.1}
	with := func(m ...Match) Split { s := ok; s.Matches = m; return s }
	f(ok, "")
	f(Split{Stable: "5d8c"}, "")
	f(with(Match{Header: "X-Canary", Value: "yes, please"}, Match{Cookie: "canary", Value: "always"}), "")
	f(Split{Stable: "", Canary: "7f9b"}, "stable")
	f(Split{Stable: "A", Canary: "7f9b"}, "stable")
	f(Split{Stable: "a", Canary: "b/c"}, "canary")
	f(Split{Stable: "a", Canary: "a"}, "both a")
	f(Split{Stable: "a", Canary: "b", Share: math.NaN()}, "NaN")
	f(Split{Stable: "a", Canary: "b", Share: 1.01}, "1.01")
	f(Split{Stable: "a", Canary: "b", Share: -0.1}, "-0.1")
	f(Split{Stable: "a", Share: 0.5}, "no canary")
	f(with(Match{Value: "x"}), "matches[0] has to name")
	f(with(Match{Header: "a", Cookie: "b", Value: "x"}), "matches[0] has to name")
	f(with(Match{Header: "a b", Value: "x"}), `"a b"`)
	f(with(Match{Header: "a", Value: ""}), "matches[0]")
	f(with(Match{Header: "a", Value: "x\r\nEvil: y"}), "matches[0]")
	f(with(Match{Cookie: "a", Value: "x;y"}), "matches[0]")
}

func TestMessages(t *testing.T) {
	want := Split{Stable: "old", Canary: "new", Share: 1.0 / 9, Matches: []Match{{Cookie: "canary", Value: "always"}}}
	now := Split{Stable: "old"}
	require.EqualError(t, &NotYetError{Want: want, InForce: now, Why: "HTTPRoute a/b: parent gw has not seen generation 4"},
		"11.11 % to new and 88.89 % to old, cookie canary=always is not in force yet, but all to old: HTTPRoute a/b: parent gw has not seen generation 4")
	require.EqualError(t, &NotYetError{Want: now, InForce: Split{Share: math.NaN()}, Why: "x"}, "all to old is not in force yet: x")
	require.EqualError(t, &ConflictError{Object: "HTTPRoute a/b", Field: "spec.rules", Manager: "argocd"}, `spec.rules of HTTPRoute a/b was written by field manager "argocd"`)
	assert.Contains(t, Split{Stable: "old", Canary: "new", Share: math.NaN()}.String(), "unknown")
}
