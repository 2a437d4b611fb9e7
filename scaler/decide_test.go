package scaler

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/scaler/forecast"
)

func at(seconds float64) time.Time {
	return time.Unix(1767571200, 0).UTC().Add(time.Duration(seconds * float64(time.Second)))
}

// TestDecide plays the files of testdata/decide: each "decide" is one decision after the ones before it.
func TestDecide(t *testing.T) {
	datadriven.Walk(t, "testdata/decide", func(t *testing.T, path string) {
		in := Input{Policy: Policy{Max: 100, Utilization: 0.8}, Capacity: Estimate{Value: 10, Source: Stated}, StartUp: Estimate{Value: 60, Source: Stated}}
		clock := 0.0
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			for line := range strings.SplitSeq(strings.TrimSpace(d.Input), "\n") {
				if line != "" {
					set(t, &in, &clock, line)
				}
			}
			in.Now = at(clock)
			decision := Decide(in)
			in.Memory = decision.Memory
			clock += 15
			return fmt.Sprintf("%d %s valid=%v reactive=%d\n%s\n", decision.Replicas, decision.Limit, decision.Valid, decision.Reactive,
				strings.ReplaceAll(decision.Message(), "; ", "\n"))
		})
	})
}

// set applies "key value…" to an input.
func set(t *testing.T, in *Input, clock *float64, line string) {
	t.Helper()
	fields := strings.Fields(line)
	key, rest := fields[0], fields[1:]
	number := func(i int) float64 {
		v, err := strconv.ParseFloat(rest[i], 64)
		require.NoError(t, err, line)
		return v
	}
	reading := func() Reading {
		if v, err := strconv.ParseFloat(rest[0], 64); err == nil {
			return Reading{Value: v}
		}
		return Reading{Missing: strings.Join(rest, " ")}
	}
	expected := func() Expected {
		if rest[0] == "none" {
			return Expected{}
		}
		return Expected{
			Forecast: forecast.Forecast{Valid: true, Skilful: rest[0] == "skilful", Horizon: 75 * time.Second}, Demand: number(1),
		}
	}
	switch key {
	case "replicas":
		in.Replicas = int32(number(0))
	case "demand":
		in.Demand = reading()
	case "queue":
		in.Queue = reading()
	case "growth":
		in.Growth = number(0)
	case "ahead":
		in.Ahead = expected()
	case "peak":
		in.Peak = expected()
	case "loading":
		in.Pods.Loading = int32(number(0))
	case "unhealthy":
		in.Pods.Unhealthy = int32(number(0))
	case "capacity":
		in.Capacity = Estimate{Value: number(0), Source: Learnt}
		if in.Capacity.Value == 0 {
			in.Capacity.Source = Unknown
		}
	case "min":
		in.Policy.Min = int32(number(0))
	case "max":
		in.Policy.Max = int32(number(0))
	case "concurrency":
		in.Policy.Concurrency = true
	case "floor": // name from to replicas
		in.Policy.Schedule = append(in.Policy.Schedule, Floor{rest[0], at(number(1)), at(number(2)), int32(number(3))})
	case "at":
		*clock = number(0)
	default:
		t.Fatalf("what is %q?", line)
	}
}

// randomInput draws an input in which anything may be missing.
func randomInput(r *rand.Rand) Input {
	in := Input{
		Now: at(1000), Replicas: r.Int32N(30), Demand: Reading{Value: r.Float64() * 200}, Queue: Reading{Value: float64(r.IntN(4) * r.IntN(50))},
		Growth: r.NormFloat64(), Capacity: Estimate{Value: 1 + 10*r.Float64(), Source: Learnt}, StartUp: Estimate{Value: 300 * r.Float64(), Source: Learnt},
		Policy: Policy{Min: r.Int32N(5), Max: 5 + r.Int32N(40), Utilization: 0.5 + 0.5*r.Float64(), Concurrency: r.IntN(4) == 0},
	}
	in.Pods.Loading = r.Int32N(3)
	in.Pods.Unhealthy = r.Int32N(2)
	for _, e := range []*Expected{&in.Ahead, &in.Peak} {
		*e = Expected{Demand: r.Float64() * 200, Forecast: forecast.Forecast{Valid: r.IntN(3) > 0, Skilful: r.IntN(2) > 0}}
	}
	if in.Ahead.Valid && in.Peak.Valid && in.Peak.Demand < in.Ahead.Demand {
		in.Peak.Demand = in.Ahead.Demand
	}
	if r.IntN(5) == 0 {
		in.Demand.Missing = "no sample"
	}
	if r.IntN(5) == 0 {
		in.Queue.Missing = "no sample"
	}
	if r.IntN(8) == 0 {
		in.Capacity = Estimate{}
	}
	for range r.IntN(4) {
		in.Memory = in.Memory.add(at(1000-r.Float64()*400), r.Int32N(40), time.Hour)
	}
	return in
}

