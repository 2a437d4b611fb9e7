package hpa

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// testConfig is that of replica_calculator_test.go.
func testConfig() *Config {
	cfg := DefaultConfig()
	cfg.CPUInitialization, cfg.InitialReadinessDelay = 2*time.Minute, 10*time.Second
	return &cfg
}

// pods reads a list of pods: each its value in thousandths, "-" for none, and then of h(ot: it became ready within the last
// window), n(ot ready, and never was), p(ending), f(ailed), d(eleted), s(ucceeded). All request 1000, or what follows "/".
func pods(t *testing.T, text string) ([]Pod, []Sample) {
	t.Helper()
	var list []Pod
	var samples []Sample
	for i, word := range strings.Fields(text) {
		word, request, found := strings.Cut(word, "/")
		if !found {
			request = "1000"
		}
		value := strings.TrimRight(word, "hnpfds")
		p := Pod{Name: fmt.Sprintf("p%d", i), Ready: Ready, Started: noon.Add(-10 * time.Minute), ReadySince: noon.Add(-9 * time.Minute)}
		for _, flag := range word[len(value):] {
			switch flag {
			case 'h':
				p.Started, p.ReadySince = noon.Add(-time.Minute), noon.Add(-30*time.Second)
			case 'n':
				p.Ready, p.ReadySince = NotReady, p.Started
			case 'p':
				p.Phase, p.Ready = Pending, NotReady
			case 'f':
				p.Phase, p.Ready = Failed, NotReady
			case 'd':
				p.Deleted = true
			case 's':
				p.Phase = Succeeded
			}
		}
		s := Sample{At: noon, Window: time.Minute}
		var err error
		s.Request, err = strconv.ParseInt(request, 10, 64)
		require.NoError(t, err)
		if value != "-" {
			s.Measured = true
			s.Milli, err = strconv.ParseInt(value, 10, 64)
			require.NoError(t, err)
		}
		list, samples = append(list, p), append(samples, s)
	}
	return list, samples
}

// propose writes a proposal as "replicas usage", or its error.
func propose(t *testing.T, source Source, kind Kind, target int64, replicas int32, text string, tolerance float64) string {
	t.Helper()
	m := Metric{Source: source, Name: "cpu", Kind: kind, Target: target}
	obs := Observation{Now: noon, Replicas: replicas, Created: replicas}
	r := Reading{}
	list, samples := pods(t, text)
	obs.Pods = list
	r.Samples = samples
	p := Propose(testConfig(), &m, &obs, &r, Tolerances{Down: 0.1, Up: tolerance})
	if p.Err != nil {
		return p.Err.Error()
	}
	if kind == Utilization {
		return fmt.Sprintf("%d at %d%% %d", p.Replicas, p.Percent, p.Usage)
	}
	return fmt.Sprintf("%d at %d", p.Replicas, p.Usage)
}

// TestResource has the cases of TestReplicaCalcResourceScale, …Tolerance, …MissingMetrics and …Errors in
// replica_calculator_test.go. What is of one container there differs only in its numbers.
func TestResource(t *testing.T) {
	f := func(name string, target int64, replicas int32, list, want string) {
		t.Helper()
		assert.Equal(t, want, propose(t, Resource, Utilization, target, replicas, list, 0.1), name)
	}
	f("scale up", 30, 3, "300 500 700", "5 at 50% 500")
	f("scale up: unready pod scales less", 30, 3, "300n 500 700", "4 at 60% 600")
	f("scale up: hot-CPU pod scales less", 30, 3, "300h 500 700", "4 at 60% 600")
	f("no scale: unready pods ignored", 30, 3, "400 500n 700n", "3 at 40% 400")
	f("no scale: hot-CPU pods ignored", 30, 3, "400 500hn 700hn", "3 at 40% 400")
	f("scale up: failed pods ignored", 30, 2, "500 700 -f -f", "4 at 60% 600")
	f("scale up: pods being deleted are ignored", 30, 2, "500 700 -d -d", "4 at 60% 600")
	f("scale down", 50, 5, "100 300 500 250 250", "3 at 28% 280")
	f("scale down: exclude unready pods", 50, 5, "100 300 500 250n 250n", "2 at 30% 300")
	f("scale down: exclude unscheduled pods", 50, 5, "100 -p -p -p -p", "1 at 10% 100")
	f("scale down: ignore hot-CPU pods", 50, 5, "100 300 500 250h 250h", "2 at 30% 300")
	f("scale down: failed pods ignored", 50, 5, "100 300 500 250 250 -f -f", "3 at 28% 280")
	f("scale down: still-running pods being deleted are ignored", 50, 5, "100 300 500 250 250 900d 900d", "3 at 28% 280")
	f("within default tolerance", 100, 3, "1010/900 1030/1000 1020/1100", "3 at 102% 1020")
	f("outside 0% tolerance", 100, 3, "909/900 1010/1000 1111/1100", "3 at 101% 1010")
	assert.Equal(t, "4 at 101% 1010", propose(t, Resource, Utilization, 100, 3, "909/900 1010/1000 1111/1100", 0))
	assert.Equal(t, "3 at 190% 1900", propose(t, Resource, Utilization, 100, 3, "1890/900 1910/1000 1900/1100", 2))
	f("a missing pod is at its request on the way down", 50, 4, "100 100 -", "3 at 10% 100")
	f("a missing pod is at a target above its request", 150, 4, "100 100 -", "2 at 10% 100")
	f("a missing pod is at 0 on the way up", 30, 2, "900 -", "3 at 90% 900")
	f("a missing pod would turn the direction round", 90, 3, "80 80 -/10000", "3 at 8% 80")
	f("missing pods at the target itself", 30, 3, "300 -", "3 at 30% 300")
	f("nothing is measured", 50, 3, "-p -n -", ErrNoValues.Error())
	f("no pods", 50, 3, "", ErrNoPods.Error())
	f("nothing is requested", 50, 3, "100/0 100/0", ErrNoMatch.Error())
}

