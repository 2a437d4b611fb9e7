package judge

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/stat/distuv"
)

var start = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

func bothMetrics() Spec {
	return Spec{Metrics: []Metric{{Name: "errors", Kind: Errors}, {Name: "latency", Kind: Latency}}}
}

func mustNew(tb testing.TB, spec Spec) *Judge {
	tb.Helper()
	j, err := New(spec)
	require.NoError(tb, err)
	return j
}

// service draws what pods say in a minute.
type service struct{ source rand.Source }

func (s service) pod(name string, requests, errorRate, slower float64) Pod {
	bounds := []float64{.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10}
	v, before, sum := Value{Bounds: bounds, Counts: make([]float64, len(bounds)+1)}, 0.0, 0.0
	for b := range v.Counts {
		share := 1.0
		if b < len(bounds) {
			share = distuv.UnitNormal.CDF(math.Log(bounds[b]/slower) / 0.6)
		}
		sum += distuv.Poisson{Lambda: requests*(share-before) + 1e-9, Src: s.source}.Rand()
		before, v.Counts[b] = share, sum
	}
	bad := distuv.Poisson{Lambda: requests*errorRate + 1e-9, Src: s.source}.Rand()
	return Pod{Name: name, Age: time.Hour, Values: map[string]Value{"latency": v, "errors": {Requests: sum, Errors: min(sum, bad)}}}
}

// minute has one new pod and nine old ones at 120 requests each.
func (s service) minute(errorRate, slower float64) Observations {
	o := Observations{Increments: true, New: []Pod{s.pod("new", 120, errorRate, slower)}}
	for i := range 9 {
		o.Old = append(o.Old, s.pod(fmt.Sprintf("old-%d", i), 120, 0.01, 1))
	}
	return o
}

// play returns the first look that failed and the first that passed, 0 for none.
func play(t *testing.T, seed uint64, looks int, errorRate, slower float64) (failed, passed int) {
	j, s := mustNew(t, bothMetrics()), service{rand.NewPCG(seed, 1)}
	for look := 1; look <= looks; look++ {
		switch j.Look(start.Add(time.Duration(look)*time.Minute), s.minute(errorRate, slower)).Outcome {
		case Fail:
			return look, passed
		case Pass:
			if passed == 0 {
				passed = look
			}
		default:
		}
	}
	return 0, passed
}

func TestAlikeVersionsRarelyFail(t *testing.T) {
	const runs = 300
	failed, passed := 0, 0
	for seed := range uint64(runs) {
		f, p := play(t, seed, 30, 0.01, 1)
		failed += min(f, 1)
		passed += min(p, 1)
	}
	require.LessOrEqual(t, failed, 3, "of %d runs, seeds from 0", runs)
	require.Greater(t, passed, runs/10, "seeds from 0")
}

func TestWorseVersionsFail(t *testing.T) {
	for name, c := range map[string]struct {
		errorRate, slower float64
		within            int
	}{"errors 1% to 3%": {0.03, 1, 10}, "latency x1.15": {0.01, 1.15, 12}, "latency x1.3": {0.01, 1.3, 5}, "all errors": {1, 1, 4}} {
		looks := make([]float64, 0, 25)
		for seed := range uint64(25) {
			failed, passed := play(t, seed, 30, c.errorRate, c.slower)
			require.Zero(t, passed, "%s, seed %d", name, seed)
			require.NotZero(t, failed, "%s, seed %d", name, seed)
			looks = append(looks, float64(failed))
		}
		require.LessOrEqual(t, median(looks), float64(c.within), name)
	}
}

