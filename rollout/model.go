package rollout

import (
	"container/heap"
	"slices"
	"time"
)

// reaction is the time between two steps of the Deployment controller: one scales up, the next one down. The real controller
// takes milliseconds; a second makes a plan err on the late side.
const reaction = time.Second

// model is a rolling update in counts of pods: what the Deployment controller does with maxSurge and maxUnavailable, pods that
// wait for GPUs, load, serve and drain. It knows events, not seconds, so that thousands of replicas cost milliseconds.
type model struct {
	replicas, surge, unavailable int
	load, drain                  time.Duration
	hold                         bool // new pods never count as available
	limit                        int  // the most new pods, by a StatefulSet's partition; replicas where there is none
	count                        counted

	now            time.Duration
	old            int // old pods that are not being deleted, all Ready
	pending, fresh int // new pods without a GPU; new pods in all
	ready          int // new pods that serve
	free           int // replicas that would find a GPU now
	used           int // replicas' worth of GPUs in use
	events         moments
	next           time.Duration // when the controller may act again

	trace  []sample
	peak   int
	excess float64 // replica-seconds used beyond replicas
	empty  time.Duration
}

// counted says which version's Ready replicas serve, where a router sends all traffic to one.
type counted int

const (
	both counted = iota
	onlyOld
	onlyNew
)

// sample is how many replicas serve from a moment on.
type sample struct {
	at      time.Duration
	serving int
}

type happening int

const (
	arrived happening = iota // GPUs can be used
	drained                  // pods have left their GPUs
	loaded                   // pods have become Ready
)

type moment struct {
	at    time.Duration
	what  happening
	count int
}

type moments []moment

func (m moments) Len() int           { return len(m) }
func (m moments) Less(i, j int) bool { return m[i].at < m[j].at }
func (m moments) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *moments) Push(x any) {
	if e, ok := x.(moment); ok {
		*m = append(*m, e)
	}
}

func (m *moments) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}

// newModel begins with old pods only.
func newModel(s Service, load, drain time.Duration, free int) *model {
	m := &model{replicas: s.Replicas, limit: s.Replicas, load: load, drain: drain, old: s.Replicas, used: s.Replicas, free: free, peak: s.Replicas}
	m.record()
	return m
}

// arrive adds replicas' worth of GPUs that can be used some time after now.
func (m *model) arrive(after time.Duration, count int) {
	if count > 0 {
		heap.Push(&m.events, moment{m.now + after, arrived, count})
	}
}

// set changes the fields, as a patch does.
func (m *model) set(surge, unavailable int, hold bool) {
	m.surge, m.unavailable, m.hold = surge, unavailable, hold
	m.next = m.now
}

// wait lets time pass in which nothing is patched.
func (m *model) wait(d time.Duration) {
	until := m.now + d
	for len(m.events) > 0 && m.events[0].at <= until {
		m.advance(m.events[0].at)
	}
	m.pass(until)
}

// run goes on until nothing more happens, and reports whether that is what the fields ask for.
func (m *model) run() bool {
	for {
		if m.now >= m.next && m.sync() {
			m.next = m.now + reaction
			m.record()
			m.schedule()
			continue
		}
		acted := m.now < m.next
		if !acted && len(m.events) == 0 {
			return m.settled()
		}
		at := m.next
		if !acted || len(m.events) > 0 && m.events[0].at <= at {
			at = m.events[0].at
		}
		m.advance(at)
	}
}

// settled reports whether the mix is the one that the fields ask for.
func (m *model) settled() bool {
	if !m.hold {
		return m.old == m.replicas-m.limit && m.ready == m.limit
	}
	want := min(m.surge+m.unavailable, m.replicas)
	return m.fresh >= want && m.ready == m.fresh
}

// sync does one thing that the Deployment controller would do, and reports whether there was one.
func (m *model) sync() bool {
	up := min(m.replicas+m.surge-m.old-m.fresh, m.limit-m.fresh)
	if up > 0 {
		m.fresh, m.pending = m.fresh+up, m.pending+up
		return true
	}
	available := m.ready
	if m.hold {
		available = 0
	}
	down := m.old + available - (m.replicas - m.unavailable)
	down = min(down, m.old-(m.replicas-m.limit), m.old+m.fresh-(m.replicas-m.unavailable)-(m.fresh-available))
	if down <= 0 {
		return false
	}
	m.old -= down
	heap.Push(&m.events, moment{m.now + m.drain, drained, down})
	return true
}

// schedule gives free GPUs to pods that wait for them.
func (m *model) schedule() {
	n := min(m.pending, m.free)
	if n <= 0 {
		return
	}
	m.pending, m.free, m.used = m.pending-n, m.free-n, m.used+n
	m.peak = max(m.peak, m.used)
	heap.Push(&m.events, moment{m.now + m.load, loaded, n})
}

// advance goes to a moment and lets everything happen that is due.
func (m *model) advance(at time.Duration) {
	m.pass(at)
	for len(m.events) > 0 && m.events[0].at <= at {
		e, ok := heap.Pop(&m.events).(moment)
		if !ok {
			return
		}
		switch e.what {
		case arrived:
			m.free += e.count
		case drained:
			m.free, m.used = m.free+e.count, m.used-e.count
		case loaded:
			m.ready += e.count
		}
	}
	m.schedule()
	m.record()
}

// pass lets time go by.
func (m *model) pass(at time.Duration) {
	if at <= m.now {
		return
	}
	m.excess += float64(m.used-m.replicas) * (at - m.now).Seconds()
	if m.serving() == 0 {
		m.empty += at - m.now
	}
	m.now = at
}

func (m *model) serving() int {
	switch m.count {
	case onlyOld:
		return m.old
	case onlyNew:
		return m.ready
	case both:
	}
	return m.old + m.ready
}

// route sends traffic to one version, or to both.
func (m *model) route(c counted) {
	m.count = c
	m.record()
}

func (m *model) record() {
	s := sample{m.now, m.serving()}
	if n := len(m.trace); n > 0 && m.trace[n-1].at == s.at {
		m.trace[n-1].serving = min(m.trace[n-1].serving, s.serving)
		if n > 1 && m.trace[n-1].serving == m.trace[n-2].serving {
			m.trace = m.trace[:n-1]
		}
		return
	}
	if n := len(m.trace); n == 0 || m.trace[n-1].serving != s.serving {
		m.trace = append(m.trace, s)
	}
}

// least is the fewest replicas that serve since a moment.
func (m *model) least(since time.Duration) int {
	low := m.serving()
	for _, s := range slices.Backward(m.trace) {
		low = min(low, s.serving)
		if s.at <= since {
			break
		}
	}
	return low
}
