package compare

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func zero() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func at(seconds float64) time.Time { return zero().Add(time.Duration(seconds * float64(time.Second))) }

func TestAReplicaIsPaidFromCreationUntilItIsGone(t *testing.T) {
	l := newLedger()
	l.see(at(0), seen{pod: "a"})
	l.see(at(60), seen{pod: "a", ready: true})
	l.see(at(70), seen{pod: "a"}) // not Ready for a moment: it does not load again
	l.see(at(71), seen{pod: "a", ready: true})
	l.see(at(100), seen{pod: "a", ready: true, deleting: true})
	require.Equal(t, counts{Leaving: 1}, l.now())
	l.gone(at(105), "a")
	l.gone(at(200), "a") // told twice
	l.gone(at(200), "never seen")
	require.Equal(t, counts{}, l.now())
	require.Equal(t, usage{replicas: 105 * time.Second, loading: 60 * time.Second}, l.use(at(0), at(1000)))
	require.Equal(t, usage{replicas: 20 * time.Second, loading: 10 * time.Second}, l.use(at(50), at(70)), "cut at both ends")
	require.Equal(t, usage{}, l.use(at(105), at(1000)), "afterwards")
	require.Equal(t, time.Minute, l.loadTime(at(0), at(1)))
	require.Zero(t, l.loadTime(at(1), at(2)), "nothing was created then")
}

func TestAPodThatStillLoadsOrNeverDidCounts(t *testing.T) {
	l := newLedger()
	l.see(at(10), seen{pod: "loads"})
	l.see(at(20), seen{pod: "killed"})
	l.see(at(40), seen{pod: "killed", deleting: true})
	l.gone(at(45), "killed")
	l.see(at(50), seen{pod: "vanished"})
	l.gone(at(55), "vanished") // whose mark was never seen
	require.Equal(t, counts{Loading: 1}, l.now())
	require.Equal(t, usage{replicas: 120 * time.Second, loading: 120 * time.Second, killedLoading: 2}, l.use(at(0), at(100)))
	require.Equal(t, 1, l.use(at(0), at(50)).killedLoading, "on the day on which it was killed")
	before := l.clone()
	l.gone(at(60), "loads")
	require.Equal(t, counts{Loading: 1}, before.now(), "a copy stays as it was")
}

// TestUseAddsUp compares the sums with a dumb count of every pod at every second, and days with their whole.
func TestUseAddsUp(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	const length = 300
	for range 50 {
		l := newLedger()
		paid, loading := make([]int, length), make([]int, length)
		for p := range 20 {
			created := rng.IntN(length)
			ready, removed := created+rng.IntN(length), created+rng.IntN(length)
			name := fmt.Sprint(p)
			l.see(at(float64(created)), seen{pod: name})
			if ready < removed {
				l.see(at(float64(ready)), seen{pod: name, ready: true})
			}
			if removed < length {
				l.gone(at(float64(removed)), name)
			}
			for s := created; s < min(removed, length); s++ {
				paid[s]++
				if s < ready {
					loading[s]++
				}
			}
		}
		cut := rng.IntN(length)
		count := func(from, to int) usage {
			u := usage{}
			for s := from; s < to; s++ {
				u.replicas += time.Duration(paid[s]) * time.Second
				u.loading += time.Duration(loading[s]) * time.Second
			}
			return u
		}
		for _, part := range [][2]int{{0, cut}, {cut, length}, {0, length}} {
			got := l.use(at(float64(part[0])), at(float64(part[1])))
			got.killedLoading = 0
			require.Equal(t, count(part[0], part[1]), got, part)
		}
	}
}