// At the margin, where "not worse" is just not true, at most 5% may ever pass.
func TestAVersionAtTheMarginRarelyPasses(t *testing.T) {
	const runs = 60
	for name, c := range map[string]struct {
		metric            Metric
		errorRate, slower float64
	}{
		"errors x2, margin x2 or 1 point": {Metric{Name: "errors", Kind: Errors, MaxRatio: 2}, 0.02, 1},
		"latency x1.1":                    {Metric{Name: "latency", Kind: Latency}, 0.01, 1.1},
	} {
		passed := 0
		for seed := range uint64(runs) {
			j, s := mustNew(t, Spec{Metrics: []Metric{c.metric}}), service{rand.NewPCG(seed, 5)}
			for look := range 60 {
				if j.Look(start.Add(time.Duration(look)*time.Minute), s.minute(c.errorRate, c.slower)).Outcome == Pass {
					passed++
					break
				}
			}
		}
		require.LessOrEqual(t, passed, runs*5/100, "%s, seeds from 0", name)
	}
}

func TestNeitherOrderNorNamesNorUnitsMatter(t *testing.T) {
	const seed = 7
	s, random := service{rand.NewPCG(seed, 1)}, rand.New(rand.NewPCG(seed, 2))
	plain, shuffled, scaled := mustNew(t, bothMetrics()), mustNew(t, bothMetrics()), mustNew(t, bothMetrics())
	for look := range 15 {
		now := start.Add(time.Duration(look) * time.Minute)
		o := s.minute(0.015, 1.05)
		want := plain.Look(now, o)
		mixed := Observations{New: o.New, Old: slices.Clone(o.Old), Increments: true}
		random.Shuffle(len(mixed.Old), func(i, k int) { mixed.Old[i], mixed.Old[k] = mixed.Old[k], mixed.Old[i] })
		got := shuffled.Look(now, mixed)
		inMilliseconds := scaled.Look(now, scaleLatency(o, 1024))
		for i := range want.Metrics {
			require.InDelta(t, want.Metrics[i].LogWorse, got.Metrics[i].LogWorse, 1e-6, "seed %d", seed)
			require.InDelta(t, want.Metrics[i].LogWithin, got.Metrics[i].LogWithin, 1e-6, "seed %d", seed)
			require.InDelta(t, want.Metrics[i].LogWorse, inMilliseconds.Metrics[i].LogWorse, 1e-6, "seed %d", seed)
			require.InEpsilon(t, want.Metrics[i].Effect.Ratio, inMilliseconds.Metrics[i].Effect.Ratio, 1e-6, "seed %d", seed)
		}
	}
}

func scaleLatency(o Observations, by float64) Observations {
	scale := func(pods []Pod) []Pod {
		out := make([]Pod, 0, len(pods))
		for _, p := range pods {
			v := p.Values["latency"]
			bounds := slices.Clone(v.Bounds)
			for i := range bounds {
				bounds[i] *= by
			}
			p.Values = map[string]Value{"errors": p.Values["errors"], "latency": {Bounds: bounds, Counts: v.Counts}}
			out = append(out, p)
		}
		return out
	}
	return Observations{New: scale(o.New), Old: scale(o.Old), Increments: o.Increments}
}

func TestCountersSayWhatTheirIncrementsSay(t *testing.T) {
	const seed = 8
	s := service{rand.NewPCG(seed, 1)}
	byIncrements, byCounters := mustNew(t, bothMetrics()), mustNew(t, bothMetrics())
	zero := s.minute(0, 1)
	totals := map[string]map[string]Value{}
	accumulate := func(pods []Pod) []Pod {
		out := make([]Pod, 0, len(pods))
		for _, p := range pods {
			if totals[p.Name] == nil {
				totals[p.Name] = map[string]Value{}
			}
			sums := map[string]Value{}
			for name, v := range p.Values {
				totals[p.Name][name] = totals[p.Name][name].plus(v)
				sums[name] = totals[p.Name][name]
			}
			out = append(out, Pod{Name: p.Name, Age: p.Age, Values: sums})
		}
		return out
	}
	v := byCounters.Look(start, Observations{New: accumulate(zero.New), Old: accumulate(zero.Old)})
	require.Equal(t, FirstReading, v.Reason)
	require.False(t, v.Pause)
	byIncrements.Look(start, Observations{Increments: true})
	for look := 1; look < 10; look++ {
		now := start.Add(time.Duration(look) * time.Minute)
		o := s.minute(0.02, 1.1)
		a := byIncrements.Look(now, o)
		b := byCounters.Look(now, Observations{New: accumulate(o.New), Old: accumulate(o.Old)})
		require.Equal(t, fmt.Sprintf("%+v", a), fmt.Sprintf("%+v", b), "seed %d, look %d", seed, look)
	}
}

