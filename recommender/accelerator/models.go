package accelerator

import (
	"slices"
	"strings"
)

// Sources of the table, read in November 2026:
//   - names, slices and numbers of instances: NVIDIA Multi-Instance GPU User Guide, "Supported MIG Profiles" and, for B300 and GB200,
//     the configurations of NVIDIA/mig-parted and the GPU Operator's release notes 25.10.0;
//   - placements: the guide's output of nvidia-smi mig -lgipp, which is the same for A100, H100 and H200 ({0,2,4,6}:2 for the 1g
//     profiles of double memory, {0,2,4}:2 for 2g, {0,4}:4 for 3g, {0}:4 for 4g). An RTX PRO 6000 counts twelfths ({0,3,6,9}:3); the
//     table counts its quarters;
//   - memory and SMs: nvidia-smi mig -lgip, as quoted in the guide and in NVIDIA/mig-parted#101, #120, #139, #187,
//     NVIDIA/gpu-operator#1303, #1351 and bigstack-oss/cubecos#312. Drivers differ (B200's 1g.23gb: 20.5 or 22 GiB), and the least
//     is taken. Whole GPUs: nvidia-smi without MIG.

// Find finds a model by the driver's product name ("NVIDIA H100 80GB HBM3"), or by what GPU Feature Discovery makes of it
// ("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"). Case, "NVIDIA" and what joins the words do not matter. ok is false for a model that is
// not in the table; the result then has a name only.
func Find(product string) (m Model, ok bool) {
	words := strings.FieldsFunc(strings.ToUpper(product), func(r rune) bool { return r == ' ' || r == '-' || r == '_' })
	if i := slices.Index(words, "MIG"); i >= 0 {
		words = words[:i]
	}
	has := func(all ...string) bool {
		return !slices.ContainsFunc(all, func(word string) bool { return !slices.Contains(words, word) })
	}
	for _, entry := range table() {
		if slices.ContainsFunc(entry.words, func(alternative string) bool { return has(strings.Fields(alternative)...) }) {
			m = entry.model()
			m.Name = product
			return m, true
		}
	}
	return Model{Name: product}, false
}

type entry struct {
	words []string // alternatives, all words of which must be there
	model func() Model
}

// table lists the models; the first entry that matches counts, so the closer one comes first.
func table() []entry {
	plain := func(mib int64, sms int) func() Model {
		return func() Model { return Model{Bytes: mib << 20, SMs: sms} }
	}
	return []entry{
		{[]string{"GH200 144G"}, gh200Large},
		{[]string{"GH200"}, gh200},
		{[]string{"GB200"}, gb200},
		{[]string{"B300"}, b300},
		{[]string{"B200"}, b200},
		{[]string{"H200"}, h200},
		{[]string{"H100 NVL", "H100 94GB", "H800 NVL"}, h100NVL},
		{[]string{"H100 PCIE", "H800 PCIE"}, h100PCIe},
		{[]string{"H100", "H800"}, h100},
		{[]string{"H20"}, h20},
		{[]string{"A100 80GB", "A100X", "A800 80GB"}, a100Large},
		{[]string{"A100"}, a100},
		{[]string{"A30"}, a30},
		{[]string{"RTX PRO 6000"}, rtxPro6000},
		{[]string{"L40S"}, plain(46068, 142)},
		{[]string{"L40"}, plain(46068, 142)},
		{[]string{"L4"}, plain(23034, 58)},
		{[]string{"A40"}, plain(46068, 84)},
		{[]string{"A10"}, plain(23028, 72)},
		{[]string{"A10G"}, plain(23028, 80)},
		{[]string{"T4"}, plain(15360, 40)},
	}
}

// figures are GiB and SMs of a profile; GiB 0 if no report is known.
type figures struct {
	name string
	gib  float64
	sms  int
}

// sevenths makes a model of seven compute and eight memory slices out of its profiles 1g, 1g of double memory, 2g, 3g, 4g, 7g.
func sevenths(mib int64, sms int, profiles [6]figures) Model {
	m := Model{Bytes: mib << 20, SMs: sms, ComputeSlices: 7, MemorySlices: 8}
	shapes := [6]Profile{
		{Compute: 1, Memory: 1, Most: 7, Starts: []int{0, 1, 2, 3, 4, 5, 6}},
		{Compute: 1, Memory: 2, Most: 4, Starts: []int{0, 2, 4, 6}},
		{Compute: 2, Memory: 2, Most: 3, Starts: []int{0, 2, 4}},
		{Compute: 3, Memory: 4, Most: 2, Starts: []int{0, 4}},
		{Compute: 4, Memory: 4, Most: 1, Starts: []int{0}},
		{Compute: 7, Memory: 8, Most: 1, Starts: []int{0}},
	}
	for i, f := range profiles {
		m.Profiles = append(m.Profiles, f.fill(shapes[i]))
	}
	return m.withMedia()
}

// quarters makes a model of four slices out of its profiles 1g, 2g and 4g.
func quarters(mib int64, sms int, profiles [3]figures) Model {
	m := Model{Bytes: mib << 20, SMs: sms, ComputeSlices: 4, MemorySlices: 4}
	shapes := [3]Profile{
		{Compute: 1, Memory: 1, Most: 4, Starts: []int{0, 1, 2, 3}},
		{Compute: 2, Memory: 2, Most: 2, Starts: []int{0, 2}},
		{Compute: 4, Memory: 4, Most: 1, Starts: []int{0}},
	}
	for i, f := range profiles {
		m.Profiles = append(m.Profiles, f.fill(shapes[i]))
	}
	return m.withMedia()
}

