package accelerator_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/recommender/accelerator"
)

// products are names as drivers and GPU Feature Discovery write them, with the profile that tells the model.
func products() map[string]string {
	return map[string]string{
		"NVIDIA A100-SXM4-40GB":                           "7g.40gb",
		"NVIDIA A100-PCIE-40GB":                           "7g.40gb",
		"NVIDIA A100 80GB PCIe":                           "7g.80gb",
		"NVIDIA-A100-SXM4-80GB":                           "7g.80gb",
		"NVIDIA A30":                                      "4g.24gb",
		"NVIDIA H100 80GB HBM3":                           "7g.80gb",
		"NVIDIA-H100-80GB-HBM3-MIG-1g.10gb":               "7g.80gb",
		"NVIDIA H100 PCIe":                                "7g.80gb",
		"NVIDIA H100 NVL":                                 "7g.94gb",
		"NVIDIA H100 94GB":                                "7g.94gb",
		"NVIDIA H20":                                      "7g.96gb",
		"NVIDIA H200":                                     "7g.141gb",
		"NVIDIA H200 NVL":                                 "7g.141gb",
		"nvidia h200 141gb hbm3e":                         "7g.141gb",
		"NVIDIA GH200 480GB":                              "7g.96gb",
		"NVIDIA GH200 144G HBM3e":                         "7g.144gb",
		"NVIDIA B200":                                     "7g.180gb",
		"NVIDIA GB200":                                    "7g.189gb",
		"NVIDIA B300 SXM6 AC":                             "7g.269gb",
		"NVIDIA RTX PRO 6000 Blackwell Server Edition":    "4g.96gb",
		"NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition":    "4g.96gb",
		"NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation": "4g.96gb",
	}
}

func TestFind(t *testing.T) {
	for product, profile := range products() {
		m, ok := accelerator.Find(product)
		require.True(t, ok, product)
		assert.Equal(t, product, m.Name)
		_, ok = m.Profile(profile)
		assert.True(t, ok, "%s has no %s", product, profile)
	}
	for _, product := range []string{"NVIDIA L40S", "NVIDIA L4", "Tesla T4", "NVIDIA A10G"} {
		m, ok := accelerator.Find(product)
		require.True(t, ok, product)
		assert.Empty(t, m.Profiles, product)
		assert.Positive(t, m.Bytes, product)
	}
	for _, product := range []string{"", "NVIDIA", "AMD Instinct MI300X", "NVIDIA H2000", "RTX PRO 600", "MIG 1g.18gb"} {
		m, ok := accelerator.Find(product)
		assert.False(t, ok, product)
		assert.Equal(t, accelerator.Model{Name: product}, m)
	}
}

// What the user guide says in one place (number of instances) must follow from what it says in another (placements), and a profile's
// name from its slices.
func TestTheTableAgreesWithItself(t *testing.T) {
	for product := range products() {
		m, _ := accelerator.Find(product)
		var slice float64 // the least GB of a memory slice by a name
		for _, p := range m.Profiles {
			assert.Equal(t, p.Most, accelerator.Room(m, nil, p.Name), "instances of %s %s", product, p.Name)
			var compute, gb int
			_, err := fmt.Sscanf(p.Name, "%dg.%dgb", &compute, &gb)
			require.NoError(t, err, p.Name)
			assert.Equal(t, compute, p.Compute, "%s %s", product, p.Name)
			per := float64(gb) / float64(p.Memory)
			if slice == 0 {
				slice = per
			}
			assert.InEpsilon(t, slice, per, 0.08, "GB per slice of %s %s", product, p.Name)
			gib := float64(p.Bytes) / (1 << 30)
			assert.Greater(t, gib, 0.8*float64(gb), "%s %s", product, p.Name)
			assert.LessOrEqual(t, gib, float64(gb), "%s %s", product, p.Name)
			for _, start := range p.Starts {
				assert.LessOrEqual(t, start+p.Memory, m.MemorySlices, "%s %s at %d", product, p.Name, start)
			}
		}
	}
}

func TestResourceNames(t *testing.T) {
	m, _ := accelerator.Find("NVIDIA H200")
	names := map[string]bool{}
	for _, s := range m.Sizes([]accelerator.Sharing{accelerator.Whole, accelerator.MIG, accelerator.TimeSlicing}, nil, []int{4}) {
		names[s.Resource] = true
	}
	for _, name := range []string{"nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-1g.18gb", "nvidia.com/mig-7g.141gb"} {
		assert.True(t, names[name], name)
	}
	media, ok := m.Profile("1g.18gb+me")
	require.True(t, ok)
	assert.Equal(t, "nvidia.com/mig-1g.18gb.me", media.Resource())
}

func TestSizesComeCheapestFirst(t *testing.T) {
	m, _ := accelerator.Find("NVIDIA H200")
	sizes := m.Sizes([]accelerator.Sharing{accelerator.Whole, accelerator.MIG}, map[string]int64{"1g.18gb": 17 << 30}, nil)
	var names []string
	for _, s := range sizes {
		names = append(names, s.String())
	}
	assert.Equal(t, "1g.18gb 1g.35gb 2g.35gb 3g.71gb 4g.71gb a whole GPU 7g.141gb", strings.Join(names, " "))
	assert.Equal(t, int64(17<<30), sizes[0].Bytes, "what a driver reports counts")
}
