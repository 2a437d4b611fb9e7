package inference

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

func TestParseSpec(t *testing.T) {
	for _, empty := range []string{"", "  \n", "{}", "# nothing\n"} {
		got, err := ParseSpec(empty)
		require.NoError(t, err, "%q", empty)
		require.Equal(t, DefaultSpec(), got)
	}
	got, err := ParseSpec(`
version: v2
model: llama-3-8b
startup: 3s
slots: 8
serviceTime: {median: 120ms, sigma: 0.5}
queue: 0
gpuMemory: 15.5
kvCache: 512Mi
gpuMemoryUtilization: 0.8
errorRate: 0.25
fault: slow:2s
faultHealth: true
crashAfter: 1500ms
metricNames: vllm
`)
	require.NoError(t, err)
	require.Equal(t, Spec{
		Version: "v2", Model: "llama-3-8b", Startup: Distribution{Median: 3 * time.Second}, Slots: 8,
		ServiceTime: Distribution{Median: 120 * time.Millisecond, Sigma: 0.5}, GPUMemory: 31 << 29, KVCache: 512 << 20,
		GPUMemoryUtilization: 0.8,
		ErrorRate:            0.25, Fault: "slow:2s", FaultHealth: true, CrashAfter: Duration(1500 * time.Millisecond), MetricNames: MetricNamesVLLM,
	}, got)
}

func TestParseSpecErrors(t *testing.T) {
	for text, want := range map[string]string{
		"slot: 4":                                `unknown field "slot" (known: crashAfter, errorRate, fault,`,
		"slots: 4\nslots: 5":                     `"slots" already set`,
		"slots: four":                            "slots: string is no int",
		"slots: 1.5":                             "slots: number 1.5 is no int",
		"slots: 0":                               "slots: 0 is not in 1 to 4096",
		"queue: -1":                              "queue: -1 is not in 0 to",
		"startup: 8":                             "startup: want a duration with its unit",
		"startup: soon":                          `startup: time: invalid duration "soon"`,
		"startup: -1s":                           "startup: -1s is not in 0s",
		"startup: {median: 8s, stddev: 1}":       `startup: json: unknown field "stddev"`,
		"startup: {sigma: 1}":                    "startup: time: invalid duration",
		"serviceTime: 0s":                        "serviceTime: 0s is not above 0s",
		"serviceTime: {median: 1s, sigma: 9}":    "serviceTime: sigma 9 is not in 0 to 3",
		"serviceTime: {median: 1s, sigma: wide}": "serviceTime: string is no float64",
		"gpuMemoryUtilization: 92":               "gpuMemoryUtilization: 92 is not above 0 and at most 1",
		"crashAfter: 3":                          "crashAfter: want a duration with its unit",
		"crashAfter: -1s":                        "crashAfter: -1s is below 0s",
		"errorRate: 2":                           "errorRate: 2 is not in 0 to 1",
		"gpuMemory: lots":                        `gpuMemory: "lots" is no amount of memory`,
		"gpuMemory: -1Gi":                        "gpuMemory: -1Gi is not in 0 to",
		"kvCache: 1e300":                         "kvCache: ",
		"fault: explode":                         `fault: "explode" is none of`,
		"fault: 'slow:'":                         `fault: "slow:" is none of`,
		"metricNames: dcgm":                      `metricNames: "dcgm" is none of all, http, vllm`,
		"model: ''":                              "model: must not be empty",
		"[1, 2]":                                 "must be a mapping",
		"slots: 0\nqueue: -1":                    "queue: -1", // all problems at once
		"\tslots: 1":                             "cannot read simulate spec",
	} {
		_, err := ParseSpec(text)
		require.ErrorContains(t, err, want, "%q", text)
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{
		"16Gi": 16 << 30, "16GiB": 16 << 30, "16": 16 << 30, "0.5": 1 << 29, "80GB": 80e9, "80G": 80e9, "512Mi": 512 << 20,
		"1k": 1000, "7B": 7, "1Ti": 1 << 40, "0": 0,
	} {
		got, err := parseBytes(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for b, want := range map[Bytes]string{16 << 30: "16Gi", 1536 << 20: "1536Mi", 0: "0B", 1001: "1001B"} {
		require.Equal(t, want, b.String())
	}
}

func TestSpecRoundTrip(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		spec := Spec{
			Version:     []string{"", "v2", "null", "1.0", "a: b\n"}[rng.IntN(5)],
			Model:       "m",
			Startup:     Distribution{time.Duration(rng.Int64N(int64(maxStartup))), float64(rng.IntN(2)) * rng.Float64()},
			Slots:       1 + rng.IntN(maxSlots),
			ServiceTime: Distribution{time.Duration(1 + rng.Int64N(int64(maxService))), rng.Float64()},
			Queue:       rng.IntN(3),
			GPUMemory:   Bytes(rng.Int64N(int64(maxBytes))) >> rng.IntN(50),
			KVCache:     Bytes(rng.IntN(3)) << 30,
			ErrorRate:   rng.Float64(),

			GPUMemoryUtilization: 1 - rng.Float64(),

			Fault:       []Fault{FaultNone, FaultHang, FaultSlow + "2s"}[rng.IntN(3)],
			FaultHealth: rng.IntN(2) == 0,
			MetricNames: []MetricNames{MetricNamesAll, MetricNamesHTTP, MetricNamesVLLM}[rng.IntN(3)],
		}
		text, err := yaml.Marshal(spec)
		require.NoError(t, err)
		got, err := ParseSpec(string(text))
		require.NoError(t, err, string(text))
		require.Equal(t, spec, got, string(text))
	}
}

func TestDistributionDraws(t *testing.T) {
	const n = 100_000
	d := Distribution{Median: 50 * time.Millisecond, Sigma: 0.3}
	rng := rand.New(rand.NewPCG(1, 2))
	below, sum := 0, 0.0
	for range n {
		x := d.draw(rng)
		sum += x.Seconds()
		if x < d.Median {
			below++
		}
	}
	require.InDelta(t, n/2, below, 5*math.Sqrt(n)/2)
	require.InEpsilon(t, 0.05*math.Exp(0.045), sum/n, 0.01)
	require.Equal(t, time.Second, Distribution{Median: time.Second}.draw(rng))
}

func FuzzParseSpec(f *testing.F) {
	for _, text := range []string{
		"", "version: v2\nslots: 4", "startup: {median: 8s, sigma: 0.2}", "gpuMemory: 16Gi", "gpuMemory: 1e1", "fault: slow:2s",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		spec, err := ParseSpec(text)
		if err != nil {
			return
		}
		require.NoError(t, spec.Validate())
		again, err := yaml.Marshal(spec)
		require.NoError(t, err)
		got, err := ParseSpec(string(again))
		require.NoError(t, err, string(again))
		require.Equal(t, spec, got)
	})
}
