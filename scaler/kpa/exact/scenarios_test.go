package exact

import (
	"fmt"
	"math/rand/v2"
	"time"

	"headroom.dev/headroom/scaler/kpa"
)

// scenario is a configuration and a service, both drawn from its seed within what its kind asks for.
type scenario struct {
	name    string
	config  kpa.Config
	service service
	adopt   int     // pods that are ready at the start
	hidden  spell   // no route leads to the revision
	queue   float64 // how often the activator reports in a second
	late    bool    // some of its reports are late
	poke    bool    // requests that meet a revision at zero call the autoscaler
}

// kinds are what each run covers beside wholly random scenarios.
var kinds = []struct {
	name string
	set  func(*scenario, *rand.Rand)
}{
	{"defaults", func(s *scenario, _ *rand.Rand) { s.config = kpa.DefaultConfig() }},
	{"rps", func(s *scenario, _ *rand.Rand) { s.config = kpa.DefaultConfig(); s.config.Metric = kpa.RPS }},
	{"weighted", func(s *scenario, _ *rand.Rand) { s.config.Aggregation = kpa.WeightedExponential }},
	{"small windows", func(s *scenario, r *rand.Rand) {
		s.config.StableWindow, s.config.PanicWindowPercentage = time.Duration(6+r.IntN(6))*time.Second, 1+20*r.Float64()
	}},
	{"delay", func(s *scenario, r *rand.Rand) {
		s.config.ScaleDownDelay = time.Duration(1+r.IntN(900)) * time.Second
		s.poke = true
	}},
	{"rates", func(s *scenario, r *rand.Rand) {
		s.config.MaxScaleUpRate, s.config.MaxScaleDownRate = 1.01+r.Float64(), 1.01+r.Float64()
	}},
	{"to zero", func(s *scenario, r *rand.Rand) {
		s.config = kpa.DefaultConfig()
		s.config.TargetBurstCapacity = []float64{0, 211, -1}[r.IntN(3)]
		s.service.load.idle = spell{apart: 900, length: 900}
		s.queue, s.poke = 0.5, true
	}},
	{"retention", func(s *scenario, r *rand.Rand) {
		s.config.MinScale, s.config.ScaleToZeroPodRetentionPeriod = 0, time.Duration(1+r.IntN(600))*time.Second
		s.config.EnableScaleToZero, s.config.TargetBurstCapacity = true, 0
		s.service.load.idle = spell{apart: 1800, length: 1800}
		s.queue = 0.5
	}},
	{"no zero", func(s *scenario, _ *rand.Rand) {
		s.config.MinScale, s.config.EnableScaleToZero = 0, false
		s.service.load.idle = spell{apart: 1800, length: 1800}
	}},
	{"initial scale", func(s *scenario, r *rand.Rand) {
		s.config.InitialScale, s.config.MinScale, s.config.MaxScale, s.adopt = 3+r.IntN(20), 1, 0, 0
		s.config.ActivationScale = 0
	}},
	{"initial scale 0", func(s *scenario, _ *rand.Rand) {
		s.config.InitialScale, s.config.AllowZeroInitialScale, s.config.MinScale, s.adopt = 0, true, 0, 0
		s.queue, s.poke = 0.5, true
	}},
	{"activation scale", func(s *scenario, r *rand.Rand) {
		s.config.MinScale, s.config.MaxScale, s.config.ActivationScale = 0, 0, 2+r.IntN(6)
		s.config.EnableScaleToZero = true
		s.service.load.idle = spell{apart: 1800, length: 1800}
		s.queue = 0.5
	}},
	{"pods never come", func(s *scenario, _ *rand.Rand) {
		s.config.MinScale, s.config.EnableScaleToZero, s.config.ProgressDeadline = 0, true, 2*time.Minute
		s.service.stuck = spell{apart: 7200, length: 7200}
		s.service.load.idle = spell{apart: 1800, length: 1800}
		s.queue, s.config.InitialScale, s.adopt = 0.5, 1, 0
	}},
	{"no data", func(s *scenario, _ *rand.Rand) {
		s.service.mute, s.service.ill = spell{apart: 600, length: 120}, spell{apart: 1800, length: 120}
		s.config.TargetBurstCapacity = 100
	}},
	{"no route", func(s *scenario, _ *rand.Rand) {
		s.hidden = spell{apart: 3600, length: 3600}
		s.config.MinScale, s.config.ScaleDownDelay = 2, time.Minute
		s.config.ActivationScale, s.config.MaxScale = 0, 0
	}},
	{"activator always", func(s *scenario, _ *rand.Rand) {
		s.config.TargetBurstCapacity, s.queue, s.late = -1, 0.7, true
		s.service.mute = spell{apart: 600, length: 200}
	}},
	{"late reports", func(s *scenario, _ *rand.Rand) { s.queue, s.late = 0.8, true }},
	{"restart", func(s *scenario, r *rand.Rand) { s.adopt = 2 + r.IntN(30) }},
	{"restart with one pod", func(s *scenario, _ *rand.Rand) { s.adopt = 1 }},
}

