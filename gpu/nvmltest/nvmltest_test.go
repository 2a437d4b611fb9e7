package nvmltest

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestText(t *testing.T) {
	text, err := Machine{
		Driver: "570.124.06",
		Fault:  "error nvmlInit_v2 9",
		Devices: []Device{
			{
				UUID: "GPU-a", Name: "NVIDIA H100 80GB HBM3", MemoryTotalBytes: 85899345920, MemoryUsedBytes: 1,
				UtilizationPercent: 87, MemoryUtilizationPercent: 12,
				Fault: "hang nvmlDeviceGetName 2000\n\n  error   * 15\n",
			},
			{UUID: "GPU-b", Name: "L4"},
			{
				UUID: "GPU-c", Name: "H100", BusID: "0000000A:B7:1F.0",
				Ring:           []RingSample{{}, {Stamp: 1718900000000000, Percent: 87}},
				Processes:      []Process{{PID: 7, MemoryBytes: 5}, {PID: 8, MemoryBytes: 6, MPS: true}, {PID: 9, MemoryUnknown: true}},
				ProcessSamples: []ProcessSample{{PID: 7, Stamp: 2, SMPercent: 3, MemoryPercent: 4}},
				GPM:            []GPMMetric{{ID: 2, Value: 73.5}, {ID: 248, Value: 1e21}, {ID: 5, Value: math.NaN()}},
				Fields:         []Field{{ID: 230, Value: math.MaxUint64}},
				Accounting:     []Account{{PID: 7, MaxMemoryBytes: 6, Running: true}, {PID: 5}}, AccountingOn: true,
				PowerMilliwatts: 350_000, PowerLimitMilliwatts: 700_000, TemperatureCelsius: 61,
				SMClockMHz: 1980, MemoryClockMHz: 2619, ClockReasons: 1 << 40,
				Events: []Event{{Sequence: 7, XID: 79, GPUInstance: NoInstance}},
				Fault:  "grow nvmlDeviceGetSamples 1", MIG: true,
				Instances: []Instance{{
					UUID: "MIG-a", Name: "H100 MIG 1g.10gb", GPUInstance: 9, ComputeInstance: 1, Slices: 2, MemoryTotalBytes: 10,
					MemoryUsedBytes: 1, Processes: []Process{{PID: 10}}, GPM: []GPMMetric{{ID: 2}}, Fault: "error * 4",
				}},
			},
		},
	}.Text()
	require.NoError(t, err)
	assert.Equal(t, `nvmltest 2
driver 570.124.06
error nvmlInit_v2 9
device GPU-a
name NVIDIA H100 80GB HBM3
memory 85899345920 1
utilization 87 12
hang nvmlDeviceGetName 2000
error * 15
device GPU-b
name L4
memory 0 0
utilization 0 0
device GPU-c
name H100
memory 0 0
utilization 0 0
pci 0000000A:B7:1F.0
power 350000 700000
temperature 61
clocks 1980 2619 1099511627776
ring 0 0
ring 1718900000000000 87
sample 7 2 3 4
process 7 5
mps 8 6
process 9 18446744073709551615
gpm 2 73.5
gpm 248 1e+21
gpm 5 NaN
field 230 18446744073709551615
accounting on
account 7 6 1
account 5 0 0
event 7 79 4294967295
grow nvmlDeviceGetSamples 1
mig on
instance MIG-a
name H100 MIG 1g.10gb
memory 10 1
placement 9 1 2
process 10 0
gpm 2 0
error * 4
`, text)
}

