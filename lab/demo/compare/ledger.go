package compare

import (
	"slices"
	"time"
)

// life is when the things of one pod were seen to happen; zero: not yet.
type life struct {
	pod                             string
	created, ready, marked, removed time.Time // ready: first; marked: for deletion; removed: its object was gone
	serving                         bool      // Ready now
}

// seen is a pod as the API server shows it.
type seen struct {
	pod             string
	ready, deleting bool
}

// ledger keeps the lives of one service's pods. A replica is paid for from its pod's creation until the pod is gone: while
// it loads, and while it drains, it holds its GPU.
type ledger struct {
	lives []*life
	known map[string]*life
}

func newLedger() *ledger { return &ledger{known: map[string]*life{}} }

func (l *ledger) see(now time.Time, s seen) {
	p, ok := l.known[s.pod]
	if !ok {
		p = &life{pod: s.pod, created: now}
		l.known[s.pod] = p
		l.lives = append(l.lives, p)
	}
	if s.ready && p.ready.IsZero() {
		p.ready = now
	}
	if s.deleting && p.marked.IsZero() {
		p.marked = now
	}
	p.serving = s.ready
}

func (l *ledger) gone(now time.Time, pod string) {
	p, ok := l.known[pod]
	if !ok || !p.removed.IsZero() {
		return
	}
	p.removed, p.serving = now, false
	if p.marked.IsZero() {
		p.marked = now
	}
}

// counts are pods at one moment.
type counts struct{ Ready, Loading, Leaving int }

func (l *ledger) now() counts {
	var c counts
	for _, p := range l.lives {
		switch {
		case !p.removed.IsZero():
		case !p.marked.IsZero():
			c.Leaving++
		case p.serving:
			c.Ready++
		default:
			c.Loading++
		}
	}
	return c
}

// usage is what a service's pods cost over a stretch of time.
type usage struct {
	replicas      time.Duration // replicas × time, from creation to removal
	loading       time.Duration // of that, before a pod was first Ready
	killedLoading int           // pods marked for deletion before they were ever Ready
}

// use sums the pods' lives over [from, to); a pod that still lives counts up to `to`.
func (l *ledger) use(from, to time.Time) usage {
	var u usage
	for _, p := range l.lives {
		end := orElse(p.removed, to)
		u.replicas += overlap(p.created, end, from, to)
		u.loading += overlap(p.created, earlier(orElse(p.ready, end), end), from, to)
		if p.ready.IsZero() && !p.marked.IsZero() && !p.marked.Before(from) && p.marked.Before(to) {
			u.killedLoading++
		}
	}
	return u
}

// loadTime is the median time from a pod's creation until it was Ready, of the pods created in [from, to); 0 without one.
func (l *ledger) loadTime(from, to time.Time) time.Duration {
	var all []time.Duration
	for _, p := range l.lives {
		if !p.ready.IsZero() && !p.created.Before(from) && p.created.Before(to) {
			all = append(all, p.ready.Sub(p.created))
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func overlap(aFrom, aTo, bFrom, bTo time.Time) time.Duration {
	if aFrom.Before(bFrom) {
		aFrom = bFrom
	}
	return max(0, earlier(aTo, bTo).Sub(aFrom))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func orElse(t, absent time.Time) time.Time {
	if t.IsZero() {
		return absent
	}
	return t
}

func (l *ledger) clone() *ledger {
	c := newLedger()
	for _, p := range l.lives {
		of := *p
		c.lives, c.known[p.pod] = append(c.lives, &of), &of
	}
	return c
}
