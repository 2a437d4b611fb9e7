package forecast

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOptionsThatContradictThemselvesAreRefused(t *testing.T) {
	for name, o := range map[string]Options{
		"step -1s is negative":              {Step: -time.Second},
		"shorter than the step":             {Horizons: []time.Duration{time.Second}},
		"too short for horizon":             {History: time.Hour, Horizons: []time.Duration{30 * time.Minute}},
		"it takes at least 1h0m0s":          {History: 10 * time.Minute},
		"more than 4194304":                 {Step: time.Nanosecond, History: 1000 * time.Hour, Horizons: []time.Duration{time.Second}},
		"17 horizons, more than 16":         {Horizons: make([]time.Duration, 17)},
		"history -1h0m0s is too short":      {History: -time.Hour},
		"horizon -1m0s is shorter than the": {Horizons: []time.Duration{-time.Minute}},
	} {
		_, err := New(o)
		require.ErrorContains(t, err, name)
		require.ErrorContains(t, err, "cannot make a forecast model")
	}
}

func TestObserveRefusesWhatCannotBe(t *testing.T) {
	m, err := New(Options{})
	require.NoError(t, err)
	require.NoError(t, m.Observe(start, 1))
	require.NoError(t, m.Observe(start.Add(time.Minute), 2))
	for _, v := range []float64{-1, math.Inf(1), math.Inf(-1)} {
		require.ErrorIs(t, m.Observe(start.Add(2*time.Minute), v), errValue)
	}
	for _, at := range []time.Duration{0, -time.Hour, time.Minute, 80 * time.Second} {
		err := m.Observe(start.Add(at), 1)
		require.ErrorContains(t, err, start.Add(at).String())
		require.ErrorContains(t, err, start.Add(time.Minute).String())
	}
	require.Equal(t, 1, m.series.head, "errors leave the model alone")
	require.NoError(t, m.Observe(start.Add(100*time.Second), 3), "rounded to the second step")
	require.Equal(t, 2, m.series.head)
}

func TestForecastSaysWhyThereIsNone(t *testing.T) {
	m, err := New(Options{})
	require.NoError(t, err)
	ask := func(now time.Time, h time.Duration) Forecast {
		f := m.Forecast(now, h)
		require.Equal(t, f.Reason == "", f.Valid)
		if !f.Valid {
			require.True(t, math.IsNaN(f.Quantile(0.5)))
			require.False(t, f.Skilful)
		}
		return f
	}
	require.Equal(t, "no observation", ask(start, 0).Reason)
	now := start
	for i := range 100 {
		now = start.Add(time.Duration(i) * time.Minute)
		require.NoError(t, m.Observe(now, 5+float64(i%3)))
		switch {
		case i == 2:
			require.Equal(t, "3 of 30 observations", ask(now, time.Minute).Reason)
		case i == 35:
			require.Equal(t, "26 of 30 forecasts scored 10m0s ahead", ask(now, time.Minute).Reason)
		case i >= 39:
			require.Empty(t, ask(now, 10*time.Minute).Reason)
		}
	}
	require.Equal(t, "no observation for 12m0s", ask(now.Add(12*time.Minute), 0).Reason)
	require.Empty(t, ask(now.Add(10*time.Minute), 10*time.Minute).Reason)
	require.Equal(t, "now is before the last observation", ask(now.Add(-2*time.Minute), 0).Reason)
	require.Contains(t, ask(now, time.Hour).Reason, "no forecasts are made further than twice the last")
	require.Equal(t, "the horizon is negative", ask(now, -time.Second).Reason)
	require.Empty(t, ask(now, 20*time.Minute).Reason)
	f := ask(now, 0)
	require.True(t, math.IsNaN(f.Quantile(math.NaN())) && math.IsNaN(f.Quantile(-0.1)) && math.IsNaN(f.Quantile(1.1)))
	require.Equal(t, "last value", f.Method)
}

func TestDemandThatIsAlwaysZeroHasNoScale(t *testing.T) {
	m := replay(t, Options{}, make([]float64, 200), nil)
	f := m.Forecast(start.Add(199*time.Minute), time.Minute)
	require.Equal(t, "no demand above 0 seen", f.Reason)
	for i := 200; i < 300; i++ {
		require.NoError(t, m.Observe(start.Add(time.Duration(i)*time.Minute), 10))
	}
	f = m.Forecast(start.Add(299*time.Minute), time.Minute)
	require.True(t, f.Valid, f.Reason)
	require.InDelta(t, 10, f.Quantile(0.5), 1)
}

func TestAGapAsLongAsTheHistoryIsANewBeginning(t *testing.T) {
	m := replay(t, Options{History: 2 * time.Hour}, noisy(1, 600, 0.1, wave), nil)
	again := start.Add(20 * time.Hour)
	require.NoError(t, m.Observe(again, 4))
	require.Equal(t, "1 of 30 observations", m.Forecast(again, 0).Reason)
	far := start.Add(math.MaxInt64) // the longest Duration
	require.NoError(t, m.Observe(far, 4))
	require.Equal(t, "1 of 30 observations", m.Forecast(far, 0).Reason)
}

// answers are all quantiles at all horizons, and the skill, at some times of a replay.
func answers(t *testing.T, o Options, from time.Time, values []float64) (all []float64) {
	t.Helper()
	m, err := New(o)
	require.NoError(t, err)
	for i, v := range values {
		now := from.Add(time.Duration(i) * m.step)
		require.NoError(t, m.Observe(now, v))
		if i%97 != 0 && i != len(values)-1 {
			continue
		}
		for lead := time.Duration(0); lead <= 10*m.step; lead += m.step / 2 {
			f := m.Forecast(now.Add(m.step/4), lead)
			for _, p := range []float64{0, 0.01, 0.3, 0.5, 0.9, 0.97, 0.99, 1} {
				all = append(all, f.Quantile(p))
			}
		}
	}
	return all
}

