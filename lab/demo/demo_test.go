package demo

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/lab/load"
	"headroom.dev/headroom/lab/observe"
)

func TestScriptIsOneStretchAfterAnother(t *testing.T) {
	for _, sync := range []time.Duration{2 * time.Second, 15 * time.Second, time.Minute} {
		phases := script(cycles(), sync)
		var end time.Duration
		for i, p := range phases {
			require.Equal(t, end, p.begin)
			require.Equal(t, p, at(phases, p.begin))
			require.Equal(t, p, at(phases, p.begin+p.length-1))
			require.Equal(t, i%2 == 1, p.up)
			end = p.begin + p.length
		}
		require.Equal(t, end, total(phases))
	}
	require.Equal(t, 210*time.Second, total(script(cycles(), 15*time.Second)), "the demo is announced as three and a half minutes")
}

// TestOnlyOneMetricCallsForEachPeak checks the arithmetic behind the cycles with Poisson arrivals at two pods.
func TestOnlyOneMetricCallsForEachPeak(t *testing.T) {
	const pods, perHundred = 2, 0.0209 // mean of a lognormal with median 20 ms and sigma 0.3
	for _, c := range cycles() {
		perPod := c.Rate / pods
		busy := 100 * (1 - math.Exp(-perPod*perHundred*float64(c.Tokens)/100))
		proposals := map[string]float64{"requests_per_second": perPod / 10, "gpu_utilization_percent": busy / 60}
		for metric, ratio := range proposals {
			if metric == c.Metric {
				require.Greater(t, ratio, 1+tolerance, "%s at %s", metric, c.Why)
			} else {
				require.Less(t, ratio, 1.0, "%s at %s", metric, c.Why)
			}
		}
	}
}

// parse reads "at 12.5 ready 3", "at 3 wanted 5", "at 4 rescale 5 pods metric x above target", "at 2 reading rps 12".
func parse(t *testing.T, zero time.Time, input string) (observe.History, []ready) {
	var h observe.History
	var counts []ready
	for line := range strings.Lines(input) {
		var seconds float64
		var kind string
		fields := strings.Fields(line)
		_, err := fmt.Sscan(fields[1], &seconds)
		require.NoError(t, err, line)
		kind = fields[2]
		when := zero.Add(time.Duration(seconds * float64(time.Second)))
		var n float64
		if kind != "reading" {
			_, err = fmt.Sscan(fields[3], &n)
			require.NoError(t, err, line)
		}
		switch kind {
		case "ready":
			counts = append(counts, ready{when, int(n)})
		case "wanted":
			h.Scales = append(h.Scales, observe.Scale{Time: when, Wanted: int32(n)})
		case "pod":
			h.Ready = append(h.Ready, observe.PodReady{Time: when})
		case "rescale":
			h.Rescales = append(h.Rescales, observe.Rescale{Time: when, Size: int32(n), Reason: strings.Join(fields[4:], " ")})
		case "reading":
			_, err = fmt.Sscan(fields[4], &n)
			require.NoError(t, err, line)
			h.Readings = append(h.Readings, observe.Reading{Time: when, Metric: fields[3], Mean: n, Pods: 2})
		default:
			t.Fatalf("unknown: %s", line)
		}
	}
	return h, counts
}

// TestJudge: the load rises at 0 and falls at 40, the next cycle begins at 100.
func TestJudge(t *testing.T) {
	datadriven.RunTest(t, "testdata/judge", func(t *testing.T, d *datadriven.TestData) string {
		zero := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		h, counts := parse(t, zero, d.Input)
		r := judge(Cycle{Metric: "rps", Target: 10, Why: "test"}, h, counts, zero, zero.Add(40*time.Second), zero.Add(100*time.Second))
		var b strings.Builder
		fmt.Fprintf(&b, "replicas %d -> %d -> %d, metric %s, decision %s, ready %s\n", r.Before, r.Peak, r.After,
			r.Reaction.Metric, r.Reaction.Decision, r.Reaction.Ready)
		for _, f := range r.Failures {
			fmt.Fprintln(&b, "FAILED", f)
		}
		if len(r.Failures) == 0 {
			fmt.Fprintf(&b, "up to %d, down to %d\n", r.Up.Size, r.Down.Size)
		}
		return b.String()
	})
}

func exampleFrame() frame {
	zero := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	return frame{
		elapsed: 34 * time.Second, length: 210 * time.Second, phase: phase{rate: 60, tokens: 100, name: "many light requests"},
		load:   load.Window{Sent: 59.8, OK: 59.6, Latency: &load.Latency{P95: 31.4}, Failures: map[string]int{"refused": 1}},
		wanted: 6, pods: observe.Pods{Ready: 4, Loading: 2},
		readings: []reading{
			{name: "requests_per_second", target: 10, known: true, last: observe.Reading{Mean: 14.94, Pods: 4, Age: 1400 * time.Millisecond}},
			{name: "gpu_utilization_percent", target: 60, known: true, last: observe.Reading{Missing: "no gpu_utilization_percent of 2 pods: " + strings.Repeat("x", 100)}},
			{name: "request_latency_p95_ms"},
		},
		rescales: []observe.Rescale{{Time: zero, Size: 6, Reason: "pods metric requests_per_second above target"}},
	}
}

func TestScreen(t *testing.T) {
	datadriven.RunTest(t, "testdata/screen", func(_ *testing.T, d *datadriven.TestData) string {
		f := exampleFrame()
		if d.Cmd == "table" {
			return strings.Join(table(f), "\n") + "\n"
		}
		var out strings.Builder
		s := &screen{w: &out}
		for range 3 { // within one interval a plain screen prints once
			s.show(f)
			f.elapsed += time.Second
		}
		f.elapsed += plainEvery
		s.show(f)
		return out.String()
	})
}

func TestATerminalIsDrawnOver(t *testing.T) {
	var out strings.Builder
	s := &screen{w: &out, terminal: true}
	f := exampleFrame()
	s.show(f)
	f.rescales = slices.Concat(f.rescales, f.rescales)
	s.show(f)
	require.Contains(t, out.String(), fmt.Sprintf("\x1b[%dA", len(table(exampleFrame()))), "the second table begins where the first did")
}

func TestSummaryNamesWhatFailed(t *testing.T) {
	var out strings.Builder
	Summary{HPASync: "15s", Results: []Result{{Metric: "rps", Failures: []string{"the API never showed rps above its target"}}}}.print(&out)
	require.Contains(t, out.String(), "FAILED rps: the API never showed")
	require.NotContains(t, out.String(), "scaled up and down on both")
}
