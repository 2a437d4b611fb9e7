package simulate

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Trace is demand over time: a rate per step, or single requests.
type Trace struct {
	Name  string
	Start time.Time
	Step  time.Duration
	Rate  []float64 // requests per second in each step; NaN where it is unknown
	// Counted says that Rate stems from counts of requests, so that it has their noise.
	Counted bool
	// Requests stand in place of Rate where each is known.
	Requests []Request
}

// Request is one request.
type Request struct {
	At   time.Duration // since the trace's Start
	Work float64       // seconds that it takes one slot of a replica
}

// Duration is how long the trace is.
func (t *Trace) Duration() time.Duration {
	if n := len(t.Requests); n > 0 {
		return t.Requests[n-1].At + time.Second
	}
	return time.Duration(len(t.Rate)) * t.Step
}

// Gaps returns how many spells have no known rate, and how long they are in all.
func (t *Trace) Gaps() (count int, length time.Duration) {
	for i, r := range t.Rate {
		if math.IsNaN(r) {
			length += t.Step
			if i == 0 || !math.IsNaN(t.Rate[i-1]) {
				count++
			}
		}
	}
	return count, length
}

// ReadOptions say how a trace is to be read.
type ReadOptions struct {
	// Column names the column with the demand; empty: the one called requests (a number per row, divided by the time between
	// rows) or value, rate, rps (requests per second).
	Column string
	// PerSecond says that Column is a rate; for the columns above it is known.
	PerSecond bool
	// PrefillTokensPerSecond and DecodeTokensPerSecond turn token counts (ContextTokens and GeneratedTokens) into the time that
	// a request takes a slot. Defaults 5000 and 40.
	PrefillTokensPerSecond, DecodeTokensPerSecond float64
}

// columns are where a CSV has what.
type columns struct {
	time, value, context, generated int
	perSecond                       bool
}

// ReadTrace reads a CSV with a header: a column for the time (timestamp, TIMESTAMP, ts, time or second: RFC 3339,
// "2006-01-02 15:04:05.999", or seconds since 1970 or since the trace's start) and one for demand, or two with token counts,
// one row per request. Rows of the same time are added up (a column that tells series apart may stand beside). Times must not
// go back; a step without a row is a gap. Errors name the line.
func ReadTrace(name string, r io.Reader, o ReadOptions) (*Trace, error) {
	c := csv.NewReader(r)
	c.ReuseRecord = true
	c.TrimLeadingSpace = true
	header, err := c.Read()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("cannot read trace %s: it is empty", name)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read trace %s: %w", name, err)
	}
	cols, err := find(slices.Clone(header), o)
	if err != nil {
		return nil, fmt.Errorf("cannot read trace %s: line 1: %w", name, err)
	}
	rows := &rows{cols: cols, options: o}
	for {
		record, err := c.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil { // names the line itself
			return nil, fmt.Errorf("cannot read trace %s: %w", name, err)
		}
		if err := rows.add(record); err != nil {
			line, _ := c.FieldPos(0)
			return nil, fmt.Errorf("cannot read trace %s: line %d: %w", name, line, err)
		}
	}
	t, err := rows.trace()
	if err != nil {
		return nil, fmt.Errorf("cannot read trace %s: %w", name, err)
	}
	t.Name = name
	return t, nil
}

func find(header []string, o ReadOptions) (columns, error) {
	c := columns{-1, -1, -1, -1, o.PerSecond}
	for i, h := range header {
		c.take(i, strings.TrimPrefix(strings.TrimSpace(h), "\ufeff"), o.Column)
	}
	switch {
	case c.time < 0:
		return c, fmt.Errorf("no column for the time (timestamp, ts, time or second) among %s", strings.Join(header, ", "))
	case c.value < 0 && o.Column != "":
		return c, fmt.Errorf("no column %s among %s", o.Column, strings.Join(header, ", "))
	case c.value < 0 && (c.context < 0 || c.generated < 0):
		return c, fmt.Errorf("no column for demand (requests, value, rate, or ContextTokens and GeneratedTokens) among %s", strings.Join(header, ", "))
	}
	return c, nil
}

// take notes what a column holds, by its name.
func (c *columns) take(i int, name, demand string) {
	if demand != "" && name == demand {
		c.value = i
		return
	}
	switch strings.ToLower(name) {
	case "timestamp", "ts", "time", "second":
		c.time = i
	case "contexttokens":
		c.context = i
	case "generatedtokens":
		c.generated = i
	case "requests":
		if demand == "" {
			c.value = i
		}
	case "value", "rate", "rps":
		if demand == "" {
			c.value, c.perSecond = i, true
		}
	}
}

// rows gathers the rows of a trace.
type rows struct {
	cols     columns
	options  ReadOptions
	times    []float64 // seconds
	values   []float64
	requests []Request
}

