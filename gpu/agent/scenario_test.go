package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/gpu"
)

func (w *world) parseGPUs(t *testing.T, input string) func(context.Context, *gpu.Reading) error {
	t.Helper()
	word, rest, _ := strings.Cut(input, " ")
	switch word {
	case "error":
		return func(context.Context, *gpu.Reading) error { return errors.New(rest) }
	case "overdue":
		err := &gpu.OverdueError{Call: rest, Since: time.Now()}
		return func(context.Context, *gpu.Reading) error { return err }
	case "restart":
		return func(context.Context, *gpu.Reading) error { return fmt.Errorf("mismatch: %w", gpu.ErrRestartNeeded) }
	case "stuck":
		return func(context.Context, *gpu.Reading) error { <-w.stuck; return errors.New("stuck") }
	}
	reading := gpu.Reading{Driver: "570.124.06", Session: 1}
	gpus := 0
	for line := range strings.Lines(input) {
		f := strings.Fields(line)
		require.GreaterOrEqual(t, len(f), 4, line)
		s := gpu.Sample{
			Device: gpu.Device{
				Index: gpus, UUID: strings.TrimPrefix(f[0], "-"), Name: "NVIDIA H100 80GB HBM3", Minor: gpu.Known(float64(gpus)),
				BusID: fmt.Sprintf("00000000:%02X:00.0", 16+gpus),
			},
			Utilization: parseValue(t, f[1]), Memory: gpu.Memory{Used: parseValue(t, f[2]), Total: parseValue(t, f[3])},
		}
		gpus++
		for _, option := range f[4:] {
			key, value, _ := strings.Cut(option, "=")
			if key == "mig" {
				gpus--
				s.Device.Index, s.Device.Minor = gpus-1, gpu.Known(float64(gpus-1))
			}
			parseOption(t, &reading, &s, key, value)
		}
		reading.Samples = append(reading.Samples, s)
	}
	events := reading.Events
	return func(_ context.Context, into *gpu.Reading) error {
		copyReading(into, &reading, time.Now())
		into.Events = append(into.Events, events...)
		events = nil // each is reported once
		return nil
	}
}

func parseOption(t *testing.T, r *gpu.Reading, s *gpu.Sample, key, value string) {
	t.Helper()
	number := func(text string) float64 {
		n, err := strconv.ParseFloat(text, 64)
		require.NoError(t, err, "%s=%s", key, value)
		return n
	}
	switch key {
	case "ring":
		for i, ratio := range strings.Split(value, ",") {
			s.Ring = append(s.Ring, gpu.RingPoint{Stamp: 1e6 + uint64(i)*166667, Ratio: number(ratio)})
		}
	case "use":
		for one := range strings.SplitSeq(value, ",") {
			pid, sm, _ := strings.Cut(one, ":")
			s.ProcessRing = append(s.ProcessRing, gpu.ProcessUse{PID: uint32(number(pid)), Stamp: 1e6, SM: number(sm)})
		}
	case "process":
		for one := range strings.SplitSeq(value, ",") {
			f := append(strings.Split(one, ":"), "-")
			s.Processes = append(s.Processes, gpu.Process{PID: uint32(number(f[0])), Memory: parseValue(t, f[1]), PeakMemory: parseValue(t, f[2])})
		}
	case "sm":
		s.Activity.SM = gpu.Known(number(value))
	case "tensor":
		s.Activity.Tensor = gpu.Known(number(value))
	case "dram":
		s.Activity.DRAM = gpu.Known(number(value))
	case "xid":
		r.Events = append(r.Events, gpu.Event{UUID: s.Device.UUID, XID: uint64(number(value)), Kind: "xid", Time: time.Now()})
	case "recovery":
		s.Condition.Time, s.Condition.RecoveryAction = time.Now(), gpu.Known(number(value))
	case "remap-pending":
		s.Condition.Time, s.Condition.RemapPending = time.Now(), gpu.Known(number(value))
	case "lost":
		s.Lost = value
	case "session":
		r.Session = int(number(value))
	case "mig":
		f := strings.Split(value, "/")
		s.Device.Instance = gpu.Instance{Parent: f[0], GPU: int(number(f[1])), Profile: f[2]}
	case "partitioned":
		s.Device.Partitioned = true
	case "condition":
		k := gpu.Known
		s.Condition = gpu.Condition{
			Time: time.Now(), Power: k(412.5), PowerLimit: k(700), Energy: k(1e6), Temperature: k(61), MemoryTemperature: k(70),
			SMClock: k(1.98e9), MemoryClock: k(2.619e9), ClockReasons: k(0x4), PCIeReplays: k(3), LinkReplays: k(1), LinkRecoveries: k(0),
			LinkCRCErrors: k(2), ECCCorrected: k(5), ECCUncorrected: k(0), ECCUncorrectedEver: k(1), RemappedRows: k(1),
			RemapPending: k(0), RemapFailed: k(0), RecoveryAction: k(0),
		}
	default:
		t.Fatalf("unknown word %s", key)
	}
}

// copyReading fills into with what was measured, as of now.
func copyReading(into, from *gpu.Reading, now time.Time) {
	into.Reset()
	into.Driver, into.Session = from.Driver, from.Session
	for i := range from.Samples {
		s := into.Next()
		ring, list, uses := s.Ring, s.Processes, s.ProcessRing
		*s = from.Samples[i]
		s.Time = now
		s.Ring, s.Processes = append(ring, s.Ring...), append(list, s.Processes...)
		s.ProcessRing = append(uses, s.ProcessRing...)
	}
}

func parseValue(t *testing.T, text string) gpu.Value {
	t.Helper()
	if text == "-" {
		return gpu.Unknown("nvmlDeviceGetSomething: Not Supported (3)")
	}
	number, err := strconv.ParseFloat(text, 64)
	require.NoError(t, err)
	return gpu.Known(number)
}

func parseOwners(t *testing.T, input string) func(context.Context) (map[string]gpu.Holders, error) {
	t.Helper()
	all := map[string]gpu.Holders{}
	var problem error
	hang := false
	for line := range strings.Lines(input) {
		f := strings.Fields(line)
		switch {
		case f[0] == "hang":
			hang = true
		case f[0] == "error":
			problem = errors.New(strings.Join(f[1:], " "))
		case len(f) == 2 && f[1] == "reserved":
			all[f[0]] = gpu.Holders{Reserved: true}
		default:
			require.Len(t, f, 4, line)
			h := all[f[0]]
			h.Owners = append(h.Owners, gpu.Owner{Namespace: f[1], Pod: f[2], Container: f[3]})
			all[f[0]] = h
		}
	}
	if problem != nil && len(all) == 0 {
		all = nil
	}
	return func(ctx context.Context) (map[string]gpu.Holders, error) {
		if hang {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return all, problem
	}
}

func (w *world) parseProcesses(t *testing.T, input string) {
	t.Helper()
	w.set(func() {
		w.owners, w.kinds = map[uint32]gpu.Owner{}, map[uint32]string{}
		for line := range strings.Lines(input) {
			f := strings.Fields(line)
			pid, err := strconv.ParseUint(f[0], 10, 32)
			require.NoError(t, err)
			if len(f) == 2 {
				w.kinds[uint32(pid)] = f[1]
				continue
			}
			w.owners[uint32(pid)] = gpu.Owner{Namespace: f[1], Pod: f[2], Container: f[3]}
		}
	})
}
