package judge

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestANamedMixIsNotGuessed has a canary of three requests a look, whose share of a look's requests is mostly chance: guessed
// strata begin again and again, and sums never grow; a mix that is named is one stratum, until it changes.
func TestANamedMixIsNotGuessed(t *testing.T) {
	const seed = 7
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	around := func(mean int) (n float64) { // binomial, of a variance close to the mean
		for range 20 * mean {
			if random.IntN(20) == 0 {
				n++
			}
		}
		return n
	}
	spec := Spec{Metrics: []Metric{{Name: "errors", Kind: Errors}}}
	guessed, named := mustNew(t, spec), mustNew(t, spec)
	pod := func(name string, n float64) []Pod {
		return []Pod{{Name: name, Age: time.Hour, Values: map[string]Value{"errors": {Requests: n}}}}
	}
	passed := 0
	for i := range 600 {
		o := Observations{New: pod("n", around(3)), Old: pod("o", around(30)), Increments: true}
		now := start.Add(time.Duration(i) * time.Minute)
		guessed.Look(now, o)
		o.Mix = "10 %"
		if v := named.Look(now, o); v.Outcome == Pass && passed == 0 {
			passed = i
		}
	}
	assert.Greater(t, guessed.state.Metrics[0].Stratum.Number, 20)
	require.Equal(t, 1, named.state.Metrics[0].Stratum.Number)
	assert.Positive(t, passed, "never")
	t.Logf("passed at look %d; guessing found %d strata", passed, guessed.state.Metrics[0].Stratum.Number)

	for i, mix := range []string{"10 %", "50 %", "50 %", "10 %"} {
		o := Observations{New: pod("n", 3), Old: pod("o", 30), Increments: true, Mix: mix}
		named.Look(start.Add(time.Duration(600+i)*time.Minute), o)
		assert.Equal(t, fmt.Sprint([]int{1, 2, 2, 3}[i]), fmt.Sprint(named.state.Metrics[0].Stratum.Number), mix)
	}
	// What is clearly another split begins a stratum, whatever it is called.
	o := Observations{New: pod("n", 300), Old: pod("o", 300), Increments: true, Mix: "10 %"}
	for i := range 10 {
		o.Old = pod("o", 3000)
		named.Look(start.Add(time.Duration(700+i)*time.Minute), o)
	}
	before := named.state.Metrics[0].Stratum.Number
	o.Old = pod("o", 300)
	named.Look(start.Add(800*time.Minute), o)
	assert.Equal(t, before+1, named.state.Metrics[0].Stratum.Number)
}
