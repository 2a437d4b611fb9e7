//go:build linux && cgo

package nvml

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/dl"
	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"headroom.dev/headroom/gpu"
)

// renewal is how many Retry a session lasts at least that has lost a device but still reads others: a new one costs them
// up to seconds, and seldom brings the device back.
const renewal = 10

// session is the state of the NVML thread. Nothing of it is touched elsewhere, but for running.
type session struct {
	opts    Options
	running *atomic.Pointer[call]

	lib     nvml.Interface     // nil while NVML is not initialised
	image   *dl.DynamicLibrary // our own handle on the library, for lookups that go-nvml cannot do before nvmlInit
	symbols map[string]bool    // what was looked up in image
	driver  string
	devices []device

	started time.Time // of the last initialisation, successful or not
	failure error     // why there is no session now
	over    bool      // the driver said that this session has ended
}

type device struct {
	gpu.Device
	handle nvml.Device // nil if the driver gave none
	reason string      // why there is no handle
}

// read makes one pass over the devices.
func (s *session) read(ctx context.Context) (gpu.Reading, error) {
	if err := s.ensure(); err != nil {
		return gpu.Reading{}, err
	}
	var count int
	err := s.call("nvmlDeviceGetCount_v2", func() (ret nvml.Return) {
		count, ret = s.lib.DeviceGetCount()
		return ret
	})
	if err != nil {
		err = fmt.Errorf("cannot count GPUs: %w", err)
		if s.over {
			s.stop()
			s.failure = err
		}
		return gpu.Reading{}, err
	}
	if count != len(s.devices) {
		s.enumerate(count)
	}
	reading := gpu.Reading{Driver: s.driver, Samples: make([]gpu.Sample, 0, count)}
	for _, d := range s.devices {
		if ctx.Err() != nil {
			return gpu.Reading{}, context.Cause(ctx)
		}
		reading.Samples = append(reading.Samples, s.sample(d))
	}
	return reading, nil
}

// ensure leaves an initialised session, or says why there is none.
func (s *session) ensure() error {
	if s.lib != nil && (!s.over || time.Since(s.started) < renewal*s.opts.Retry) {
		return nil // a session that has lost a device goes on with the others meanwhile
	}
	if s.lib == nil && time.Since(s.started) < s.opts.Retry {
		return s.failure
	}
	s.stop()
	s.started = time.Now()
	s.failure = s.start()
	if s.failure != nil {
		s.stop()
	}
	return s.failure
}

// start loads the library and initialises NVML.
func (s *session) start() error {
	// The same flags as go-nvml's, so that the calls that the program was linked with find this library.
	image := dl.New(s.opts.Library, dl.RTLD_LAZY|dl.RTLD_GLOBAL)
	if err := image.Open(); err != nil {
		return fmt.Errorf("cannot load NVML: %w", err) // the linker's text names the library
	}
	s.image, s.symbols = image, map[string]bool{}
	lib := nvml.New(nvml.WithLibraryPath(s.opts.Library))
	if err := s.call("nvmlInit_v2", lib.Init); err != nil {
		return fmt.Errorf("cannot initialise NVML of %s: %w", s.opts.Library, err)
	}
	s.lib, s.over = lib, false
	var driver string
	err := s.call("nvmlSystemGetDriverVersion", func() (ret nvml.Return) {
		driver, ret = s.lib.SystemGetDriverVersion()
		return ret
	})
	if err == nil {
		s.driver = driver
	}
	return nil // a driver without a version still measures
}

// stop gives everything back and forgets what was known of the devices.
func (s *session) stop() {
	if s.lib != nil {
		_ = s.call("nvmlShutdown", s.lib.Shutdown) // nothing is left to do about a failure, and Observe has counted it
	}
	if s.image != nil {
		_ = s.image.Close()
	}
	s.lib, s.image, s.symbols, s.devices, s.driver, s.over = nil, nil, nil, nil, "", false
}

// enumerate finds out which devices there are.
func (s *session) enumerate(count int) {
	s.devices = make([]device, count)
	for i := range s.devices {
		s.devices[i] = s.identify(i)
	}
}

// identify gets the handle of a device and what stays the same about it.
func (s *session) identify(index int) device {
	d := device{Device: gpu.Device{Index: index}}
	err := s.call("nvmlDeviceGetHandleByIndex_v2", func() (ret nvml.Return) {
		d.handle, ret = s.lib.DeviceGetHandleByIndex(index)
		return ret
	})
	if err == nil {
		err = s.call("nvmlDeviceGetUUID", func() (ret nvml.Return) {
			d.UUID, ret = d.handle.GetUUID()
			return ret
		})
	}
	if err != nil {
		d.handle, d.UUID, d.reason = nil, "", err.Error()
		d.Minor = gpu.Unknown(d.reason)
		return d
	}
	err = s.call("nvmlDeviceGetName", func() (ret nvml.Return) {
		d.Name, ret = d.handle.GetName()
		return ret
	})
	if err != nil {
		d.Name = ""
	}
	var minor int
	d.Minor = known(func() float64 { return float64(minor) },
		s.call("nvmlDeviceGetMinorNumber", func() (ret nvml.Return) {
			minor, ret = d.handle.GetMinorNumber()
			return ret
		}))
	return d
}