func TestRestartedEqualsUninterrupted(t *testing.T) {
	const seed = 9
	s := service{rand.NewPCG(seed, 1)}
	spec := bothMetrics()
	limit := 0.9
	spec.Metrics = append(spec.Metrics, Metric{Name: "memory", Kind: Gauge, Max: &limit})
	plain := mustNew(t, spec)
	restarted := mustNew(t, spec)
	for look := range 12 {
		now := start.Add(time.Duration(look) * time.Minute)
		o := s.minute(0.02, 1.1)
		o.New[0].Values["memory"] = Value{Gauge: 0.5}
		o.Increments = look%2 == 0 // counters besides: what was read last must survive, too
		require.Equal(t, fmt.Sprintf("%+v", plain.Look(now, o)), fmt.Sprintf("%+v", restarted.Look(now, o)), "seed %d, look %d", seed, look)
		raw, err := json.Marshal(restarted)
		require.NoError(t, err)
		restarted, err = Restore(raw)
		require.NoError(t, err)
	}
}

func TestWithoutDataNothingIsDecided(t *testing.T) {
	nan := math.NaN()
	pods := func(name string, v Value) []Pod {
		return []Pod{{Name: name, Age: time.Hour, Values: map[string]Value{"errors": v}}}
	}
	good := Value{Requests: 1000, Errors: 10}
	spec := Spec{Metrics: []Metric{{Name: "errors", Kind: Errors}}}
	for name, c := range map[string]struct {
		fresh, old []Pod
		reason     Reason
	}{
		"neither":               {nil, nil, NoData},
		"no new":                {nil, pods("o", good), ArmAbsent},
		"no old":                {pods("n", good), nil, ArmAbsent},
		"metric absent":         {[]Pod{{Name: "n"}}, pods("o", good), ArmAbsent},
		"NaN":                   {pods("n", Value{Requests: nan}), pods("o", good), InvalidData},
		"infinite":              {pods("n", Value{Requests: math.Inf(1)}), pods("o", good), InvalidData},
		"negative":              {pods("n", Value{Requests: 5, Errors: -1}), pods("o", good), InvalidData},
		"more errors than all":  {pods("n", Value{Requests: 5, Errors: 6}), pods("o", good), InvalidData},
		"old NaN":               {pods("n", good), pods("o", Value{Requests: nan}), InvalidData},
		"nothing served by new": {pods("n", Value{}), pods("o", good), NoRequests},
	} {
		j := mustNew(t, spec)
		for look := range 50 {
			v := j.Look(start.Add(time.Duration(look)*time.Minute), Observations{New: c.fresh, Old: c.old, Increments: true})
			require.Equal(t, Inconclusive, v.Outcome, name)
			require.Equal(t, c.reason, v.Reason, name)
			require.True(t, v.Pause, name)
			require.NotEmpty(t, v.Message, name)
		}
	}
}