// draw makes the scenario of a kind, or where the kind is none of them a wholly random one.
func draw(kind int, seed uint64) *scenario {
	rng := rand.New(rand.NewPCG(seed, uint64(kind)))
	s := &scenario{name: fmt.Sprintf("random %d", kind-len(kinds)+1), config: drawConfig(rng)}
	s.service = service{rng: rng, startup: []float64{0, 5, 60, 180, 300, 900}[rng.IntN(6)], sampled: rng.IntN(2) == 0}
	some := func(apart, length float64) spell {
		if rng.IntN(2) == 0 {
			return spell{}
		}
		return spell{apart: apart * (0.2 + 2*rng.Float64()), length: length * (0.2 + 2*rng.Float64())}
	}
	s.service.load = load{
		daily: rng.Float64(), noise: 0.3 * rng.Float64(), whole: rng.IntN(3) == 0,
		burst: some(3600, 120), idle: some(7200, 3600), walk: spell{apart: float64(rng.IntN(2))},
	}
	s.service.stuck, s.service.ill, s.service.mute = some(20000, 2000), some(7200, 60), some(7200, 90)
	s.adopt, s.hidden = max(0, rng.IntN(30)-15), some(40000, 4000)
	s.queue, s.late, s.poke = rng.Float64(), rng.IntN(3) == 0, rng.IntN(2) == 0
	if kind < len(kinds) {
		s.name = kinds[kind].name
		kinds[kind].set(s, rng)
	}
	perPod := s.config.Target
	if perPod == 0 {
		perPod = 100
	}
	s.service.load.base = perPod * (0.1 + 30*rng.Float64()*rng.Float64())
	return s
}

func drawConfig(rng *rand.Rand) kpa.Config {
	c := kpa.DefaultConfig()
	one := func(of int) bool { return rng.IntN(of) == 0 }
	if one(3) {
		c.Metric = kpa.RPS
	}
	if one(3) {
		c.Aggregation = kpa.WeightedExponential
	}
	if !one(3) {
		c.Target = 0.01 + 20*rng.Float64()
	}
	if one(3) {
		c.ContainerConcurrency = 1 + rng.IntN(40)
	}
	c.TargetUtilizationPercentage = 1 + 99*rng.Float64()
	c.StableWindow = time.Duration(6+rng.IntN(115)) * time.Second
	if one(8) {
		c.StableWindow = time.Duration(6+rng.IntN(3595)) * time.Second
	}
	c.PanicWindowPercentage = 1 + 30*rng.Float64()
	if one(8) {
		c.PanicWindowPercentage = 100
	}
	c.PanicThresholdPercentage = 110 + 200*rng.Float64()
	if one(2) {
		c.MaxScaleUpRate, c.MaxScaleDownRate = 1.1+9*rng.Float64(), 1.1+4*rng.Float64()
	}
	if one(2) {
		c.ScaleDownDelay = time.Duration(rng.IntN(300)) * time.Second
	}
	c.TargetBurstCapacity = []float64{-1, 0, 211, 500 * rng.Float64()}[rng.IntN(4)]
	if one(3) {
		c.MinScale = rng.IntN(5)
	}
	if one(2) {
		c.MaxScale = 6 + rng.IntN(60)
	}
	if one(3) {
		c.ActivationScale = max(c.MinScale, 2) + rng.IntN(2)
	}
	c.InitialScale = 1 + rng.IntN(4)
	c.EnableScaleToZero = !one(5)
	c.ScaleToZeroGracePeriod = time.Duration(1+rng.IntN(120)) * time.Second
	if one(3) {
		c.ScaleToZeroPodRetentionPeriod = time.Duration(rng.IntN(600)) * time.Second
	}
	c.ProgressDeadline = time.Duration(30+rng.IntN(900)) * time.Second
	return c
}