// sample measures one device.
func (s *session) sample(d device) gpu.Sample {
	if d.handle == nil {
		v := gpu.Unknown(d.reason)
		return gpu.Sample{Device: d.Device, Time: time.Now(), Utilization: v, MemoryUsed: v, MemoryTotal: v}
	}
	sample := gpu.Sample{Device: d.Device, Utilization: s.utilization(d.handle)}
	sample.MemoryUsed, sample.MemoryTotal = s.memory(d.handle)
	sample.Time = time.Now()
	return sample
}

func (s *session) utilization(handle nvml.Device) gpu.Value {
	var rates nvml.Utilization
	err := s.call("nvmlDeviceGetUtilizationRates", func() (ret nvml.Return) {
		rates, ret = handle.GetUtilizationRates()
		return ret
	})
	if err == nil && rates.Gpu > 100 {
		return gpu.Unknown(fmt.Sprintf("nvmlDeviceGetUtilizationRates returned %d %%", rates.Gpu))
	}
	return known(func() float64 { return float64(rates.Gpu) / 100 }, err)
}

// memory prefers version 2 of the call, which tells the driver's own memory from the programs'. Drivers before 510 lack it.
func (s *session) memory(handle nvml.Device) (used, total gpu.Value) {
	if s.has("nvmlDeviceGetMemoryInfo_v2") {
		var info nvml.Memory_v2
		err := s.call("nvmlDeviceGetMemoryInfo_v2", func() (ret nvml.Return) {
			info, ret = handle.GetMemoryInfo_v2()
			return ret
		})
		return known(func() float64 { return float64(info.Used) }, err),
			known(func() float64 { return float64(info.Total) }, err)
	}
	var info nvml.Memory
	err := s.call("nvmlDeviceGetMemoryInfo", func() (ret nvml.Return) {
		info, ret = handle.GetMemoryInfo()
		return ret
	})
	return known(func() float64 { return float64(info.Used) }, err),
		known(func() float64 { return float64(info.Total) }, err)
}

// known returns what was read, or why it was not.
func known(number func() float64, err error) gpu.Value {
	if err != nil {
		return gpu.Unknown(err.Error())
	}
	return gpu.Known(number())
}

// call runs one call into the library. symbol is the C function that f ends up in; while it runs, running tells
// the waiting Read so.
func (s *session) call(symbol string, f func() nvml.Return) error {
	limit := s.opts.CallDeadline
	if symbol == "nvmlInit_v2" {
		limit = s.opts.InitDeadline
	}
	ret := nvml.ERROR_FUNCTION_NOT_FOUND
	if s.has(symbol) {
		began := time.Now()
		s.running.Store(&call{name: symbol, since: began, limit: limit})
		ret = f()
		s.running.Store(nil)
		s.opts.Observe(symbol, time.Since(began), ret != nvml.SUCCESS && ret != nvml.ERROR_NOT_SUPPORTED)
	}
	if ret == nvml.SUCCESS {
		return nil
	}
	s.over = s.over || endsSession(ret)
	err := fmt.Errorf("%s: %s (%d)", symbol, s.text(ret), int(ret))
	if ret == nvml.ERROR_LIB_RM_VERSION_MISMATCH {
		err = fmt.Errorf("%w: %w", err, gpu.ErrRestartNeeded)
	}
	return err
}

// has reports whether the loaded library exports symbol. Calling one that it lacks ends the process.
func (s *session) has(symbol string) bool {
	there, ok := s.symbols[symbol]
	if !ok {
		there = s.image.Lookup(symbol) == nil
		s.symbols[symbol] = there
	}
	return there
}

// text is the library's own word for a code, where it can be asked.
func (s *session) text(ret nvml.Return) string {
	if ret == nvml.ERROR_FUNCTION_NOT_FOUND {
		return "not found in the library"
	}
	if !s.has("nvmlErrorString") {
		return "NVML error"
	}
	return nvml.ErrorString(ret)
}

// endsSession lists the codes after which only a new nvmlInit can help.
func endsSession(ret nvml.Return) bool {
	switch ret {
	case nvml.ERROR_GPU_IS_LOST, nvml.ERROR_UNINITIALIZED, nvml.ERROR_DRIVER_NOT_LOADED,
		nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return true
	default:
		return false
	}
}
