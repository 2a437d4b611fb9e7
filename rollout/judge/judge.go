package judge

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

var (
	errReset  = errors.New("the counter went back")
	errLayout = errors.New("the histogram's buckets are not those judged so far")
)

// Judge holds the evidence of one rollout. Its JSON form is complete: a judge read back goes on as if nothing had happened.
type Judge struct {
	spec  Spec
	grids *grids // the same for every judge
	state state
}

// state is what a Judge remembers.
type state struct {
	Started time.Time `json:"started"`
	Last    time.Time `json:"last"`
	Looks   int       `json:"looks"`
	Failed  string    `json:"failed,omitempty"` // the message of the look that failed
	Metrics []series  `json:"metrics"`
}

// series is what is remembered of a metric.
type series struct {
	Bounds  []float64        `json:"bounds,omitempty"` // of the histogram
	LastNew map[string]Value `json:"lastNew,omitempty"`
	LastOld map[string]Value `json:"lastOld,omitempty"`
	// Contrasts has one for errors; for latency one for each quantile of targets, the judged one last.
	Contrasts []contrast    `json:"contrasts,omitempty"`
	Requests  float64       `json:"requests"` // of new
	Watched   time.Duration `json:"watched"`  // sum of the intervals that counted
	Stratum   stratum       `json:"stratum"`
	MaxWorse  float64       `json:"maxWorse"` // the largest log e-value against "no worse" so far
	Breaches  int           `json:"breaches,omitempty"`
	Good      int           `json:"good,omitempty"`
	Failed    bool          `json:"failed,omitempty"`
}

// stratum sums a time of constant weights: rates of two versions may be compared by their sums only there.
type stratum struct {
	Number  int    `json:"number"`
	Mix     string `json:"mix,omitempty"`
	New     Value  `json:"new"`
	Old     Value  `json:"old"`
	NewPods int    `json:"newPods"`
	OldPods int    `json:"oldPods"`
}

// New returns a judge without evidence, or says what is wrong with the spec.
func New(spec Spec) (*Judge, error) {
	spec, err := spec.complete()
	if err != nil {
		return nil, fmt.Errorf("cannot judge by this spec: %w", err)
	}
	return &Judge{spec: spec, grids: newGrids(), state: state{Metrics: make([]series, len(spec.Metrics))}}, nil
}

// Spec returns what is judged, with all defaults.
func (j *Judge) Spec() Spec { return j.spec }

// Look takes what was observed since the look before and judges everything so far. Times must ascend; a look that does not is
// Inconclusive and forgotten. Intervals should be about alike; a minute is a good one.
func (j *Judge) Look(now time.Time, o Observations) Verdict {
	if j.state.Looks > 0 && !now.After(j.state.Last) {
		return Verdict{
			Outcome: Inconclusive, Reason: TimeWentBack, Pause: true, Looks: j.state.Looks,
			Message: fmt.Sprintf("the look at %s is not after the one before", now.UTC().Format(time.RFC3339)),
		}
	}
	if j.state.Looks == 0 {
		j.state.Started, j.state.Last = now, now
	}
	elapsed := now.Sub(j.state.Last)
	j.state.Last = now
	j.state.Looks++
	metrics := make([]MetricVerdict, len(j.spec.Metrics))
	for i, m := range j.spec.Metrics {
		metrics[i] = j.lookAt(i, m, o, elapsed)
	}
	v := j.overall(metrics)
	v.Looks, v.Metrics = j.state.Looks, metrics
	if j.state.Failed != "" && v.Outcome != Fail {
		v.Outcome, v.Reason, v.Message, v.Pause = Fail, AlreadyFailed, j.state.Failed, false
	}
	if v.Outcome == Fail && j.state.Failed == "" {
		j.state.Failed = v.Message
	}
	if over := j.spec.MaxDuration; v.Outcome == Inconclusive && over > 0 && now.Sub(j.state.Started) >= over {
		v.Reason, v.Pause, v.Done = Expired, true, true
		v.Message = fmt.Sprintf("no decision within %v: %s", over, v.Message)
	}
	v.Done = v.Done || v.Outcome == Fail
	return v
}

