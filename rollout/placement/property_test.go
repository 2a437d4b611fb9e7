package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// each runs a property over random clusters, with the seed in every failure.
func each(t *testing.T, n int, f func(t *testing.T, r *rand.Rand, c Cluster, s Shape)) {
	t.Helper()
	first := rand.Uint64() >> 16
	t.Logf("seeds from %d", first)
	for seed := first; seed < first+uint64(n); seed++ {
		r := rand.New(rand.NewPCG(seed, 0))
		c, s := draw(r)
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { f(t, r, c, s) })
	}
}

func fit(t *testing.T, c Cluster, s Shape) Answer {
	t.Helper()
	snapshot, err := NewSnapshot(c)
	require.NoError(t, err)
	a, err := snapshot.Fit(s, 0)
	require.NoError(t, err)
	return a
}

// uncoupled is the shape without what makes nodes depend on each other; one term of anti-affinity may stay.
func uncoupled(s Shape) Shape {
	s.Spread, s.Affinity = nil, nil
	s.AntiAffinity = s.AntiAffinity[:min(1, len(s.AntiAffinity))]
	return s
}

// TestOrderOfInput: nodes and pods come in any order.
func TestOrderOfInput(t *testing.T) {
	each(t, 300, func(t *testing.T, r *rand.Rand, c Cluster, s Shape) {
		want := fit(t, c, s)
		c.Nodes, c.Pods = slices.Clone(c.Nodes), slices.Clone(c.Pods)
		r.Shuffle(len(c.Nodes), func(i, j int) { c.Nodes[i], c.Nodes[j] = c.Nodes[j], c.Nodes[i] })
		r.Shuffle(len(c.Pods), func(i, j int) { c.Pods[i], c.Pods[j] = c.Pods[j], c.Pods[i] })
		require.Equal(t, want, fit(t, c, s))
	})
}

// TestMoreIsNeverLess: a node more, a pod less, a GPU more never lower the count. Not so with topology spread, where a new
// domain with little room holds all others back, nor with affinity, which a pod that goes may have satisfied, or which may
// begin in a new domain that is small.
func TestMoreIsNeverLess(t *testing.T) {
	each(t, 500, func(t *testing.T, r *rand.Rand, c Cluster, s Shape) {
		s = uncoupled(s)
		want := fit(t, c, s).Count
		more, _ := draw(r)
		n := more.Nodes[0]
		n.Name = "another"
		if n.Labels["host"] != "" {
			n.Labels["host"] = n.Name
		}
		c.Nodes = append(c.Nodes, n)
		require.GreaterOrEqual(t, fit(t, c, s).Count, want, "a node more")
		c.Nodes = c.Nodes[:len(c.Nodes)-1]
		if len(c.Pods) > 0 {
			less := c
			less.Pods = slices.Delete(slices.Clone(c.Pods), 0, 1)
			require.GreaterOrEqual(t, fit(t, less, s).Count, want, "a pod less")
		}
		c.Nodes[0].Allocatable["gpu"]++
		require.GreaterOrEqual(t, fit(t, c, s).Count, want, "a GPU more")
	})
}

// TestSpreadCanFall shows that the exception above is one: a new zone without room leaves one pod to each of the others.
func TestSpreadCanFall(t *testing.T) {
	node := func(name string, gpus int64) Node {
		return Node{Name: name, Labels: map[string]string{"zone": name}, Allocatable: Resources{"gpu": gpus, Pods: 10}}
	}
	s := Shape{Namespace: "x", Labels: map[string]string{"app": "a"}, Requests: Resources{"gpu": 1}, Spread: []Spread{{TopologyKey: "zone", MaxSkew: 1, Selector: app("a")}}}
	c := Cluster{Nodes: []Node{node("a", 4), node("b", 4)}}
	require.Equal(t, 8, fit(t, c, s).Count)
	c.Nodes = append(c.Nodes, node("c", 0))
	require.Equal(t, 2, fit(t, c, s).Count)
}

