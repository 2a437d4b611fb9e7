package judge

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// targets are the quantiles at which latencies are compared; the judged one is added.
func targets() []float64 { return []float64{0.5, 0.75, 0.9, 0.95, 0.99} }

const (
	// newStratum is the factor by which the odds of a request going to new must change to begin a stratum.
	newStratum = 1.5
	// clearly is by how many standard errors they must change besides, where the caller says when it changes them.
	clearly = 4
)

// take adds an interval that has requests of both versions.
func (s *series) take(g *grids, m Metric, fresh, stable arm, mix string) {
	s.Stratum.take(m.Kind, fresh, stable, mix)
	if m.Kind == Errors {
		if s.Contrasts == nil {
			s.Contrasts = make([]contrast, 1)
		}
		in := interval{
			new: fresh.value.Errors, newAll: fresh.value.Requests, old: stable.value.Errors, oldAll: stable.value.Requests,
			margin: m.MaxRatio,
		}
		for _, part := range stable.groups {
			in.groups = append(in.groups, group{part.Errors, part.Requests})
		}
		s.Contrasts[0].add(g, in)
		return
	}
	if s.Contrasts == nil {
		s.Contrasts = make([]contrast, len(targets())+1)
	}
	pooled, okPooled := newHistogram(s.Bounds, s.Stratum.New.plus(s.Stratum.Old).Counts)
	old, okOld := newHistogram(s.Bounds, s.Stratum.Old.Counts)
	if !okPooled || !okOld {
		return
	}
	for k, q := range append(targets(), m.Quantile) {
		if at := pooled.nearest(1 - q); at >= 0 {
			s.Contrasts[k].add(g, overBound(at, m, old, fresh, stable, k == len(targets())))
		}
	}
}

// overBound counts requests over a bound; the judged quantile has a margin besides.
func overBound(at int, m Metric, old histogram, fresh, stable arm, judged bool) interval {
	over := func(v Value) (marked, all float64) {
		if len(v.Counts) == 0 {
			return 0, 0
		}
		all = v.Counts[len(v.Counts)-1]
		return all - v.Counts[at], all
	}
	var in interval
	in.new, in.newAll = over(fresh.value)
	in.old, in.oldAll = over(stable.value)
	for _, g := range stable.groups {
		marked, all := over(g)
		in.groups = append(in.groups, group{marked, all})
	}
	if b := old.bounds[at]; judged && old.above[at] > 0 {
		in.margin = old.shareAbove(b/m.MaxRatio) / old.above[at]
	}
	return in
}

// take sums, from the start where the weights changed.
func (t *stratum) take(kind Kind, fresh, stable arm, mix string) {
	n, o := fresh.value.all(kind), stable.value.all(kind)
	if t.Number == 0 || t.Mix != mix || t.shifted(kind, n, o) {
		*t = stratum{Number: t.Number + 1, Mix: mix}
	}
	t.New, t.Old = t.New.plus(fresh.value), t.Old.plus(stable.value)
	t.NewPods, t.OldPods = fresh.pods, stable.pods
}

// shifted says whether n of n+o requests to new is another share than before.
func (t *stratum) shifted(kind Kind, n, o float64) bool {
	newBefore, oldBefore := t.New.all(kind), t.Old.all(kind)
	odds := math.Abs(math.Log(newBefore * o / (oldBefore * n)))
	if odds <= math.Log(newStratum) {
		return false
	}
	return t.Mix == "" || odds > clearly*math.Sqrt(1/newBefore+1/oldBefore+1/n+1/o)
}

