package main

import (
	"math"
	"math/rand/v2"
	"time"
)

// stream makes the usage of any container at any minute without state, in some ten nanoseconds: CPU with a daily cycle and
// noise; memory at a plateau with noise and rare peaks.
type stream struct {
	daily  [24 * 60]float64
	noise  [4096]float64 // of one standard deviation
	seed   uint64
	origin time.Time
}

func newStream(seed uint64) *stream {
	s := &stream{seed: seed, origin: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)}
	for m := range s.daily {
		s.daily[m] = byDay(time.Duration(m) * time.Minute)
	}
	r := rand.New(rand.NewPCG(seed, 0x5eed)) //nolint:gosec // reproducible, not secret
	for i := range s.noise {
		s.noise[i] = r.NormFloat64()
	}
	return s
}

// mix is SplitMix64: its bits are as good as random.
func mix(v uint64) uint64 {
	v += 0x9e3779b97f4a7c15
	v = (v ^ v>>30) * 0xbf58476d1ce4e5b9
	v = (v ^ v>>27) * 0x94d049bb133111eb
	return v ^ v>>31
}

func (s *stream) at(minute int) time.Time { return s.origin.Add(time.Duration(minute) * time.Minute) }

func (s *stream) usage(container, minute int) (cpu, memory float64) {
	own := mix(s.seed<<32 + uint64(container))
	now := mix(own + uint64(minute))
	size := math.Exp2(float64(own&0xff)/32 - 4) // 62 millicores to 15 cores, or times 1 GiB
	noise := 1 + 0.25*s.noise[now&0xfff]
	cpu = size * s.daily[(minute+int(own>>8&0x1ff))%len(s.daily)] * max(noise, 0.1)
	memory = size * (1 << 30) * (0.8 + 0.02*s.noise[now>>12&0xfff])
	if now>>24&0x3ff == 0 { // a peak in 17 hours
		memory *= 1.05 + 0.3*float64(now>>34&0xff)/256
	}
	return cpu, max(memory, 1)
}
