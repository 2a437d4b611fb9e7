package scaler

import (
	"math"
	"slices"
	"time"
)

// kindOf pods have a capacity of their own.
type kindOf struct{ version, gpu string }

// Loads are sorted into bins whose bounds differ by 5 %: finer than the noise of a rate over ten seconds.
const binRatio = 1.05

// Of each load about so many of the latest observations count: two hours at one in 15 s. What is known of loads that are rare, as
// those that break the SLO are, is not forgotten for being rare.
const remembered = 500

// breaks is the share of observations that may break the SLO at a load that counts as served within it.
const breaks = 0.05

// enough observations of a load make it known: fewer are one lucky or unlucky minute.
const enough = 8

// settle is for how long after a change of the serving pods, or after the SLO was broken at a higher load, observations do
// not count: queues that formed before drain meanwhile.
const settle = 2 * time.Minute

// capacity learns of one kind of pods how much demand a replica serves within the SLO, from load against whether it held.
type capacity struct {
	bins  map[int]*bin
	seen  int
	now   estimate
	stale bool
}

type bin struct{ good, bad float64 }

// pool is a run of bins up to top whose observations are taken together.
type pool struct {
	top       int
	good, bad float64
}

// known: with fewer observations it does not stand alone.
func (p *pool) known() bool { return p.good+p.bad >= enough }

type estimate struct {
	value  float64
	source Source
}

func newCapacity() *capacity { return &capacity{bins: map[int]*bin{}} }

// observe takes that each replica carried load, and whether the SLO held.
func (c *capacity) observe(load float64, held bool) {
	if !(load > 0) || math.IsInf(load, 0) {
		return
	}
	k := int(math.Floor(math.Log(load) / math.Log(binRatio)))
	b := c.bins[k]
	if b == nil {
		b = &bin{}
		c.bins[k] = b
	}
	b.good *= 1 - 1.0/remembered
	b.bad *= 1 - 1.0/remembered
	if held {
		b.good++
	} else {
		b.bad++
	}
	c.seen++
	c.stale = true
}

// estimate returns the load up to which the SLO holds: where the share of broken observations, made to rise with load
// (isotonic regression by pooling adjacent violators), passes breaks. Where none does that is known well enough it is the highest
// load known, AtLeast.
func (c *capacity) estimate() estimate {
	if !c.stale {
		return c.now
	}
	c.stale = false
	keys := make([]int, 0, len(c.bins))
	for k := range c.bins {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var pools []pool
	for _, k := range keys {
		next := pool{k, c.bins[k].good, c.bins[k].bad}
		for len(pools) > 0 {
			last := pools[len(pools)-1]
			if last.known() && last.bad*(next.good+next.bad) < next.bad*(last.good+last.bad) {
				break
			}
			next.good, next.bad = next.good+last.good, next.bad+last.bad
			pools = pools[:len(pools)-1]
		}
		pools = append(pools, next)
	}
	result := estimate{source: AtLeast}
	for i := range pools {
		p := &pools[i]
		if !p.known() {
			break
		}
		if p.bad > breaks*(p.good+p.bad) {
			result.source = Learnt
			break
		}
		result.value = math.Pow(binRatio, float64(p.top)+0.5)
	}
	if result.value == 0 { // the least load that was seen is too much, or little was seen
		result.source = Unknown
		if len(pools) > 0 && pools[0].known() {
			result = estimate{math.Pow(binRatio, float64(keys[0])), Learnt}
		}
	}
	c.now = result
	return result
}
