package load

import (
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Trace is a record of real demand, read from CSV (see ReadTrace). It is either sums over buckets of time, or single
// requests with their times.
type Trace struct {
	bucket   time.Duration // length of a bucket; 0 for single requests
	sums     []float64     // requests per bucket
	requests []Arrival     // in order of time, the first at 0
}

// Replay says which part of a trace to replay and how.
type Replay struct {
	Speed float64       // how many times faster than it was; every request is kept, so rates grow with it; 1 is as it was
	Scale float64       // factor on the number of requests; 1 keeps them; at most 1 for single requests, which it thins
	From  time.Duration // where to begin, in the time of the trace
	For   time.Duration // how much of it, in the time of the trace; 0 means the rest
}

// maxTraceRows bounds what a compressed file can unfold to: a year in seconds is 31.5 million, a month 2.6 million.
const maxTraceRows = 10_000_000

// ReadTrace reads a CSV file with a header, gzipped or not. The header decides: "second,requests" is sums over buckets of
// equal length, without gaps; "TIMESTAMP" with the optional columns ContextTokens and GeneratedTokens is single requests.
func ReadTrace(r io.Reader) (*Trace, error) {
	plain, err := decompress(r)
	if err != nil {
		return nil, fmt.Errorf("cannot decompress: %w", err)
	}
	rows := csv.NewReader(plain)
	rows.ReuseRecord = true
	header, err := rows.Read()
	if err != nil {
		return nil, fmt.Errorf("cannot read header: %w", err)
	}
	columns := make(map[string]int, len(header))
	for i, name := range header {
		columns[strings.ToLower(strings.TrimSpace(name))] = i
	}
	second, hasSecond := columns["second"]
	requests, hasRequests := columns["requests"]
	timestamp, hasTimestamp := columns["timestamp"]
	switch {
	case hasSecond && hasRequests:
		return readBuckets(rows, second, requests)
	case hasTimestamp:
		return readRequests(rows, timestamp, optional(columns, "contexttokens"), optional(columns, "generatedtokens"))
	}
	return nil, fmt.Errorf("header %q has neither second and requests nor TIMESTAMP", strings.Join(header, ","))
}

func optional(columns map[string]int, name string) int {
	if i, ok := columns[name]; ok {
		return i
	}
	return -1
}

// eachRow calls f with every row. Errors name the line.
func eachRow(rows *csv.Reader, f func(row []string) error) error {
	for n := 0; ; n++ {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err // csv's errors name the line themselves
		}
		line, _ := rows.FieldPos(0)
		if n >= maxTraceRows {
			return fmt.Errorf("line %d: more than %d rows", line, maxTraceRows)
		}
		if err := f(row); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
}

func readBuckets(rows *csv.Reader, second, requests int) (*Trace, error) {
	trace := &Trace{}
	var first, last time.Duration
	err := eachRow(rows, func(row []string) error {
		at, err := parseSeconds(row[second])
		if err != nil {
			return err
		}
		sum, err := strconv.ParseFloat(row[requests], 64)
		if err != nil || !(sum >= 0 && sum <= maxRate*1e3) {
			return fmt.Errorf("%q is no number of requests", row[requests])
		}
		switch len(trace.sums) {
		case 0:
			first = at
		case 1:
			trace.bucket = at - first
		}
		// A gap is not a time without requests: nobody knows, so nobody may replay it as zero.
		if n := len(trace.sums); n > 0 && (trace.bucket <= 0 || at != last+trace.bucket) {
			return fmt.Errorf("second %s does not follow %s: want equal steps upwards", row[second], last)
		}
		last = at
		trace.sums = append(trace.sums, sum)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(trace.sums) < 2 {
		return nil, errors.New("want at least two rows, to know the length of a bucket")
	}
	return trace, nil
}

func readRequests(rows *csv.Reader, timestamp, prompt, output int) (*Trace, error) {
	trace := &Trace{}
	type request struct {
		at     time.Time
		tokens Tokens
	}
	var list []request
	err := eachRow(rows, func(row []string) error {
		at, err := parseTimestamp(row[timestamp])
		if err != nil {
			return err
		}
		r := request{at: at}
		if r.tokens.Prompt, err = parseTokens(row, prompt); err != nil {
			return err
		}
		if r.tokens.Output, err = parseTokens(row, output); err != nil {
			return err
		}
		list = append(list, r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("no requests")
	}
	slices.SortStableFunc(list, func(a, b request) int { return a.at.Compare(b.at) })
	for _, r := range list {
		offset := r.at.Sub(list[0].at)
		if offset > maxDuration {
			return nil, fmt.Errorf("spans more than %s", maxDuration)
		}
		trace.requests = append(trace.requests, Arrival{At: offset, Tokens: r.tokens})
	}
	return trace, nil
}

func parseTokens(row []string, column int) (int, error) {
	if column < 0 {
		return 0, nil
	}
	n, err := strconv.Atoi(row[column])
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is no number of tokens", row[column])
	}
	return n, nil
}

func parseSeconds(text string) (time.Duration, error) {
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || !(seconds >= -maxUnix && seconds <= maxUnix) {
		return 0, fmt.Errorf("%q is no time in seconds", text)
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// maxUnix is the latest time that counts as one, in Unix seconds: the year 2200.
const maxUnix = 7.3e9

// parseTimestamp reads the forms of public traces: date and time with or without a zone (UTC then), or seconds.
func parseTimestamp(text string) (time.Time, error) {
	if seconds, err := parseSeconds(text); err == nil {
		return time.Unix(0, 0).Add(seconds), nil
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04:05Z07:00", time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no timestamp like 2023-11-16 18:15:46.68, RFC 3339 or seconds", text)
}

// length returns the trace's length in its own time: of single requests, up to just after the last.
func (t *Trace) length() time.Duration {
	if t.bucket > 0 {
		return t.bucket * time.Duration(len(t.sums))
	}
	return t.requests[len(t.requests)-1].At + 1
}

// Pattern returns the replay of the trace. Sums become Poisson arrivals at each bucket's rate; single requests come
// exactly when they did.
func (t *Trace) Pattern(r Replay) (Pattern, error) {
	r, err := r.complete(t.length())
	if err != nil {
		return nil, err
	}
	if t.bucket == 0 {
		return t.exact(r)
	}
	p := bucketReplay{
		width:  time.Duration(float64(t.bucket) / r.Speed),
		skip:   time.Duration(float64(r.From) / r.Speed),
		length: time.Duration(float64(r.For) / r.Speed),
	}
	if p.width <= 0 || p.length <= 0 {
		return nil, fmt.Errorf("speed %g leaves nothing of buckets of %s", r.Speed, t.bucket)
	}
	factor := r.Scale * r.Speed / t.bucket.Seconds()
	first := int(p.skip / p.width)
	last := min(len(t.sums), int((p.skip+p.length-1)/p.width)+1)
	p.skip -= time.Duration(first) * p.width
	for _, sum := range t.sums[first:last] {
		p.rates = append(p.rates, sum*factor)
	}
	p.peak = slices.Max(p.rates)
	return p, checkRate("peak of the replay", p.peak)
}

// complete sets For and refuses what does not fit a trace of that length.
func (r Replay) complete(length time.Duration) (Replay, error) {
	if !(r.Speed > 0 && r.Speed <= 1e6) {
		return r, fmt.Errorf("speed %g is not above 0 and at most 1e6", r.Speed)
	}
	if !(r.Scale > 0 && r.Scale <= 1e6) {
		return r, fmt.Errorf("scale %g is not above 0 and at most 1e6", r.Scale)
	}
	if r.From < 0 || r.From >= length {
		return r, fmt.Errorf("from %s is not inside of the trace, which is %s long", r.From, length)
	}
	if r.For < 0 {
		return r, fmt.Errorf("for %s is negative", r.For)
	}
	if r.For == 0 || r.For > length-r.From {
		r.For = length - r.From
	}
	if r.For.Seconds()/r.Speed > maxDuration.Seconds() {
		return r, fmt.Errorf("speed %g stretches it to more than %s", r.Speed, maxDuration)
	}
	return r, nil
}

// bucketReplay has a constant rate in every bucket. All its times are those of the replay.
type bucketReplay struct {
	width, length time.Duration
	skip          time.Duration // how much of the first bucket lies before the start
	rates         []float64     // requests per second
	peak          float64
}

func (p bucketReplay) Rate(t time.Duration) float64 {
	if t < 0 || t >= p.length {
		return 0
	}
	return p.rates[min(int((t+p.skip)/p.width), len(p.rates)-1)]
}

func (p bucketReplay) Duration() time.Duration { return p.length }

func (p bucketReplay) Arrivals(seed uint64) iter.Seq[Arrival] {
	return poisson(p.Rate, p.peak, p.length, seed)
}

// exactReplay has every request at its own time, which is the replay's.
type exactReplay struct {
	requests []Arrival
	keep     float64 // share of the requests that stays
	length   time.Duration
}

func (t *Trace) exact(r Replay) (Pattern, error) {
	if r.Scale > 1 {
		return nil, fmt.Errorf("scale %g is above 1, and single requests cannot be multiplied; use speed", r.Scale)
	}
	p := exactReplay{keep: r.Scale, length: time.Duration(float64(r.For) / r.Speed)}
	for _, request := range t.requests {
		if request.At >= r.From && request.At < r.From+r.For {
			request.At = time.Duration(float64(request.At-r.From) / r.Speed)
			p.requests = append(p.requests, request)
		}
	}
	if len(p.requests) == 0 {
		return nil, fmt.Errorf("the trace has no request in %s from %s on", r.For, r.From)
	}
	p.length = max(p.length, p.requests[len(p.requests)-1].At+1)
	return p, nil
}

// rateWindow is what the rate of single requests is a mean over.
const rateWindow = 10 * time.Second

// Rate is the mean over the ten seconds of the replay about t.
func (p exactReplay) Rate(t time.Duration) float64 {
	if t < 0 || t >= p.length {
		return 0
	}
	from, to := max(0, t-rateWindow/2), min(p.length, t+rateWindow/2)
	before := func(a Arrival, at time.Duration) int { return int(a.At - at) }
	first, _ := slices.BinarySearchFunc(p.requests, from, before)
	last, _ := slices.BinarySearchFunc(p.requests, to, before)
	return p.keep * float64(last-first) / (to - from).Seconds()
}

func (p exactReplay) Duration() time.Duration { return p.length }

func (p exactReplay) Arrivals(seed uint64) iter.Seq[Arrival] {
	return func(yield func(Arrival) bool) {
		rng := newRNG(seed, streamArrivals)
		for _, request := range p.requests {
			if rng.Float64() < p.keep && !yield(request) {
				return
			}
		}
	}
}

// decompress returns the content of r, unzipped where it is gzipped (by its first two bytes, not its name).
func decompress(r io.Reader) (io.Reader, error) {
	peek := make([]byte, 2)
	n, err := io.ReadFull(r, peek)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	whole := io.MultiReader(strings.NewReader(string(peek[:n])), r)
	if string(peek[:n]) != "\x1f\x8b" {
		return whole, nil
	}
	return gzip.NewReader(whole)
}