// TestDelta: a chain of what-ifs is the cluster made anew, and leaves what it began with as it was.
func TestDelta(t *testing.T) {
	each(t, 300, func(t *testing.T, r *rand.Rand, c Cluster, s Shape) {
		at, err := NewSnapshot(c)
		require.NoError(t, err)
		first, before := at, fit(t, c, s)
		nodes, pods := slices.Clone(c.Nodes), slices.Clone(c.Pods)
		for step := range 5 {
			var d Delta
			if len(pods) > 0 && r.IntN(2) == 0 {
				i := r.IntN(len(pods))
				d.RemovePods = []Key{pods[i].Key()}
				pods = slices.Delete(pods, i, i+1)
			}
			more, _ := draw(r)
			if r.IntN(3) == 0 {
				n := more.Nodes[0]
				n.Name = fmt.Sprint("more", step)
				d.AddNodes = []Node{n}
				nodes = append(nodes, n)
			}
			if len(nodes) > 1 && r.IntN(4) == 0 {
				name := nodes[0].Name
				d.RemoveNodes = []string{name}
				nodes = nodes[1:]
				pods = slices.DeleteFunc(pods, func(p Pod) bool { return p.Node == name })
			}
			for i, p := range more.Pods {
				p.Name, p.Node = fmt.Sprint("more", step, "-", i), nodes[r.IntN(len(nodes))].Name
				p.Nominated = r.IntN(5) == 0
				d.AddPods = append(d.AddPods, p)
				pods = append(pods, p)
			}
			at, err = at.With(d)
			require.NoError(t, err)
			a, err := at.Fit(s, 0)
			require.NoError(t, err)
			require.Equal(t, fit(t, Cluster{Nodes: nodes, Pods: pods}, s), a)
		}
		a, err := first.Fit(s, 0)
		require.NoError(t, err)
		require.Equal(t, before, a)
	})
}

// TestMakeRoom: the victims make the room, none of them in vain; and for one pod more without coupling they are as few as any
// set of pods that makes room.
func TestMakeRoom(t *testing.T) {
	made := 0
	each(t, 600, func(t *testing.T, r *rand.Rand, c Cluster, s Shape) {
		for i := range c.Pods {
			c.Pods[i].Priority = int32(r.IntN(8))
		}
		free := r.IntN(2) == 0
		if free {
			s = uncoupled(s)
			s.AntiAffinity = nil
			for i := range c.Pods {
				c.Pods[i].AntiAffinity = nil
			}
		}
		snapshot, err := NewSnapshot(c)
		require.NoError(t, err)
		now := fit(t, c, s).Count
		k := now + 1
		room, err := snapshot.MakeRoom(s, k, func(*Pod) bool { return true })
		require.NoError(t, err)
		var gone []Key
		for _, v := range room.Victims {
			require.Less(t, v.Priority, s.Priority)
			gone = append(gone, v.Key)
		}
		count := func(gone []Key) int {
			t.Helper()
			u, err := snapshot.With(Delta{RemovePods: gone})
			require.NoError(t, err)
			a, err := u.Fit(s, k)
			require.NoError(t, err)
			return a.Count
		}
		require.Equal(t, now, room.Now)
		require.Equal(t, room.Count, count(gone))
		for i := range gone {
			require.Less(t, count(slices.Delete(slices.Clone(gone), i, i+1)), room.Count, "%s could be spared", gone[i])
		}
		if room.Count > now {
			made++
		}
		if !free {
			return
		}
		fewest := -1
		for set := range 1 << len(c.Pods) {
			var some []Key
			for i := range c.Pods {
				if p := &c.Pods[i]; set&(1<<i) != 0 {
					some = append(some, p.Key())
					if p.Priority >= s.Priority || p.Terminating {
						some = append(some, Key{}) // not to be had
					}
				}
			}
			if slices.Contains(some, Key{}) || count(some) < k {
				continue
			}
			if fewest < 0 || len(some) < fewest {
				fewest = len(some)
			}
		}
		if fewest < 0 {
			require.Equal(t, now, room.Count)
			return
		}
		require.Equal(t, k, room.Count)
		require.Len(t, gone, fewest)
	})
	t.Logf("room was made in %d clusters", made)
	require.Positive(t, made)
}
