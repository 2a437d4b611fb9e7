package vpa_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/recommender/vpa"
)

// TestScenarios runs testdata: one container and its aggregate. Commands, each with hours since the start:
//
//	cpu AT MILLICORES, memory AT MI, oom AT REQUEST_MI: one sample a line, whether it was taken
//	state: what is known
//	estimate containers=N: the estimate
//	checkpoint at=H: the memory weights of the checkpoint at that hour, without the current peak
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		m := model(t)
		a, in := m.NewAggregate(), &vpa.Instance{}
		hour := func(h float64) time.Time { return t0.Add(time.Duration(h * float64(time.Hour))) }
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out strings.Builder
			for line := range strings.Lines(d.Input) {
				var at, v float64
				_, err := fmt.Sscan(line, &at, &v)
				require.NoError(t, err, "%s: %q", d.Pos, line)
				switch d.Cmd {
				case "cpu":
					fmt.Fprintln(&out, in.AddCPU(a, hour(at), int64(v)))
				case "memory":
					fmt.Fprintln(&out, in.AddMemory(a, hour(at), int64(v*(1<<20))))
				case "oom":
					fmt.Fprintln(&out, in.AddOOM(a, hour(at), int64(v*(1<<20))))
				}
			}
			switch d.Cmd {
			case "state":
				s := in.State()
				mi := func(b int64) float64 { return float64(b) / (1 << 20) }
				fmt.Fprintf(&out, "interval's end %gh, peak %.1fMi, after OOM %.1fMi; CPU samples %d\n",
					s.WindowEnd.Sub(t0).Hours(), mi(s.MemoryPeak), mi(s.OOMPeak), a.Samples())
			case "estimate":
				n := 1
				d.MaybeScanArgs(t, "containers", &n)
				e := m.Estimate(a, n)
				fmt.Fprintf(&out, "target %+v\nlower %+v\nupper %+v\n", e.Target, e.Lower, e.Upper)
			case "checkpoint":
				var at int
				d.ScanArgs(t, "at", &at)
				c := a.Checkpoint(hour(float64(at)), slices.Values([]*vpa.Instance{in}))
				fmt.Fprintf(&out, "%v of %.4g\n", c.Memory.Weights, c.Memory.Total)
			}
			return out.String()
		})
	})
}

func TestRefused(t *testing.T) {
	m := model(t)
	a, in := m.NewAggregate(), &vpa.Instance{}
	require.True(t, in.AddCPU(a, t0, 100))
	require.True(t, in.AddMemory(a, t0, 100<<20))
	before, state := a.Checkpoint(t0, nil), in.State()
	f := func(at time.Time, v int64) {
		t.Helper()
		assert.False(t, in.AddCPU(a, at, v))
		assert.False(t, in.AddMemory(a, at, v))
		assert.False(t, a.AddCPU(at, v))
		assert.False(t, a.AddMemoryPeak(at, v))
		require.ErrorIs(t, in.AddOOM(a, at, v), vpa.ErrInvalid)
		assert.Equal(t, before, a.Checkpoint(t0, nil))
		assert.Equal(t, state, in.State())
	}
	later := t0.Add(time.Minute)
	f(later, -1)
	f(time.Time{}, 1)
	f(time.Unix(0, 0), 1)
	f(t0.AddDate(200, 0, 0), 1)
	f(t0.AddDate(20000, 0, 0), 1)
	require.ErrorIs(t, in.AddOOM(a, later, math.MaxInt64), vpa.ErrInvalid)
	require.ErrorIs(t, in.AddOOM(a, t0.Add(-25*time.Hour), 1), vpa.ErrOld)
	assert.False(t, in.AddCPU(a, t0, 1), "the same time again")
	assert.False(t, in.AddMemory(a, t0.Add(-1), 1), "an earlier time")
	assert.Equal(t, before, a.Checkpoint(t0, nil))
	assert.True(t, in.AddMemory(a, t0, 1), "the same time again: the highest counts")
}

func TestFrom(t *testing.T) {
	f := func(cores float64, want int64, wantOK bool) {
		t.Helper()
		got, ok := vpa.FromCores(cores)
		assert.Equal(t, []any{want, wantOK}, []any{got, ok})
		got, ok = vpa.FromBytes(cores * 1000)
		assert.Equal(t, []any{want, wantOK}, []any{got, ok})
	}
	f(0.0019, 1, true)
	f(0, 0, true)
	f(1e20, 1e14, true)
	f(math.Inf(1), 1e14, true)
	f(-0.1, 0, false)
	f(math.NaN(), 0, false)
}

