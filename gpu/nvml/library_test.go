//go:build linux && cgo

package nvml

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/gpu/nvmltest"
)

// initialised returns go-nvml with nvmltest's library, which serves m.
func initialised(s *scenario, m nvmltest.Machine) nvml.Interface {
	s.t.Helper()
	s.write(m)
	lib := nvml.New(nvml.WithLibraryPath(s.library))
	require.Equal(s.t, nvml.SUCCESS, lib.Init())
	return lib
}

// deviceAt returns the handle of a device.
func deviceAt(s *scenario, lib nvml.Interface, index int) nvml.Device {
	s.t.Helper()
	d, ret := lib.DeviceGetHandleByIndex(index)
	require.Equal(s.t, nvml.SUCCESS, ret)
	return d
}

// sameHandle compares addresses, which testify would follow.
func sameHandle(t *testing.T, want, got nvml.Device) {
	t.Helper()
	if want != got {
		t.Errorf("handle %v is not %v", got, want)
	}
}

func onDevice(lines string) string { return "nvmltest 2\ndevice a\n" + lines + "\n" }

// What nvmltest's library does at the edges of NVIDIA's interface, called as any program would.
func TestLibraryKeepsTheInterface(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		lib := nvml.New(nvml.WithLibraryPath(s.library))
		require.Equal(t, nvml.ERROR_DRIVER_NOT_LOADED, lib.Init(), "without a file")
		_, ret := lib.DeviceGetCount()
		assert.Equal(t, nvml.ERROR_UNINITIALIZED, ret)
		for _, bad := range []string{
			"", "nvmltest 1\n", "nvmltest 2\ndriver", "nvmltest 2\nname x\n", "nvmltest 2\nerror a\n", "nvmltest 2\nwhat x\n",
			"nvmltest 2\n\n", "nvmltest 2\nhang a -1\n", "nvmltest 2\nhang a 1 2\n", "nvmltest 2\nhang a 2147483648\n",
			"nvmltest 2\ndriver " + strings.Repeat("x", 96) + "\n", "nvmltest 2\ndriver " + strings.Repeat("x", 300) + "\n",
			onDevice("memory 1"), onDevice("memory 1  2"), onDevice("memory 1 18446744073709551616"),
			onDevice("utilization 1 2 3"), onDevice("utilization 1 4294967296"), onDevice("driver 1"),
			onDevice("pci 00000000:17:00.1"), onDevice("pci 0:17:00.0"), onDevice("gpm 1"), onDevice("gpm 1 x"), onDevice("gpm 4294967296 1"),
			onDevice("account 1 1 2"), onDevice("accounting off"), onDevice("placement 1 1 1"), onDevice("instance MIG-a"),
			onDevice("mig on\ninstance MIG-a\nring 1 1"), onDevice(strings.TrimSpace(strings.Repeat("ring 1 1\n", 129))),
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

// What Go writes at the limits, with the longest of words and numbers, the library takes.
func TestLibraryTakesFullTables(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		long := strings.Repeat("x", 95)
		process := nvmltest.Process{PID: math.MaxUint32, MemoryUnknown: true}
		gpm := nvmltest.GPMMetric{ID: math.MaxUint32, Value: -math.MaxFloat64}
		sample := nvmltest.ProcessSample{PID: math.MaxUint32, Stamp: math.MaxUint64, SMPercent: math.MaxUint32, MemoryPercent: math.MaxUint32}
		event := nvmltest.Event{Sequence: math.MaxUint64, XID: math.MaxUint64, GPUInstance: math.MaxUint32}
		instance := nvmltest.Instance{
			UUID: long, Name: long, GPUInstance: math.MaxUint32, ComputeInstance: math.MaxUint32, Slices: math.MaxUint32,
			MemoryTotalBytes: math.MaxUint64, MemoryUsedBytes: math.MaxUint64,
			Processes: slices.Repeat([]nvmltest.Process{process}, 128), GPM: slices.Repeat([]nvmltest.GPMMetric{gpm}, 64),
			Fault: strings.Repeat("error "+long+" 2147483647\n", 16),
		}
		device := nvmltest.Device{
			UUID: long, Name: long, MemoryTotalBytes: math.MaxUint64, MemoryUsedBytes: math.MaxUint64,
			UtilizationPercent: math.MaxUint32, MemoryUtilizationPercent: math.MaxUint32, Fault: instance.Fault,
			Ring:           slices.Repeat([]nvmltest.RingSample{{Stamp: math.MaxUint64, Percent: math.MaxUint32}}, 128),
			Processes:      instance.Processes,
			ProcessSamples: slices.Repeat([]nvmltest.ProcessSample{sample}, 256),
			GPM:            instance.GPM,
			Fields:         slices.Repeat([]nvmltest.Field{{ID: math.MaxUint32, Value: math.MaxUint64}}, 64),
			Accounting:     slices.Repeat([]nvmltest.Account{{PID: math.MaxUint32, MaxMemoryBytes: math.MaxUint64, Running: true}}, 128),
			Events:         slices.Repeat([]nvmltest.Event{event}, 64),
			ClockReasons:   math.MaxUint64, MIG: true, Instances: slices.Repeat([]nvmltest.Instance{instance}, 8),
		}
		m := nvmltest.Machine{Driver: long, Fault: instance.Fault, Devices: slices.Repeat([]nvmltest.Device{device}, 64)}
		m.Devices[63].Instances = slices.Clone(m.Devices[63].Instances)
		m.Devices[63].Instances[7].UUID = "MIG-last"
		lib := initialised(s, m)
		last, ret := lib.DeviceGetHandleByUUID("MIG-last")
		require.Equal(t, nvml.SUCCESS, ret)
		processes, ret := last.GetComputeRunningProcesses()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Len(t, processes, 128)
		processes, ret = deviceAt(s, lib, 63).GetComputeRunningProcesses()
		require.Equal(t, nvml.SUCCESS, ret)
		assert.Len(t, processes, 9*128)
	})
}

