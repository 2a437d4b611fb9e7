package simulate_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/simulate"
)

// convoy is several ordeals on one cluster, with one budget.
type convoy struct {
	*simulate.Fleet
	random  *rand.Rand
	members []*ordeal
	log     []string
	scaled  map[string]int // the most replicas in the last minute, and when they were last that many
	since   map[string]time.Time
	seconds int
	dirty   bool
	at      map[string][]int // when each gets new templates
}

func newConvoy(t *testing.T, seed uint64) *convoy {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 11))
	size := 2 + random.IntN(2)
	budget := 1 + random.IntN(4)
	var setups []simulate.Setup
	total := budget + random.IntN(3)
	for range size {
		s := drawSetup(random)
		if s.Kind == rollout.DaemonSet {
			s.Kind = rollout.Deployment // whose nodes would be the others', too
		}
		setups = append(setups, s)
		total += s.Replicas
	}
	c := &convoy{
		Fleet:  &simulate.Fleet{Cluster: simulate.NewCluster(total/2, total-total/2), Budget: budget, Drivers: map[string]*simulate.Driver{}},
		random: random, scaled: map[string]int{}, since: map[string]time.Time{}, at: map[string][]int{},
	}
	for i, s := range setups {
		p := drawPolicy(random, s.Kind)
		o := addOrdeal(c.Cluster, s, p, random, &c.log)
		o.name, o.Most = string(rune('a'+i)), budget
		if random.IntN(3) == 0 {
			o.Sources = []rollout.Source{{Kind: rollout.Provision, Name: "spot", Replicas: 1 + random.IntN(budget), Delay: time.Minute}}
		}
		c.members, c.Order, c.Drivers[o.name] = append(c.members, o), append(c.Order, o.name), o.Driver
		// All at once at first: that is what a budget is for.
		c.at[o.name] = []int{60, 900 + random.IntN(600)}
	}
	c.log = append(c.log, fmt.Sprintf("budget %d, %d GPUs", budget, total))
	return c
}

// step lets a second pass, and checks.
func (c *convoy) step(t *testing.T) string {
	t.Helper()
	for _, o := range c.members {
		for i, at := range c.at[o.name] {
			if at == c.seconds {
				version := []string{"v2", "v3", "v2bad"}[(i+c.random.IntN(2))%3]
				o.note("template %s; %s", version, o.Policy.Strategy)
				o.World.Write("user", o.World.Fields, version)
			}
		}
		if c.seconds > 100 && c.seconds < 2200 && c.random.IntN(400) == 0 {
			o.disturb([]int{0, 1, 5, 6, 7, 8, 10, 10, 11, 13}[c.random.IntN(10)])
		}
	}
	for _, o := range c.members {
		c.dirty = c.dirty || !o.clean
	}
	require.NoError(t, c.Tick())
	over := 0
	for _, o := range c.members {
		o.clean = !c.dirty // what one takes the others may need
		o.check(t)
		if o.broken != "" {
			return o.name + ": " + o.broken
		}
		over += max(0, o.World.Held()-c.most(o))
	}
	if over > c.Budget {
		return fmt.Sprintf("%d GPUs beyond the services' own are held, of a budget of %d", over, c.Budget)
	}
	return ""
}

// most is how many replicas a service had of its own in the last minute: pods that a scale-down gives up take a moment to end.
func (c *convoy) most(o *ordeal) int {
	now := c.Cluster.Now()
	if n := o.World.Replicas; n >= c.scaled[o.name] || now.Sub(c.since[o.name]) > time.Minute {
		c.scaled[o.name], c.since[o.name] = n, now
	}
	return c.scaled[o.name]
}

// Several rollouts at once, with the decider of each dying and its writes getting lost, never hold more GPUs than their budget
// has, and all come to their end: the same forty convoys each time, and with HEADROOM_FAULTS=all 200 others.
func TestFleets(t *testing.T) {
	base, count := uint64(1), 40
	if os.Getenv("HEADROOM_FAULTS") == "all" {
		base, count = rand.Uint64()%1_000_000_000, 200
	}
	if text := os.Getenv("HEADROOM_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
		base, count = seed, 1
	}
	ends, together := map[string]int{}, 0
	for i := range count {
		seed := base + uint64(i)
		c := newConvoy(t, seed)
		broken := ""
		for ; c.seconds < 9000 && broken == "" && !c.calm(t); c.seconds++ {
			if c.seconds == 2300 {
				c.settle()
			}
			broken = c.step(t)
			together = max(together, c.running(t))
		}
		for _, o := range c.members {
			o.end(t)
			if broken == "" && o.broken != "" {
				broken = o.name + ": " + o.broken
			}
			s, err := o.State()
			require.NoError(t, err)
			ends[string(s.Phase)+" "+s.Reason]++
		}
		if broken != "" {
			t.Fatalf("HEADROOM_SEED=%d: %s\n%s", seed, broken, strings.Join(c.log, "\n"))
		}
	}
	require.Greater(t, together, 1, "no two rollouts ever ran at once")
	t.Logf("seeds from %d: %v", base, ends)
}

// settle ends the faults.
func (c *convoy) settle() {
	for _, o := range c.members {
		o.Command = rollout.Command{ID: "calm", Kind: rollout.Resume, By: "ann"}
		o.Crash, o.Lost, o.webhook["v2"] = nil, nil, rollout.Pass
		if o.World.Replicas == 0 {
			o.World.Scale(4)
		}
	}
}

func (c *convoy) running(t *testing.T) int {
	t.Helper()
	n := 0
	for _, o := range c.members {
		s, err := o.State()
		require.NoError(t, err)
		if s.Phase == rollout.Moving || s.Phase == rollout.Settled {
			n++
		}
	}
	return n
}

func (c *convoy) calm(t *testing.T) bool {
	t.Helper()
	if c.seconds < 2400 || c.seconds%50 > 0 {
		return false
	}
	for _, o := range c.members {
		if !o.calm(t, c.seconds) {
			return false
		}
	}
	return true
}
