package recommender_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/recommender"
)

func monday() time.Time { return time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC) }

// curve is use at a time; noise is drawn from r.
type curve func(at time.Time, r *rand.Rand) float64

// family of demands, by name.
func curves() map[string]curve {
	hour := func(at time.Time) float64 { return float64(at.Unix()%86400) / 3600 }
	noisy := func(v, sd float64, r *rand.Rand) float64 { return v * math.Exp(sd*r.NormFloat64()) }
	return map[string]curve{
		"flat":  func(_ time.Time, r *rand.Rand) float64 { return noisy(1, 0.05, r) },
		"noisy": func(_ time.Time, r *rand.Rand) float64 { return noisy(1, 0.6, r) },
		"daily": func(at time.Time, r *rand.Rand) float64 {
			return noisy(1-0.7*math.Cos(2*math.Pi*hour(at)/24), 0.15, r)
		},
		"nightly batch": func(at time.Time, r *rand.Rand) float64 {
			if h := hour(at); h >= 2 && h < 3 {
				return noisy(8, 0.05, r)
			}
			return noisy(0.2, 0.2, r)
		},
		"weekend": func(at time.Time, r *rand.Rand) float64 {
			if d := at.Weekday(); d == time.Saturday || d == time.Sunday {
				return noisy(0.1, 0.1, r)
			}
			return noisy(1+hour(at)/24, 0.1, r)
		},
		"growing": func(at time.Time, r *rand.Rand) float64 {
			return noisy(math.Exp(at.Sub(monday()).Hours()/24*0.05), 0.1, r)
		},
		"bursts": func(at time.Time, r *rand.Rand) float64 {
			if at.Unix()/600%13 == 0 {
				return noisy(5, 0.3, r)
			}
			return noisy(0.3, 0.3, r)
		},
	}
}

// play feeds a curve, a sample a minute, and calls each at the end of each hour.
func play(u *recommender.Usage, c curve, from time.Time, days int, r *rand.Rand, each func(now time.Time, samples []float64)) time.Time {
	at := from
	for range days * 24 {
		samples := make([]float64, 60)
		for i := range samples {
			samples[i] = c(at, r)
			u.Add(at, samples[i], 1, at)
			at = at.Add(time.Minute)
		}
		u.Tick(at)
		if each != nil {
			each(at, samples)
		}
	}
	return at
}

// TestRiskIsKept plays three weeks of each curve and judges the last two by the samples themselves: the share of time above the
// request must stay within the risk, and the request must not pay for that with the highest peak for ever.
func TestRiskIsKept(t *testing.T) {
	for name, c := range curves() {
		for _, risk := range []float64{0.05, 0.02, 0.01} {
			p := recommender.DefaultPolicy(recommender.CPU)
			p.Risk = risk
			u := recommender.NewUsage(recommender.CPU, p)
			var request, over, n, held, intervals float64
			var lower, upper float64
			play(u, c, monday(), 21, rand.New(rand.NewPCG(1, 1)), func(now time.Time, samples []float64) {
				if now.After(monday().AddDate(0, 0, 7)) && request > 0 {
					slices.Sort(samples)
					for _, v := range samples {
						n++
						if v > request {
							over++
						}
					}
					need := samples[len(samples)-1-int(risk*float64(len(samples)))]
					intervals++
					if need >= lower && need <= upper {
						held++
					}
				}
				e := recommender.Estimate(u, now)
				request, lower, upper = e.Request, e.Lower, e.Upper
				require.False(t, e.Valid && (lower > request || request > upper), "%s: %v is outside of %v to %v", name, request, lower, upper)
			})
			assert.LessOrEqual(t, over/n, risk*1.25, "%s at a risk of %v", name, risk)
			assert.Greater(t, held/intervals, 0.8, "%s at a risk of %v: the interval that claims 90 %%", name, risk)
		}
	}
}

// TestPatternsPay: where there is a pattern, the requests that follow it cost less than the highest hour's all day.
func TestPatternsPay(t *testing.T) {
	for name, most := range map[string]float64{"daily": 0.75, "nightly batch": 0.25, "weekend": 0.85} {
		u := recommender.NewUsage(recommender.CPU, recommender.DefaultPolicy(recommender.CPU))
		var sum, top, n float64
		play(u, curves()[name], monday(), 21, rand.New(rand.NewPCG(1, 1)), func(now time.Time, samples []float64) {
			if now.Before(monday().AddDate(0, 0, 14)) {
				return
			}
			slices.Sort(samples)
			top = max(top, samples[57])
			sum += recommender.Estimate(u, now).Request
			n++
		})
		assert.Less(t, sum/n/top, most, name)
	}
}