// Every function has the faults of its own name, needs nvmlInit and lives by the driver; and nothing else is exported.
func TestLibraryNamesItsFunctions(t *testing.T) {
	inOwnProcess(t, func(s *scenario) {
		m := migGPU()
		m.Devices[0].GPM = []nvmltest.GPMMetric{{ID: 1}}
		lib := initialised(s, m)
		calls := functions(s, lib)
		for name, call := range calls {
			require.NoError(t, lib.Extensions().LookupSymbol(name))
			m.Fault = "error " + name + " 14"
			s.write(m)
			assert.Equal(t, nvml.ERROR_CORRUPTED_INFOROM, call(), name)
			for other, call := range calls {
				if other != name {
					assert.NotEqual(t, nvml.ERROR_CORRUPTED_INFOROM, call(), "%s with a fault of %s", other, name)
				}
			}
		}
		require.NoError(t, os.Remove(s.file))
		for name, call := range calls {
			assert.Equal(t, nvml.ERROR_DRIVER_NOT_LOADED, call(), name)
		}
		require.Equal(t, nvml.SUCCESS, lib.Shutdown())
		s.write(migGPU())
		for name, call := range calls {
			assert.Equal(t, nvml.ERROR_UNINITIALIZED, call(), name)
		}
		for _, name := range []string{"enter", "machine", "parse", "nvmlDeviceGetGraphicsRunningProcesses"} {
			require.Error(t, lib.Extensions().LookupSymbol(name))
		}
	})
}

