package compare

import (
	"math"
	"time"

	"headroom.dev/headroom/lab/load"
)

// Tally is what became of requests, by when they were due.
type Tally struct {
	Requests int `json:"requests"`
	OnTime   int `json:"onTime"`
	Late     int `json:"late"`   // answered after LateAfter
	Failed   int `json:"failed"` // refused, timed out, or nothing there to send them to
}

func (t *Tally) add(r load.Result) {
	t.Requests++
	switch {
	case !r.OK():
		t.Failed++
	case r.Latency > LateAfter:
		t.Late++
	default:
		t.OnTime++
	}
}

func (t Tally) missed() int { return t.Late + t.Failed }

func (t Tally) plus(u Tally) Tally {
	return Tally{t.Requests + u.Requests, t.OnTime + u.OnTime, t.Late + u.Late, t.Failed + u.Failed}
}

// Count is what one service did over a stretch of time.
type Count struct {
	Tally
	ReplicaSeconds float64 `json:"replicaSeconds"` // from the pods' creation until they were gone
	LoadingSeconds float64 `json:"loadingSeconds"` // of these, before a pod was first Ready
	KilledLoading  int     `json:"killedWhileLoading"`
	Changes        int     `json:"changes"` // of the Deployment's replicas
	// AtPeak is how many replicas were Ready when the day's rise was over, of Needed.
	AtPeak int `json:"readyAtPeak"`
	Needed int `json:"neededAtPeak"`
}

// perAnswer is the replica time that each answer in time cost, in seconds; infinite where there was none.
func (c Count) perAnswer() float64 { return c.ReplicaSeconds / float64(c.OnTime) }

// missedShare is the share of requests that were late or failed; 0 where there was none.
func (c Count) missedShare() float64 { return float64(c.missed()) / float64(max(1, c.Requests)) }

func (c Count) plus(d Count) Count {
	return Count{
		Tally: c.Tally.plus(d.Tally), ReplicaSeconds: c.ReplicaSeconds + d.ReplicaSeconds, LoadingSeconds: c.LoadingSeconds + d.LoadingSeconds,
		KilledLoading: c.KilledLoading + d.KilledLoading, Changes: c.Changes + d.Changes, AtPeak: c.AtPeak + d.AtPeak, Needed: c.Needed + d.Needed,
	}
}

// DayCount is one day of both services.
type DayCount struct {
	Day    int   `json:"day"` // from 1
	Judged bool  `json:"judged"`
	Stock  Count `json:"stockHPA"`
	Policy Count `json:"scalePolicy"`
}

func (d DayCount) of(s Side) Count {
	if s == Stock {
		return d.Stock
	}
	return d.Policy
}

// Sample is one second.
type Sample struct {
	Seconds float64    `json:"seconds"` // since the load began
	Demand  float64    `json:"demand"`  // requests/s, expected
	Stock   SideSample `json:"stockHPA"`
	Policy  SideSample `json:"scalePolicy"`
	Ahead   bool       `json:"ahead"` // a forecast, or rises seen before, bound the ScalePolicy's decision
}

// SideSample is one service at one second.
type SideSample struct {
	Wanted  int `json:"wanted"` // the Deployment's spec.replicas
	Ready   int `json:"ready"`
	Loading int `json:"loading"`
	Leaving int `json:"leaving"` // being deleted, and still holding a GPU
}

func (s Sample) of(side Side) SideSample {
	if side == Stock {
		return s.Stock
	}
	return s.Policy
}

// observed is all that a run left behind, from which everything else is computed.
type observed struct {
	scenario Scenario
	began    time.Time
	results  map[Side][]load.Result
	ledgers  map[Side]*ledger
	changes  []change
	samples  []Sample
	policy   policyState // at the end
}

// days counts each day of both services.
func (o observed) days() []DayCount {
	out := make([]DayCount, o.scenario.Days)
	for i := range out {
		out[i] = DayCount{Day: i + 1, Judged: o.scenario.judged(i), Stock: o.count(Stock, i), Policy: o.count(Policy, i)}
	}
	return out
}

func (o observed) count(side Side, day int) Count {
	var c Count
	for _, r := range o.results[side] {
		if o.scenario.day(r.Scheduled) == day {
			c.add(r)
		}
	}
	from := o.began.Add(o.scenario.Day * time.Duration(day))
	to := from.Add(o.scenario.Day)
	u := o.ledgers[side].use(from, to)
	c.ReplicaSeconds, c.LoadingSeconds, c.KilledLoading = u.replicas.Seconds(), u.loading.Seconds(), u.killedLoading
	for _, x := range o.changes {
		if x.side == side && !x.when.Before(from) && x.when.Before(to) {
			c.Changes++
		}
	}
	peak := (time.Duration(day)*o.scenario.Day + time.Duration(load.WaveRisen*float64(o.scenario.Day))).Seconds()
	for _, s := range o.samples {
		if s.Seconds >= peak {
			c.AtPeak, c.Needed = s.of(side).Ready, needed(s.Demand)
			break
		}
	}
	return c
}

// needed is the least number of replicas that serves a demand within the SLO.
func needed(demand float64) int { return int(math.Ceil(demand / Capacity)) }

// total adds up the days that are judged, or those that are not.
func total(days []DayCount, side Side, judged bool) Count {
	var sum Count
	for _, d := range days {
		if d.Judged == judged {
			sum = sum.plus(d.of(side))
		}
	}
	return sum
}
