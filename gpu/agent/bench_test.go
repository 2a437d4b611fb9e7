package agent

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/gpu"
)

// full is a reading of 8 GPUs of 16 processes, each of a container of its own, and whose they are.
func full(now time.Time) (*gpu.Reading, map[string]gpu.Holders, map[uint32]gpu.Owner) {
	k := gpu.Known
	r := &gpu.Reading{Driver: "580.95.05", Session: 1}
	holders, owners := map[string]gpu.Holders{}, map[uint32]gpu.Owner{}
	for g := range 8 {
		s := r.Next()
		uuid := fmt.Sprintf("GPU-00000000-0000-4000-8000-%012d", g)
		s.Device = gpu.Device{Index: g, UUID: uuid, Name: "NVIDIA H100 80GB HBM3", Minor: k(float64(g)), BusID: "00000000:17:00.0"}
		s.Time, s.Memory = now, gpu.Memory{Total: k(80 << 30), Used: k(64 << 30), Free: k(15 << 30), Reserved: k(1 << 30)}
		s.Activity = gpu.Activity{
			Graphics: k(0.9), SM: k(0.4), Occupancy: k(0.2), Tensor: k(0.1), DRAM: k(0.3), ContextSwitch: k(0.01),
			PCIeSent: k(1e6), PCIeReceived: k(2e6), LinkSent: k(0), LinkReceived: k(0),
		}
		s.Condition = gpu.Condition{
			Time: now, Power: k(412.5), PowerLimit: k(700), Energy: k(1e6), Temperature: k(61), MemoryTemperature: k(70), SMClock: k(1.98e9),
			MemoryClock: k(2.619e9), ClockReasons: k(4), PCIeReplays: k(0), LinkReplays: k(0), LinkRecoveries: k(0), LinkCRCErrors: k(0), ECCCorrected: k(0),
			ECCUncorrected: k(0), ECCUncorrectedEver: k(0), RemappedRows: k(0), RemapPending: k(0), RemapFailed: k(0), RecoveryAction: k(0),
		}
		var h gpu.Holders
		for i := range 16 {
			pid := uint32(100*g + i)
			owner := gpu.Owner{Namespace: "shop", Pod: fmt.Sprintf("chat-6b57847f44-%05d", pid), Container: "server"}
			owners[pid] = owner
			h.Owners = append(h.Owners, owner)
			s.Processes = append(s.Processes, gpu.Process{PID: pid, Memory: k(4 << 30)})
		}
		for i := range uint32(7) {
			stamp := uint64(now.UnixMicro()) + uint64(i)
			s.Ring = append(s.Ring, gpu.RingPoint{Stamp: stamp, Ratio: 0.1 * float64(i)})
			s.ProcessRing = append(s.ProcessRing, gpu.ProcessUse{PID: uint32(100*g) + i, Stamp: stamp, SM: 0.5})
		}
		holders[uuid] = h
	}
	return r, holders, owners
}

// A tick that finds what the last one found allocates nothing.
func TestObserveAllocatesNothing(t *testing.T) {
	now := time.Unix(1e9, 0)
	n := newNode(10*time.Second, 5*time.Second)
	r, holders, owners := full(now)
	tick := func() {
		now = now.Add(time.Second)
		for i := range r.Samples {
			r.Samples[i].Time = now
		}
		n.observe(now, r, holders, true, owners, "")
	}
	for range 20 {
		tick()
	}
	require.Len(t, n.devices[0].split.Shares, 16)
	require.Zero(t, testing.AllocsPerRun(100, tick))
}

// The loop around it makes one: what it publishes.
func TestTickAllocatesLittle(t *testing.T) {
	w := newWorld("")
	r, holders, owners := full(time.Now())
	w.owners = owners
	w.reading = func(_ context.Context, into *gpu.Reading) error { copyReading(into, r, time.Now()); return nil }
	publish(&w.agent.holders, holders, true, nil)
	ticks := newTicker(w.agent)
	ctx := t.Context()
	for range 20 {
		ticks.read(ctx)
	}
	allocated := testing.AllocsPerRun(100, func() { ticks.read(ctx) })
	t.Logf("%.1f allocations", allocated)
	require.LessOrEqual(t, allocated, 2.0)
}

func BenchmarkObserve(b *testing.B) {
	now := time.Unix(1e9, 0)
	n := newNode(10*time.Second, 5*time.Second)
	r, holders, owners := full(now)
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Second)
		for i := range r.Samples {
			r.Samples[i].Time = now
		}
		n.observe(now, r, holders, true, owners, "")
	}
}

func BenchmarkScrape(b *testing.B) {
	for _, encoding := range []string{"identity", "gzip"} {
		b.Run(encoding, func(b *testing.B) {
			w := newWorld("")
			now := time.Now()
			r, holders, owners := full(now)
			w.agent.node.observe(now, r, holders, true, owners, "")
			publish(&w.agent.reading, struct{}{}, true, nil)
			publish(&w.agent.holders, holders, true, nil)
			handler := w.agent.Handler(nil)
			request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
			request.Header.Set("Accept-Encoding", encoding)
			b.ReportAllocs()
			recorder := httptest.NewRecorder()
			for b.Loop() {
				recorder.Body.Reset()
				handler.ServeHTTP(recorder, request)
			}
			b.ReportMetric(float64(recorder.Body.Len()), "bytes")
		})
	}
}
