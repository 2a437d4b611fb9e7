package forecast

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// unforecastable are series that last value cannot be beaten on: what comes next is independent of all before.
func unforecastable(kind string, seed uint64, n int) []float64 {
	random := rand.New(rand.NewPCG(seed, 5))
	values := make([]float64, n)
	walk, calm := 0.0, 1.0
	for i := range values {
		switch kind {
		case "normal":
			walk += 0.02 * random.NormFloat64()
		case "heavy-tailed":
			walk += 0.01 * random.NormFloat64() / math.Sqrt(random.Float64()+0.02)
		case "calm and wild by turns":
			calm += 0.02 * (random.NormFloat64() - (calm - 1))
			walk += 0.02 * math.Exp(calm) * random.NormFloat64() / 3
		}
		values[i] = 50 * math.Exp(walk)
	}
	return values
}

// The stated false rate: on random walks a forecast claims skill in at most 3 % of the time.
func TestRandomWalksAreNotCalledSkilful(t *testing.T) {
	const runs, falseRate = 5, 0.03
	for _, kind := range []string{"normal", "heavy-tailed", "calm and wild by turns"} {
		claims, asked, seasons := 0, 0, 0
		for seed := range uint64(runs) {
			m := replay(t, Options{}, unforecastable(kind, seed, 7*day), func(m *Model, i int, now time.Time) {
				if i%10 != 0 {
					return
				}
				for _, h := range m.horizons {
					asked++
					if m.Forecast(now, time.Duration(h)*time.Minute).Skilful {
						claims++
					}
				}
			})
			seasons += len(m.Seasons())
		}
		rate := float64(claims) / float64(asked)
		t.Logf("%s: skill claimed in %.4f of %d answers; %d seasons found in %d series", kind, rate, asked, seasons, runs)
		require.LessOrEqual(t, rate, falseRate)
	}
}

// White noise about a level is no random walk: its mean is a better forecast than the last value, by 1 − 1/√2 = 0.29 of the loss at
// whatever quantile. That much skill is there, and no more; and no season.
func TestWhiteNoiseHasTheSkillOfItsMeanAndNoSeason(t *testing.T) {
	const best = 1 - math.Sqrt2/2
	seasons := 0
	for seed := range uint64(3) {
		values := noisy(seed, 7*day, 0.05, func(int) float64 { return 50 })
		m := replay(t, Options{}, values, nil)
		seasons += len(m.Seasons())
		for _, s := range m.Skill() {
			if s.Method == "regression" {
				over := 1 - s.LossSum/s.BaselineSum
				require.InDelta(t, best, over, 0.02, "seed %d, %v", seed, s.Horizon)
			}
		}
	}
	require.Zero(t, seasons)
}

func TestSeasonsAreFound(t *testing.T) {
	week := func(i int) float64 {
		if i/day%7 >= 5 {
			return 0.5
		}
		return 1
	}
	for name, c := range map[string]struct {
		days   int
		shape  func(i int) float64
		noise  float64
		period []time.Duration
		within float64
	}{
		"day, in three of them":    {3, wave, 0.1, []time.Duration{24 * time.Hour}, 0.03},
		"day, noise as large":      {14, wave, 0.8, []time.Duration{24 * time.Hour}, 0.02},
		"day and week":             {28, func(i int) float64 { return wave(i) * week(i) }, 0.1, []time.Duration{24 * time.Hour, 7 * 24 * time.Hour}, 0.01},
		"hour in a day":            {7, func(i int) float64 { return wave(i) * (1 + 2*float64(max(0, 3-i%60))) }, 0.1, []time.Duration{time.Hour, 24 * time.Hour}, 0.001},
		"odd period":               {4, func(i int) float64 { return 50 + 40*math.Sin(2*math.Pi*float64(i)/437) }, 0.1, []time.Duration{437 * time.Minute}, 0.02},
		"burst of 2 min, each 4 h": {7, func(i int) float64 { return 10 + 90*float64((250-i%240)/249) }, 0.1, []time.Duration{4 * time.Hour}, 0.001},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(2) {
				m := replay(t, Options{}, noisy(seed, c.days*day, c.noise, c.shape), nil)
				var found []time.Duration
				for _, s := range m.Seasons() {
					found = append(found, s.Period)
				}
				t.Logf("seed %d: %v", seed, found)
				for _, want := range c.period {
					hit := false
					for _, f := range found {
						hit = hit || math.Abs(float64(f-want)) <= c.within*float64(want)
					}
					require.True(t, hit, "seed %d: %v is not among %v", seed, want, found)
				}
			}
		})
	}
}

func TestSeasonalForecastsBeatLastValueAndSaySo(t *testing.T) {
	m := replay(t, Options{}, noisy(1, 6*day, 0.05, wave), nil)
	f := m.Forecast(start.Add((6*day-1)*time.Minute), 10*time.Minute)
	require.True(t, f.Skilful)
	require.NotEqual(t, "last value", f.Method)
	require.Greater(t, f.Score, 0.3)
	require.Greater(t, f.Samples, 1000)
	inUse := 0
	for _, s := range m.Skill() {
		if s.Horizon == 10*time.Minute && s.InUse {
			inUse++
			require.Equal(t, f.Method, s.Method)
			require.Equal(t, f.Score, s.Score)
			require.InDelta(t, s.Score, 1-s.Loss/s.Baseline, 1e-12)
		}
	}
	require.Equal(t, 1, inUse)
}

// A forecaster that stops winning is dropped: the wave turns into a random walk.
func TestSkillThatIsGoneIsNotClaimed(t *testing.T) {
	values := noisy(1, 12*day, 0.02, wave)
	walk := unforecastable("normal", 2, 6*day)
	for i := range walk {
		values[6*day+i] = walk[i] * values[6*day] / walk[0]
	}
	claims := 0
	replay(t, Options{}, values, func(m *Model, i int, now time.Time) {
		if i >= 7*day && m.Forecast(now, 5*time.Minute).Skilful {
			claims++
		}
	})
	t.Logf("skill claimed in %d of %d minutes from a day after the change on", claims, 5*day)
	require.LessOrEqual(t, claims, 5*day/10)
}
