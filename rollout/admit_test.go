package rollout_test

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/rollout"
)

func claim(name string, priority int, extra ...int) rollout.Claim {
	c := rollout.Claim{Name: name, Priority: priority}
	for _, e := range extra {
		c.Plans = append(c.Plans, rollout.Schedule{Extra: e})
	}
	return c
}

func TestAdmitOrder(t *testing.T) {
	running := claim("running", 0, 2)
	running.Running = true
	got := rollout.Admit(5, []rollout.Claim{
		claim("small", 1, 1), claim("large", 5, 4), claim("free", 0, 0), claim("never", 9, 6), claim("both", 7, 3, 1), running,
	})
	reasons := map[string]string{}
	for _, a := range got {
		reasons[a.Name] = strconv.FormatBool(a.Admitted) + " " + a.Reason
	}
	require.Equal(t, map[string]string{
		"running": "true it is under way",
		"never":   "false it needs 6 GPUs, more than the budget of 5",
		"both":    "true it takes 3 of 3 GPUs left",
		"large":   "false it needs 4 GPUs, and 0 of 5 are left",
		"small":   "false it needs 1 GPU, and 0 of 5 are left",
		"free":    "true it needs no GPUs beyond its own",
	}, reasons)
	got = rollout.Admit(4, []rollout.Claim{running, claim("large", 5, 4), claim("small", 1, 1)})
	require.Equal(t, "2 GPUs are kept for large, which waits for more", got[2].Reason)
	got = rollout.Admit(3, []rollout.Claim{running, claim("both", 7, 3, 1)})
	require.Equal(t, rollout.Admission{Name: "both", Admitted: true, Plan: 1, GPUs: 1, Reason: "it takes 1 of 1 GPU left; its plan 2 does, faster ones do not fit"}, got[1])
}

// Whatever the claims: the budget is kept by those that are new, the order of the list does not matter, and the first that
// waits is not overtaken by anything that takes GPUs.
func TestAdmitKeepsBudget(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 3))
	for range 2000 {
		budget := random.IntN(12)
		var claims []rollout.Claim
		for i := range random.IntN(8) {
			c := claim(strconv.Itoa(i), random.IntN(3), random.IntN(8))
			c.Since = time.Unix(int64(random.IntN(3)), 0)
			if random.IntN(2) == 0 {
				c.Plans = append(c.Plans, rollout.Schedule{Extra: random.IntN(8)})
			}
			claims = append(claims, c)
		}
		got := rollout.Admit(budget, claims)
		random.Shuffle(len(claims), func(i, j int) { claims[i], claims[j] = claims[j], claims[i] })
		require.Equal(t, got, rollout.Admit(budget, claims))
		used, waiting := 0, false
		for _, a := range got {
			require.NotEmpty(t, a.Reason)
			used += a.GPUs
			require.False(t, a.Admitted && a.GPUs > 0 && waiting, "%+v", got)
			for _, c := range claims {
				if least := 100; c.Name == a.Name && !a.Admitted {
					for _, p := range c.Plans {
						least = min(least, p.Extra)
					}
					waiting = waiting || least <= budget
				}
			}
		}
		require.LessOrEqual(t, used, budget)
	}
}

func TestWindows(t *testing.T) {
	night := rollout.Window{Days: []time.Weekday{time.Friday}, From: 22 * time.Hour, To: 6 * time.Hour, Offset: 2 * time.Hour}
	for when, open := range map[string]bool{
		"2026-11-27T20:00:00Z": true, "2026-11-27T19:59:59Z": false, "2026-11-28T03:59:59Z": true, "2026-11-28T04:00:00Z": false,
		"2026-11-28T20:00:00Z": false, "2026-11-27T03:00:00Z": false,
	} {
		at, err := time.Parse(time.RFC3339, when)
		require.NoError(t, err)
		require.Equal(t, open, night.Open(at), when)
	}
}

// BenchmarkPlan plans a service of 5,000 replicas over a day's forecast, and refuses one with everything that would help.
func BenchmarkPlan(b *testing.B) {
	request := func(free int, strategy rollout.Strategy, load float64) rollout.Request {
		r := eight(8, 0)
		r.Now, r.Service.Replicas, r.Policy.Strategy = noon(), 5000, strategy
		r.Sources[0].Replicas = free
		r.Demand = rollout.Forecast{}
		for i := range 48 {
			r.Demand.Points = append(r.Demand.Points, rollout.Point{At: noon().Add(time.Duration(i) * 30 * time.Minute), Value: load + float64(i%7)*100})
		}
		return r
	}
	run := func(name string, refused bool, r rollout.Request) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, refusal := rollout.Plan(r); (refusal != nil) != refused {
					b.Fatal(refusal)
				}
			}
		})
	}
	run("rolling", false, request(100, rollout.Rolling, 45_000))
	run("rolling-tight", false, request(1, rollout.Rolling, 49_390))
	run("canary", false, request(100, rollout.Canary, 45_000))
	run("bluegreen", false, request(2000, rollout.BlueGreen, 30_000))
	run("refused", true, request(0, rollout.Rolling, 49_995))
}