// TestMemoryHoldsTheDay: of a day's peaks in 30 runs of three weeks few exceed the request that was made at its beginning.
func TestMemoryHoldsTheDay(t *testing.T) {
	exceeded, days := 0, 0
	slack := 0.0
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 4))
		u := recommender.NewUsage(recommender.Memory, recommender.DefaultPolicy(recommender.Memory))
		var request, peak float64
		play(u, func(at time.Time, r *rand.Rand) float64 {
			return 2e9 * math.Exp(0.1*r.NormFloat64()) * (1 - 0.2*math.Cos(2*math.Pi*float64(at.Unix()%86400)/86400))
		}, monday(), 21, r, func(now time.Time, samples []float64) {
			peak = max(peak, slices.Max(samples))
			if now.Hour() != 0 {
				return
			}
			if now.After(monday().AddDate(0, 0, 3)) {
				days++
				slack += request/peak - 1
				if peak > request {
					exceeded++
				}
			}
			request, peak = recommender.Estimate(u, now).Request, 0
		})
	}
	assert.LessOrEqual(t, exceeded, days*2/100, "of %d days, at a risk of 1 %%", days)
	assert.Less(t, slack/float64(days), 0.35, "the request above the day's peak")
}

// TestScaledUseScalesTheRequest is metamorphic: all use times 36 of the grid's steps is the request times as much.
func TestScaledUseScalesTheRequest(t *testing.T) {
	for name, c := range curves() {
		var requests []float64
		for _, factor := range []float64{1, math.Pow(10, 36*6.0/254)} {
			u := recommender.NewUsage(recommender.CPU, recommender.DefaultPolicy(recommender.CPU))
			end := play(u, func(at time.Time, r *rand.Rand) float64 { return factor * c(at, r) }, monday(), 9, rand.New(rand.NewPCG(2, 2)), nil)
			requests = append(requests, recommender.Estimate(u, end).Request/factor)
		}
		assert.InDelta(t, 1, requests[1]/requests[0], 1e-3, name)
	}
}

// TestOrderWithinAnHourIsNothing is metamorphic, too.
func TestOrderWithinAnHourIsNothing(t *testing.T) {
	a := recommender.NewUsage(recommender.CPU, recommender.DefaultPolicy(recommender.CPU))
	b := recommender.NewUsage(recommender.CPU, recommender.DefaultPolicy(recommender.CPU))
	r, shuffle := rand.New(rand.NewPCG(6, 6)), rand.New(rand.NewPCG(8, 8))
	end := play(a, curves()["bursts"], monday(), 5, r, func(now time.Time, samples []float64) {
		shuffle.Shuffle(len(samples), func(i, j int) { samples[i], samples[j] = samples[j], samples[i] })
		for i, v := range samples {
			b.Add(now.Add(-time.Duration(i%59+1)*time.Minute), v, 1, now)
		}
		b.Tick(now)
	})
	assert.Equal(t, recommender.Estimate(a, end).Request, recommender.Estimate(b, end).Request)
}

func TestNoHistorySaysWhenThereWillBeOne(t *testing.T) {
	u := recommender.NewUsage(recommender.CPU, recommender.DefaultPolicy(recommender.CPU))
	start := monday().Add(10*time.Hour + 20*time.Minute)
	e := recommender.Estimate(u, start)
	assert.False(t, e.Valid)
	assert.Equal(t, recommender.ReasonNoHistory, e.Reason)
	assert.Equal(t, monday().Add(13*time.Hour), e.ReadyAt)
	assert.True(t, math.IsNaN(e.Request))
	assert.True(t, math.IsNaN(e.Evidence.Certainty))
	for at := start; at.Before(monday().Add(13 * time.Hour)); at = at.Add(time.Minute) {
		require.True(t, u.Add(at, 0.5, 1, at))
		e := recommender.Estimate(u, at)
		require.False(t, e.Valid, at)
		require.Equal(t, monday().Add(13*time.Hour), e.ReadyAt)
	}
	u.Tick(monday().Add(13 * time.Hour))
	e = recommender.Estimate(u, monday().Add(13*time.Hour))
	assert.True(t, e.Valid)
	assert.InDelta(t, 0.5*1.15, e.Request, 0.05)
}