func TestConfigRefused(t *testing.T) {
	f := func(want string, change func(*vpa.Config)) {
		t.Helper()
		c := vpa.DefaultConfig()
		change(&c)
		_, err := vpa.New(c)
		assert.ErrorContains(t, err, want)
	}
	f("margin", func(c *vpa.Config) { c.Margin = -0.1 })
	f("margin", func(c *vpa.Config) { c.Margin = math.NaN() })
	f("a pod's minimum", func(c *vpa.Config) { c.PodMinCPU = -1 })
	f("a pod's minimum", func(c *vpa.Config) { c.PodMinMemoryMB = math.Inf(1) })
	f("percentiles", func(c *vpa.Config) { c.Memory.Upper = 95 })
	f("confidence", func(c *vpa.Config) { c.CPU.Confidence = 0 })
	f("half-life", func(c *vpa.Config) { c.CPU.HalfLife = 0 })
	f("interval", func(c *vpa.Config) { c.MemoryInterval = 400 * 24 * time.Hour })
	f("number of memory aggregation intervals", func(c *vpa.Config) { c.MemoryIntervals = 0 })
	f("ratio", func(c *vpa.Config) { c.OOMBumpUpRatio = 0.9 })
	f("bump-up", func(c *vpa.Config) { c.OOMMinBumpUp = -1 })
	f("rounded", func(c *vpa.Config) { c.RoundCPU = -1 })

	c := vpa.Config{}
	var joined interface{ Unwrap() []error }
	require.ErrorAs(t, c.Validate(), &joined)
	assert.Greater(t, len(joined.Unwrap()), 3, "all that is wrong")
}

func TestMergeRefused(t *testing.T) {
	a := golden(t, model(t))
	o := golden(t, model(t, func(c *vpa.Config) { c.Memory.HalfLife = time.Hour }))
	before := a.Checkpoint(t0, nil)
	require.Error(t, a.Merge(o))
	assert.Equal(t, before, a.Checkpoint(t0, nil), "CPU could have been merged")
}

func TestRecommend(t *testing.T) {
	m := model(t, func(c *vpa.Config) { c.RoundCPU, c.RoundMemory = 10, 1<<20 })
	e := vpa.Estimate{
		Target: vpa.Amounts{CPU: 548, Memory: 628694953}, Lower: vpa.Amounts{CPU: 340, Memory: 1 << 20}, Upper: vpa.Amounts{CPU: 1e14, Memory: 1e14},
	}
	f := func(r vpa.Rules, target, lower, upper, uncapped vpa.Amounts) {
		t.Helper()
		want := vpa.Recommendation{Estimate: vpa.Estimate{Target: target, Lower: lower, Upper: upper}, UncappedTarget: uncapped}
		assert.Equal(t, want, m.Recommend(e, r))
	}
	target := vpa.Amounts{CPU: 550, Memory: 600 << 20}
	f(vpa.Rules{}, target, e.Lower, vpa.Amounts{CPU: 1e14, Memory: 95367432 << 20}, target)
	f(vpa.Rules{MinAllowed: vpa.Amounts{CPU: 600}, MaxAllowed: vpa.Amounts{CPU: 500, Memory: 2 << 20}},
		vpa.Amounts{CPU: 500, Memory: 2 << 20}, vpa.Amounts{CPU: 500, Memory: 1 << 20}, vpa.Amounts{CPU: 500, Memory: 2 << 20}, target)
	whole := vpa.Amounts{CPU: 1000, Memory: 600 << 20}
	f(vpa.Rules{IntegerCPU: true, MaxAllowed: vpa.Amounts{CPU: 900, Memory: 1e14}},
		vpa.Amounts{CPU: 900, Memory: 600 << 20}, vpa.Amounts{CPU: 900, Memory: 1 << 20}, vpa.Amounts{CPU: 900, Memory: 1e14}, whole)
}

func TestExpired(t *testing.T) {
	a := model(t).NewAggregate()
	week := 8 * 24 * time.Hour
	assert.False(t, a.Expired(t0.Add(week-1), t0))
	assert.True(t, a.Expired(t0.Add(week), t0))
	require.True(t, a.AddMemoryPeak(t0.Add(time.Hour), 1))
	assert.True(t, a.Expired(t0.Add(week), t0), "memory does not count")
	require.True(t, a.AddCPU(t0.Add(time.Hour), 1))
	assert.False(t, a.Expired(t0.Add(week), t0))
	assert.True(t, a.Expired(t0.Add(week+time.Hour), t0))
}

// TestCost holds what 100,000 containers are counted on to cost.
func TestCost(t *testing.T) {
	assert.LessOrEqual(t, unsafe.Sizeof(vpa.Aggregate{}), uintptr(192))
	assert.LessOrEqual(t, unsafe.Sizeof(vpa.Instance{}), uintptr(40))
	m := model(t)
	a, in := golden(t, m), &vpa.Instance{}
	at := t0.AddDate(0, 0, 3)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		at = at.Add(time.Minute)
		in.AddCPU(a, at, 300)
		in.AddMemory(a, at, 300<<20)
		m.Recommend(m.Estimate(a, 1), vpa.Rules{})
	}))
}