// TestDecisionsHold: what must be true of every decision.
func TestDecisionsHold(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	down, up, held := 0, 0, 0
	for i := range 50_000 {
		in := randomInput(r)
		d := Decide(in)
		p := in.Policy.WithDefaults()
		require.NotEmpty(t, d.Steps, "%d", i)
		require.LessOrEqual(t, p.Min, d.Replicas, "%d: %s", i, d.Message())
		require.LessOrEqual(t, d.Replicas, p.Max, "%d: %s", i, d.Message())
		require.Equal(t, d.Replicas, d.Steps[len(d.Steps)-1].Replicas)
		within := min(max(in.Replicas, p.Min), p.Max)
		if in.Demand.Missing != "" || in.Capacity.Source == Unknown {
			held++
			assert.False(t, d.Valid)
			assert.GreaterOrEqual(t, d.Replicas, within, "missing data removed replicas: %s", d.Message())
			continue
		}
		if in.Pods.Loading > 0 {
			assert.GreaterOrEqual(t, d.Replicas, within, "a loading pod would go: %s", d.Message())
		}
		if d.Replicas > in.Replicas {
			up++
		}
		if d.Replicas < in.Replicas {
			down++
			served := float64(d.Replicas) * in.Capacity.Value * p.Utilization
			if d.Replicas < p.Max { // fewer must still carry what there is and what is expected
				assert.GreaterOrEqual(t, served+1e-3, in.Demand.Value, d.Message())
				if in.Peak.Valid && in.Peak.Skilful {
					assert.GreaterOrEqual(t, served+1e-3, in.Peak.Demand, d.Message())
				}
			}
		}
	}
	assert.Greater(t, min(down, up, held), 1000, "%d down, %d up, %d held", down, up, held)
}

// TestMoreNeverMeansLess: more demand, a longer queue, a higher forecast or less capacity never mean fewer replicas.
func TestMoreNeverMeansLess(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	changed := 0
	for range 50_000 {
		in := randomInput(r)
		in.Growth = max(in.Growth, 0) // a queue that no longer grows lets replicas go, whatever its length
		more := in
		factor := 1 + r.Float64()
		switch r.IntN(4) {
		case 0:
			more.Demand.Value *= factor
		case 1:
			more.Queue.Value *= factor
		case 2:
			more.Ahead.Demand *= factor
			more.Peak.Demand = math.Max(more.Peak.Demand, more.Ahead.Demand)
		case 3:
			more.Capacity.Value /= factor
		}
		a, b := Decide(in), Decide(more)
		require.LessOrEqual(t, a.Replicas, b.Replicas, "%+v\n%s\n%s", in, a.Message(), b.Message())
		if a.Replicas != b.Replicas {
			changed++
		}
	}
	assert.Greater(t, changed, 5000)
}

// TestDecideLeavesItsInput: the memory of an input is as it was, so that a decision can be made again.
func TestDecideLeavesItsInput(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		in := randomInput(r)
		before := append([]wanted(nil), in.Memory.wanted...)
		first := Decide(in)
		assert.Equal(t, before, append([]wanted(nil), in.Memory.wanted...))
		assert.Equal(t, first, Decide(in))
	}
}

// TestMemoryAgainstAll: the queue of falling maxima says the same as all that was wanted.
func TestMemoryAgainstAll(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 3))
	const window = 5 * time.Minute
	var m Memory
	var all []wanted
	clock := 0.0
	for range 5000 {
		clock += 15 + 30*r.Float64()*float64(r.IntN(2))
		n := r.Int32N(20)
		m = m.add(at(clock), n, window)
		all = append(all, wanted{at(clock), n})
		most := int32(0)
		for _, w := range all {
			if at(clock).Sub(w.at) < window {
				most = max(most, w.replicas)
			}
		}
		require.Equal(t, most, m.most(at(clock), window))
	}
}
