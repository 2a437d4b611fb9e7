//go:build linux && cgo

package nvml

import (
	"os"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What nvmltest's library does at the edges of NVIDIA's interface, called as any program would.
func TestLibraryKeepsTheInterface(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		lib := nvml.New(nvml.WithLibraryPath(s.library))
		require.Equal(t, nvml.ERROR_DRIVER_NOT_LOADED, lib.Init(), "without a file")
		_, ret := lib.DeviceGetCount()
		assert.Equal(t, nvml.ERROR_UNINITIALIZED, ret)
		for _, bad := range []string{
			"", "nvmltest 1\n", "nvmltest 2\ndriver", "nvmltest 2\nname x\n", "nvmltest 2\ndevice a\nmemory 1\n",
			"nvmltest 2\ndevice a\nutilization 1 2 3\n", "nvmltest 2\nerror a\n", "nvmltest 2\nwhat x\n", "nvmltest 2\n\n",
		} {
			require.NoError(t, os.WriteFile(s.file, []byte(bad), 0o600))
			assert.Equal(t, nvml.ERROR_UNKNOWN, lib.Init(), "%q", bad)
		}
		s.write(twoGPUs())
		require.Equal(t, nvml.SUCCESS, lib.InitWithFlags(nvml.INIT_FLAG_NO_GPUS))
		require.Equal(t, nvml.SUCCESS, lib.Init(), "counted")

		_, ret = lib.DeviceGetHandleByIndex(2)
		assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, ret)
		_, ret = lib.DeviceGetHandleByIndex(-1)
		assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, ret)
		_, ret = lib.DeviceGetHandleByUUID("GPU-c")
		assert.Equal(t, nvml.ERROR_NOT_FOUND, ret)
		second, ret := lib.DeviceGetHandleByUUID("GPU-b")
		require.Equal(t, nvml.SUCCESS, ret)
		minor, ret := second.GetMinorNumber()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, 1, minor)
		v1, ret := second.GetMemoryInfo()
		require.Equal(t, nvml.SUCCESS, ret)
		v2, ret := second.GetMemoryInfo_v2()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, v1.Total, v1.Used+v1.Free)
		assert.Equal(t, v2.Total, v2.Used+v2.Free+v2.Reserved)
		assert.Equal(t, v1.Used, v2.Used+v2.Reserved)

		m := twoGPUs()
		m.Devices = m.Devices[:1]
		s.write(m)
		_, ret = second.GetName()
		assert.Equal(t, nvml.ERROR_GPU_IS_LOST, ret, "a handle whose device has gone")
		require.NoError(t, os.Remove(s.file))
		_, ret = second.GetName()
		assert.Equal(t, nvml.ERROR_DRIVER_NOT_LOADED, ret)
		assert.Equal(t, "GPU is lost", nvml.ErrorString(nvml.ERROR_GPU_IS_LOST))

		assert.Equal(t, nvml.SUCCESS, lib.Shutdown())
		assert.Equal(t, nvml.SUCCESS, lib.Shutdown())
		assert.Equal(t, nvml.ERROR_UNINITIALIZED, lib.Shutdown())
	})
}
