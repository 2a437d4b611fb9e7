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
				Fault: "hang nvmlDeviceGetName 2000\n\n  error   * 15\n",
			},
			{UUID: "GPU-b", Name: "L4"},
		},
	}.Text()
	require.NoError(t, err)
	assert.Equal(t, `nvmltest 1
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
`, text)
}

func TestTextRefusesWhatTheLibraryWould(t *testing.T) {
	device := func(d Device) Machine { return Machine{Driver: "1", Devices: []Device{d}} }
	for want, m := range map[string]Machine{
		`driver "" is not one line`:                   {},
		`driver "1\n2" is not one line`:               {Driver: "1\n2"},
		`device 0: device "" is not`:                  device(Device{Name: "L4"}),
		"device 0: name \"" + strings.Repeat("x", 96): device(Device{UUID: "GPU-a", Name: strings.Repeat("x", 96)}),
		`device 0: fault "error a" is neither`:        device(Device{UUID: "GPU-a", Name: "L4", Fault: "error a"}),
		`fault "lose a 1" is neither`:                 {Driver: "1", Fault: "lose a 1"},
		`fault "hang a -1": strconv`:                  {Driver: "1", Fault: "hang a -1"},
		"more than 16 faults":                         {Driver: "1", Fault: strings.Repeat("error a 1\n", 17)},
		"65 devices are more than 64":                 {Driver: "1", Devices: make([]Device, 65)},
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
		assert.Equal(t, "nvmltest 1\ndriver "+driver+"\n", string(text))
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
