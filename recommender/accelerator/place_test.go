package accelerator_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/recommender/accelerator"
)

// used is what a GPU holds in the dumb search.
type used struct {
	whole  bool
	slices int
	mig    []accelerator.Instance
}

// dumbPlace tries every GPU and every start for every device.
func dumbPlace(gpus []accelerator.GPU, nodes []string, state []used, demands []accelerator.Demand, podNode string, left int) bool {
	if len(demands) == 0 {
		return true
	}
	d := demands[0]
	if d.Count == 0 {
		return dumbPlace(gpus, nodes, state, demands[1:], "", 0)
	}
	if left == 0 {
		podNode, left = "", max(1, d.PerNode)
	}
	rest := slices.Clone(demands)
	rest[0].Count--
	for i, gpu := range gpus {
		if gpu.Model != d.Model || podNode != "" && nodes[i] != podNode {
			continue
		}
		m, _ := accelerator.Find(gpu.Model)
		for _, next := range dumbMoves(m, gpu, state[i], d.Size) {
			after := slices.Clone(state)
			after[i] = next
			if dumbPlace(gpus, nodes, after, rest, nodes[i], left-1) {
				return true
			}
		}
	}
	return false
}

func dumbMoves(m accelerator.Model, gpu accelerator.GPU, now used, size accelerator.Size) []used {
	var moves []used
	switch size.Sharing {
	case accelerator.Whole:
		if !now.whole && now.slices == 0 && len(now.mig) == 0 && gpu.Replicas <= 1 {
			moves = append(moves, used{whole: true})
		}
	case accelerator.TimeSlicing:
		if !now.whole && !gpu.MIG && gpu.Replicas == size.Replicas && now.slices < gpu.Replicas {
			moves = append(moves, used{slices: now.slices + 1})
		}
	case accelerator.MIG:
		p, ok := m.Profile(size.Profile)
		if !ok || now.whole || now.slices > 0 || !gpu.MIG && gpu.Replicas > 1 {
			return nil
		}
		for _, start := range p.Starts {
			if mig := append(slices.Clone(now.mig), accelerator.Instance{Profile: p.Name, Start: start}); legal(m, mig) {
				moves = append(moves, used{mig: mig})
			}
		}
	}
	return moves
}

func cluster(random *rand.Rand, m accelerator.Model) []accelerator.Node {
	var nodes []accelerator.Node
	for i := range 1 + random.IntN(2) {
		node := accelerator.Node{Name: fmt.Sprintf("n%d", i)}
		for k := range 1 + random.IntN(2) {
			gpu := accelerator.GPU{Name: fmt.Sprint(k), Model: m.Name}
			switch random.IntN(4) {
			case 0:
				gpu.Busy = random.IntN(2) == 0
			case 1:
				gpu.Replicas = 2 + random.IntN(2)
				gpu.BusyReplicas = random.IntN(gpu.Replicas + 1)
			default:
				gpu.MIG, gpu.Instances = true, layout(random, m)
			}
			node.GPUs = append(node.GPUs, gpu)
		}
		nodes = append(nodes, node)
	}
	return nodes
}

func TestPlaceAgainstTryingAll(t *testing.T) {
	random := source(t)
	found := 0
	for range 1500 {
		m, _ := accelerator.Find([]string{"NVIDIA H200", "NVIDIA A30"}[random.IntN(2)])
		nodes := cluster(random, m)
		sizes := m.Sizes([]accelerator.Sharing{accelerator.Whole, accelerator.MIG, accelerator.TimeSlicing}, nil, []int{2, 3})
		var demands []accelerator.Demand
		for w := range 1 + random.IntN(2) {
			demands = append(demands, accelerator.Demand{
				Workload: fmt.Sprint("w", w), Model: m.Name, Size: sizes[random.IntN(len(sizes))], Count: 1 + random.IntN(3), PerNode: 1,
			})
			if d := &demands[w]; random.IntN(4) == 0 {
				d.PerNode, d.Count = 2, 2
			}
		}
		var gpus []accelerator.GPU
		var names []string
		var state []used
		for _, node := range nodes {
			for _, gpu := range node.GPUs {
				gpus, names = append(gpus, gpu), append(names, node.Name)
				state = append(state, used{whole: gpu.Busy, slices: gpu.BusyReplicas, mig: busy(gpu.Instances)})
			}
		}
		plan := accelerator.Place(nodes, demands)
		at := fmt.Sprintf("%+v on %+v", demands, nodes)
		require.Equal(t, dumbPlace(gpus, names, state, demands, "", 0), plan.OK, at)
		require.True(t, plan.Proven, at)
		require.NotEmpty(t, plan.Why, at)
		if plan.OK {
			found++
			check(t, nodes, demands, plan, at)
		}
	}
	assert.Greater(t, found, 200, "hardly any case fits: the test shows little")
}

// check counts what a plan gives, and whether each GPU can hold it.
func check(t *testing.T, nodes []accelerator.Node, demands []accelerator.Demand, plan accelerator.Plan, at string) {
	t.Helper()
	given := map[string]int{}
	for _, a := range plan.Assignments {
		given[a.Workload] += a.Count
	}
	for _, d := range demands {
		require.Equal(t, d.Count, given[d.Workload], at)
	}
	for _, node := range nodes {
		for _, gpu := range node.GPUs {
			m, _ := accelerator.Find(gpu.Model)
			var profiles []string
			for _, a := range plan.Assignments {
				if a.Node == node.Name && a.GPU == gpu.Name && a.Size.Sharing == accelerator.MIG {
					profiles = append(profiles, slices.Repeat([]string{a.Size.Profile}, a.Count)...)
				}
			}
			_, ok := accelerator.Pack(m, gpu.Instances, profiles)
			require.True(t, ok, at)
		}
	}
}

func TestPlaceOnAFleetIsQuick(t *testing.T) {
	m, _ := accelerator.Find("NVIDIA H200")
	size := m.Sizes([]accelerator.Sharing{accelerator.MIG}, nil, nil)
	var nodes []accelerator.Node
	for i := range 125 {
		node := accelerator.Node{Name: fmt.Sprint("n", i)}
		for k := range 8 {
			node.GPUs = append(node.GPUs, accelerator.GPU{Name: fmt.Sprint(k), Model: m.Name, MIG: true})
		}
		nodes = append(nodes, node)
	}
	started := time.Now()
	plan := accelerator.Place(nodes, []accelerator.Demand{
		{Workload: "a", Model: m.Name, Size: size[3], Count: 150}, {Workload: "b", Model: m.Name, Size: size[0], Count: 100},
	})
	assert.True(t, plan.OK, plan.Why)
	t.Logf("250 instances on 1000 GPUs in %s", time.Since(started))
	plan = accelerator.Place(nodes, []accelerator.Demand{{Workload: "a", Model: m.Name, Size: size[3], Count: 2001}})
	assert.False(t, plan.OK)
	assert.True(t, plan.Proven)
	assert.Contains(t, plan.Why, "room for 2000")
}
