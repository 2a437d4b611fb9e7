package rollout_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/rollout"
)

// second by second, with a variable for each pod: what a rolling update does with so many GPUs, the dumb way. One thing a second
// is done by the Deployment controller.
type dumb struct {
	replicas, gpus, surge, unavailable, load, drain int
}

type dumbPod struct {
	fresh             bool
	bound, deleted    int // when, -1: not
	leaves, readyFrom int
}

func (d dumb) run() (makespan, least int, done bool) {
	var pods []*dumbPod
	for range d.replicas {
		pods = append(pods, &dumbPod{bound: 0, deleted: -1})
	}
	least = d.replicas
	for t := range 200_000 {
		kept, gone := pods[:0:0], 0
		for _, p := range pods {
			if p.deleted >= 0 && t >= p.leaves {
				gone++
				continue
			}
			kept = append(kept, p)
		}
		pods = kept
		bind := func() {
			used := 0
			for _, p := range pods {
				if p.bound >= 0 {
					used++
				}
			}
			for _, p := range pods {
				if p.bound < 0 && used < d.gpus {
					p.bound, p.readyFrom = t, t+d.load
					used++
				}
			}
		}
		bind()
		ready := func(p *dumbPod) bool { return p.deleted < 0 && p.bound >= 0 && t >= p.readyFrom }
		old, fresh, available := 0, 0, 0
		for _, p := range pods {
			if p.deleted < 0 {
				if p.fresh {
					fresh++
				} else {
					old++
				}
			}
			if ready(p) {
				available++
			}
		}
		if old == 0 && fresh == available && fresh == d.replicas && len(pods) == d.replicas {
			return t, least, true
		}
		acted := false
		for old+fresh < d.replicas+d.surge && fresh < d.replicas {
			pods = append(pods, &dumbPod{fresh: true, bound: -1, deleted: -1})
			fresh++
			acted = true
		}
		for _, p := range pods {
			if !acted && !p.fresh && p.deleted < 0 && available > d.replicas-d.unavailable {
				p.deleted, p.leaves = t, t+d.drain
				available--
			}
		}
		bind()
		least = min(least, available)
	}
	return 0, least, false
}

func eight(gpus int, demand float64) rollout.Request {
	return rollout.Request{
		Service: rollout.Service{
			Replicas: 8, GPUs: 1, Capacity: 10, Router: true,
			StartUp: rollout.Span{P50: 180 * time.Second, P90: 180 * time.Second}, Drain: rollout.Span{P50: 30 * time.Second, P90: 30 * time.Second},
		},
		Demand:  rollout.Constant(demand),
		Sources: []rollout.Source{{Kind: rollout.Free, Replicas: gpus - 8}, {Kind: rollout.Spare}},
	}
}

// The table of 8 replicas of one GPU each, that load for 180 s and drain for 30 s.
func TestOracleHasTheTable(t *testing.T) {
	for _, row := range []struct {
		gpus, surge, unavailable, makespan, least int
	}{
		{8, 1, 0, 0, 8},
		{8, 0, 1, 1680, 7},
		{9, 1, 0, 1680, 8},
		{9, 1, 1, 841, 7},
		{9, 2, 2, 631, 6},
		{10, 2, 0, 840, 8},
		{16, 8, 0, 210, 8},
		{9, 1, 3, 421, 5},
	} {
		makespan, least, done := dumb{8, row.gpus, row.surge, row.unavailable, 180, 30}.run()
		require.Equal(t, row.makespan != 0, done, "%+v", row)
		require.Equal(t, row.makespan, makespan, "%+v", row)
		require.Equal(t, row.least, least, "%+v", row)
	}
}

func TestJointRule(t *testing.T) {
	for _, row := range []struct {
		gpus               int
		demand             float64
		surge, unavailable int
		makespan           time.Duration
		least              int
	}{
		{9, 62, 1, 1, 841 * time.Second, 7},
		{9, 75, 1, 0, 1680 * time.Second, 8},
		{9, 50, 1, 3, 421 * time.Second, 5},
		{8, 62, 0, 1, 1680 * time.Second, 7},
		{10, 75, 2, 0, 840 * time.Second, 8},
		{16, 75, 8, 0, 210 * time.Second, 8},
	} {
		s, refusal := rollout.Plan(eight(row.gpus, row.demand))
		require.Nil(t, refusal)
		require.Len(t, s.Steps, 1)
		require.Equal(t, []int{row.surge, row.unavailable, row.least}, []int{s.Steps[0].Surge, s.Steps[0].Unavailable, s.Steps[0].Least}, "%+v", row)
		require.Equal(t, row.makespan, s.Makespan, "%+v", row)
	}
	_, refusal := rollout.Plan(eight(8, 75))
	require.NotNil(t, refusal)
	require.Equal(t, rollout.NoCapacity, refusal.Reason)
}

func TestPlanAgainstOracle(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	worst := 0.0
	defer func() { t.Logf("worst %v", worst) }()
	for range 120 {
		n := 1 + random.IntN(12)
		r := eight(8, float64(random.IntN(10*n+1)))
		r.Service.Replicas = n
		load, drain := 1+random.IntN(100), 1+random.IntN(40)
		r.Service.StartUp = rollout.Span{P50: time.Duration(load) * time.Second, P90: time.Duration(load) * time.Second}
		r.Service.Drain = rollout.Span{P50: time.Duration(drain) * time.Second, P90: time.Duration(drain) * time.Second}
		free := random.IntN(n + 2)
		r.Sources[0].Replicas = free
		s, refusal := rollout.Plan(r)
		need := int((r.Demand.Points[0].Value + 9) / 10)
		if refusal != nil {
			require.True(t, free == 0 && need == n, "refused %+v: %s", r, refusal)
			continue
		}
		step := s.Steps[0]
		what := fmt.Sprintf("n %d free %d load %d drain %d need %d: %+v", n, free, load, drain, need, step)
		makespan, least, done := dumb{n, n + free, step.Surge, step.Unavailable, load, drain}.run()
		require.True(t, done, what)
		require.Equal(t, time.Duration(makespan)*time.Second, s.Makespan, what)
		require.Equal(t, least, step.Least, what)
		require.GreaterOrEqual(t, least, need, what)
		// No setting that keeps as much is faster.
		for su := range free + 1 {
			for un := range n - need + 1 {
				if other, _, ok := (dumb{n, n + free, min(su, n), un, load, drain}).run(); ok && su+un > 0 && random.IntN(4) == 0 {
					worst = max(worst, float64(makespan-other)/float64(load+drain))
					require.LessOrEqual(t, makespan, other+load+drain, "%s; %d/%d is faster", what, su, un)
				}
			}
		}
	}
}
