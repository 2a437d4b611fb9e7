//go:build linux && cgo

package nvml

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/gpu"
)

// hardwareVariable is set by `make test-gpu`.
const hardwareVariable = "HEADROOM_TEST_GPU"

// TestHardware holds what this package reads to nvidia-smi and to known loads, on a real GPU. It needs nvidia-smi, and
// python3 with PyTorch for the loads.
func TestHardware(t *testing.T) {
	if os.Getenv(hardwareVariable) == "" {
		t.Skip("for a machine with an NVIDIA GPU: make test-gpu")
	}
	smi, err := newSMI(t.Context(), "nvidia-smi")
	if err != nil {
		t.Skipf("no NVIDIA GPU here: %v", err)
	}
	costs := &costs{}
	d := Open(Options{Slow: time.Second, Observe: costs.observe}) // conditions of now, to compare
	defer func() { require.NoError(t, d.Close(context.Background())) }()
	h := &hardware{t: t, smi: smi, driver: d}
	h.identity()
	for _, load := range loads() {
		t.Run(load.name, func(t *testing.T) { (&hardware{t: t, smi: smi, driver: d}).run(load) })
	}
	text := costs.table(h.reading.Driver, h.reading.Samples[0].Device.Name)
	t.Log("\n" + text)
	if file := os.Getenv("HEADROOM_NVML_COSTS"); file != "" {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
}

// load is a known state of the GPU, and what must then be read of it.
type load struct {
	name      string
	processes []string // modes of testdata/load.py
	expect    func(t require.TestingT, w *watched)
}

func loads() []load {
	above := func(t require.TestingT, least float64, of float64, what string) {
		require.GreaterOrEqual(t, of, least, what)
	}
	return []load{
		{"idle", nil, func(t require.TestingT, w *watched) {
			require.LessOrEqual(t, w.utilization, 0.05, "utilization")
			require.LessOrEqual(t, w.sm, 0.05, "SM activity")
		}},
		{"matrix products", []string{"compute"}, func(t require.TestingT, w *watched) {
			above(t, 0.9, w.utilization, "utilization")
			above(t, 0.5, w.sm, "SM activity")
			above(t, 0.3, w.tensor, "tensor activity")
		}},
		{"memory copies", []string{"copy"}, func(t require.TestingT, w *watched) {
			above(t, 0.9, w.utilization, "utilization")
			above(t, 0.4, w.dram, "DRAM activity")
			require.LessOrEqual(t, w.tensor, 0.05, "tensor activity")
		}},
		{"two processes sharing", []string{"compute", "compute"}, func(t require.TestingT, w *watched) {
			above(t, 0.9, w.utilization, "utilization")
			require.GreaterOrEqual(t, w.listed, 2, "processes listed")
			require.GreaterOrEqual(t, w.sampled, 2, "processes with samples")
		}},
		{"memory growing and shrinking", []string{"grow"}, func(t require.TestingT, w *watched) {
			above(t, 4<<30, w.mostMemory-w.leastMemory, "range of memory used")
		}},
	}
}

// watched is what was read while a load ran.
type watched struct {
	utilization, sm, tensor, dram float64 // means
	leastMemory, mostMemory       float64
	listed, sampled               int // processes
}

// hardware compares one driver with one nvidia-smi.
type hardware struct {
	t       *testing.T
	smi     *smi
	driver  *Driver
	reading gpu.Reading
}

func (h *hardware) read() *gpu.Sample {
	h.t.Helper()
	require.NoError(h.t, h.driver.Read(h.t.Context(), &h.reading))
	require.NotEmpty(h.t, h.reading.Samples)
	return &h.reading.Samples[0]
}

// identity compares what does not change.
func (h *hardware) identity() {
	h.t.Helper()
	s := h.read()
	said := h.smi.ask(h.t, "uuid", "name", "driver_version", "pci.bus_id", "memory.total", "power.limit")
	require.Equal(h.t, said["uuid"], s.Device.UUID)
	require.Equal(h.t, said["name"], s.Device.Name)
	require.Equal(h.t, said["driver_version"], h.reading.Driver)
	require.Equal(h.t, said["pci.bus_id"], s.Device.BusID)
	agree(h.t, said, "memory.total", s.Memory.Total, 1<<20, 0.01)
	agree(h.t, said, "power.limit", s.Condition.PowerLimit, 1, 0.01)
}

// run reads for 12 s under a load, compares with nvidia-smi what it says as well, and checks what must be.
func (h *hardware) run(l load) {
	for _, mode := range l.processes {
		startLoad(h.t, mode)
	}
	window := gpu.Window{Span: 10 * time.Second}
	w := &watched{leastMemory: math.Inf(1)}
	var sm, tensor, dram []float64
	sampled := map[uint32]bool{}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for range 12 {
		<-ticker.C
		s := h.read()
		if len(s.Ring) > 0 {
			window.AddRing(s.Ring, s.Time)
		} else if ratio, ok := s.Utilization.Get(); ok {
			window.Add(s.Time, ratio)
		}
		sm, tensor, dram = add(sm, s.Activity.SM), add(tensor, s.Activity.Tensor), add(dram, s.Activity.DRAM)
		used, _ := s.Memory.Used.Get()
		w.leastMemory, w.mostMemory = min(w.leastMemory, used), max(w.mostMemory, used)
		w.listed = max(w.listed, len(s.Processes))
		for _, u := range s.ProcessRing {
			sampled[u.PID] = true
		}
	}
	s := h.read()
	w.utilization, _ = window.Summary(time.Now()).Mean.Get()
	w.sm, w.tensor, w.dram, w.sampled = mean(sm), mean(tensor), mean(dram), len(sampled)
	h.t.Logf("%+v", *w)
	l.expect(h.t, w)
	if l.name != "memory growing and shrinking" { // the two are read at different moments
		said := h.smi.ask(h.t, "utilization.gpu", "memory.used", "temperature.gpu", "power.draw", "clocks.sm", "clocks.mem",
			"ecc.errors.corrected.volatile.total", "ecc.errors.uncorrected.volatile.total", "ecc.errors.uncorrected.aggregate.total")
		agree(h.t, said, "utilization.gpu", gpu.Known(w.utilization), 0.01, 0.15)
		agree(h.t, said, "memory.used", s.Memory.Used, 1<<20, 0.05)
		agree(h.t, said, "temperature.gpu", s.Condition.Temperature, 1, 5)
		agree(h.t, said, "power.draw", s.Condition.Power, 1, 100)
		agree(h.t, said, "clocks.sm", s.Condition.SMClock, 1e6, 0.25) // it follows power from one moment to the next
		agree(h.t, said, "clocks.mem", s.Condition.MemoryClock, 1e6, 0.05)
		agree(h.t, said, "ecc.errors.corrected.volatile.total", s.Condition.ECCCorrected, 1, 0.5)
		agree(h.t, said, "ecc.errors.uncorrected.volatile.total", s.Condition.ECCUncorrected, 1, 0.5)
		agree(h.t, said, "ecc.errors.uncorrected.aggregate.total", s.Condition.ECCUncorrectedEver, 1, 0.5)
	}
}

func add(values []float64, v gpu.Value) []float64 {
	if number, ok := v.Get(); ok {
		return append(values, number)
	}
	return values
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v / float64(len(values))
	}
	return sum
}