func TestTextRefusesWhatTheLibraryWould(t *testing.T) {
	device := func(d Device) Machine { return Machine{Driver: "1", Devices: []Device{d}} }
	full := func(d Device) Machine {
		d.UUID, d.Name = "GPU-a", "L4"
		return device(d)
	}
	for want, m := range map[string]Machine{
		`driver "" is not one line`:                   {},
		`driver "1\n2" is not one line`:               {Driver: "1\n2"},
		`device 0: device "" is not`:                  device(Device{Name: "L4"}),
		"device 0: name \"" + strings.Repeat("x", 96): device(Device{UUID: "GPU-a", Name: strings.Repeat("x", 96)}),
		`device 0: fault "error a": neither`:          full(Device{Fault: "error a"}),
		`fault "lose a 1": neither`:                   {Driver: "1", Fault: "lose a 1"},
		`fault "hang a -1": strconv`:                  {Driver: "1", Fault: "hang a -1"},
		"17 faults are more than 16":                  {Driver: "1", Fault: strings.Repeat("error a 1\n", 17)},
		"65 devices are more than 64":                 {Driver: "1", Devices: make([]Device, 65)},
		"utilization 4294967296 is more than 32 bits": full(Device{UtilizationPercent: 1 << 32}),
		"clock 4294967296 is more":                    full(Device{SMClockMHz: 1 << 32}),
		`bus ID "00000000:17:00.1" is not`:            full(Device{BusID: "00000000:17:00.1"}),
		"129 ring samples are more than 128":          full(Device{Ring: make([]RingSample, 129)}),
		"257 process samples are more than 256":       full(Device{ProcessSamples: make([]ProcessSample, 257)}),
		"129 processes are more than 128":             full(Device{Processes: make([]Process, 129)}),
		"65 GPM metrics are more than 64":             full(Device{GPM: make([]GPMMetric, 65)}),
		"65 fields are more than 64":                  full(Device{Fields: make([]Field, 65)}),
		"129 accounts are more than 128":              full(Device{Accounting: make([]Account, 129)}),
		"65 events are more than 64":                  full(Device{Events: make([]Event, 65)}),
		"1 instances without MIG":                     full(Device{Instances: make([]Instance, 1)}),
		"9 instances are more than 8":                 full(Device{MIG: true, Instances: make([]Instance, 9)}),
		`device 0: instance "" is not one line`:       full(Device{MIG: true, Instances: make([]Instance, 1)}),
	} {
		_, err := m.Text()
		require.ErrorContains(t, err, want)
		require.Error(t, m.WriteFile(filepath.Join(t.TempDir(), "machine")))
	}
}

func TestWriteFileReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "machine")
	for _, driver := range []string{"1", "2"} {
		require.NoError(t, Machine{Driver: driver}.WriteFile(path))
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, "nvmltest 2\ndriver "+driver+"\n", string(text))
	}
	require.ErrorContains(t, Machine{Driver: "1"}.WriteFile(filepath.Join(path, "below")), "cannot write machine")
}

func TestBuildOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	paths := make([]string, 3)
	var builds sync.WaitGroup
	for i := range paths {
		builds.Go(func() {
			var err error
			paths[i], err = Build(t.Context(), dir)
			assert.NoError(t, err)
		})
	}
	builds.Wait()
	assert.Equal(t, []string{paths[0], paths[0], paths[0]}, paths)
	assert.Equal(t, LibraryName, filepath.Base(paths[0]))
	first, err := os.Stat(paths[0])
	require.NoError(t, err)

	began := time.Now()
	again, err := Build(t.Context(), dir)
	require.NoError(t, err)
	assert.Less(t, time.Since(began), 50*time.Millisecond, "compiling takes longer")
	second, err := os.Stat(again)
	require.NoError(t, err)
	assert.True(t, os.SameFile(first, second))

	other, err := Build(t.Context(), dir, "nvmlInit_v2")
	require.NoError(t, err)
	assert.NotEqual(t, again, other)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 2, "nothing is left of the builds")
}

func TestBuildSaysWhyNot(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Build(t.Context(), t.TempDir())
	require.ErrorContains(t, err, "cannot compile libnvidia-ml.so.1")
	require.ErrorContains(t, err, `"cc": executable file not found`)
}
