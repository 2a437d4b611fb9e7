// Package report shows what a backtest of autoscaling policies found: as a table for terminals, as JSON, and as one HTML
// page that needs nothing else (no script, no font, no picture from elsewhere).
//
// It is pure: it takes plain structs and writes to an io.Writer. Absent numbers are NaN in Go, null in JSON and "-" for
// people, never 0. Every name that comes from outside is escaped.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"
)

// Kind is what the JSON says that it is.
const Kind = "Backtest"

// Clairvoyant is the policy that knows the future: the limit for the others, and no policy that anyone can run.
const Clairvoyant = "clairvoyant"

// Report is the outcome of a backtest. Its JSON form is stable: fields may be added, none is renamed.
type Report struct {
	Kind    string    `json:"kind"`
	Trace   Trace     `json:"trace"`
	Plant   []Setting `json:"plant"` // what was simulated, in the order in which it is shown
	Goal    Number    `json:"goalRatio"`
	Tuned   bool      `json:"tuned"` // each policy's target was chosen on what came before ScoredFrom
	Results []Result  `json:"results"`
	Notes   []string  `json:"notes,omitempty"`
}

// Trace is the demand that was replayed.
type Trace struct {
	Name       string    `json:"name"`
	Start      time.Time `json:"start,omitzero"` // zero: the trace has no date
	Seconds    float64   `json:"durationSeconds"`
	Step       float64   `json:"stepSeconds,omitempty"` // 0: it lists single requests
	Requests   float64   `json:"requests"`
	Mean       Number    `json:"meanPerSecond"`
	Peak       Number    `json:"peakPerSecond"` // of a step
	Gaps       int       `json:"gaps"`
	GapSeconds float64   `json:"gapSeconds"` // left out of every score
	ScoredFrom float64   `json:"scoredFromSeconds"`
}

// Setting is a name with its value, in the words of the command that sets it.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Result is how one policy at one setting fared.
type Result struct {
	Policy  string `json:"policy"`
	Setting string `json:"setting"`
	// Chosen marks the policy's own result; those not chosen are further points of its frontier.
	Chosen bool `json:"chosen"`

	Requests   float64 `json:"requests"`
	Late       float64 `json:"lateRequests"`
	Failed     float64 `json:"failedRequests"`
	Attainment Number  `json:"attainmentRatio"` // share of the requests on time

	ReplicaHours float64 `json:"replicaHours"` // from a pod's creation to its end, loading included
	GPUHours     float64 `json:"gpuHours"`

	UnderTime Number `json:"underProvisionedTimeRatio"` // share of the time with fewer replicas ready than needed
	OverTime  Number `json:"overProvisionedTimeRatio"`
	Under     Number `json:"underProvisionedRatio"` // how many replicas were missing, of those needed: θU
	Over      Number `json:"overProvisionedRatio"`  // how many there were too many, of those needed: θO

	Changes       int `json:"changes"` // of the replicas asked for
	KilledLoading int `json:"killedLoadingPods"`
	KilledBusy    int `json:"killedBusyPods"`

	WaitP50 Number `json:"waitP50Seconds"`
	WaitP95 Number `json:"waitP95Seconds"`
	WaitP99 Number `json:"waitP99Seconds"`

	Series *Series `json:"series,omitempty"`
}

// Series is what happened over time, for each bucket of Step seconds; all lists are of the same length. Values are means over
// a bucket, Late is a sum.
type Series struct {
	From    float64  `json:"fromSeconds"` // of the first bucket, since the trace's start
	Step    float64  `json:"stepSeconds"`
	Demand  []Number `json:"demandPerSecond"`
	Needed  []Number `json:"neededReplicas"` // that serve demand without a queue
	Desired []Number `json:"desiredReplicas"`
	Ready   []Number `json:"readyReplicas"`
	Loading []Number `json:"loadingReplicas"`
	// Missing is by how much ready replicas fell short of those needed; over a bucket it is more than the difference of the
	// means, since a surplus at another moment does not make up for it.
	Missing []Number `json:"missingReplicas"`
	Waiting []Number `json:"waitingRequests"`
	Late    []Number `json:"lateRequests"`
}

// Number is a number that may be absent: NaN, and null in JSON.
type Number float64

// Absent is no number.
func Absent() Number { return Number(math.NaN()) }

func (n Number) known() bool { return !math.IsNaN(float64(n)) && !math.IsInf(float64(n), 0) }

// MarshalJSON writes null for what is no number, and six digits, which is more than a simulation knows.
func (n Number) MarshalJSON() ([]byte, error) {
	if !n.known() {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, float64(n), 'g', 9, 64), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (n *Number) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*n = Absent()
		return nil
	}
	v, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return fmt.Errorf("cannot read a number: %w", err)
	}
	*n = Number(v)
	return nil
}

// Check says what makes a report one that cannot be shown; the error names the result.
func (r *Report) Check() error {
	for i := range r.Results {
		s := r.Results[i].Series
		if s == nil {
			continue
		}
		n := len(s.Ready)
		for _, list := range [][]Number{s.Demand, s.Needed, s.Desired, s.Loading, s.Missing, s.Waiting, s.Late} {
			if len(list) != n {
				return fmt.Errorf("results[%d] (%s): the series' lists are of %d and %d buckets", i, r.Results[i].Policy, n, len(list))
			}
		}
		if s.Step <= 0 {
			return fmt.Errorf("results[%d] (%s): the series' step is %v s", i, r.Results[i].Policy, s.Step)
		}
	}
	return nil
}

// WriteJSON writes the report, indented, with lists of numbers on one line each.
func (r *Report) WriteJSON(w io.Writer) error {
	if err := r.Check(); err != nil {
		return err
	}
	out := *r
	out.Kind = Kind
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(&out); err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	return nil
}

// Chosen returns each policy's own result, in the report's order.
func (r *Report) Chosen() []*Result {
	var list []*Result
	for i := range r.Results {
		if r.Results[i].Chosen {
			list = append(list, &r.Results[i])
		}
	}
	return list
}

// Best is the chosen result with the fewest GPU-hours among those that reach the goal, the clairvoyant's left out; where
// none reaches it, the one with the highest attainment. nil where there is none.
func (r *Report) Best() (best *Result, reached bool) {
	for _, x := range r.Chosen() {
		if x.Policy == Clairvoyant || !x.Attainment.known() {
			continue
		}
		ok := x.Attainment >= r.Goal
		switch {
		case best == nil, ok && !reached,
			ok && x.GPUHours < best.GPUHours,
			!reached && !ok && (x.Attainment > best.Attainment || x.Attainment == best.Attainment && x.GPUHours < best.GPUHours):
			best, reached = x, ok
		}
	}
	return best, reached
}