// TestPods has the cases of TestReplicaCalcPodMetric. For these readiness does not count.
func TestPods(t *testing.T) {
	f := func(name string, target int64, replicas int32, list, want string) {
		t.Helper()
		assert.Equal(t, want, propose(t, Pods, AverageValue, target, replicas, list, 0.1), name)
	}
	f("scale up", 15000, 3, "20000 10000 30000", "4 at 20000")
	f("scale up: unready hot-CPU pod scales less", 15000, 3, "50000 10000 30000hn", "6 at 30000")
	f("scale up: unready hot-CPU pods avoid scale-down", 15000, 3, "50000hn 15000 30000hn", "7 at 31666")
	f("scale down", 20000, 5, "12000 12000 12000 12000 12000", "3 at 12000")
	f("within default tolerance", 20000, 3, "20000 21000 21000", "3 at 20666")
	assert.Equal(t, "4 at 20666", propose(t, Pods, AverageValue, 20000, 3, "20000 21000 21000", 0.01))
	f("no change: missing metrics", 20000, 5, "20000 19000 21000 - -", "5 at 20000")
	f("rolling update with maxSurge: extra pod missing metric", 17000, 2, "10000 10000 -", "2 at 10000")
	f("MissingMetricsUnreadyScaleUp", 50, 3, "110 - -p", "3 at 110")
	f("pending pods dampen a scale up", 15000, 3, "50000 10000 30000 -p", "6 at 30000")
	f("missing pods count as the target on the way down", 100, 4, "10 10 - -", "3 at 10")
	f("pods that are done count", 100, 2, "300 300s", "6 at 300")
	f("what overflows becomes what it does on the platform", 1, 2, "9223372036854775807", fmt.Sprintf("%d at 9223372036854775807", ceil(math.MaxInt64)))
}