// lookAt takes in and judges one metric.
func (j *Judge) lookAt(i int, m Metric, o Observations, elapsed time.Duration) MetricVerdict {
	s := &j.state.Metrics[i]
	v := MetricVerdict{Name: m.Name, Kind: m.Kind, Outcome: Inconclusive, New: unknownFigures(), Old: unknownFigures(), PValue: 1, Dispersion: 1}
	if m.Kind == Latency && s.Bounds == nil {
		if b := sharedBounds(m.Name, o.New, o.Old); len(b) >= 2 {
			s.Bounds = b
		}
	}
	var fresh, stable arm
	fresh, s.LastNew = gather(j.spec, m, s.Bounds, o.New, o.Increments, s.LastNew)
	stable, s.LastOld = gather(j.spec, m, s.Bounds, o.Old, o.Increments, s.LastOld)
	v.New.Pods, v.Old.Pods = fresh.pods, stable.pods
	if m.Kind == Gauge {
		j.lookAtGauge(m, s, fresh, stable, &v)
		return v
	}
	reason, message := usable(m, fresh, stable)
	if reason == "" {
		s.Requests += fresh.value.all(m.Kind)
		s.Watched += elapsed
		s.take(j.grids, m, fresh, stable, o.Mix)
	}
	j.weigh(m, s, &v)
	switch {
	case s.Failed: // also where a look is without data: what was shown stays shown
		v.Outcome, v.Reason = Fail, Worse
	case reason != "":
		v.Outcome, v.Reason, v.Message, v.Missing = Inconclusive, reason, message, 0
	}
	return v
}

// all is the number of requests.
func (v Value) all(kind Kind) float64 {
	if kind == Latency {
		if len(v.Counts) == 0 {
			return 0
		}
		return v.Counts[len(v.Counts)-1]
	}
	return v.Requests
}

// usable says why an interval does not count, "" where it does.
func usable(m Metric, fresh, stable arm) (Reason, string) {
	for _, a := range []struct {
		arm
		name string
	}{{fresh, "new"}, {stable, "old"}} {
		switch {
		case a.pods > 0:
		case len(a.notes) > 0:
			return InvalidData, fmt.Sprintf("%s of the %s version cannot be used: %s", m.Name, a.name, a.notes[0])
		case a.warm > 0:
			return WarmingUp, fmt.Sprintf("the pods of the %s version are still warming up", a.name)
		case a.first > 0:
			return FirstReading, fmt.Sprintf("%s of the %s version was read for the first time", m.Name, a.name)
		case fresh.silent() && stable.silent():
			return NoData, "neither version reports " + m.Name
		default:
			return ArmAbsent, fmt.Sprintf("the %s version does not report %s", a.name, m.Name)
		}
	}
	if m.Kind == Gauge {
		return "", ""
	}
	if fresh.value.all(m.Kind) <= 0 || stable.value.all(m.Kind) <= 0 {
		return NoRequests, fmt.Sprintf("%s: a version served no requests since the last look (new %.0f, old %.0f)",
			m.Name, fresh.value.all(m.Kind), stable.value.all(m.Kind))
	}
	return "", ""
}

func (a arm) silent() bool { return a.pods+a.warm+a.first+len(a.notes) == 0 }

// overall joins the metrics' verdicts.
func (j *Judge) overall(metrics []MetricVerdict) Verdict {
	var total, passed, failed float64
	var waiting, failing, worst *MetricVerdict
	pause := false
	for i := range metrics {
		v, m := &metrics[i], j.spec.Metrics[i]
		if v.Reason == Ignored {
			continue
		}
		total += m.Weight
		switch v.Outcome {
		case Pass:
			passed += m.Weight
		case Fail:
			failed += m.Weight
			failing = firstOf(failing, v)
			if m.Critical {
				worst = firstOf(worst, v)
			}
		default:
			if pauses(v.Reason) {
				pause = true
				waiting = v
			}
			waiting = firstOf(waiting, v)
		}
	}
	switch {
	case worst != nil:
		return Verdict{Outcome: Fail, Reason: worst.Reason, Message: worst.Message}
	case total > 0 && failed/total > 1-j.spec.PassScore+1e-12:
		return Verdict{Outcome: Fail, Reason: ScoreTooLow, Message: fmt.Sprintf("%.0f%% of the metrics' weight failed: %s", 100*failed/total, failing.Message)}
	case total == 0:
		return Verdict{Outcome: Inconclusive, Reason: NoData, Pause: true, Message: "no metric is there to judge by"}
	case waiting == nil || passed/total >= j.spec.PassScore-1e-12 && !j.criticalWaits(metrics):
		return Verdict{Outcome: Pass, Reason: NotWorse, Done: true, Message: fmt.Sprintf("the new version is within the margins (%.0f%% of the metrics' weight passed)", 100*passed/total)}
	}
	return Verdict{Outcome: Inconclusive, Reason: waiting.Reason, Message: waiting.Message, Pause: pause}
}

func firstOf(a, b *MetricVerdict) *MetricVerdict {
	if a != nil {
		return a
	}
	return b
}

// criticalWaits reports whether a critical metric has not passed, or whether any lacks its data: a Pass needs to see.
func (j *Judge) criticalWaits(metrics []MetricVerdict) bool {
	for i, v := range metrics {
		if v.Outcome == Inconclusive && v.Reason != Ignored && (j.spec.Metrics[i].Critical || pauses(v.Reason)) {
			return true
		}
	}
	return false
}

// pauses reports whether the data are at fault, not their amount.
func pauses(r Reason) bool {
	return slices.Contains([]Reason{NoData, ArmAbsent, NoRequests, InvalidData}, r)
}
