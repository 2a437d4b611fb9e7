//go:build linux && cgo

package nvml

import (
	"math"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/gpu/nvmltest"
)

func TestLibraryServesProcesses(t *testing.T) { inOwnProcess(t, servesProcesses) }

// Drivers before 510 have version 2, which is the same, and those before 470 version 1 only.
func TestLibraryServesProcessesV2(t *testing.T) {
	inOwnProcess(t, servesProcesses, "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetMPSComputeRunningProcesses_v3")
}

func TestLibraryServesProcessesV1(t *testing.T) {
	inOwnProcess(t, servesProcesses, "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetMPSComputeRunningProcesses_v3",
		"nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetMPSComputeRunningProcesses_v2")
}

func servesProcesses(s *scenario) {
	t := s.t
	m := twoGPUs()
	m.Devices[0].Processes = []nvmltest.Process{
		{PID: 7, MemoryBytes: 3 * gib}, {PID: 8, MemoryBytes: gib, MPS: true}, {PID: 9, MemoryUnknown: true}, {PID: math.MaxUint32},
	}
	lib := initialised(s, m)
	a, b := deviceAt(s, lib, 0), deviceAt(s, lib, 1)
	process := func(pid uint32, bytes uint64) nvml.ProcessInfo {
		return nvml.ProcessInfo{
			Pid: pid, UsedGpuMemory: bytes, GpuInstanceId: nvmltest.NoInstance, ComputeInstanceId: nvmltest.NoInstance,
		}
	}
	got, ret := a.GetComputeRunningProcesses()
	require.Equal(t, nvml.SUCCESS, ret)
	assert.Equal(t, []nvml.ProcessInfo{process(7, 3*gib), process(9, math.MaxUint64), process(math.MaxUint32, 0)}, got)
	got, ret = a.GetMPSComputeRunningProcesses()
	require.Equal(t, nvml.SUCCESS, ret)
	assert.Equal(t, []nvml.ProcessInfo{process(8, gib)}, got)
	got, ret = b.GetComputeRunningProcesses()
	require.Equal(t, nvml.SUCCESS, ret)
	assert.Empty(t, got)

	m.Devices[1].Processes = make([]nvmltest.Process, 128)
	s.write(m)
	got, ret = b.GetComputeRunningProcesses()
	require.Equal(t, nvml.SUCCESS, ret)
	assert.Len(t, got, 128)
}

func TestLibraryKeepsAccounts(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := twoGPUs()
		m.Devices[0].AccountingOn = true
		m.Devices[0].Accounting = []nvmltest.Account{
			{PID: 7, MaxMemoryBytes: 1}, {PID: 8, MaxMemoryBytes: 3 * gib, Running: true}, {PID: 7, MaxMemoryBytes: 2},
		}
		m.Devices[1].Accounting = m.Devices[0].Accounting
		lib := initialised(s, m)
		a, b := deviceAt(s, lib, 0), deviceAt(s, lib, 1)
		mode, ret := a.GetAccountingMode()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, nvml.FEATURE_ENABLED, mode)
		pids, ret := a.GetAccountingPids()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, []int{7, 8, 7}, pids)

		stats, ret := a.GetAccountingStats(8)
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, nvml.AccountingStats{
			GpuUtilization: math.MaxUint32, MemoryUtilization: math.MaxUint32, MaxMemoryUsage: 3 * gib, IsRunning: 1,
		}, stats)
		stats, ret = a.GetAccountingStats(7)
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, uint64(2), stats.MaxMemoryUsage, "the later")
		assert.Zero(t, stats.IsRunning)
		assert.NotZero(t, stats.Time)
		_, ret = a.GetAccountingStats(9)
		assert.Equal(t, nvml.ERROR_NOT_FOUND, ret)

		mode, ret = b.GetAccountingMode()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Equal(t, nvml.FEATURE_DISABLED, mode)
		_, ret = b.GetAccountingPids()
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, ret)
		_, ret = b.GetAccountingStats(7)
		assert.Equal(t, nvml.ERROR_NOT_SUPPORTED, ret)
		m.Devices[0].Accounting = nil
		s.write(m)
		pids, ret = a.GetAccountingPids()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Empty(t, pids)
	})
}
