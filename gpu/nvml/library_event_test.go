//go:build linux && cgo

package nvml

import (
	"os"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/gpu/nvmltest"
)

func TestLibraryDeliversEvents(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		m.Devices[0].Events = []nvmltest.Event{{Sequence: 5, XID: 13, GPUInstance: nvmltest.NoInstance}}
		lib := initialised(s, m)
		a, b := deviceAt(s, lib, 0), deviceAt(s, lib, 1)
		types, ret := a.GetSupportedEventTypes()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, uint64(nvml.EventTypeXidCriticalError), types)
		set, ret := lib.EventSetCreate()
		require.Equal(t, nvml.SUCCESS, ret)
		require.Equal(t, nvml.SUCCESS, a.RegisterEvents(types, set))
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, b.RegisterEvents(types|nvml.EventTypeClock, set))
		assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, b.RegisterEvents(1<<40, set))
		_, ret = set.Wait(0)
		assert.Equal(t, nvml.ERROR_TIMEOUT, ret, "from before")

		m.Devices[0].Events = append([]nvmltest.Event{{Sequence: 7, XID: 48, GPUInstance: 3}, {Sequence: 6, XID: 79}}, m.Devices[0].Events...)
		m.Devices[1].Events = []nvmltest.Event{{Sequence: 1, XID: 1}}
		s.write(m)
		require.Equal(t, nvml.SUCCESS, a.RegisterEvents(types, set), "again, which loses nothing")
		require.Equal(t, nvml.SUCCESS, b.RegisterEvents(types, set))
		for _, want := range []nvml.EventData{
			{Device: a, EventType: types, EventData: 79, ComputeInstanceId: nvmltest.NoInstance},
			{Device: a, EventType: types, EventData: 48, GpuInstanceId: 3, ComputeInstanceId: nvmltest.NoInstance},
		} {
			got, ret := set.Wait(0)
			require.Equal(t, nvml.SUCCESS, ret)
			sameHandle(t, want.Device, got.Device)
			assert.Equal(t, want, got)
		}
		_, ret = set.Wait(0)
		assert.Equal(t, nvml.ERROR_TIMEOUT, ret, "each once")

		began := time.Now()
		_, ret = set.Wait(50)
		assert.Equal(t, nvml.ERROR_TIMEOUT, ret)
		assert.GreaterOrEqual(t, time.Since(began), 50*time.Millisecond)
		m.Devices[1].Events = append(m.Devices[1].Events, nvmltest.Event{Sequence: 2, XID: 2})
		time.AfterFunc(50*time.Millisecond, func() { assert.NoError(t, m.WriteFile(s.file)) })
		got, ret := set.Wait(30_000)
		require.Equal(t, nvml.SUCCESS, ret)
		sameHandle(t, b, got.Device)
		assert.Less(t, time.Since(began), 15*time.Second)

		other, ret := lib.EventSetCreate()
		require.Equal(t, nvml.SUCCESS, ret)
		_, ret = set.Wait(0)
		assert.Equal(t, nvml.ERROR_TIMEOUT, ret)
		require.Equal(t, nvml.SUCCESS, other.Free())
		assert.Equal(t, nvml.ERROR_UNKNOWN, other.Free())
		assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, b.RegisterEvents(types, other))
		_, ret = other.Wait(0)
		assert.Equal(t, nvml.ERROR_INVALID_ARGUMENT, ret)
	})
}

func TestLibraryEndsWaits(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := migGPU()
		lib := initialised(s, m)
		a, b := deviceAt(s, lib, 0), deviceAt(s, lib, 1)
		instance, ret := b.GetMigDeviceHandleByIndex(0)
		require.Equal(t, nvml.SUCCESS, ret)
		set, ret := lib.EventSetCreate()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, instance.RegisterEvents(nvml.EventTypeXidCriticalError, set))
		require.Equal(t, nvml.SUCCESS, a.RegisterEvents(nvml.EventTypeXidCriticalError, set))
		require.Equal(t, nvml.SUCCESS, b.RegisterEvents(nvml.EventTypeXidCriticalError, set))

		m.Devices = m.Devices[:1]
		time.AfterFunc(20*time.Millisecond, func() { assert.NoError(t, m.WriteFile(s.file)) })
		_, ret = set.Wait(30_000)
		assert.Equal(t, nvml.ERROR_GPU_IS_LOST, ret)
		s.write(migGPU())
		time.AfterFunc(20*time.Millisecond, func() { assert.NoError(t, os.Remove(s.file)) })
		_, ret = set.Wait(30_000)
		assert.Equal(t, nvml.ERROR_DRIVER_NOT_LOADED, ret)
		s.write(migGPU())
		time.AfterFunc(20*time.Millisecond, func() { assert.Equal(t, nvml.SUCCESS, lib.Shutdown()) })
		_, ret = set.Wait(30_000)
		assert.Equal(t, nvml.ERROR_UNINITIALIZED, ret)
	})
}
