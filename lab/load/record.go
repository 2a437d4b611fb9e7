package load

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Class says how a request ended that got no answer.
type Class string

// Classes of ends. The HTTP status of an answered request is in Result.Code.
const (
	ClassAnswered   Class = ""
	ClassNoEndpoint Class = "no endpoint" // not sent: nothing was Ready
	ClassDropped    Class = "dropped"     // not sent: too many in flight
	ClassRefused    Class = "refused"     // nothing listened
	ClassReset      Class = "reset"       // connection broken while sending or waiting
	ClassCutOff     Class = "cut off"     // connection closed before the whole answer
	ClassTimeout    Class = "timeout"     // no answer in Options.Timeout
	ClassCanceled   Class = "canceled"    // the run was ended
	ClassOther      Class = "other"
)

// Result is what became of one request. Offsets are since the start of the run.
type Result struct {
	Scheduled time.Duration // offset at which it was due
	Wait      time.Duration // from then until it was sent, or found unsendable: how late the generator was
	Latency   time.Duration // from the scheduled time to the last byte of the answer, or to the failure
	Code      int           // HTTP status; 0 without an answer
	Class     Class
	Target    string // empty where there was none
	Tokens    Tokens
}

// OK says whether the request succeeded.
func (r Result) OK() bool { return r.Code >= 200 && r.Code < 300 }

// Outcome returns "ok", "http 503", or the class of the failure.
func (r Result) Outcome() string {
	switch {
	case r.OK():
		return "ok"
	case r.Class == ClassAnswered:
		return "http " + strconv.Itoa(r.Code)
	default:
		return string(r.Class)
	}
}

func (r Result) sent() bool { return r.Class != ClassNoEndpoint && r.Class != ClassDropped }

// Record holds the results of a run in the order in which the requests ended.
type Record struct {
	mu       sync.Mutex
	seed     uint64
	start    time.Time
	length   time.Duration   // of the whole run, once it is over
	due      []time.Duration // offsets at which requests were taken up, in order
	results  []Result        // in order of ends[i]
	ends     []time.Duration // offsets
	inFlight int
}

func (r *Record) begin(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.start.IsZero()
	if first {
		r.start = now
	}
	return first
}

func (r *Record) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.length = time.Since(r.start)
}

// elapsed returns the time since the start, or of the whole run once it is over; 0 before it.
func (r *Record) elapsed() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.elapsedLocked()
}

func (r *Record) elapsedLocked() time.Duration {
	switch {
	case r.start.IsZero():
		return 0
	case r.length > 0:
		return r.length
	default:
		return time.Since(r.start)
	}
}

// sending books that a request leaves now.
func (r *Record) sending(result *Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.elapsedLocked()
	result.Wait = now - result.Scheduled
	r.due = append(r.due, now)
	r.inFlight++
}

func (r *Record) ended(result Result, class Class) {
	r.mu.Lock()
	defer r.mu.Unlock()
	result.Class = class
	r.inFlight--
	r.addLocked(result, r.elapsedLocked())
}

// unsent books a request that cannot be sent.
func (r *Record) unsent(result Result, class Class) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.elapsedLocked()
	result.Class, result.Wait = class, now-result.Scheduled
	r.due = append(r.due, now)
	r.addLocked(result, now)
}

func (r *Record) addLocked(result Result, now time.Duration) {
	result.Latency = now - result.Scheduled
	r.results = append(r.results, result)
	r.ends = append(r.ends, now)
}

// Results returns a copy of what has ended so far, in that order.
func (r *Record) Results() []Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.results)
}

// From returns a copy of what has ended so far from the n-th result on, counted from 0, in the order of Results: a reader that
// keeps up needs no copy of everything.
func (r *Record) From(n int) []Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.results[min(n, len(r.results)):])
}

// Window is the load over the last stretch of time of a run.
type Window struct {
	Span     time.Duration  // what it is over: as long as asked for, or the run so far
	Offered  float64        // requests that came due, per second
	Sent     float64        // of these, sent, per second
	OK       float64        // successful answers, per second
	InFlight int            // sent and not ended now
	Failures map[string]int // requests that ended in other ways, by Outcome
	Latency  *Latency       // of the successful answers; nil where there was none
}

// P95 writes the 95th percentile of the latencies for people, "-" where there is none.
func (w Window) P95() string {
	if w.Latency == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f ms", w.Latency.P95)
}

// Window returns the load over the last d: requests that came due in it, and requests that ended in it.
func (r *Record) Window(d time.Duration) Window {
	r.mu.Lock()
	now := r.elapsedLocked()
	from := now - d
	due := len(r.due) - firstAfter(r.due, from)
	ended := slices.Clone(r.results[firstAfter(r.ends, from):])
	w := Window{Span: min(d, now), InFlight: r.inFlight}
	r.mu.Unlock()

	count := tally(ended)
	w.Failures, w.Latency = count.failures, latencyOf(count.latencies)
	if seconds := w.Span.Seconds(); seconds > 0 {
		w.Offered = float64(due) / seconds
		w.Sent = float64(due-count.unsent) / seconds
		w.OK = float64(count.ok) / seconds
	}
	return w
}