// What would pass does not while a look has no data, and what failed stays failed.
func TestALookWithoutDataDoesNotPass(t *testing.T) {
	spec := Spec{Metrics: []Metric{{Name: "errors", Kind: Errors}}}
	pods := func(n, bad float64) []Pod {
		return []Pod{{Name: "p", Age: time.Hour, Values: map[string]Value{"errors": {Requests: n, Errors: bad}}}}
	}
	j, now := mustNew(t, spec), start
	look := func(o Observations) Verdict {
		now = now.Add(time.Minute)
		o.Increments = true
		return j.Look(now, o)
	}
	var v Verdict
	for range 30 {
		v = look(Observations{New: pods(1000, 1), Old: pods(1000, 1)})
	}
	require.Equal(t, Pass, v.Outcome, v.Message)
	require.True(t, v.Done)
	v = look(Observations{Old: pods(1000, 1)})
	require.Equal(t, Inconclusive, v.Outcome)
	require.True(t, v.Pause)
	v = look(Observations{New: pods(1000, 1), Old: pods(1000, 1)})
	require.Equal(t, Pass, v.Outcome)
	for range 20 {
		v = look(Observations{New: pods(1000, 500), Old: pods(1000, 1)})
	}
	require.Equal(t, Fail, v.Outcome, v.Message)
	v = look(Observations{})
	require.Equal(t, Fail, v.Outcome)
	require.True(t, v.Done)
	v = j.Look(now, Observations{})
	require.Equal(t, TimeWentBack, v.Reason)
}

func TestResetsAndWarmUpAreLeftOut(t *testing.T) {
	spec := Spec{Metrics: []Metric{{Name: "errors", Kind: Errors}}, WarmUp: 3 * time.Minute}
	j := mustNew(t, spec)
	pod := func(name string, age time.Duration, n, bad float64) []Pod {
		return []Pod{{Name: name, Age: age, Values: map[string]Value{"errors": {Requests: n, Errors: bad}}}}
	}
	at := func(i int) time.Time { return start.Add(time.Duration(i) * time.Minute) }
	j.Look(at(0), Observations{New: pod("n", 0, 0, 0), Old: pod("o", time.Hour, 0, 0)})
	v := j.Look(at(1), Observations{New: pod("n", time.Minute, 100, 90), Old: pod("o", time.Hour, 900, 9)})
	require.Equal(t, WarmingUp, v.Reason)
	require.False(t, v.Pause)
	v = j.Look(at(4), Observations{New: pod("n", 4*time.Minute, 200, 91), Old: pod("o", time.Hour, 1800, 18)})
	require.Equal(t, 100.0, v.Metrics[0].New.Requests)
	require.InDelta(t, 0.01, v.Metrics[0].New.Value, 1e-12, "errors while warming up do not count")
	v = j.Look(at(5), Observations{New: pod("n", 5*time.Minute, 50, 50), Old: pod("o", time.Hour, 2700, 27)})
	require.Equal(t, InvalidData, v.Reason)
	require.Contains(t, v.Message, "went back")
	v = j.Look(at(6), Observations{New: pod("n", 6*time.Minute, 150, 51), Old: pod("o", time.Hour, 3600, 36)})
	require.Equal(t, 200.0, v.Metrics[0].New.Requests, "on from the reset")
}

// At ten times the share of new, sums over both times would compare a quiet hour with a busy one.
func TestWeightsMayChangeWhileRatesDo(t *testing.T) {
	const runs = 100
	failed := 0
	for seed := range uint64(runs) {
		source := rand.NewPCG(seed, 3)
		j := mustNew(t, Spec{Metrics: []Metric{{Name: "errors", Kind: Errors}}})
		for look := range 40 {
			share, rate := 0.05, 0.002
			if look >= 10 {
				share, rate = 0.5, 0.05 // whatever it is, it hits both
			}
			arm := func(n float64) []Pod {
				bad := distuv.Poisson{Lambda: n * rate, Src: source}.Rand()
				return []Pod{{Name: "sum", Age: time.Hour, Values: map[string]Value{"errors": {Requests: n, Errors: bad}}}}
			}
			v := j.Look(start.Add(time.Duration(look)*time.Minute), Observations{New: arm(2000 * share), Old: arm(2000 * (1 - share)), Increments: true})
			if v.Outcome == Fail {
				failed++
				break
			}
		}
	}
	require.LessOrEqual(t, failed, 2, "of %d, seeds from 0", runs)
}

