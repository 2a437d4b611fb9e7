package accelerator_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/recommender/accelerator"
)

// legal checks a layout by counting, slice by slice.
func legal(m accelerator.Model, instances []accelerator.Instance) bool {
	taken := map[int]bool{}
	compute, media := 0, 0
	counts := map[string]int{}
	for _, instance := range instances {
		p, ok := m.Profile(instance.Profile)
		if !ok || !slices.Contains(p.Starts, instance.Start) {
			return false
		}
		for i := range p.Memory {
			if taken[instance.Start+i] {
				return false
			}
			taken[instance.Start+i] = true
		}
		compute += p.Compute
		if p.Name[len(p.Name)-1] == 'e' { // +me
			media++
		}
		if counts[p.Name]++; counts[p.Name] > p.Most {
			return false
		}
	}
	return compute <= m.ComputeSlices && media <= 1
}

// dumbPack tries every start for every profile and looks at the end whether the layout is legal.
func dumbPack(m accelerator.Model, layout []accelerator.Instance, profiles []string) bool {
	if len(profiles) == 0 {
		return legal(m, layout)
	}
	p, ok := m.Profile(profiles[0])
	if !ok {
		return false
	}
	for _, start := range p.Starts {
		if dumbPack(m, append(slices.Clone(layout), accelerator.Instance{Profile: p.Name, Start: start}), profiles[1:]) {
			return true
		}
	}
	return false
}

// layout makes some legal layout, some of it busy.
func layout(random *rand.Rand, m accelerator.Model) []accelerator.Instance {
	var instances []accelerator.Instance
	for range random.IntN(6) {
		p := m.Profiles[random.IntN(len(m.Profiles))]
		next := append(slices.Clone(instances), accelerator.Instance{
			Profile: p.Name, Start: p.Starts[random.IntN(len(p.Starts))], Busy: random.IntN(2) == 0,
		})
		if legal(m, next) {
			instances = next
		}
	}
	return instances
}

func busy(instances []accelerator.Instance) []accelerator.Instance {
	return slices.DeleteFunc(slices.Clone(instances), func(i accelerator.Instance) bool { return !i.Busy })
}

func TestPackAgainstTryingAll(t *testing.T) {
	random := source(t)
	models := []string{"NVIDIA H200", "NVIDIA A30", "NVIDIA A100-SXM4-40GB", "NVIDIA RTX PRO 6000 Blackwell Server Edition"}
	found := 0
	for range 3000 {
		m, _ := accelerator.Find(models[random.IntN(len(models))])
		existing := layout(random, m)
		var want []string
		for range 1 + random.IntN(4) {
			want = append(want, m.Profiles[random.IntN(len(m.Profiles))].Name)
		}
		placed, ok := accelerator.Pack(m, existing, want)
		at := fmt.Sprintf("%s: %v next to %+v", m.Name, want, existing)
		require.Equal(t, dumbPack(m, busy(existing), want), ok, at)
		if !ok {
			continue
		}
		found++
		require.True(t, legal(m, append(busy(existing), placed...)), "%s: %+v", at, placed)
		var names []string
		for _, instance := range placed {
			names = append(names, instance.Profile)
		}
		slices.Sort(names)
		slices.Sort(want)
		require.Equal(t, want, names, at)
	}
	assert.Greater(t, found, 300, "hardly any case fits: the test shows little")
}

// The mixes of NVIDIA's default configurations (mig-parted, all-balanced) must fit, and what is just too much must not.
func TestKnownMixes(t *testing.T) {
	for _, c := range []struct {
		model string
		mix   []string
		fits  bool
	}{
		{"NVIDIA H200", []string{"1g.18gb", "1g.18gb", "2g.35gb", "3g.71gb"}, true},
		{"NVIDIA B200", []string{"1g.23gb", "1g.23gb", "2g.45gb", "3g.90gb"}, true},
		{"NVIDIA H100 NVL", []string{"1g.12gb", "2g.24gb", "3g.47gb"}, true},
		{"NVIDIA A30", []string{"1g.6gb", "1g.6gb", "2g.12gb"}, true},
		{"NVIDIA H200", []string{"4g.71gb", "3g.71gb"}, true},
		{"NVIDIA H200", []string{"4g.71gb", "4g.71gb"}, false},
		{"NVIDIA H200", []string{"3g.71gb", "3g.71gb", "1g.18gb"}, false}, // 7 compute slices, but no memory slice is left
		{"NVIDIA H200", []string{"3g.71gb", "2g.35gb", "1g.35gb"}, true},
		{"NVIDIA H200", []string{"1g.18gb+me", "1g.18gb+me"}, false},
		{"NVIDIA H200", []string{"7g.141gb", "1g.18gb"}, false},
		{"NVIDIA H200", []string{"1g.10gb"}, false}, // another model's
	} {
		m, _ := accelerator.Find(c.model)
		_, ok := accelerator.Pack(m, nil, c.mix)
		assert.Equal(t, c.fits, ok, "%s %v", c.model, c.mix)
	}
}
