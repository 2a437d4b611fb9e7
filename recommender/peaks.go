package recommender

import (
	"math"
	"slices"
)

// Peaks within a window before, that of a day forgets soonest.
func peakWindows() [3]int { return [3]int{day, 3 * day, week} }

// The prior about by how much a peak exceeds those before it: a level (5.6 %), and a fifth of spacing. With spacing alone quiet
// containers, which are what is killed when they change at last, have no margin; with all of it lively ones pay half as much again.
const priorExcess, priorSpacing = 1, 0.2

// peakFit is a window tried on the past.
type peakFit struct {
	level, margin, mean, lower, upper float64
}

// fitPeaks is about resources of which too little kills: the request must hold the peak of the policy's Hold, but for the risk.
// By how much a peak exceeds those before it is taken to have an exponential tail, whose frequency and mean are counted. The prior
// is as if it had happened once, by priorExcess and in part by how far the hours' highest peaks lie apart (Hill's estimator of the
// tail, on the logarithmic grid): so the margin of a container that never exceeded its past shrinks with every day, and that of a growing one does not.
func (u *Usage) fitPeaks() {
	l := &u.learnt
	// What is said holds for a day: that no peak has exceeded it is news enough in every third hour.
	if u.time.next < int(l.due) && l.issued > 0 && u.time.at(u.time.next-1).peak() <= float64(l.issued) {
		return
	}
	l.due = int32(u.time.next + refit)
	p := u.peaks()
	hold := min(u.policy.hold(), week/2)
	var best peakFit
	for i, w := range peakWindows() {
		f := p.try(w, hold, u.policy.Risk, float64(l.tail)/2)
		if i == 0 || f.mean < best.mean-better {
			best = f
		}
	}
	l.reason = ReasonPeak
	if l.oom > 0 && u.time.next-int(l.oom) < week {
		l.reason = ReasonOOM
	}
	l.margin, l.lower, l.upper = float32(best.margin), float32(best.lower), float32(best.upper)
	level := min(best.level, topLevel)
	// Up at once; down when it is worth a change.
	if float32(level) > l.issued || math.Exp((float64(l.issued)-level)*levelWidth)-1 > sticky {
		l.issued = float32(level)
	}
}

// peaks are those of the hours kept, by level, in the order of time and of size; 0 where nothing is known.
type peaks struct {
	hours  [week]float64
	sorted []float64
	first  int // index of the first known
}

func (u *Usage) peaks() *peaks {
	p := &peaks{first: week, sorted: make([]float64, 0, week)}
	start := u.time.next - week
	for k := max(0, int(u.version)-start); k < week; k++ {
		if h := u.time.at(start + k); h.known() {
			p.hours[k] = h.peak()
			p.sorted = append(p.sorted, p.hours[k])
			p.first = min(p.first, k)
		}
	}
	slices.Sort(p.sorted)
	return p
}

func (p *peaks) try(window, hold int, risk, tail float64) peakFit {
	before := maxima(p.hours[:], window) // before[k]: of the hours that end with k
	ahead := reversedMaxima(p.hours[:], hold)
	var c counts
	c.reset()
	var tried, exceeded, excess, said float64
	for k := p.first + day; k+hold <= week; k++ {
		base := before[k-1]
		if base == 0 || ahead[k] == 0 {
			continue
		}
		tried++
		said += base
		over := ahead[k] - base
		if over > 0 {
			exceeded++
			excess += over
		}
		c.count(int(math.Ceil(over)))
	}
	now := before[week-1]
	h := float64(hold)
	prior := priorExcess + priorSpacing*spacing(p.sorted)
	often := (exceeded/h + 1) / (tried/h + 2)
	byHowMuch := (excess/h + prior) / (exceeded/h + 1)
	f := peakFit{margin: max(0, byHowMuch*math.Log(often/risk))}
	f.level = now + f.margin
	f.mean, f.lower = now+f.margin, p.sorted[0]
	f.upper = now + max(0, byHowMuch*math.Log(often/tail))
	if tried > 0 {
		f.mean = said/tried + f.margin
		f.lower = min(now, now+c.need(tail)-1) // what counts as a level more is less than that
		f.upper = max(f.upper, now+c.need(1-tail))
	}
	return f
}

// spacing is how far the highest of some sorted values are above the next, in the mean: of a tenth of them, but three at least.
func spacing(sorted []float64) float64 {
	n := len(sorted)
	top := min(max(3, n/10), n-1)
	if top < 1 {
		return 0
	}
	sum := 0.0
	for _, v := range sorted[n-top:] {
		sum += v - sorted[n-top-1]
	}
	return sum / float64(top)
}

// maxima returns at k the most of the n values that end with k.
func maxima(values []float64, n int) []float64 {
	out := make([]float64, len(values))
	queue := make([]int, len(values)) // of indices, their values falling
	head, tail := 0, 0
	for k, v := range values {
		for tail > head && values[queue[tail-1]] <= v {
			tail--
		}
		queue[tail] = k
		tail++
		if queue[head] <= k-n {
			head++
		}
		out[k] = values[queue[head]]
	}
	return out
}

// reversedMaxima returns at k the most of the n values that begin with k.
func reversedMaxima(values []float64, n int) []float64 {
	turned := slices.Clone(values)
	slices.Reverse(turned)
	out := maxima(turned, n)
	slices.Reverse(out)
	return out
}
