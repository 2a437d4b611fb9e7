package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/gpu"
)

// In every scrape, whatever the driver and the kubelet say and however old that is: for each device and quantity the
// pods' series and the unattributed one add up to the device's, and none of them is there without it.
func TestScrapesConserve(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		ctx, cancel := context.WithCancel(t.Context())
		go w.agent.Run(ctx)
		series := 0
		for range 500 {
			reading, readErr := randomReading(random)
			owners, ownersErr := randomOwners(random)
			w.set(func() {
				w.reading = func(context.Context) (gpu.Reading, error) { return at(reading, time.Now()), readErr }
				w.owners = func(context.Context) (map[string][]gpu.Owner, error) { return owners, ownersErr }
			})
			time.Sleep(time.Duration(random.IntN(4000)) * time.Millisecond)
			synctest.Wait()
			got := gather(t, w)
			for _, quantity := range []string{"utilization_ratio", "memory_used_bytes"} {
				parts := got["gpu_unattributed_"+quantity]
				require.Len(t, got["gpu_"+quantity], len(parts))
				for uuid, whole := range got["gpu_"+quantity] {
					series++
					require.Contains(t, parts, uuid)
					require.InDelta(t, whole, parts[uuid]+got["gpu_pod_"+quantity][uuid], 1e-9)
				}
				for uuid := range got["gpu_pod_"+quantity] {
					require.Contains(t, parts, uuid)
				}
			}
		}
		require.Greater(t, series, 500)
		cancel()
		close(w.stuck)
	})
}

// gather returns the sum of each metric's series by their uuid label.
func gather(t *testing.T, w *world) map[string]map[string]float64 {
	t.Helper()
	families, err := w.agent.cfg.Registry.Gather()
	require.NoError(t, err)
	sums := map[string]map[string]float64{}
	for _, family := range families {
		sums[family.GetName()] = map[string]float64{}
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				if label.GetName() == "uuid" {
					sums[family.GetName()][label.GetValue()] += m.GetGauge().GetValue()
				}
			}
		}
	}
	return sums
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
	reading := gpu.Reading{}
	for i := range random.IntN(9) {
		uuid := fmt.Sprintf("GPU-%d\xff", i)
		if random.IntN(8) == 0 {
			uuid = fmt.Sprintf("GPU-%d", random.IntN(2)) // drawn twice at times
		}
		reading.Samples = append(reading.Samples, gpu.Sample{
			Device: gpu.Device{Index: i, UUID: uuid}, Utilization: value(1), MemoryUsed: value(8e10), MemoryTotal: value(8e10),
		})
	}
	return reading, nil
}

func randomOwners(random *rand.Rand) (map[string][]gpu.Owner, error) {
	if random.IntN(5) == 0 {
		return nil, fmt.Errorf("drawn %d", random.IntN(3))
	}
	owners := map[string][]gpu.Owner{}
	for pod := range random.IntN(12) {
		uuid := fmt.Sprintf("GPU-%d", random.IntN(9))
		if random.IntN(2) == 0 {
			uuid += "\xff"
		}
		owners[uuid] = append(owners[uuid], gpu.Owner{Namespace: "n", Pod: fmt.Sprintf("p%d", pod), Container: "c"})
	}
	return owners, nil
}