func requireClose(t *testing.T, want, got []float64, factor float64) {
	t.Helper()
	require.Len(t, got, len(want))
	numbers := 0
	for i := range want {
		if math.IsNaN(want[i]) {
			require.True(t, math.IsNaN(got[i]))
			continue
		}
		numbers++
		require.InDelta(t, want[i]*factor, got[i], 1e-6*factor*(1+want[i]), "answer %d", i)
	}
	require.Positive(t, numbers)
}

func TestScaleShiftAndStepChangeNothing(t *testing.T) {
	for _, seed := range []uint64{18205737661787678284, rand.Uint64()} { // the first one begins with a gap
		t.Logf("seed %d", seed)
		values := withGaps(seed, 3000)
		// A gap at either end that is left out is not there at all.
		values[0], values[len(values)-1] = 50, 50
		want := answers(t, Options{}, start, values)
		requireClose(t, want, answers(t, Options{}, start, values), 1)
		requireClose(t, want, answers(t, Options{}, start.Add(12345678*time.Millisecond), values), 1)
		requireClose(t, want, answers(t, Options{Step: time.Second}, start, values), 1)
		scaled := slices.Clone(values)
		for i := range scaled {
			scaled[i] *= 1024 // exact, so that nothing tips over
		}
		requireClose(t, want, answers(t, Options{}, start, scaled), 1024)
		left := answersWithGapsLeftOut(t, values)
		requireClose(t, want[len(want)-len(left):], left, 1)
	}
}

// answersWithGapsLeftOut asks at the end of a replay in which gaps are not observed, but left out.
func answersWithGapsLeftOut(t *testing.T, values []float64) (all []float64) {
	t.Helper()
	m, err := New(Options{})
	require.NoError(t, err)
	now := start
	for i, v := range values {
		now = start.Add(time.Duration(i) * time.Minute)
		if !math.IsNaN(v) {
			require.NoError(t, m.Observe(now, v))
		}
	}
	for lead := time.Duration(0); lead <= 10*time.Minute; lead += time.Minute / 2 {
		f := m.Forecast(now.Add(time.Minute/4), lead)
		for _, p := range []float64{0, 0.01, 0.3, 0.5, 0.9, 0.97, 0.99, 1} {
			all = append(all, f.Quantile(p))
		}
	}
	return all
}

func TestAskingChangesNothing(t *testing.T) {
	values := withGaps(5, 3000)
	quiet := replay(t, Options{}, values, nil)
	asked := replay(t, Options{}, values, func(m *Model, i int, now time.Time) {
		for k := range 5 {
			m.Forecast(now.Add(time.Duration(k)*15*time.Second), time.Duration(i%10)*time.Minute)
		}
	})
	now := start.Add(2999 * time.Minute)
	require.Equal(t, quiet.Skill(), asked.Skill())
	require.Equal(t, quiet.Forecast(now, 5*time.Minute), asked.Forecast(now, 5*time.Minute))
}

func TestQuantilesRiseAndAreNeverNegative(t *testing.T) {
	replay(t, Options{}, withGaps(6, 5000), func(m *Model, i int, now time.Time) {
		f := m.Forecast(now, time.Duration(i%601)*time.Second)
		before := 0.0
		for p := 0.0; f.Valid && p <= 1; p += 0.02 {
			q := f.Quantile(p)
			require.GreaterOrEqual(t, q, before)
			before = q
		}
	})
}

func TestForecastAllocatesNothing(t *testing.T) {
	values := noisy(7, 5*day, 0.1, wave)
	m := replay(t, Options{}, values, nil)
	require.NotEmpty(t, m.Seasons())
	now := start.Add((5*day - 1) * time.Minute)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		m.cache.valid = false
		if !m.Forecast(now.Add(20*time.Second), 4*time.Minute).Valid {
			t.Error("not valid")
		}
	}))
}

func FuzzObserve(f *testing.F) {
	f.Add([]byte{1, 10, 1, 20, 0, 30, 200, 255, 1, 254, 1, 253})
	f.Add(slices.Repeat([]byte{1, 7, 2, 9, 1, 0}, 40))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := New(Options{Step: time.Second, History: 2 * time.Minute})
		require.NoError(t, err)
		now, accepted := start, start.Add(-time.Hour)
		for ; len(data) >= 2; data = data[2:] {
			now = now.Add(time.Duration(int8(data[0])) * 500 * time.Millisecond)
			v := math.Exp(float64(data[1])*5.5 - 700) // from the least to nearly the largest
			switch data[1] {
			case 255:
				v = math.NaN()
			case 254:
				v = -1
			case 253:
				v = 0
			case 252:
				v = math.Inf(1)
			}
			err := m.Observe(now, v)
			if v < 0 || math.IsInf(v, 0) || !now.After(accepted) {
				require.Error(t, err)
			}
			if err == nil {
				accepted = now
			}
			forecast := m.Forecast(now, 5*time.Second)
			require.Equal(t, forecast.Valid, forecast.Reason == "")
			before := 0.0
			for _, p := range []float64{0, 0.2, 0.5, 0.9, 0.95, 0.99, 1} {
				if q := forecast.Quantile(p); forecast.Valid {
					require.GreaterOrEqual(t, q, before)
					require.LessOrEqual(t, q, math.MaxFloat64)
					before = q
				}
			}
		}
	})
}
