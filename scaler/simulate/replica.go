package simulate

import "math"

// ringSize is for how many seconds replicas remember what they finished.
const ringSize = 64

type state uint8

const (
	loading state = iota
	ready
	draining
)

// replica is one pod.
type replica struct {
	id      int
	state   state
	created int // seconds since the start
	readyAt int // when it serves, or since when
	ends    int // when a draining one is killed

	running float64 // requests that it works on
	work    float64 // seconds of a slot that they still need
	waiting float64 // requests that wait here
	queue   []cohort
	head    int
	done    [ringSize]float32 // requests finished, by second
}

// cohort is requests that arrived in the same second.
type cohort struct {
	at    int
	count float64
	work  float64
}

func (r *replica) load() float64 { return r.running + r.waiting }

// finish lets a second of work pass. Each request ends within it with the probability that exponential service times give; noise,
// a standard normal, says how many do by chance. Those left need as much work each as before: such times have no memory.
func (r *replica) finish(now int, noise float64) float64 {
	ended := 0.0
	if r.running > 0 {
		p := min(r.running/r.work, 1)
		mean := r.running * p
		ended = min(max(mean+noise*math.Sqrt(mean*(1-p)), 0), r.running)
		r.work *= (r.running - ended) / r.running
		r.running -= ended
		if r.running < 1e-9 || r.work < 1e-9 {
			ended += r.running
			r.running, r.work = 0, 0
		}
	}
	r.done[now%ringSize] = float32(ended)
	return ended
}

// begin starts what fits into slots, in order of arrival, and tells started of it.
func (r *replica) begin(slots float64, started func(c cohort)) {
	for r.head < len(r.queue) && r.running < slots {
		c := &r.queue[r.head]
		n := min(slots-r.running, c.count)
		if n < 1e-12 {
			break
		}
		part := cohort{c.at, n, c.work * n / c.count}
		r.running += part.count
		r.work += part.work
		r.waiting -= n
		started(part)
		if n >= c.count {
			r.head++
		} else {
			c.count -= part.count
			c.work -= part.work
		}
	}
	if r.head == len(r.queue) {
		r.queue, r.head, r.waiting = r.queue[:0], 0, 0
	}
}

// admit queues requests; what fits is started by begin.
func (r *replica) admit(c cohort) {
	if r.head > 64 && r.head > len(r.queue)/2 {
		r.queue = append(r.queue[:0], r.queue[r.head:]...)
		r.head = 0
	}
	r.queue = append(r.queue, c)
	r.waiting += c.count
}

// expire drops requests that arrived before a time, and returns how many.
func (r *replica) expire(before int) float64 {
	dropped := 0.0
	for r.head < len(r.queue) && r.queue[r.head].at < before {
		dropped += r.queue[r.head].count
		r.head++
	}
	r.waiting = max(r.waiting-dropped, 0)
	return dropped
}

// finished is how many requests ended in the window of seconds that ends with last.
func (r *replica) finished(last, window int) float64 {
	sum := float32(0)
	for s := max(last-window+1, 0); s <= last; s++ {
		sum += r.done[s%ringSize]
	}
	return float64(sum)
}