// firstAfter returns the index of the first of the rising offsets that is later than from.
func firstAfter(offsets []time.Duration, from time.Duration) int {
	i, _ := slices.BinarySearchFunc(offsets, from, func(a, b time.Duration) int {
		if a > b {
			return 1
		}
		return -1
	})
	return i
}

type counts struct {
	ok, unsent int
	failures   map[string]int
	latencies  []time.Duration // of the successes
	waits      []time.Duration // of all
}

func tally(results []Result) counts {
	c := counts{failures: map[string]int{}}
	for _, result := range results {
		c.waits = append(c.waits, result.Wait)
		if !result.sent() {
			c.unsent++
		}
		if result.OK() {
			c.ok++
			c.latencies = append(c.latencies, result.Latency)
		} else {
			c.failures[result.Outcome()]++
		}
	}
	return c
}

// Latency are percentiles in milliseconds, each the value of a request that really was (nearest rank).
type Latency struct {
	Mean float64 `json:"mean_ms"`
	P50  float64 `json:"p50_ms"`
	P90  float64 `json:"p90_ms"`
	P95  float64 `json:"p95_ms"`
	P99  float64 `json:"p99_ms"`
	Max  float64 `json:"max_ms"`
}

// Percentiles returns those of the latencies of the results that succeeded, and of the waits of all: how late the generator
// itself was. Either is nil where there is nothing to take them of.
func Percentiles(results []Result) (latencies, waits *Latency) {
	c := tally(results)
	return latencyOf(c.latencies), latencyOf(c.waits)
}

// latencyOf sorts its argument.
func latencyOf(all []time.Duration) *Latency {
	if len(all) == 0 {
		return nil
	}
	slices.Sort(all)
	var sum time.Duration
	for _, d := range all {
		sum += d
	}
	return &Latency{
		Mean: milliseconds(sum) / float64(len(all)),
		P50:  milliseconds(percentile(all, 50)),
		P90:  milliseconds(percentile(all, 90)),
		P95:  milliseconds(percentile(all, 95)),
		P99:  milliseconds(percentile(all, 99)),
		Max:  milliseconds(all[len(all)-1]),
	}
}

// percentile returns the smallest value that at least percent of all values do not exceed. sorted must not be empty.
func percentile(sorted []time.Duration, percent int) time.Duration {
	rank := (len(sorted)*percent + 99) / 100 // whole numbers: 0.95·20 is 19.000000000000004 in float64's
	return sorted[max(rank, 1)-1]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Summary is a whole run.
type Summary struct {
	Seed        uint64         `json:"seed"`
	Seconds     float64        `json:"seconds"`
	Requests    int            `json:"requests"` // that came due and have ended
	Sent        int            `json:"sent"`
	OK          int            `json:"ok"`
	Failures    map[string]int `json:"failures"`          // by Outcome
	Latency     *Latency       `json:"latency,omitempty"` // of the successes; nil where there was none
	WaitP99     float64        `json:"wait_p99_ms"`       // how late the generator itself was
	WaitMax     float64        `json:"wait_max_ms"`
	OutputTotal int            `json:"output_tokens"` // of the successes
}

// Summary returns the run so far.
func (r *Record) Summary() Summary {
	r.mu.Lock()
	seconds, results, seed := r.elapsedLocked().Seconds(), slices.Clone(r.results), r.seed
	r.mu.Unlock()
	count := tally(results)
	s := Summary{
		Seed: seed, Seconds: seconds, Requests: len(results), Sent: len(results) - count.unsent, OK: count.ok,
		Failures: count.failures, Latency: latencyOf(count.latencies),
	}
	if waits := latencyOf(count.waits); waits != nil {
		s.WaitP99, s.WaitMax = waits.P99, waits.Max
	}
	for _, result := range results {
		if result.OK() {
			s.OutputTotal += result.Tokens.Output
		}
	}
	return s
}

// WriteCSV writes the requests that have ended, in the order of their schedule, with a header.
func (r *Record) WriteCSV(w io.Writer) error {
	results := r.Results()
	slices.SortStableFunc(results, func(a, b Result) int { return cmp.Compare(a.Scheduled, b.Scheduled) })
	out := csv.NewWriter(w)
	rows := [][]string{{"scheduled_s", "wait_ms", "latency_ms", "code", "outcome", "target", "prompt_tokens", "output_tokens"}}
	for _, result := range results {
		rows = append(rows, []string{
			strconv.FormatFloat(result.Scheduled.Seconds(), 'f', 6, 64),
			strconv.FormatFloat(milliseconds(result.Wait), 'f', 3, 64),
			strconv.FormatFloat(milliseconds(result.Latency), 'f', 3, 64),
			strconv.Itoa(result.Code), result.Outcome(), result.Target,
			strconv.Itoa(result.Tokens.Prompt), strconv.Itoa(result.Tokens.Output),
		})
	}
	if err := out.WriteAll(rows); err != nil {
		return fmt.Errorf("cannot write record of load: %w", err)
	}
	return nil
}