// functions calls those that need nvmlInit, by the name that go-nvml ends up in.
func functions(s *scenario, lib nvml.Interface) map[string]func() nvml.Return {
	d := deviceAt(s, lib, 0)
	instance, ret := deviceAt(s, lib, 1).GetMigDeviceHandleByIndex(0)
	require.Equal(s.t, nvml.SUCCESS, ret)
	mig := deviceAt(s, lib, 1)
	sample := gpmSample(s, lib, nil)
	set, ret := lib.EventSetCreate()
	require.Equal(s.t, nvml.SUCCESS, ret)
	return map[string]func() nvml.Return{
		"nvmlSystemGetDriverVersion":                   func() nvml.Return { _, ret := lib.SystemGetDriverVersion(); return ret },
		"nvmlDeviceGetCount_v2":                        func() nvml.Return { _, ret := lib.DeviceGetCount(); return ret },
		"nvmlDeviceGetHandleByIndex_v2":                func() nvml.Return { _, ret := lib.DeviceGetHandleByIndex(0); return ret },
		"nvmlDeviceGetHandleByUUID":                    func() nvml.Return { _, ret := lib.DeviceGetHandleByUUID("GPU-a"); return ret },
		"nvmlDeviceGetUUID":                            func() nvml.Return { _, ret := d.GetUUID(); return ret },
		"nvmlDeviceGetName":                            func() nvml.Return { _, ret := d.GetName(); return ret },
		"nvmlDeviceGetMinorNumber":                     func() nvml.Return { _, ret := d.GetMinorNumber(); return ret },
		"nvmlDeviceGetPciInfo_v3":                      func() nvml.Return { _, ret := d.GetPciInfo(); return ret },
		"nvmlDeviceGetCudaComputeCapability":           func() nvml.Return { _, _, ret := d.GetCudaComputeCapability(); return ret },
		"nvmlDeviceGetMemoryInfo":                      func() nvml.Return { _, ret := d.GetMemoryInfo(); return ret },
		"nvmlDeviceGetMemoryInfo_v2":                   func() nvml.Return { _, ret := d.GetMemoryInfo_v2(); return ret },
		"nvmlDeviceGetUtilizationRates":                func() nvml.Return { _, ret := d.GetUtilizationRates(); return ret },
		"nvmlDeviceGetSamples":                         func() nvml.Return { _, _, ret := d.GetSamples(1, 0); return ret },
		"nvmlDeviceGetProcessUtilization":              func() nvml.Return { _, ret := d.GetProcessUtilization(0); return ret },
		"nvmlDeviceGetPowerUsage":                      func() nvml.Return { _, ret := d.GetPowerUsage(); return ret },
		"nvmlDeviceGetEnforcedPowerLimit":              func() nvml.Return { _, ret := d.GetEnforcedPowerLimit(); return ret },
		"nvmlDeviceGetTemperature":                     func() nvml.Return { _, ret := d.GetTemperature(0); return ret },
		"nvmlDeviceGetClockInfo":                       func() nvml.Return { _, ret := d.GetClockInfo(0); return ret },
		"nvmlDeviceGetCurrentClocksEventReasons":       func() nvml.Return { _, ret := d.GetCurrentClocksEventReasons(); return ret },
		"nvmlDeviceGetCurrentClocksThrottleReasons":    func() nvml.Return { _, ret := d.GetCurrentClocksThrottleReasons(); return ret },
		"nvmlDeviceGetFieldValues":                     func() nvml.Return { return d.GetFieldValues(make([]nvml.FieldValue, 1)) },
		"nvmlDeviceGetComputeRunningProcesses_v3":      func() nvml.Return { _, ret := d.GetComputeRunningProcesses(); return ret },
		"nvmlDeviceGetMPSComputeRunningProcesses_v3":   func() nvml.Return { _, ret := d.GetMPSComputeRunningProcesses(); return ret },
		"nvmlDeviceGetAccountingMode":                  func() nvml.Return { _, ret := d.GetAccountingMode(); return ret },
		"nvmlDeviceGetAccountingStats":                 func() nvml.Return { _, ret := d.GetAccountingStats(1); return ret },
		"nvmlDeviceGetAccountingPids":                  func() nvml.Return { _, ret := d.GetAccountingPids(); return ret },
		"nvmlGpmQueryDeviceSupport":                    func() nvml.Return { _, ret := d.GpmQueryDeviceSupport(); return ret },
		"nvmlGpmSampleAlloc":                           func() nvml.Return { _, ret := lib.GpmSampleAlloc(); return ret },
		"nvmlGpmSampleGet":                             func() nvml.Return { return d.GpmSampleGet(sample) },
		"nvmlGpmMigSampleGet":                          func() nvml.Return { return mig.GpmMigSampleGet(9, sample) },
		"nvmlGpmMetricsGet":                            func() nvml.Return { _, ret := gpmMetrics(lib, sample, sample); return ret },
		"nvmlDeviceGetMigMode":                         func() nvml.Return { _, _, ret := d.GetMigMode(); return ret },
		"nvmlDeviceGetMaxMigDeviceCount":               func() nvml.Return { _, ret := d.GetMaxMigDeviceCount(); return ret },
		"nvmlDeviceGetMigDeviceHandleByIndex":          func() nvml.Return { _, ret := mig.GetMigDeviceHandleByIndex(0); return ret },
		"nvmlDeviceGetGpuInstanceId":                   func() nvml.Return { _, ret := instance.GetGpuInstanceId(); return ret },
		"nvmlDeviceGetComputeInstanceId":               func() nvml.Return { _, ret := instance.GetComputeInstanceId(); return ret },
		"nvmlDeviceIsMigDeviceHandle":                  func() nvml.Return { _, ret := d.IsMigDeviceHandle(); return ret },
		"nvmlDeviceGetAttributes_v2":                   func() nvml.Return { _, ret := instance.GetAttributes(); return ret },
		"nvmlDeviceGetDeviceHandleFromMigDeviceHandle": func() nvml.Return { _, ret := instance.GetDeviceHandleFromMigDeviceHandle(); return ret },
		"nvmlEventSetCreate":                           func() nvml.Return { _, ret := lib.EventSetCreate(); return ret },
		"nvmlEventSetFree":                             func() nvml.Return { return set.Free() },
		"nvmlEventSetWait_v2":                          func() nvml.Return { _, ret := set.Wait(0); return ret },
		"nvmlDeviceGetSupportedEventTypes":             func() nvml.Return { _, ret := d.GetSupportedEventTypes(); return ret },
		"nvmlDeviceRegisterEvents":                     func() nvml.Return { return d.RegisterEvents(8, set) },
	}
}
