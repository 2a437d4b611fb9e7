package forecast

import (
	"math"
	"time"
)

// Switching. A forecaster's record is its loss and last value's loss over the same steps, fading over scoreMemory of them. The
// difference is also kept by blocks of blockSize steps or two horizons, whichever is longer, since neighbouring errors share most of
// their target and would feign certainty: of the blocks' means we take mean over standard error.
//
//   - It comes into use once it has minScored scored forecasts, has won by enterScore with enterError standard errors, and is
//     winning of late as well (recentScored steps). 1.5 standard errors alone would be wrong once in 15 looks; with the other conditions, and
//     since a forecaster without skill loses by what it has fitted to noise, claims on random walks are below 1 % of the time
//     (TestRandomWalksAreNotCalledSkilful).
//   - It stays while it wins: not with a score at or below 0, nor with a loss of late above leaveLate times last value's. A change of
//     the service's ways shows there within hours, while the whole memory would hide it for days.
//   - Another one takes over when its score is better by switchScore: less would not pay for a forecast that moves for no reason.
const (
	scoreMemory  = 1440
	recentScored = 240
	blockSize    = 30
	minScored    = 300
	enterScore   = 0.02
	enterError   = 1.5
	leaveLate    = 1.05
	enterLate    = 0.98
	switchScore  = 0.015
)

// record is one forecaster's score at one horizon.
type record struct {
	samples    int
	total      struct{ loss, base float64 } // of all samples, never faded
	weight     float64                      // faded number of samples
	loss, base float64                      // faded sums of pinball losses
	late       struct{ loss, base float64 }
	block      struct {
		n    int
		gain float64
	}
	blocks struct{ n, sum, square float64 } // faded, of the blocks' mean gains
}

// add takes in the losses of one forecast and of last value's.
func (r *record) add(loss, base float64, blockLength int) {
	const keep, keepLate = 1 - 1.0/scoreMemory, 1 - 1.0/recentScored
	r.samples++
	r.total.loss, r.total.base = r.total.loss+loss, r.total.base+base
	r.weight = keep*r.weight + 1
	r.loss, r.base = keep*r.loss+loss, keep*r.base+base
	r.late.loss, r.late.base = keepLate*r.late.loss+loss, keepLate*r.late.base+base
	r.block.n++
	r.block.gain += base - loss
	if r.block.n < blockLength {
		return
	}
	gain := r.block.gain / float64(r.block.n)
	fade := math.Pow(keep, float64(r.block.n))
	b := &r.blocks
	b.n, b.sum, b.square = fade*b.n+1, fade*b.sum+gain, fade*b.square+gain*gain
	r.block.n, r.block.gain = 0, 0
}

// score is 1 − loss/base, NaN while nothing is known.
func (r *record) score() float64 {
	if r.samples == 0 || r.base == 0 {
		return math.NaN()
	}
	return 1 - r.loss/r.base
}

// certainty is the mean gain of the blocks in standard errors.
func (r *record) certainty() float64 {
	b := &r.blocks
	if b.n < 3 {
		return 0
	}
	mean := b.sum / b.n
	variance := max(0, b.square/b.n-mean*mean) * b.n / (b.n - 1)
	if variance == 0 {
		return math.Copysign(math.MaxFloat64, mean)
	}
	return mean / math.Sqrt(variance/b.n)
}

func (r *record) mayEnter() bool {
	return r.samples >= minScored && r.score() >= enterScore && r.certainty() >= enterError && r.late.loss <= enterLate*r.late.base
}

func (r *record) mayStay() bool {
	return r.score() > 0 && r.late.loss <= leaveLate*r.late.base
}

// score compares all promises with the demand that came, and chooses anew at the end of a block.
func (l *learner) score(p *promise, demand float64) {
	base := loss(&p.said[lastValue], demand)
	length := max(blockSize, 2*l.horizon)
	for i := range p.said {
		if !math.IsNaN(p.said[i].point) {
			l.records[i].add(loss(&p.said[i], demand), base, length)
		}
	}
	if l.inUse != lastValue && !l.records[l.inUse].mayStay() {
		l.inUse = lastValue
	}
	if l.records[lastValue].block.n == 0 {
		l.choose()
	}
}

// choose puts the best forecaster that may enter in use.
func (l *learner) choose() {
	best, most := l.inUse, 0.0
	if l.inUse != lastValue {
		most = l.records[l.inUse].score() + switchScore
	}
	for i := range l.records {
		if i == lastValue || i == l.inUse || !l.records[i].mayEnter() {
			continue
		}
		if score := l.records[i].score(); score > most {
			best, most = i, score
		}
	}
	l.inUse = best
}

// loss is the mean pinball loss of what was said.
func loss(s *said, demand float64) (sum float64) {
	for k, g := range scored {
		sum += pinball(grid[g], s.quantile[k], demand)
	}
	return sum / float64(len(scored))
}

// Skill is how one forecaster fares at one horizon.
type Skill struct {
	Horizon  time.Duration
	Method   string
	Loss     float64 // mean pinball loss over the recent past, in units of demand; NaN while unknown
	Baseline float64 // last value's over the same steps
	Score    float64 // 1 − Loss/Baseline; NaN while unknown
	Samples  int     // scored forecasts behind them, faded
	InUse    bool

	// Counters since the forecaster began: Scored forecasts and the sums of their losses and of last value's.
	Scored               int
	LossSum, BaselineSum float64
}

// Skill returns the scores of all forecasters there are, by horizon.
func (m *Model) Skill() []Skill {
	var all []Skill
	for i := range m.learners {
		l := &m.learners[i]
		for f := range l.records {
			r := &l.records[f]
			method := m.method(f)
			if method == "" {
				continue
			}
			s := Skill{
				Horizon: time.Duration(l.horizon) * m.step, Method: method, Loss: math.NaN(), Baseline: math.NaN(), Score: r.score(),
				Samples: int(r.weight), InUse: f == l.inUse,
				Scored: r.samples, LossSum: r.total.loss, BaselineSum: r.total.base,
			}
			if r.weight > 0 {
				s.Loss, s.Baseline = r.loss/r.weight, r.base/r.weight
			}
			all = append(all, s)
		}
	}
	return all
}

// method names a forecaster, "" when it stands for nothing at present.
func (m *Model) method(forecaster int) string {
	switch forecaster {
	case lastValue:
		return "last value"
	case dampedTrend:
		return "damped trend"
	case regression:
		return "regression"
	case combination:
		return "combination"
	case seasonalNaive:
		if len(m.seasons) == 0 {
			return ""
		}
		return m.seasons[0].naive
	}
	if i := forecaster - seasonalFirst; i < len(m.seasons) {
		return m.seasons[i].name
	}
	return ""
}