func TestOverallVerdict(t *testing.T) {
	limit := 10.0
	gauge := func(name string, critical bool, weight float64) Metric {
		return Metric{Name: name, Kind: Gauge, Max: &limit, Critical: critical, Weight: weight, Passes: 1, Breaches: 2}
	}
	spec := Spec{Metrics: []Metric{gauge("a", true, 1), gauge("b", false, 1), gauge("c", false, 2)}, PassScore: 0.75, MaxDuration: time.Hour}
	look := func(j *Judge, minute int, values map[string]float64) Verdict {
		p := Pod{Name: "n", Age: time.Hour, Values: map[string]Value{}}
		for name, v := range values {
			p.Values[name] = Value{Gauge: v}
		}
		return j.Look(start.Add(time.Duration(minute)*time.Minute), Observations{New: []Pod{p}})
	}
	j := mustNew(t, spec)
	require.Equal(t, Pass, look(j, 0, map[string]float64{"a": 1, "b": 11, "c": 1}).Outcome, "three quarters pass; b's first breach decides nothing")
	require.Equal(t, Pass, look(j, 1, map[string]float64{"a": 1, "b": 11, "c": 1}).Outcome, "b failed, and may")
	v := look(j, 2, map[string]float64{"b": 11, "c": 1})
	require.Equal(t, Inconclusive, v.Outcome, "the critical one is not there")
	require.True(t, v.Pause)
	require.Equal(t, Inconclusive, look(j, 3, map[string]float64{"a": 1, "b": 1, "c": math.NaN()}).Outcome)
	require.Equal(t, Inconclusive, look(j, 4, map[string]float64{"a": 11, "b": 1, "c": 1}).Outcome)
	v = look(j, 5, map[string]float64{"a": 11, "b": 1, "c": 1})
	require.Equal(t, Fail, v.Outcome)
	require.Equal(t, BeyondLimits, v.Reason)
	require.Equal(t, Fail, look(j, 6, map[string]float64{"a": 1, "b": 1, "c": 1}).Outcome, "a Fail stays")

	j = mustNew(t, spec)
	look(j, 0, map[string]float64{"a": 1, "b": 1, "c": 11})
	v = look(j, 1, map[string]float64{"a": 1, "b": 1, "c": 11})
	require.Equal(t, ScoreTooLow, v.Reason, v.Message)

	j = mustNew(t, spec)
	look(j, 0, nil)
	v = look(j, 60, nil)
	require.Equal(t, Expired, v.Reason)
	require.True(t, v.Done)
	require.Equal(t, Inconclusive, v.Outcome)
}

func TestGaugesByRatioAndAbsence(t *testing.T) {
	spec := Spec{Metrics: []Metric{
		{Name: "cache", Kind: Gauge, MinRatio: 0.8, Breaches: 2, Passes: 2},
		{Name: "ecc", Kind: Gauge, MaxRatio: 1.5, Absence: AbsenceIgnore},
	}}
	pods := func(name string, values ...float64) (pods []Pod) {
		for i, v := range values {
			pods = append(pods, Pod{Name: fmt.Sprint(name, i), Age: time.Hour, Values: map[string]Value{"cache": {Gauge: v}}})
		}
		return pods
	}
	j := mustNew(t, spec)
	at := func(i int) time.Time { return start.Add(time.Duration(i) * time.Minute) }
	v := j.Look(at(0), Observations{New: pods("n", 0.5, 0.7), Old: pods("o", 1)})
	require.Equal(t, Gathering, v.Reason)
	require.InDelta(t, 0.6, v.Metrics[0].Effect.Ratio, 1e-12, "the pods' mean")
	require.Equal(t, Ignored, v.Metrics[1].Reason)
	v = j.Look(at(1), Observations{New: pods("n", 0.5), Old: pods("o", 0)})
	require.Equal(t, InvalidData, v.Reason, "no ratio to nothing")
	v = j.Look(at(2), Observations{New: pods("n", 0.9), Old: pods("o", 1)})
	require.Equal(t, Gathering, v.Reason, "a good look ends the row")
	v = j.Look(at(3), Observations{New: pods("n", 0.9), Old: pods("o", 1)})
	require.Equal(t, Pass, v.Outcome)
}