// weigh fills in what the evidence says.
func (j *Judge) weigh(m Metric, s *series, v *MetricVerdict) {
	statistical := 0
	for _, other := range j.spec.Metrics {
		if other.Kind != Gauge {
			statistical++
		}
	}
	v.FailAt = math.Log(float64(statistical) / j.spec.Alpha)
	v.PassAt = -math.Log(j.spec.Beta)
	v.New.Requests, v.Old.Requests = s.Stratum.New.all(m.Kind), s.Stratum.Old.all(m.Kind)
	if len(s.Contrasts) == 0 {
		return
	}
	var beyond, pass bool
	if m.Kind == Errors {
		beyond, pass = j.weighErrors(m, s, v)
	} else {
		beyond, pass = j.weighLatency(m, s, v)
	}
	s.MaxWorse = max(s.MaxWorse, v.LogWorse)
	v.PValue = math.Exp(-s.MaxWorse) // MaxWorse begins at 0
	looks := s.Contrasts[len(s.Contrasts)-1].Looks
	enough := s.Requests >= j.spec.MinRequests && looks >= j.spec.MinLooks
	switch {
	case s.Failed || enough && beyond && v.LogWorse >= v.FailAt:
		s.Failed = true
		v.Outcome, v.Reason, v.Missing = Fail, Worse, 0
	case !enough:
		v.Reason = TooFewRequests
		v.Missing = max(v.Missing, j.toMinimum(s, looks))
	case pass:
		v.Outcome, v.Reason, v.Missing = Pass, NotWorse, 0
	default:
		v.Reason = Gathering
	}
	v.Message = v.describe(m)
}

// toMinimum is how long the minimum takes at the rate so far.
func (j *Judge) toMinimum(s *series, looks int) time.Duration {
	if looks == 0 || s.Requests <= 0 || s.Watched <= 0 {
		return 0
	}
	more := max(float64(j.spec.MinLooks-looks)/float64(looks), (j.spec.MinRequests-s.Requests)/s.Requests)
	return duration(more * s.Watched.Seconds())
}

// weighErrors says whether the estimate is beyond the margin, and whether new is surely within.
func (j *Judge) weighErrors(m Metric, s *series, v *MetricVerdict) (beyond, pass bool) {
	c := &s.Contrasts[0]
	v.Dispersion = c.Dispersion.factor()
	v.LogWorse, v.LogWithin = c.worse(), c.within()
	v.Effect = Effect{Ratio: c.estimate(), Confidence: 1 - j.spec.Alpha, OK: c.Marked > 0}
	v.Effect.Low, v.Effect.High = c.confidence(j.spec.Alpha)
	n, o := s.Stratum.New, s.Stratum.Old
	v.New.Value, v.Old.Value = rate(n), rate(o)
	beyond = v.Effect.OK && v.Effect.Ratio > m.MaxRatio && v.New.Value-v.Old.Value > m.MaxIncrease
	target := v.PassAt
	if m.MaxIncrease > 0 {
		// Two ways to pass share beta; each stratum has its share of the second: 1/2, 1/6, 1/12, …
		target += math.Ln2
		v.PassAt = target
		k := float64(s.Stratum.Number)
		beta := j.spec.Beta / 2 / (k * (k + 1)) / 2 // and half of it for each bound
		_, high := rateBounds(n.Errors/v.Dispersion, n.Requests/v.Dispersion, beta)
		low, _ := rateBounds(o.Errors/v.Dispersion, o.Requests/v.Dispersion, beta)
		pass = high <= low+m.MaxIncrease
	}
	pass = pass || v.LogWithin >= target
	looks := c.missingLooks(target, m.MaxRatio, max(1, v.Effect.Ratio))
	if m.MaxIncrease > 0 {
		looks = min(looks, missingByDifference(n, o, v.Dispersion, m.MaxIncrease, j.spec.Beta/8)*float64(c.Looks))
	}
	v.Missing = duration(looks / float64(max(1, c.Looks)) * s.Watched.Seconds())
	return beyond, pass
}

// missingByDifference is how many times as much data as there is now it takes on top to pass by the difference; +Inf for never.
func missingByDifference(n, o Value, phi, increase, beta float64) float64 {
	enough := func(times float64) bool {
		k := times / phi
		_, high := rateBounds(n.Errors*k, n.Requests*k, beta)
		low, _ := rateBounds(o.Errors*k, o.Requests*k, beta)
		return high <= low+increase
	}
	const most = 64
	if !enough(most) {
		return math.Inf(1)
	}
	from, to := 1.0, float64(most)
	for range 7 {
		if middle := math.Sqrt(from * to); enough(middle) {
			to = middle
		} else {
			from = middle
		}
	}
	return to - 1
}

func rate(v Value) float64 {
	if v.Requests <= 0 {
		return math.NaN()
	}
	return v.Errors / v.Requests
}

