package compare

import (
	"fmt"
	"slices"
	"time"

	"headroom.dev/headroom/lab/load"
)

// lateGenerator is how late the load generator's own requests may be (99th percentile). Beyond it the machine was too busy for
// latencies to mean anything.
const lateGenerator = 100 * time.Millisecond

// Summary is the end of a comparison, as --json writes it.
type Summary struct {
	Passed   bool     `json:"passed"`
	Problems []string `json:"measurementProblems,omitempty"` // why nothing can be concluded
	Failures []string `json:"failures,omitempty"`            // what the ScalePolicy did not show

	Scenario Scenario   `json:"scenario"`
	Setting  Setting    `json:"setting"`
	Days     []DayCount `json:"days"`
	Stock    Outcome    `json:"stockHPA"`
	Policy   Outcome    `json:"scalePolicy"`
	// AheadShare is the share of the judged time in which a forecast, or rises seen before, bound the ScalePolicy's decision.
	AheadShare float64  `json:"aheadShare"`
	Message    string   `json:"scalePolicyMessage"` // of its condition Ready, at the end
	Samples    []Sample `json:"samples"`
	Missed     []Missed `json:"missed"`
}

// Setting is what a reader of the JSON must know besides the flags.
type Setting struct {
	DaySeconds        float64 `json:"daySeconds"`
	LoadSeconds       float64 `json:"loadSeconds"`
	WindowSeconds     float64 `json:"scaleDownWindowSeconds"`
	StepSeconds       float64 `json:"forecastStepSeconds"`
	HPASyncSeconds    float64 `json:"hpaSyncSeconds"`
	LateAfterMS       float64 `json:"lateAfterMilliseconds"`
	Capacity          float64 `json:"capacityPerReplica"`
	UtilizationTarget int     `json:"utilizationPercent"`
	MinReplicas       int     `json:"minReplicas"`
	MaxReplicas       int     `json:"maxReplicas"`
}

func (s Scenario) setting(hpaSync time.Duration) Setting {
	return Setting{
		DaySeconds: s.Day.Seconds(), LoadSeconds: s.LoadTime.Seconds(), WindowSeconds: s.Window.Seconds(), StepSeconds: s.step().Seconds(),
		HPASyncSeconds: hpaSync.Seconds(), LateAfterMS: float64(LateAfter.Milliseconds()), Capacity: Capacity,
		UtilizationTarget: Utilization, MinReplicas: minimum, MaxReplicas: maximum,
	}
}

// Outcome is one service over the whole run.
type Outcome struct {
	Judged          Count         `json:"judged"`
	Learning        Count         `json:"learning"`
	Latency         *load.Latency `json:"judgedLatency,omitempty"` // of the answers
	LoadSeconds     float64       `json:"medianLoadSeconds"`       // from a pod's creation until it was Ready; 0: no pod
	GeneratorWaitMS float64       `json:"generatorWaitP99Milliseconds"`
}

// Missed are the requests that were due within one bin of time.
type Missed struct {
	Seconds float64 `json:"seconds"` // where the bin begins
	Stock   Tally   `json:"stockHPA"`
	Policy  Tally   `json:"scalePolicy"`
}

func (m Missed) of(s Side) Tally {
	if s == Stock {
		return m.Stock
	}
	return m.Policy
}

// judge computes everything that a run showed and whether the ScalePolicy was better.
func judge(o observed, hpaSync time.Duration) Summary {
	s := Summary{
		Scenario: o.scenario, Setting: o.scenario.setting(hpaSync), Days: o.days(), Samples: o.samples, Missed: o.missed(),
		Message: o.policy.message,
	}
	s.Stock, s.Policy = o.outcome(Stock, s.Days), o.outcome(Policy, s.Days)
	s.AheadShare = o.aheadShare()
	s.Problems, s.Failures = o.problems(s), failures(s)
	s.Passed = len(s.Problems) == 0 && len(s.Failures) == 0
	return s
}

