//go:build linux && cgo

package nvml

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/gpu"
)

// failures takes what a check of the hardware's would fail with.
type failures struct{ n int }

func (f *failures) Errorf(string, ...any) { f.n++ }
func (f *failures) FailNow()              { panic(f) }

// fails reports whether a check fails.
func fails(check func(t require.TestingT)) (failed bool) {
	f := &failures{}
	defer func() {
		if r := recover(); r != nil && r != f {
			panic(r)
		}
		failed = f.n > 0
	}()
	check(f)
	return false
}

// What TestHardware does on a machine with a GPU, as far as a stand-in goes: nvidia-smi's answers are understood, and
// differences are found.
func TestHardwareChecksCanFail(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		m.Devices[0].PowerLimitMilliwatts = 700_000
		s.write(m)
		script := filepath.Join(t.TempDir(), "nvidia-smi")
		write := func(memory string) *smi {
			text := "#!/bin/sh\ncase \"$1\" in\n-L) echo 'GPU 0: NVIDIA H100 (UUID: GPU-a)';;\n" +
				"*) echo 'GPU-a, NVIDIA H100 80GB HBM3, 570.124.06, 00000000:01:00.0, " + memory + ", 700.00';;\nesac\n"
			require.NoError(t, os.WriteFile(script, []byte(text), 0o700))
			smi, err := newSMI(t.Context(), script)
			require.NoError(t, err)
			return smi
		}
		(&hardware{t: t, smi: write("81920"), driver: s.open()}).identity()
		said := write("40960").ask(t, "uuid", "name", "driver_version", "pci.bus_id", "memory.total", "power.limit")
		require.True(t, fails(func(t require.TestingT) { agree(t, said, "memory.total", gpu.Known(80*gib), 1<<20, 0.01) }))
		require.False(t, fails(func(t require.TestingT) { agree(t, said, "memory.total", gpu.Known(40*gib), 1<<20, 0.01) }))
		require.True(t, fails(func(t require.TestingT) { agree(t, said, "memory.total", gpu.Unknown("x"), 1<<20, 0.01) }))
		unknown := map[string]string{"power.draw": "[N/A]"}
		require.False(t, fails(func(t require.TestingT) { agree(t, unknown, "power.draw", gpu.Unknown("x"), 1, 1) }))
		require.True(t, fails(func(t require.TestingT) { agree(t, unknown, "power.draw", gpu.Known(1), 1, 1) }))
		_, err := newSMI(t.Context(), filepath.Join(t.TempDir(), "none"))
		require.Error(t, err)
	})
	for _, l := range loads() {
		require.True(t, fails(func(t require.TestingT) { l.expect(t, &watched{utilization: 0.5, sm: 0.2}) }), l.name)
	}
}
