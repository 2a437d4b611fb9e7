//go:build linux && cgo

package nvml

import (
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
	running *inFlight
	number  int // counts initialisations

	lib      nvml.Interface     // nil while NVML is not initialised
	image    *dl.DynamicLibrary // our own handle on the library, for lookups that go-nvml cannot do before nvmlInit
	symbols  map[string]bool    // what was looked up in image
	versions map[string]string  // newest forms of symbols
	reasons  map[failure]string // texts of failures, so that a call that fails every time allocates once
	driver   string
	devices  []*device
	events   nvml.EventSet // nil if the driver gave none
	looked   time.Time     // when the layout of MIG was last looked at

	started time.Time // of the last initialisation, successful or not
	problem error     // why there is no session now
	over    bool      // the driver said that this session has ended
	changed bool      // an instance was not found: the layout of MIG may have changed
}

type failure struct {
	symbol string
	ret    nvml.Return
}

// read makes one pass over the devices. It ends early when the pass is abandoned: into is garbage then.
func (s *session) read(abandoned *atomic.Bool, into *gpu.Reading) error {
	if err := s.ensure(); err != nil {
		return err
	}
	var count int
	ret := s.call("nvmlDeviceGetCount_v2", func() (ret nvml.Return) {
		count, ret = s.lib.DeviceGetCount()
		return ret
	})
	if ret != nvml.SUCCESS {
		err := s.failed("cannot count GPUs", "nvmlDeviceGetCount_v2", ret)
		if s.over {
			s.stop()
			s.problem = err
		}
		return err
	}
	now := time.Now()
	s.enumerate(count, now)
	into.Reset()
	into.Driver, into.Session = s.driver, s.number
	s.receive(into, now) // first: an event may ask for a condition to be read at once
	for _, d := range s.devices {
		if abandoned.Load() {
			return nil
		}
		s.sample(d, into.Next())
	}
	return nil
}

// ensure leaves an initialised session, or says why there is none.
func (s *session) ensure() error {
	if s.lib != nil && (!s.over || time.Since(s.started) < renewal*s.opts.Retry) {
		return nil // a session that has lost a device goes on with the others meanwhile
	}
	if s.lib == nil && time.Since(s.started) < s.opts.Retry {
		return s.problem
	}
	s.stop()
	s.started = time.Now()
	s.problem = s.start()
	if s.problem != nil {
		s.stop()
	}
	return s.problem
}

// start loads the library and initialises NVML.
func (s *session) start() error {
	// The same flags as go-nvml's, so that the calls that the program was linked with find this library.
	image := dl.New(s.opts.Library, dl.RTLD_LAZY|dl.RTLD_GLOBAL)
	if err := image.Open(); err != nil {
		return fmt.Errorf("cannot load NVML: %w", err) // the linker's text names the library
	}
	s.image, s.symbols, s.versions, s.reasons = image, map[string]bool{}, map[string]string{}, map[failure]string{}
	lib := nvml.New(nvml.WithLibraryPath(s.opts.Library))
	if ret := s.call("nvmlInit_v2", lib.Init); ret != nvml.SUCCESS {
		return s.failed("cannot initialise NVML of "+s.opts.Library, "nvmlInit_v2", ret)
	}
	s.lib, s.over = lib, false
	s.number++
	_ = s.call("nvmlSystemGetDriverVersion", func() (ret nvml.Return) {
		s.driver, ret = s.lib.SystemGetDriverVersion()
		return ret
	})
	return nil // a driver without a version still measures
}

// stop gives everything back and forgets what was known of the devices.
func (s *session) stop() {
	if s.lib != nil {
		s.forget()
		_ = s.call("nvmlShutdown", s.lib.Shutdown) // nothing is left to do about a failure, and Observe has counted it
	}
	if s.image != nil {
		_ = s.image.Close()
	}
	s.lib, s.image, s.symbols, s.reasons, s.driver, s.over = nil, nil, nil, nil, "", false
}

// forget gives back what belongs to the devices.
func (s *session) forget() {
	for _, d := range s.devices {
		s.freeCounters(d)
	}
	if s.events != nil {
		_ = s.call("nvmlEventSetFree", s.events.Free)
	}
	s.devices, s.events, s.changed = nil, nil, false
}

// call runs one call into the library. symbol is the C function that f ends up in; while it runs, running tells the
// waiting Read so. f must not be kept, so that what it captures stays off the heap.
func (s *session) call(symbol string, f func() nvml.Return) nvml.Return {
	if !s.has(symbol) {
		return nvml.ERROR_FUNCTION_NOT_FOUND
	}
	limit := s.opts.CallDeadline
	if symbol == "nvmlInit_v2" {
		limit = s.opts.InitDeadline
	}
	began := time.Now()
	s.running.begin(symbol, began, limit)
	ret := f()
	s.running.end()
	s.opts.Observe(symbol, time.Since(began), ret != nvml.SUCCESS && !quiet(ret))
	s.over = s.over || endsSession(ret)
	return ret
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

// failed is the error of a call that the session stands on.
func (s *session) failed(attempt, symbol string, ret nvml.Return) error {
	err := fmt.Errorf("%s: %s", attempt, s.reason(symbol, ret))
	if ret == nvml.ERROR_LIB_RM_VERSION_MISMATCH {
		err = fmt.Errorf("%w: %w", err, gpu.ErrRestartNeeded)
	}
	return err
}

// reason says what came of a call, in the library's own words where it can be asked.
func (s *session) reason(symbol string, ret nvml.Return) string {
	key := failure{symbol, ret}
	text, ok := s.reasons[key]
	if ok {
		return text
	}
	switch {
	case ret == nvml.ERROR_FUNCTION_NOT_FOUND:
		text = "not found in the library"
	case s.has("nvmlErrorString"):
		text = nvml.ErrorString(ret)
	default:
		text = "NVML error"
	}
	text = fmt.Sprintf("%s: %s (%d)", symbol, text, int(ret))
	s.reasons[key] = text
	return text
}

// known returns what was read, or why it was not.
func (s *session) known(symbol string, ret nvml.Return, number float64) gpu.Value {
	if ret != nvml.SUCCESS {
		return gpu.Unknown(s.reason(symbol, ret))
	}
	return gpu.Known(number)
}

// quiet lists the codes that are answers rather than failures.
func quiet(ret nvml.Return) bool {
	switch ret {
	case nvml.ERROR_NOT_SUPPORTED, nvml.ERROR_NOT_FOUND, nvml.ERROR_TIMEOUT, nvml.ERROR_INSUFFICIENT_SIZE:
		return true
	default:
		return false
	}
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