// weighLatency is like weighErrors; the evidence for "worse" is the mean over all quantiles.
func (j *Judge) weighLatency(m Metric, s *series, v *MetricVerdict) (beyond, pass bool) {
	judged := &s.Contrasts[len(s.Contrasts)-1]
	logs, best := make([]float64, len(s.Contrasts)), len(s.Contrasts)-1
	for k := range s.Contrasts {
		c := &s.Contrasts[k]
		logs[k] = c.worse()
		if logs[k] > logs[best] {
			best = k
		}
	}
	v.LogWorse, v.LogWithin = logMean(logs), judged.within()
	old, okOld := newHistogram(s.Bounds, s.Stratum.Old.Counts)
	fresh, okNew := newHistogram(s.Bounds, s.Stratum.New.Counts)
	pooled, okPooled := newHistogram(s.Bounds, s.Stratum.New.plus(s.Stratum.Old).Counts)
	if !okOld || !okNew || !okPooled {
		return false, false
	}
	v.New.Value, v.Old.Value = fresh.valueAt(1-m.Quantile), old.valueAt(1-m.Quantile)
	if v.LogWorse < v.FailAt { // until then the judged quantile is what a person asks for
		best = len(s.Contrasts) - 1
	}
	quantile := append(targets(), m.Quantile)[best]
	c := &s.Contrasts[best]
	v.Dispersion = c.Dispersion.factor()
	at := pooled.nearest(1 - quantile)
	if at < 0 || c.Looks == 0 {
		return false, false
	}
	low, high := c.confidence(j.spec.Alpha)
	v.Effect = Effect{
		Ratio: old.quantileRatio(at, c.estimate()), Low: old.quantileRatio(at, low), High: old.quantileRatio(at, high),
		Confidence: 1 - j.spec.Alpha, Quantile: quantile, OK: c.Marked > 0 && old.above[at] > 0,
	}
	beyond = v.Effect.OK && v.Effect.Ratio > m.MaxRatio
	pass = v.LogWithin >= v.PassAt
	if atJudged := pooled.nearest(1 - m.Quantile); atJudged >= 0 && old.above[atJudged] > 0 {
		margin := old.shareAbove(s.Bounds[atJudged]/m.MaxRatio) / old.above[atJudged]
		looks := judged.missingLooks(v.PassAt, margin, max(1, judged.estimate()))
		v.Missing = duration(looks / float64(judged.Looks) * s.Watched.Seconds())
	}
	return beyond, pass
}

// duration is 0 for what never happens or is too far to matter.
func duration(seconds float64) time.Duration {
	if !within(seconds, 0, 30*24*3600) {
		return 0
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Second)
}

// describe says it to a person.
func (v *MetricVerdict) describe(m Metric) string {
	what := "error rate"
	show := func(x float64) string { return fmt.Sprintf("%.3g%%", 100*x) }
	if m.Kind == Latency {
		what = fmt.Sprintf("p%g", 100*m.Quantile)
		show = func(x float64) string { return fmt.Sprintf("%.4g", x) }
	}
	text := fmt.Sprintf("%s: %s new %s, old %s (%.0f and %.0f requests)", v.Name, what, show(v.New.Value), show(v.Old.Value), v.New.Requests, v.Old.Requests)
	if v.Effect.OK {
		at := ""
		if v.Effect.Quantile > 0 && !slices.Contains([]float64{0, m.Quantile}, v.Effect.Quantile) {
			at = fmt.Sprintf(" at p%g", 100*v.Effect.Quantile)
		}
		text += fmt.Sprintf("; new is ×%.3g%s (%g%% interval ×%.3g to ×%.3g), p=%.2g", v.Effect.Ratio, at, 100*v.Effect.Confidence, v.Effect.Low, v.Effect.High, v.PValue)
	}
	if v.Outcome == Inconclusive {
		if v.Reason == TooFewRequests {
			text += "; too few requests or looks to decide"
		}
		if v.Missing > 0 {
			text += fmt.Sprintf("; needs about %v more at this rate", v.Missing.Round(time.Second))
		} else {
			text += "; would not pass as it looks now"
		}
	}
	return text
}