// TestWhole has the cases of TestReplicaCalcObjectMetric, …ObjectPerPodMetric, …ExternalMetric and …ExternalPerPodMetric.
func TestWhole(t *testing.T) {
	f := func(name string, m Metric, replicas int32, list, want string, values ...int64) {
		t.Helper()
		up := 0.1
		if strings.HasSuffix(name, "1% tolerance") {
			up = 0.01
		}
		obs := Observation{Now: noon, Replicas: replicas, Created: replicas}
		obs.Pods, _ = pods(t, list)
		p := Propose(testConfig(), &m, &obs, &Reading{Values: values}, Tolerances{Down: 0.1, Up: up})
		got := fmt.Sprintf("%d at %d", p.Replicas, p.Usage)
		if p.Err != nil {
			got = p.Err.Error()
		}
		assert.Equal(t, want, got, name)
	}
	object := func(target int64) Metric { return Metric{Source: Object, Kind: Value, Target: target} }
	f("scale up", object(15000), 3, "- - -", "4 at 20000", 20000)
	f("very large metric saturates replicas to MaxInt32", object(1), 3, "- - -", "2147483647 at 9223372036854775807", math.MaxInt64)
	f("scale up: ignores unready pods", object(10000), 3, "-n - -n", "5 at 50000", 50000)
	f("scale down", object(20000), 5, "- - - - -", "3 at 12000", 12000)
	f("within default tolerance", object(20000), 3, "- - -", "3 at 20666", 20666)
	f("outside configurable 1% tolerance", object(20000), 3, "- - -", "4 at 20666", 20666)
	f("from zero it goes by the ratio alone", object(15000), 0, "", "2 at 20000", 20000)
	f("all are unready", object(15000), 3, "-n -n -p", "0 at 20000", 20000)
	f("there are no pods", object(15000), 3, "", ErrNoPods.Error(), 20000)
	f("there are no pods, within the tolerance", object(15000), 3, "", "3 at 15000", 15000)

	each := func(target int64) Metric { return Metric{Source: Object, Kind: AverageValue, Target: target} }
	f("scale up", each(5000), 3, "", "4 at 6667", 20000)
	f("scale down", each(2000), 5, "", "3 at 1200", 6000)
	f("within default tolerance", each(5000), 4, "", "4 at 5042", 20166)
	f("outside configurable 1% tolerance", each(5000), 4, "", "5 at 5052", 20208)
	f("from zero", each(5000), 0, "", "4 at 20000", 20000)
	f("none of none", each(5000), 0, "", "0 at 0", 0)
	most := float64(math.MaxInt64)
	f("what overflows becomes what it does on the platform", each(1), 1, "", fmt.Sprintf("%d at %d", ceil(most), int64(most)), math.MaxInt64)

	series := func(target int64) Metric { return Metric{Source: External, Kind: Value, Target: target} }
	f("scale down: ignores unready pods (would otherwise scale up)", series(4400), 3, "-n - -n", "2 at 8600", 8600)
	f("scale down", series(14334), 5, "- - - - -", "3 at 8600", 8600)
	f("within default tolerance", series(8888), 3, "- - -", "3 at 8600", 8600)
	f("outside configurable 1% tolerance", series(8800), 3, "- - -", "4 at 8900", 8000, 900)
	f("usage overflow caps at MaxInt64", series(math.MaxInt64), 3, "- - -", "3 at 9223372036854775807", math.MaxInt64/2+1, math.MaxInt64/2+1)

	share := func(target int64) Metric { return Metric{Source: External, Kind: AverageValue, Target: target} }
	f("replica count overflow saturates to MaxInt32", share(1), 1, "", "2147483647 at 9223372036854775807", math.MaxInt64)
	f("usage overflow with huge target leaves replicas unchanged", share(math.MaxInt64), 1, "", "1 at 9223372036854775807", math.MaxInt64)
	f("scale up", share(2150), 3, "", "4 at 2867", 8600)
	f("scale down", share(2867), 5, "", "3 at 1720", 8600)
	f("within default tolerance", share(2900), 3, "", "3 at 2867", 8600)
	f("outside configurable 1% tolerance", share(2800), 3, "", "4 at 2867", 8600)
	f("what is below zero is taken for an overflow", share(1000), 3, "", "2147483647 at 9223372036854775807", -1)
	f("no value is not zero", share(1000), 3, "", ErrNoReading.Error())
	f("a target of another type", Metric{Source: Object}, 3, "- - -", ErrNoTarget.Error(), 1)

	down := errors.New("down")
	p := Propose(testConfig(), new(share(1)), &Observation{}, &Reading{Err: down}, Tolerances{})
	require.ErrorIs(t, p.Err, down)
	r := Reading{RequestErr: down}
	obs := Observation{Now: noon, Replicas: 2}
	obs.Pods, r.Samples = pods(t, "100 100 -f")
	p = Propose(testConfig(), &Metric{Source: Resource, Name: "cpu", Kind: Utilization, Target: 50}, &obs, &r, Tolerances{})
	require.ErrorIs(t, p.Err, down, "one pod without request fails all")
}

// TestStrangers: values of pods that are not in the list count as pods, and but for Utilization by their value.
func TestStrangers(t *testing.T) {
	obs := Observation{Now: noon, Replicas: 2}
	r := Reading{Strangers: []int64{5000}}
	obs.Pods, r.Samples = pods(t, "1000 1000 -")
	m := Metric{Source: Pods, Kind: AverageValue, Target: 1000}
	p := Propose(testConfig(), &m, &obs, &r, Tolerances{Down: 0.1, Up: 0.1})
	assert.Equal(t, Proposal{
		Replicas: 7, Verdict: Scaled, Usage: 2333, Ratio: 2.333, Measured: 2, Missing: 1, Strangers: 1, Cautious: true, CautiousRatio: 1.75,
	}, p)
	m = Metric{Source: Resource, Name: "cpu", Kind: Utilization, Target: 50}
	p = Propose(testConfig(), &m, &obs, &r, Tolerances{Down: 0.1, Up: 0.1})
	assert.Equal(t, int32(6), p.Replicas, "66% of 50% on 4 entries, of which one is a stranger")
	assert.Equal(t, int32(100), p.Percent)
}

