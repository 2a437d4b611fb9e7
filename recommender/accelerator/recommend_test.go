package accelerator_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/recommender"
	"headroom.dev/headroom/recommender/accelerator"
)

const gib = 1 << 30

// bytes makes a history of GiB one of bytes.
func bytes(h accelerator.History) accelerator.History {
	for i := range h.Hours {
		hour := &h.Hours[i]
		hour.P50, hour.P90, hour.Max = gib*hour.P50, gib*hour.P90, gib*hour.Max
	}
	return h
}

func someInput(random *rand.Rand) accelerator.Input {
	models := []string{"NVIDIA H200", "NVIDIA A100-SXM4-80GB", "NVIDIA A30", "NVIDIA B300 SXM6 AC", "NVIDIA L40S"}
	in := accelerator.Input{
		Now: begin(), Workload: "chat", Model: models[random.IntN(len(models))], Replicas: 1 + random.IntN(4),
		Memory: bytes(history(noise(random, 4+random.IntN(60))...)), Policy: accelerator.DefaultPolicy(),
	}
	if random.IntN(2) == 0 {
		share := random.Float64()
		peaks := make([]float64, 24)
		for i := range peaks {
			peaks[i] = share * random.Float64()
		}
		in.Compute = history(peaks...)
	}
	in.Policy.Risk = []float64{0.001, 0.01, 0.1}[random.IntN(3)]
	if random.IntN(3) == 0 {
		in.Policy.Sharing = append(in.Policy.Sharing, accelerator.TimeSlicing)
	}
	if m, ok := accelerator.Find(in.Model); ok && random.IntN(2) == 0 && len(m.Profiles) > 0 {
		in.Nodes = cluster(random, m)
	}
	return in
}

// The oracle looks at every size and takes the cheapest that has the memory, the compute and a place, then the cheapest without place.
func TestTheChoiceAgainstTryingAll(t *testing.T) {
	random := source(t)
	reasons := map[accelerator.Reason]int{}
	for range 1500 {
		in := someInput(random)
		a := accelerator.Recommend(in)
		reasons[a.Reason]++
		if a.Recommended == nil {
			require.Equal(t, accelerator.ReasonPreallocated, a.Reason, a.Why)
			continue
		}
		tail, ok := accelerator.NewTail(in.Memory)
		require.True(t, ok)
		m, _ := accelerator.Find(in.Model)
		replicas := []int{2, 4}
		if len(in.Nodes) > 0 {
			replicas = nil
			for _, node := range in.Nodes {
				for _, gpu := range node.GPUs {
					replicas = append(replicas, gpu.Replicas)
				}
			}
		}
		best, placed := math.Inf(1), math.Inf(1)
		for _, s := range m.Sizes(in.Policy.Sharing, nil, replicas) {
			if tail.Risk(float64(s.Bytes), in.Policy.Hold) > in.Policy.Risk || a.Compute > s.SMs {
				continue
			}
			best = min(best, s.Share)
			if accelerator.Place(in.Nodes, []accelerator.Demand{{Workload: "chat", Model: in.Model, Size: s, Count: in.Replicas}}).OK {
				placed = min(placed, s.Share)
			}
		}
		want := placed
		if math.IsInf(placed, 1) {
			want = best
		}
		if math.IsInf(want, 1) {
			assert.Equal(t, accelerator.ReasonLargest, a.Reason)
			continue
		}
		require.InDelta(t, want, a.Recommended.Size.Share, 1e-12, "%+v: %s", in, a.Why)
		require.LessOrEqual(t, a.Risk, in.Policy.Risk)
	}
	t.Log(reasons)
	assert.Greater(t, reasons[accelerator.ReasonMemory], 100)
	assert.Greater(t, reasons[accelerator.ReasonCompute], 20)
}

func TestMoreMemoryNeverGetsASmallerSize(t *testing.T) {
	random := source(t)
	for range 500 {
		in := someInput(random)
		in.Nodes = nil
		less := accelerator.Recommend(in)
		more := in
		more.Memory.Hours = slices.Clone(in.Memory.Hours)
		factor := 1 + random.Float64()
		for i := range more.Memory.Hours {
			hour := &more.Memory.Hours[i]
			hour.P50, hour.P90, hour.Max = factor*hour.P50, factor*hour.P90, factor*hour.Max
		}
		after := accelerator.Recommend(more)
		if less.Recommended == nil || after.Recommended == nil {
			continue
		}
		require.GreaterOrEqual(t, after.Recommended.Size.Share, less.Recommended.Size.Share, "%s\n%s", less.Why, after.Why)
		require.GreaterOrEqual(t, after.Need, less.Need)
	}
}

func TestAnAdviceIsCoherent(t *testing.T) {
	random := source(t)
	for range 500 {
		in := someInput(random)
		a := accelerator.Recommend(in)
		require.NotEmpty(t, a.Why)
		require.NotEmpty(t, a.Reason)
		require.NotContains(t, a.Why, "NaN")
		if a.Recommended == nil {
			continue
		}
		require.LessOrEqual(t, a.Lower, a.Need)
		require.LessOrEqual(t, a.Need, a.Upper)
		require.GreaterOrEqual(t, a.Need, a.Peak)
		require.True(t, a.Risk >= 0 && a.Risk <= 1)
		require.NotEmpty(t, a.Claim)
		require.NotEmpty(t, a.Placement)
	}
}

func TestWithoutHistoryThereIsADate(t *testing.T) {
	in := accelerator.Input{Now: begin(), Model: "NVIDIA H200", Policy: accelerator.DefaultPolicy(), Memory: bytes(history(20, math.NaN()))}
	a := accelerator.Recommend(in)
	assert.Nil(t, a.Recommended)
	assert.Equal(t, accelerator.ReasonNoHistory, a.Reason)
	assert.Equal(t, begin().Add(3*time.Hour), a.ReadyAt)
	assert.True(t, math.IsNaN(a.Need))
}

func TestAnInvalidPolicyIsRefused(t *testing.T) {
	valid := accelerator.DefaultPolicy()
	for name, change := range map[string]func(*accelerator.Policy){
		"risk NaN":       func(p *accelerator.Policy) { p.Risk = math.NaN() },
		"risk 0":         func(p *accelerator.Policy) { p.Risk = 0 },
		"risk half":      func(p *accelerator.Policy) { p.Risk = 0.5 },
		"no time":        func(p *accelerator.Policy) { p.Hold = 0 },
		"confidence 1":   func(p *accelerator.Policy) { p.Confidence = 1 },
		"nothing at all": func(p *accelerator.Policy) { p.Sharing = nil },
	} {
		p := valid
		change(&p)
		a := accelerator.Recommend(accelerator.Input{Now: begin(), Model: "NVIDIA H200", Policy: p, Memory: bytes(history(20, 21, 22, 23))})
		assert.Equal(t, accelerator.ReasonInvalid, a.Reason, name)
		assert.Nil(t, a.Recommended, name)
	}
}

// A Usage is where the hours come from.
func TestHistoryOfAUsage(t *testing.T) {
	u := recommender.NewUsage(recommender.GPUMemory, recommender.DefaultPolicy(recommender.GPUMemory))
	for i := range 12 * 60 {
		at := begin().Add(time.Duration(i) * time.Minute)
		u.Add(at, 20*gib+float64(i%7)*gib, 1, at)
	}
	h := accelerator.HistoryOf(u, 1, 0)
	tail, ok := accelerator.NewTail(h)
	require.True(t, ok)
	assert.InEpsilon(t, 26*gib, tail.Peak(), 0.01)
}