func TestBadSamplesAreRefused(t *testing.T) {
	u := recommender.NewUsage(recommender.CPU, recommender.DefaultPolicy(recommender.CPU))
	now := monday().Add(5 * time.Hour)
	for _, v := range []float64{math.NaN(), -1, math.Inf(1), math.Inf(-1)} {
		assert.False(t, u.Add(now, v, 1, now), v)
	}
	assert.False(t, u.Add(now.Add(time.Hour), 1, 1, now), "an hour ahead of the clock")
	assert.False(t, u.Add(time.Time{}, 1, 1, now), "the zero time")
	assert.True(t, u.Add(now, 1, 1, now))
	assert.False(t, u.Add(now.Add(-time.Hour), 1, 1, now), "of an hour that is over")
	assert.True(t, u.Add(now.Add(9*time.Minute), 1, math.NaN(), now), "slightly ahead, of unknown certainty")
	e := recommender.Estimate(u, now)
	assert.Equal(t, 2, e.Evidence.Samples)
	assert.InDelta(t, 0.5, e.Evidence.Certainty, 1e-6)
}

// TestClockJumps: a clock that jumps ahead by a year begins anew, and nothing older is taken afterwards.
func TestClockJumps(t *testing.T) {
	u := recommender.NewUsage(recommender.CPU, recommender.DefaultPolicy(recommender.CPU))
	end := play(u, curves()["flat"], monday(), 3, rand.New(rand.NewPCG(1, 1)), nil)
	later := end.AddDate(1, 0, 0)
	require.True(t, u.Add(later, 1, 1, later))
	assert.False(t, u.Add(end, 1, 1, later))
	assert.False(t, recommender.Estimate(u, later).Valid)
	n := 0
	for range u.Hours() {
		n++
	}
	assert.Zero(t, n)
	// A gap of three days is unknown, not zero.
	u = recommender.NewUsage(recommender.CPU, recommender.DefaultPolicy(recommender.CPU))
	end = play(u, curves()["flat"], monday(), 2, rand.New(rand.NewPCG(1, 1)), nil)
	before := recommender.Estimate(u, end).Request
	u.Tick(end.AddDate(0, 0, 3))
	known, unknown := 0, 0
	for h := range u.Hours() {
		if h.Known {
			known++
		} else {
			unknown++
			assert.True(t, math.IsNaN(h.P50) && math.IsNaN(h.P90) && math.IsNaN(h.Max))
		}
	}
	assert.Equal(t, []int{48, 72}, []int{known, unknown})
	assert.Equal(t, before, recommender.Estimate(u, end.AddDate(0, 0, 3)).Request)
}

func TestNewVersionThatNeedsLessForgetsTheOld(t *testing.T) {
	for name, factor := range map[string]float64{"less": 0.2, "more": 4, "the same": 1} {
		u := recommender.NewUsage(recommender.CPU, recommender.DefaultPolicy(recommender.CPU))
		r := rand.New(rand.NewPCG(1, 1))
		end := play(u, curves()["noisy"], monday(), 7, r, nil)
		u.NewVersion(end)
		since := recommender.Estimate(u, end).Evidence.Since
		end = play(u, func(at time.Time, r *rand.Rand) float64 { return factor * curves()["noisy"](at, r) }, end, 1, r, nil)
		e := recommender.Estimate(u, end)
		if factor == 1 {
			assert.Equal(t, since, e.Evidence.Since, name)
		} else {
			assert.Equal(t, monday().AddDate(0, 0, 7), e.Evidence.Since, name)
			assert.InDelta(t, math.Log(factor*3.5), math.Log(e.Request), 0.5, name)
		}
	}
}

func TestOOMRaisesAtOnce(t *testing.T) {
	u := recommender.NewUsage(recommender.Memory, recommender.DefaultPolicy(recommender.Memory))
	end := play(u, func(time.Time, *rand.Rand) float64 { return 5e8 }, monday(), 3, nil, nil)
	before := recommender.Estimate(u, end)
	assert.Less(t, before.Request, 6.5e8)
	require.True(t, u.AddOOM(end.Add(time.Minute), 8e8, end.Add(time.Minute)))
	at := end.Add(2 * time.Minute)
	assert.GreaterOrEqual(t, recommender.Estimate(u, at).Request, 9.6e8)
	u.Tick(end.Add(time.Hour))
	e := recommender.Estimate(u, end.Add(time.Hour))
	assert.GreaterOrEqual(t, e.Request, 9.6e8)
	assert.Equal(t, recommender.ReasonOOM, e.Reason)
}