// withMedia adds the smallest profile with the media engines, of which a GPU can hold one.
func (m Model) withMedia() Model {
	media := m.Profiles[0]
	media.Name, media.Most = media.Name+"+me", 1
	m.Profiles = append(m.Profiles, media)
	return m
}

// worst is the least usable GiB per GB of a name among the models whose reports are known: 1g.18gb has 16 GiB, 1g.24gb of a GB200
// 20. A profile of which no report is known is given a little less.
const worst = 0.83

func (f figures) fill(p Profile) Profile {
	p.Name, p.SMs = f.name, f.sms
	gib := f.gib
	if gib == 0 {
		p.Estimated = true
		gib = worst * float64(nominal(f.name))
	}
	p.Bytes = int64(gib*1024) << 20
	return p
}

// nominal is the GB that a profile's name says, 0 if it says none.
func nominal(name string) int {
	_, name, _ = strings.Cut(name, ".")
	gb := 0
	for _, r := range name {
		if r < '0' || r > '9' {
			break
		}
		gb = 10*gb + int(r-'0')
	}
	return gb
}

func a30() Model {
	return quarters(24576, 56, [3]figures{{"1g.6gb", 5.8125, 14}, {"2g.12gb", 11.6875, 28}, {"4g.24gb", 23.4375, 56}})
}

func rtxPro6000() Model {
	return quarters(97871, 188, [3]figures{{"1g.24gb", 23.125, 46}, {"2g.48gb", 47.375, 94}, {"4g.96gb", 95, 188}})
}

func a100() Model {
	return sevenths(40960, 108, [6]figures{
		{"1g.5gb", 4.75, 14}, {"1g.10gb", 9.625, 14}, {"2g.10gb", 9.625, 28}, {"3g.20gb", 19.5, 42}, {"4g.20gb", 19.5, 56}, {"7g.40gb", 39.25, 98},
	})
}

func a100Large() Model {
	return sevenths(81920, 108, [6]figures{
		{"1g.10gb", 9.5, 14}, {"1g.20gb", 19.5, 14}, {"2g.20gb", 19.5, 28}, {"3g.40gb", 39.25, 42}, {"4g.40gb", 39.25, 56}, {"7g.80gb", 78.5, 98},
	})
}

func h100() Model {
	return sevenths(81559, 132, [6]figures{
		{"1g.10gb", 9.75, 16}, {"1g.20gb", 19.625, 26}, {"2g.20gb", 19.625, 32}, {"3g.40gb", 39.5, 60}, {"4g.40gb", 39.5, 64}, {"7g.80gb", 79.25, 132},
	})
}

func h100PCIe() Model {
	return sevenths(81559, 114, [6]figures{
		{"1g.10gb", 9.75, 14}, {"1g.20gb", 19.625, 14}, {"2g.20gb", 19.625, 30}, {"3g.40gb", 39.5, 46}, {"4g.40gb", 39.5, 62}, {"7g.80gb", 79.25, 114},
	})
}

func h100NVL() Model {
	return sevenths(95830, 132, [6]figures{
		{"1g.12gb", 10.625, 16}, {"1g.24gb", 21.5, 26}, {"2g.24gb", 21.5, 32}, {"3g.47gb", 46.125, 60}, {"4g.47gb", 46.125, 64}, {"7g.94gb", 92.625, 132},
	})
}

func h20() Model {
	return sevenths(97871, 78, [6]figures{{"1g.12gb", 0, 0}, {"1g.24gb", 0, 0}, {"2g.24gb", 0, 0}, {"3g.48gb", 0, 0}, {"4g.48gb", 0, 0}, {"7g.96gb", 0, 0}})
}

func gh200() Model {
	return sevenths(97871, 132, [6]figures{
		{"1g.12gb", 11, 16}, {"1g.24gb", 23, 26}, {"2g.24gb", 23, 32}, {"3g.48gb", 46.5, 60}, {"4g.48gb", 46.5, 64}, {"7g.96gb", 93, 132},
	})
}

func gh200Large() Model {
	return sevenths(0, 132, [6]figures{
		{"1g.18gb", 17.5, 16}, {"1g.36gb", 35.25, 26}, {"2g.36gb", 35.25, 32}, {"3g.72gb", 0, 60}, {"4g.72gb", 0, 64}, {"7g.144gb", 0, 132},
	})
}

func h200() Model {
	return sevenths(143771, 132, [6]figures{
		{"1g.18gb", 16, 16}, {"1g.35gb", 32.25, 26}, {"2g.35gb", 32.25, 32}, {"3g.71gb", 69.5, 60}, {"4g.71gb", 69.5, 64}, {"7g.141gb", 140, 132},
	})
}

func b200() Model {
	return sevenths(183359, 148, [6]figures{
		{"1g.23gb", 20.5, 18}, {"1g.45gb", 44.25, 30}, {"2g.45gb", 44.25, 36}, {"3g.90gb", 0, 0}, {"4g.90gb", 0, 0}, {"7g.180gb", 0, 0},
	})
}

func gb200() Model {
	return sevenths(0, 152, [6]figures{
		{"1g.24gb", 20, 18}, {"1g.47gb", 45.5, 32}, {"2g.47gb", 45.5, 38}, {"3g.95gb", 0, 0}, {"4g.95gb", 0, 0}, {"7g.189gb", 0, 0},
	})
}

func b300() Model {
	return sevenths(275040, 0, [6]figures{
		{"1g.34gb", 0, 0}, {"1g.67gb", 0, 0}, {"2g.67gb", 0, 0}, {"3g.135gb", 0, 0}, {"4g.135gb", 0, 0}, {"7g.269gb", 0, 0},
	})
}
