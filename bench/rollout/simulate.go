package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"gonum.org/v1/gonum/stat/distuv"

	"headroom.dev/headroom/rollout/judge"
)

// What every simulated service has in common: 1,200 requests a minute to ten pods, 1% errors, latencies log-normal around a second,
// in the buckets of vLLM's vllm:e2e_request_latency_seconds.
const (
	perMinute   = 1200.0
	errorRate   = 0.01
	sigma       = 0.6
	looks       = 30
	podsInAll   = 10
	longRunP95  = 3.05 // s, as histogram_quantile interpolates it within 2.5 to 5; the true one is exp(1.645·0.6) = 2.68
	burstErrors = 5.0  // mean size of a burst within a pod
)

func buckets() []float64 {
	return []float64{.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120}
}

// scenario is a kind of service and what is wrong with its new version.
type scenario struct {
	name string
	// Noise that both versions share: load and latency that wander (AR(1) of the log, 0.9 a minute), waves as of a day in the
	// length of the rollout, minutes in which a dependency fails a tenth of the requests.
	wander, wave, outages bool
	// Noise of single pods: errors in bursts; latency that wanders by podNoise (AR(1) of the log, 0.8 a minute); pods that stay
	// slower or faster by podBias.
	bursts            bool
	podNoise, podBias float64
	// newPods for each third of the rollout.
	newPods [3]int
	// The effect: errors times, latencies times, a share of requests that take five times as long; from a look on.
	errorsBy, latencyBy, tail float64
	from                      int
}

// interval is a minute of one version.
type interval struct {
	pods []judge.Pod
	all  float64
	bad  float64
	hist []float64 // by bucket, not cumulative
}

// simulation is one rollout.
type simulation struct {
	scenario
	random       *rand.Rand
	source       rand.Source
	load, common float64
	pods         []float64 // the latency's log, AR(1)
	bias         []float64
	look         int
}

func newSimulation(s scenario, seed, run uint64) *simulation {
	source := rand.NewPCG(seed, run)
	m := &simulation{scenario: s, random: rand.New(source), source: source, pods: make([]float64, 2*podsInAll), bias: make([]float64, 2*podsInAll)}
	m.load, m.common = 0.3*m.random.NormFloat64(), 0.1*m.random.NormFloat64()
	for i := range m.pods {
		m.pods[i], m.bias[i] = m.podNoise*m.random.NormFloat64(), m.podBias*m.random.NormFloat64()
	}
	return m
}

// next simulates a minute.
func (m *simulation) next() (fresh, old interval) {
	m.load = 0.9*m.load + 0.3*math.Sqrt(1-0.81)*m.random.NormFloat64()
	m.common = 0.9*m.common + 0.1*math.Sqrt(1-0.81)*m.random.NormFloat64()
	load, shift, errs := perMinute, 0.0, errorRate
	if m.wander {
		load, shift = load*math.Exp(m.load), m.common+0.2*m.load
	}
	if m.wave {
		load *= 1 + 0.8*math.Sin(2*math.Pi*float64(m.look)/looks)
	}
	if m.outages && m.random.Float64() < 0.05 {
		errs += 0.1
	}
	count := m.newPods[m.look*3/looks]
	for i := range podsInAll {
		// Pods of the new version are others: they have noise of their own.
		isNew, pod := i < count, i
		arm := &old
		latency, rate, tail := shift, errs, 0.0
		if isNew {
			arm, pod = &fresh, i+podsInAll
			if m.look >= m.from {
				latency, rate, tail = latency+math.Log(m.latencyBy), rate*m.errorsBy, m.tail
			}
		}
		m.pods[pod] = 0.8*m.pods[pod] + m.podNoise*0.6*m.random.NormFloat64()
		arm.add(m.pod(pod, load/podsInAll, latency+m.pods[pod]+m.bias[pod], rate, tail))
	}
	m.look++
	return fresh, old
}

// pod simulates a minute of one pod; counts by bucket are Poisson, so their sum is, too.
func (m *simulation) pod(i int, load, shift, rate, tail float64) (judge.Pod, []float64) {
	bounds := buckets()
	below := func(x, times float64) float64 {
		return distuv.UnitNormal.CDF((math.Log(x/times) - shift) / sigma)
	}
	hist, before, all := make([]float64, len(bounds)+1), 0.0, 0.0
	for b := range hist {
		share := 1.0
		if b < len(bounds) {
			share = (1-tail)*below(bounds[b], 1) + tail*below(bounds[b], 5)
		}
		hist[b] = m.poisson(load * (share - before))
		before, all = share, all+hist[b]
	}
	bad := 0.0
	if m.bursts {
		for range int(m.poisson(load * rate / burstErrors)) {
			bad += 1 + math.Floor(math.Log(1-m.random.Float64())/math.Log(1-1/burstErrors))
		}
	} else {
		bad = m.poisson(load * rate)
	}
	counts := slices.Clone(hist)
	for b := range bounds {
		counts[b+1] += counts[b]
	}
	return judge.Pod{Name: fmt.Sprintf("pod-%d", i), Age: time.Hour, Values: map[string]judge.Value{
		"errors":  {Requests: all, Errors: min(bad, all)},
		"latency": {Bounds: bounds, Counts: counts},
	}}, hist
}

func (m *simulation) poisson(mean float64) float64 {
	if mean <= 1e-12 {
		return 0
	}
	if mean > 10 {
		return distuv.Poisson{Lambda: mean, Src: m.source}.Rand()
	}
	n, product, limit := 0.0, m.random.Float64(), math.Exp(-mean)
	for product > limit {
		n++
		product *= m.random.Float64()
	}
	return n
}

func (v *interval) add(p judge.Pod, hist []float64) {
	v.pods = append(v.pods, p)
	v.all += p.Values["errors"].Requests
	v.bad += p.Values["errors"].Errors
	if v.hist == nil {
		v.hist = make([]float64, len(hist))
	}
	for i, n := range hist {
		v.hist[i] += n
	}
}

// p95 is interpolated as by histogram_quantile.
func (v interval) p95() float64 {
	bounds, rank, sum := buckets(), 0.95*v.all, 0.0
	for i, b := range bounds {
		if sum+v.hist[i] >= rank && v.hist[i] > 0 {
			from := 0.0
			if i > 0 {
				from = bounds[i-1]
			}
			return from + (b-from)*(rank-sum)/v.hist[i]
		}
		sum += v.hist[i]
	}
	return bounds[len(bounds)-1]
}