func TestStartupIsApart(t *testing.T) {
	u := recommender.NewUsage(recommender.CPU, recommender.DefaultPolicy(recommender.CPU))
	assert.True(t, u.AddStartup(monday().Add(time.Minute), 6))
	assert.False(t, u.AddStartup(monday(), math.NaN()))
	end := play(u, curves()["flat"], monday(), 3, rand.New(rand.NewPCG(1, 1)), nil)
	e := recommender.Estimate(u, end)
	assert.Less(t, e.Request, 1.4)
	assert.InDelta(t, 6, e.Startup, 0.01)
	assert.True(t, math.IsNaN(recommender.Estimate(u, end.AddDate(0, 0, 15)).Startup), "two weeks later it is forgotten")
}

func TestClampsSaySo(t *testing.T) {
	p := recommender.DefaultPolicy(recommender.CPU)
	u := recommender.NewUsage(recommender.CPU, p)
	end := play(u, curves()["flat"], monday(), 2, rand.New(rand.NewPCG(1, 1)), nil)
	p.Min = 3
	u.SetPolicy(p)
	e := recommender.Estimate(u, end)
	assert.Equal(t, recommender.ReasonMinimum, e.Reason)
	assert.InDelta(t, 3, e.Request, 0)
	p.Max = 0.5
	u.SetPolicy(p)
	e = recommender.Estimate(u, end)
	assert.Equal(t, recommender.ReasonMaximum, e.Reason)
	assert.InDelta(t, 0.5, e.Request, 0)
}

// TestAnotherRiskIsLearntAnew: after a change of the risk the answer is what it would have been all along.
func TestAnotherRiskIsLearntAnew(t *testing.T) {
	strict, changed := recommender.DefaultPolicy(recommender.CPU), recommender.DefaultPolicy(recommender.CPU)
	strict.Risk = 0.005
	a, b := recommender.NewUsage(recommender.CPU, strict), recommender.NewUsage(recommender.CPU, changed)
	end := play(a, curves()["bursts"], monday(), 6, rand.New(rand.NewPCG(1, 1)), nil)
	play(b, curves()["bursts"], monday(), 6, rand.New(rand.NewPCG(1, 1)), nil)
	assert.NotEqual(t, recommender.Estimate(a, end).Request, recommender.Estimate(b, end).Request)
	b.SetPolicy(strict)
	assert.Equal(t, recommender.Estimate(a, end).Request, recommender.Estimate(b, end).Request)
}

func TestReplayAgainstSamples(t *testing.T) {
	u := recommender.NewUsage(recommender.CPU, recommender.DefaultPolicy(recommender.CPU))
	var samples []float64
	end := play(u, curves()["daily"], monday(), 4, rand.New(rand.NewPCG(1, 1)), func(_ time.Time, s []float64) { samples = append(samples, s...) })
	for _, request := range []float64{0.5, 1, 1.5, 2, 3} {
		var over, excess, use float64
		kills := map[int]bool{}
		for i, v := range samples {
			use += v
			if v > request {
				over++
				excess += v - request
				kills[i/60] = true
			}
		}
		got := u.Replay(request, monday())
		assert.Equal(t, 96, got.Hours)
		assert.InDelta(t, over/float64(len(samples)), got.Over, 0.05, "request %v", request)
		assert.InDelta(t, excess/use, got.Excess, 0.06, "request %v", request)
		assert.InDelta(t, len(kills), got.Kills, 8, "request %v", request)
	}
	assert.Equal(t, 24, u.Replay(1, end.AddDate(0, 0, -1)).Hours)
	assert.Zero(t, u.Replay(1, end).Hours)
}

// TestRestartForgetsNothing feeds one Usage without and one with a checkpoint in between.
func TestRestartForgetsNothing(t *testing.T) {
	for _, resource := range []recommender.Resource{recommender.CPU, recommender.Memory} {
		policy := func(recommender.Key) recommender.Policy { return recommender.DefaultPolicy(resource) }
		key := recommender.Key{Container: "server", Class: "m5.large", Resource: resource}
		a := recommender.NewUsage(resource, policy(key))
		r := rand.New(rand.NewPCG(3, 1))
		end := play(a, curves()["daily"], monday(), 16, r, nil)
		for i := range 20 { // within an hour
			a.Add(end.Add(time.Duration(i)*time.Minute), 1, 0.5, end.Add(time.Hour))
		}
		a.AddStartup(end, 9)
		encoded, err := (&recommender.Checkpoint{At: end, Usages: map[recommender.Key]*recommender.Usage{key: a}}).Encode()
		require.NoError(t, err)
		decoded, err := recommender.DecodeCheckpoint(encoded, policy)
		require.NoError(t, err)
		assert.Equal(t, end, decoded.At)
		b := decoded.Usages[key]
		again, err := decoded.Encode()
		require.NoError(t, err)
		assert.Equal(t, encoded, again)
		end = end.Add(time.Hour)
		assert.Equal(t, recommender.Estimate(a, end), recommender.Estimate(b, end))
		play(a, curves()["daily"], end, 3, rand.New(rand.NewPCG(9, 1)), nil)
		end = play(b, curves()["daily"], end, 3, rand.New(rand.NewPCG(9, 1)), nil)
		assert.Equal(t, recommender.Estimate(a, end), recommender.Estimate(b, end))
		assert.Equal(t, slices.Collect(a.Hours()), slices.Collect(b.Hours()))
	}
}

