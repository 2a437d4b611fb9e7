package nvmltest

import (
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
				PowerMilliwatts: 400_000, PowerLimitMilliwatts: 700_000, TemperatureCelsius: 60, SMClockMHz: 1980, MemoryClockMHz: 2619, ClockReasons: 4,
				Ring:           []RingSample{{}, {5, 87}},
				Processes:      []Process{{PID: 11, MemoryBytes: 1024}, {PID: 12, MemoryUnknown: true}, {PID: 13, MemoryBytes: 1, MPS: true}},
				ProcessSamples: []ProcessSample{{11, 5, 60, 10}},
				Accounting:     []Account{{11, 2048, true}}, AccountingOn: true,
				GPM: []GPMMetric{{2, 61.5}}, Fields: []Field{{230, 1}}, Events: []Event{{1, 79, 0xFFFFFFFF}}, MIG: true,
				Instances: []Instance{{
					UUID: "MIG-1", Name: "H100 MIG 1g.10gb", GPUInstance: 7, Slices: 1, MemoryTotalBytes: 1000, MemoryUsedBytes: 1,
					Processes: []Process{{PID: 21, MemoryBytes: 1}}, GPM: []GPMMetric{{1, 5}}, Fault: "error nvmlDeviceGetName 15",
				}},
				Fault: "hang nvmlDeviceGetName 2000\n\n  error   * 15\n",
			},
			{UUID: "GPU-b", Name: "L4", BusID: "00000000:17:00.0"},
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
power 400000 700000
temperature 60
clocks 1980 2619 4
sample 0 0
sample 5 87
process 11 1024
process 12 -
mps-process 13 1
use 11 5 60 10
accounting on
account 11 2048 1
gpm 2 61.5
field 230 1
event 1 79 4294967295
mig on
hang nvmlDeviceGetName 2000
error * 15
instance MIG-1
name H100 MIG 1g.10gb
placement 7 0 1
memory 1000 1
process 21 1
gpm 1 5
error nvmlDeviceGetName 15
device GPU-b
name L4
bus 00000000:17:00.0
memory 0 0
utilization 0 0
power 0 0
temperature 0
clocks 0 0 0
`, text)
}

func TestTextRefusesWhatTheLibraryWould(t *testing.T) {
	device := func(d Device) Machine { return Machine{Driver: "1", Devices: []Device{d}} }
	for want, m := range map[string]Machine{
		`driver "" is not one line`:                   {},
		`driver "1\n2" is not one line`:               {Driver: "1\n2"},
		`device 0: device "" is not`:                  device(Device{Name: "L4"}),
		"device 0: name \"" + strings.Repeat("x", 96): device(Device{UUID: "GPU-a", Name: strings.Repeat("x", 96)}),
		`device 0: fault "error a" is none of`:        device(Device{UUID: "GPU-a", Name: "L4", Fault: "error a"}),
		`fault "lose a 1" is none of`:                 {Driver: "1", Fault: "lose a 1"},
		`fault "hang a -1": strconv`:                  {Driver: "1", Fault: "hang a -1"},
		"more than 16 faults":                         {Driver: "1", Fault: strings.Repeat("error a 1\n", 17)},
		"65 devices are more than 64":                 {Driver: "1", Devices: make([]Device, 65)},
		"device 0: instances without MIG":             device(Device{UUID: "GPU-a", Name: "L4", Instances: []Instance{{UUID: "M", Name: "M"}}}),
		"device 0: 129 samples are more than 128":     device(Device{UUID: "GPU-a", Name: "L4", Ring: make([]RingSample, 129)}),
		"device 0: 129 processes are more than 128":   device(Device{UUID: "GPU-a", Name: "L4", Processes: make([]Process, 129)}),
		"257 process samples are more than 256":       device(Device{UUID: "GPU-a", Name: "L4", ProcessSamples: make([]ProcessSample, 257)}),
		"65 counters are more than 64":                device(Device{UUID: "GPU-a", Name: "L4", GPM: make([]GPMMetric, 65)}),
		"65 fields are more than 64":                  device(Device{UUID: "GPU-a", Name: "L4", Fields: make([]Field, 65)}),
		"65 events are more than 64":                  device(Device{UUID: "GPU-a", Name: "L4", Events: make([]Event, 65)}),
		"9 instances are more than 8":                 device(Device{UUID: "GPU-a", Name: "L4", MIG: true, Instances: make([]Instance, 9)}),
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