func (r *rows) add(record []string) error {
	at, err := parseTime(record[r.cols.time])
	if err != nil {
		return err
	}
	if n := len(r.times); n > 0 && at < r.times[n-1] {
		return fmt.Errorf("%s is before the line above: rows must be sorted by time", record[r.cols.time])
	}
	if r.cols.value >= 0 {
		v, err := number(record[r.cols.value])
		if err != nil {
			return err
		}
		if n := len(r.times); n > 0 && at == r.times[n-1] {
			r.values[n-1] += v
			return nil
		}
		r.times, r.values = append(r.times, at), append(r.values, v)
		return nil
	}
	context, err := number(record[r.cols.context])
	if err != nil {
		return err
	}
	generated, err := number(record[r.cols.generated])
	if err != nil {
		return err
	}
	prefill, decode := r.options.PrefillTokensPerSecond, r.options.DecodeTokensPerSecond
	if prefill == 0 {
		prefill = 5000
	}
	if decode == 0 {
		decode = 40
	}
	r.times = append(r.times, at)
	r.requests = append(r.requests, Request{Work: context/prefill + generated/decode})
	return nil
}

func number(text string) (float64, error) {
	v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", text)
	}
	if v < 0 || math.IsInf(v, 0) {
		return 0, fmt.Errorf("demand is %v: it must be 0 or more", v)
	}
	return v, nil
}

// parseTime returns seconds since 1970, or since whatever a plain number counts from.
func parseTime(text string) (float64, error) {
	text = strings.TrimSpace(text)
	if v, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(v) && math.Abs(v) < 1e11 {
		return v, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999"} {
		if t, err := time.Parse(layout, text); err == nil {
			return float64(t.Unix()) + float64(t.Nanosecond())/1e9, nil
		}
	}
	return 0, fmt.Errorf("%q is no time: want RFC 3339, 2006-01-02 15:04:05 or seconds", text)
}

// longest is how many steps a trace may have: three years of minutes.
const longest = 1_600_000 * 10

func (r *rows) trace() (*Trace, error) {
	n := len(r.times)
	if n < 2 {
		return nil, fmt.Errorf("it has %d rows: a trace needs two or more", n)
	}
	first := r.times[0]
	whole := math.Floor(first)
	t := &Trace{Start: time.Unix(int64(whole), 0).UTC(), Counted: !r.cols.perSecond}
	if r.requests != nil {
		for i := range r.requests {
			r.requests[i].At = time.Duration((r.times[i] - whole) * float64(time.Second))
		}
		t.Requests = r.requests
		return t, nil
	}
	gaps := make([]float64, 0, n-1)
	for i := 1; i < n; i++ {
		gaps = append(gaps, r.times[i]-r.times[i-1])
	}
	slices.Sort(gaps)
	step := math.Max(math.Round(gaps[(len(gaps)-1)/2]), 1)
	steps := int(math.Round((r.times[n-1]-first)/step)) + 1
	if steps > longest {
		return nil, fmt.Errorf("it spans %.0f steps of %.0f s; at most %d are taken", float64(steps), step, longest)
	}
	t.Step = time.Duration(step) * time.Second
	t.Rate = make([]float64, steps)
	count := make([]int, steps)
	for i, at := range r.times {
		k := min(int(math.Round((at-first)/step)), steps-1)
		t.Rate[k] += r.values[i]
		count[k]++
	}
	for k := range t.Rate {
		switch {
		case count[k] == 0:
			t.Rate[k] = math.NaN()
		case r.cols.perSecond:
			t.Rate[k] /= float64(count[k])
		default:
			t.Rate[k] /= step
		}
	}
	return t, nil
}

// Scaled returns the trace with its rates multiplied such that their 99th percentile is peak. The rates of a count of few
// requests are first smoothed over as many steps as hold 400 of them on average (5 % of noise): a service as large as the
// scaled one has not the noise of the small one times the factor, but its own, which the plant adds.
func (t *Trace) Scaled(peak float64) *Trace {
	s := *t
	rates := slices.Clone(t.Rate)
	known, sum := make([]float64, 0, len(rates)), 0.0
	for _, r := range rates {
		if !math.IsNaN(r) {
			known = append(known, r)
			sum += r
		}
	}
	if len(known) == 0 || sum == 0 {
		return &s
	}
	if t.Counted {
		perStep := sum / float64(len(known)) * t.Step.Seconds()
		rates = smooth(rates, int(math.Ceil(400/perStep)))
	}
	known = known[:0]
	for _, r := range rates {
		if !math.IsNaN(r) {
			known = append(known, r)
		}
	}
	slices.Sort(known)
	factor := peak / max(known[int(0.99*float64(len(known)-1))], 1e-12)
	for i := range rates {
		rates[i] *= factor
	}
	s.Rate = rates
	return &s
}

// smooth is the centred mean over width steps; a gap stays one.
func smooth(rates []float64, width int) []float64 {
	out := make([]float64, len(rates))
	var sum float64
	var count, lo, hi int
	for i := range rates {
		for ; hi < len(rates) && hi <= i+width/2; hi++ {
			if !math.IsNaN(rates[hi]) {
				sum += rates[hi]
				count++
			}
		}
		for ; lo < i-width/2; lo++ {
			if !math.IsNaN(rates[lo]) {
				sum -= rates[lo]
				count--
			}
		}
		out[i] = math.NaN()
		if !math.IsNaN(rates[i]) {
			out[i] = max(sum/float64(count), 0)
		}
	}
	return out
}