func TestCheckpointsThatCannotBeRead(t *testing.T) {
	policy := func(k recommender.Key) recommender.Policy { return recommender.DefaultPolicy(k.Resource) }
	u := recommender.NewUsage(recommender.CPU, recommender.DefaultPolicy(recommender.CPU))
	end := play(u, curves()["flat"], monday(), 2, rand.New(rand.NewPCG(1, 1)), nil)
	good, err := (&recommender.Checkpoint{At: end, Usages: map[recommender.Key]*recommender.Usage{{Container: "a", Resource: recommender.CPU}: u}}).Encode()
	require.NoError(t, err)

	newer := slices.Clone(good)
	newer[7]++
	_, err = recommender.DecodeCheckpoint(newer, policy)
	require.ErrorIs(t, err, recommender.ErrNewer)
	for n := range good {
		_, err := recommender.DecodeCheckpoint(good[:n], policy)
		require.ErrorIs(t, err, recommender.ErrCorrupt, "cut at %d", n)
	}
	_, err = recommender.DecodeCheckpoint(append(slices.Clone(good), 0), policy)
	require.ErrorIs(t, err, recommender.ErrCorrupt)
	_, err = recommender.DecodeCheckpoint([]byte("something else entirely"), policy)
	require.ErrorIs(t, err, recommender.ErrCorrupt)
}

// FuzzDecodeCheckpoint: whatever is decoded can be used and written again.
func FuzzDecodeCheckpoint(f *testing.F) {
	policy := func(k recommender.Key) recommender.Policy { return recommender.DefaultPolicy(k.Resource) }
	for _, resource := range []recommender.Resource{recommender.CPU, recommender.Memory} {
		u := recommender.NewUsage(resource, recommender.DefaultPolicy(resource))
		end := play(u, curves()["daily"], monday(), 8, rand.New(rand.NewPCG(1, 1)), nil)
		b, err := (&recommender.Checkpoint{At: end, Usages: map[recommender.Key]*recommender.Usage{{Container: "a", Resource: resource}: u}}).Encode()
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := recommender.DecodeCheckpoint(b, policy)
		if err != nil {
			if !errors.Is(err, recommender.ErrCorrupt) && !errors.Is(err, recommender.ErrNewer) {
				t.Fatalf("another error: %v", err)
			}
			return
		}
		for _, u := range c.Usages {
			now := monday().AddDate(0, 0, 9)
			for range u.Hours() { // must end
			}
			for i := range 5 { // with a step of a second an hour is 3,600 of what is called one
				at := now.Add(time.Duration(i) * time.Minute)
				u.Add(at, 1, 1, at)
			}
			u.Replay(1, monday())
			if e := recommender.Estimate(u, now); e.Valid && (math.IsNaN(e.Request) || math.IsInf(e.Request, 0)) {
				t.Fatalf("recommends %v", e.Request)
			}
		}
		if _, err := c.Encode(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestEstimateKnowsTheTime: whether the hour's end was told or is only past makes no difference, and asking changes nothing.
func TestEstimateKnowsTheTime(t *testing.T) {
	for resource, scale := range map[recommender.Resource]float64{recommender.CPU: 1, recommender.Memory: 1e9} {
		u := recommender.NewUsage(resource, recommender.DefaultPolicy(resource))
		at := monday()
		r := rand.New(rand.NewPCG(4, 4))
		for range 3*1440 + 30 {
			u.Add(at, scale*curves()["daily"](at, r), 1, at)
			at = at.Add(time.Minute)
		}
		told := func(at time.Time) string { return fmt.Sprintf("%+v", recommender.Estimate(u, at)) } // NaN is not equal to itself
		before, later := told(at), at.Add(31*time.Minute)
		untold := told(later)
		assert.Equal(t, before, told(at))
		u.Tick(later)
		assert.Equal(t, told(later), untold)
		assert.NotEqual(t, before, untold)
	}
}
