package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/gpu"
)

// In every scrape, whatever the driver, the kubelet and the processes say and however old that is: for each device and
// quantity the containers' series and the unattributed one add up to the device's, none of them is there without it, and
// no container has two series of a device.
func TestScrapesConserve(t *testing.T) {
	for _, unseen := range []string{"", "drawn"} {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(unseen)
			ctx, cancel := context.WithCancel(t.Context())
			go w.agent.Run(ctx)
			series := 0
			for range 500 {
				w.randomise(random)
				time.Sleep(time.Duration(random.IntN(4000)) * time.Millisecond)
				synctest.Wait()
				series += requireConserved(t, gather(t, w))
			}
			require.Greater(t, series, 500)
			cancel()
			close(w.stuck)
		})
	}
}

// requireConserved checks a scrape and returns how many devices' figures it checked.
func requireConserved(t *testing.T, got map[string]map[string]float64) int {
	t.Helper()
	series := 0
	for _, family := range []string{"gpu_", "gpu_mig_"} {
		for _, quantity := range []string{"utilization_ratio", "sm_active_ratio", "tensor_active_ratio", "dram_bandwidth_ratio", "memory_used_bytes"} {
			parts := got[family+"unattributed_"+quantity]
			require.Len(t, got[family+quantity], len(parts), quantity)
			for uuid, whole := range got[family+quantity] {
				series++
				require.Contains(t, parts, uuid)
				require.InDelta(t, whole, parts[uuid]+got["gpu_pod_"+quantity][uuid], 1e-6*max(1, whole), quantity)
			}
			for uuid := range got["gpu_pod_"+quantity] {
				if _, of := got[family+"utilization_samples"][uuid]; of {
					require.Contains(t, parts, uuid)
				}
			}
		}
	}
	return series
}

// gather returns the sum of each metric's series by their uuid label. It fails on series that are there twice.
func gather(t *testing.T, w *world) map[string]map[string]float64 {
	t.Helper()
	_, body := w.get("/metrics")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	require.NoError(t, err, body)
	sums := map[string]map[string]float64{}
	for name, family := range families {
		sums[name] = map[string]float64{}
		seen := map[string]bool{}
		for _, m := range family.GetMetric() {
			require.False(t, seen[fmt.Sprint(m.GetLabel())], "%s %v is there twice", name, m.GetLabel())
			seen[fmt.Sprint(m.GetLabel())] = true
			for _, label := range m.GetLabel() {
				if label.GetName() == "uuid" {
					sums[name][label.GetValue()] += m.GetGauge().GetValue()
				}
			}
		}
	}
	return sums
}

// randomise draws what the driver, the kubelet and /proc say from now on.
func (w *world) randomise(random *rand.Rand) {
	reading, readErr := randomReading(random)
	holders, holdersErr := randomHolders(random)
	owners := map[uint32]gpu.Owner{}
	for pid := range uint32(40) {
		if random.IntN(3) > 0 {
			owners[pid] = randomOwner(random)
		}
	}
	w.set(func() {
		w.reading = func(_ context.Context, into *gpu.Reading) error {
			copyReading(into, &reading, time.Now())
			return readErr
		}
		w.holders = func(context.Context) (map[string]gpu.Holders, error) { return holders, holdersErr }
		w.owners = owners
	})
}

func randomOwner(random *rand.Rand) gpu.Owner {
	return gpu.Owner{Namespace: "n", Pod: fmt.Sprintf("p%d", random.IntN(12)), Container: "c"}
}

func randomReading(random *rand.Rand) (gpu.Reading, error) {
	if random.IntN(5) == 0 {
		return gpu.Reading{}, fmt.Errorf("drawn %d", random.IntN(3))
	}
	value := func(limit float64) gpu.Value {
		if random.IntN(5) == 0 {
			return gpu.Unknown("drawn")
		}
		return gpu.Known(random.Float64() * limit)
	}
	reading := gpu.Reading{Session: random.IntN(2)}
	for i := range random.IntN(9) {
		d := gpu.Device{Index: i, UUID: fmt.Sprintf("GPU-%d\xff", i)}
		switch random.IntN(8) {
		case 0:
			d.UUID = fmt.Sprintf("GPU-%d", random.IntN(2)) // drawn twice at times
		case 1:
			d.UUID, d.Instance = fmt.Sprintf("MIG-%d", i), gpu.Instance{Parent: "GPU-0", GPU: i}
		}
		s := gpu.Sample{
			Device: d, Utilization: value(1), Memory: gpu.Memory{Used: value(8e10), Total: value(8e10)},
			Activity: gpu.Activity{SM: value(1), Tensor: value(1), DRAM: value(1)},
		}
		for range random.IntN(9) {
			s.Ring = append(s.Ring, gpu.RingPoint{Stamp: random.Uint64N(1e9), Ratio: random.Float64()})
			s.Processes = append(s.Processes, gpu.Process{PID: random.Uint32N(40), Memory: value(2e10), PeakMemory: value(2e10)})
			s.ProcessRing = append(s.ProcessRing, gpu.ProcessUse{PID: random.Uint32N(40), SM: random.Float64()})
		}
		reading.Samples = append(reading.Samples, s)
	}
	return reading, nil
}

func randomHolders(random *rand.Rand) (map[string]gpu.Holders, error) {
	if random.IntN(5) == 0 {
		return nil, fmt.Errorf("drawn %d", random.IntN(3))
	}
	all := map[string]gpu.Holders{}
	for range random.IntN(12) {
		uuid := fmt.Sprintf([]string{"GPU-%d", "GPU-%d\xff", "MIG-%d"}[random.IntN(3)], random.IntN(9))
		h := all[uuid]
		if owner := randomOwner(random); !slices.Contains(h.Owners, owner) {
			h.Owners = append(h.Owners, owner)
		}
		h.Reserved = random.IntN(5) == 0
		all[uuid] = h
	}
	return all, nil
}