// TestGroup has the cases of TestGroupPods.
func TestGroup(t *testing.T) {
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	cpu, other := Metric{Source: Resource, Name: "cpu"}, Metric{Source: Pods, Name: "cpu"}
	value := Sample{Measured: true}
	f := func(name string, m Metric, p Pod, s Sample, want Group) {
		t.Helper()
		assert.Equal(t, want, testConfig().Group(noon, &m, &p, &s), name)
	}
	f("count in a ready pod - memory", other, Pod{}, value, Measured)
	f("ignore a pod without ready condition - CPU", cpu, Pod{Started: noon}, value, Unready)
	f("count in a ready pod with fresh metrics during initialization period - CPU", cpu,
		Pod{Ready: Ready, Started: ago(time.Minute), ReadySince: ago(30 * time.Second)},
		Sample{Measured: true, At: noon, Window: 30 * time.Second}, Measured)
	f("unready a ready pod without fresh metrics during initialization period - CPU", cpu,
		Pod{Ready: Ready, Started: ago(time.Minute), ReadySince: ago(30 * time.Second)},
		Sample{Measured: true, At: noon, Window: time.Minute}, Unready)
	f("unready an unready pod during initialization period - CPU", cpu,
		Pod{Ready: NotReady, Started: ago(10 * time.Minute), ReadySince: ago(9*time.Minute + 54*time.Second)}, value, Unready)
	f("count in a ready pod without fresh metrics after initialization period - CPU", cpu,
		Pod{Ready: Ready, Started: ago(3 * time.Minute), ReadySince: ago(3 * time.Minute)},
		Sample{Measured: true, At: ago(2 * time.Minute), Window: time.Minute}, Measured)
	f("count in an unready pod that was ready after initialization period - CPU", cpu,
		Pod{Ready: NotReady, Started: ago(10 * time.Minute), ReadySince: ago(9 * time.Minute)}, value, Measured)
	f("unready pod that has never been ready after initialization period - CPU", cpu,
		Pod{Ready: NotReady, Started: ago(10 * time.Minute), ReadySince: ago(9*time.Minute + 50*time.Second)}, value, Measured)
	f("a pod whose readiness is not known", cpu, Pod{Ready: UnknownReadiness, Started: ago(10 * time.Minute), ReadySince: ago(10 * time.Minute)}, value, Measured)
	f("a missing pod", cpu, Pod{Started: ago(3 * time.Minute)}, Sample{}, Missing)
	f("pending pods are unreadied", cpu, Pod{Phase: Pending}, Sample{}, Unready)
	f("ignore pods with deletion timestamps", cpu, Pod{Phase: Pending, Deleted: true}, value, Ignored)
	f("ignore pods in a failed state", cpu, Pod{Phase: Failed}, value, Ignored)
	f("initialization ends at its edge", cpu, Pod{Ready: Ready, Started: ago(2 * time.Minute), ReadySince: noon}, value, Measured)
	f("the window is whole at its edge", cpu, Pod{Ready: Ready, Started: noon, ReadySince: ago(time.Minute)},
		Sample{Measured: true, At: noon, Window: time.Minute}, Measured)
}

// TestMissingIsAsMeasuredAtTheCautiousValue: a pod without a value changes the outcome as one that has 0 does on the way up
// and one at the target on the way down, and never turns the direction round.
func TestMissingIsAsMeasuredAtTheCautiousValue(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	scaled := 0
	tolerances := Tolerances{Down: 0.1, Up: 0.1}
	for range 20_000 {
		n := 2 + r.IntN(8)
		obs := Observation{Now: noon, Replicas: int32(1 + r.IntN(12)), Pods: make([]Pod, n)}
		reading := Reading{Samples: make([]Sample, n)}
		for i := range n - 1 {
			reading.Samples[i+1] = Sample{Measured: true, Milli: r.Int64N(400)}
		}
		m := Metric{Source: Pods, Kind: AverageValue, Target: 1 + r.Int64N(300)}
		p := Propose(testConfig(), &m, &obs, &reading, tolerances)
		require.NoError(t, p.Err)
		if p.Ratio > 1 {
			assert.GreaterOrEqual(t, p.Replicas, obs.Replicas, "%v at %d", reading, m.Target)
		} else {
			assert.LessOrEqual(t, p.Replicas, obs.Replicas, "%v at %d", reading, m.Target)
		}
		if p.Verdict != Scaled {
			continue
		}
		scaled++
		reading.Samples[0] = Sample{Measured: true, Milli: p.Assumed}
		filled := Propose(testConfig(), &m, &obs, &reading, tolerances)
		assert.Equal(t, filled.Replicas, p.Replicas, "%v at %d", reading, m.Target)
		assert.Equal(t, filled.Ratio, p.CautiousRatio, "%v at %d", reading, m.Target)
	}
	assert.Greater(t, scaled, 1000)
}