// agree fails unless ours is what nvidia-smi said times unit: within tolerance, absolute for ratios and small numbers,
// relative where tolerance is below one and the number above it. What both do not know they agree about.
func agree(t require.TestingT, said map[string]string, key string, ours gpu.Value, unit, tolerance float64) {
	theirs, err := strconv.ParseFloat(said[key], 64)
	number, ok := ours.Get()
	if err != nil {
		require.False(t, ok, "%s: nvidia-smi says %q, we say %s", key, said[key], ours)
		return
	}
	require.True(t, ok, "%s: nvidia-smi says %s, we say %s", key, said[key], ours)
	limit := tolerance
	if want := theirs * unit; tolerance < 1 && want > 1 {
		limit = tolerance * want
	}
	require.InDelta(t, theirs*unit, number, limit, "%s: nvidia-smi says %s", key, said[key])
}

// startLoad runs testdata/load.py until the test ends and returns when it works.
func startLoad(t *testing.T, mode string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "python3", filepath.Join("testdata", "load.py"), mode, "60")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err, "the load needs python3 with PyTorch")
	require.Equal(t, "ready\n", line)
}

// smi is nvidia-smi, asked about the first GPU.
type smi struct{ path string }

// newSMI errs if there is no nvidia-smi, or none that sees a GPU.
func newSMI(ctx context.Context, name string) (*smi, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, path, "-L").CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "GPU 0:") {
		return nil, fmt.Errorf("%s -L: %w: %s", path, err, out)
	}
	return &smi{path}, nil
}

// ask returns the answers by field.
func (s *smi) ask(t *testing.T, fields ...string) map[string]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), s.path, "--id=0", "--format=csv,noheader,nounits", "--query-gpu="+strings.Join(fields, ",")).Output()
	require.NoError(t, err)
	values := strings.Split(strings.TrimSpace(string(out)), ", ")
	require.Len(t, values, len(fields), "%s", out)
	said := map[string]string{}
	for i, field := range fields {
		said[field] = values[i]
	}
	return said
}