func (o observed) outcome(side Side, days []DayCount) Outcome {
	out := Outcome{Judged: total(days, side, true), Learning: total(days, side, false)}
	judged := slices.DeleteFunc(slices.Clone(o.results[side]), func(r load.Result) bool {
		return !o.scenario.judged(o.scenario.day(r.Scheduled))
	})
	out.Latency, _ = load.Percentiles(judged)
	if _, waits := load.Percentiles(o.results[side]); waits != nil {
		out.GeneratorWaitMS = waits.P99
	}
	out.LoadSeconds = o.ledgers[side].loadTime(o.began, o.began.Add(o.scenario.length())).Seconds()
	return out
}

func (o observed) aheadShare() float64 {
	ahead, all := 0, 0
	for _, s := range o.samples {
		if !o.scenario.judged(o.scenario.day(time.Duration(s.Seconds * float64(time.Second)))) {
			continue
		}
		all++
		if s.Ahead {
			ahead++
		}
	}
	if all == 0 {
		return 0
	}
	return float64(ahead) / float64(all)
}

// missed counts both sides' requests by the bin in which they were due.
func (o observed) missed() []Missed {
	bin := o.scenario.bin()
	out := make([]Missed, int((o.scenario.length()+bin-1)/bin))
	for i := range out {
		out[i].Seconds = (time.Duration(i) * bin).Seconds()
	}
	for _, side := range sides() {
		for _, r := range o.results[side] {
			m := &out[min(int(r.Scheduled/bin), len(out)-1)]
			if side == Stock {
				m.Stock.add(r)
			} else {
				m.Policy.add(r)
			}
		}
	}
	return out
}

// problems says why nothing can be concluded from a run.
func (o observed) problems(s Summary) []string {
	var out []string
	problem := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if a, b := len(o.results[Stock]), len(o.results[Policy]); a != b || a == 0 {
		problem("the two services did not get the same requests: %d and %d", a, b)
	}
	for _, side := range sides() {
		canceled := 0
		for _, r := range o.results[side] {
			if r.Class == load.ClassCanceled || r.Class == load.ClassDropped {
				canceled++
			}
		}
		if canceled > 0 {
			problem("%d requests to the %s were given up by the load generator", canceled, side)
		}
		outcome := s.of(side)
		if late := time.Duration(outcome.GeneratorWaitMS * float64(time.Millisecond)); late > lateGenerator {
			problem("the load generator was late itself: 1 %% of the requests to the %s left %s after their time or later; the machine was too busy",
				side, late.Round(time.Millisecond))
		}
		if outcome.Judged.Changes == 0 {
			problem("the %s never changed its Deployment's replicas on the judged days", side)
		}
	}
	if len(o.samples) == 0 {
		problem("no replicas were seen")
	}
	return out
}

// alike is the share of requests by which the ScalePolicy may miss more than the HPA and count as no worse: five of a thousand.
const alike = 0.005

// failures says what the ScalePolicy did not show on the judged days: that it was no worse than the HPA in the share of requests
// missed and in the replica time for each answer in time, better in one of them, and so by forecasts. Replica time alone would not
// do: an HPA that is late also saves the replicas it lacks.
func failures(s Summary) []string {
	var out []string
	fail := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	stock, policy := s.Stock.Judged, s.Policy.Judged
	if policy.missedShare() > stock.missedShare()+alike {
		fail("it missed %d requests (late or failed), the stock HPA %d", policy.missed(), stock.missed())
	}
	if p, q := policy.perAnswer(), stock.perAnswer(); p > q {
		fail("an answer in time cost it %.2f replica-seconds, the stock HPA %.2f: more", p, q)
	}
	if policy.missedShare() >= stock.missedShare() && policy.perAnswer() >= stock.perAnswer() {
		fail("it was better in nothing: neither in requests missed nor in replica time for each answer in time")
	}
	if s.AheadShare == 0 {
		fail("nothing that it had learnt of the future ever bound its decisions: whatever it gained came of no forecast")
	}
	return out
}

func (s Summary) of(side Side) Outcome {
	if side == Stock {
		return s.Stock
	}
	return s.Policy
}

// ratio is a/b; 1 where both are 0.
func ratio(a, b float64) float64 {
	if a == b {
		return 1
	}
	return a / b
}
