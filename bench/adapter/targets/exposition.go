package targets

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
)

// form is how a changing number is written. Each has one width, so that it can be written over its predecessor.
type form uint8

const (
	count form = iota // 123456.0
	sum               // 123456.654321
	large             // 1.234567e+07
)

// Numbers start in the middle of what their form can hold, for a run of hours: 900,000 requests are 3.5 hours at 70/s.
const (
	countFrom = 100_000
	largeFrom = 10_000_000
)

// zero is how the form writes where it starts.
func (f form) zero() string {
	return [...]string{count: "100000.0", sum: "100000.000000", large: "1.000000e+07"}[f]
}

// field is a number of an exposition that grows by share for each request.
type field struct {
	at    int
	form  form
	share float64
	step  bool // grows by the target's steps too
}

// exposition is a whole HTTP answer whose numbers change and whose bytes otherwise do not.
type exposition struct {
	text   []byte
	fields []field
	body   int // where the body starts
}

// render appends the answer after n requests and the sum of steps so far.
func (e *exposition) render(to []byte, n, steps float64) []byte {
	from := len(to)
	to = append(to, e.text...)
	out := to[from:]
	for i := range e.fields {
		f := &e.fields[i]
		v := n * f.share
		if f.step {
			v += steps
		}
		switch f.form {
		case count:
			digits(out[f.at:f.at+6], uint64(countFrom+v))
		case sum:
			whole, part := math.Modf(countFrom + v)
			digits(out[f.at:f.at+6], uint64(whole))
			digits(out[f.at+7:f.at+13], uint64(part*1e6))
		case large:
			m := uint64(largeFrom+v) / 10
			out[f.at] = byte('0' + m/1_000_000%10)
			digits(out[f.at+2:f.at+8], m%1_000_000)
		}
	}
	return to
}

// digits writes v right-aligned over all of to.
func digits(to []byte, v uint64) {
	for i := len(to) - 1; i >= 0; i-- {
		to[i] = byte('0' + v%10)
		v /= 10
	}
}

// builder writes an exposition as Python's prometheus_client does, which vLLM uses.
type builder struct {
	text   bytes.Buffer
	fields []field
	series int
}

func (b *builder) family(name, kind, help string) {
	fmt.Fprintf(&b.text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// line starts a series' line; labels are empty or in braces.
func (b *builder) line(name, labels string) {
	b.series++
	b.text.WriteString(name)
	b.text.WriteString(labels)
	b.text.WriteByte(' ')
}

func (b *builder) fixed(name, labels, value string) {
	b.line(name, labels)
	b.text.WriteString(value)
	b.text.WriteByte('\n')
}

func (b *builder) growing(name, labels string, f form, share float64) *field {
	b.line(name, labels)
	b.fields = append(b.fields, field{at: b.text.Len(), form: f, share: share})
	b.text.WriteString(f.zero())
	b.text.WriteByte('\n')
	return &b.fields[len(b.fields)-1]
}

// created is the time at which a child of a metric began, which Python's client exposes beside it.
func (b *builder) created(name, labels string) {
	b.family(name+"_created", "gauge", name)
	b.fixed(name+"_created", labels, "1.7638884e+09")
}

func (b *builder) counter(name, help string, labels []string, f form, shares ...float64) {
	b.family(name+"_total", "counter", help)
	for i, l := range labels {
		b.growing(name+"_total", l, f, shares[i])
	}
	b.family(name+"_created", "gauge", help)
	for _, l := range labels {
		b.fixed(name+"_created", l, "1.7638884e+09")
	}
}

// histogram's observations are distributed by cdf, one per request, with the mean given. before and after are the labels that
// sort before and after le.
func (b *builder) histogram(name, help, before, after string, bounds []float64, mean float64, cdf func(float64) float64) {
	b.family(name, "histogram", help)
	for _, bound := range append(bounds, math.Inf(1)) {
		share := 1.0
		if !math.IsInf(bound, 1) {
			share = cdf(bound)
		}
		b.growing(name+"_bucket", fmt.Sprintf(`{%sle="%s"%s}`, before, le(bound), after), count, share)
	}
	labels := bytes.TrimSuffix([]byte(before), []byte(","))
	plain := "{" + string(labels) + after + "}"
	b.growing(name+"_count", plain, count, 1)
	form := sum
	if mean > 5 { // would leave sum's six digits within the hour
		form = large
	}
	b.growing(name+"_sum", plain, form, mean)
	b.created(name, plain)
}

// le writes a bound as Python's client does: 1.0, 0.3, +Inf.
func le(bound float64) string {
	if math.IsInf(bound, 1) {
		return "+Inf"
	}
	s := strconv.FormatFloat(bound, 'f', -1, 64)
	if bound == math.Trunc(bound) {
		s += ".0"
	}
	return s
}

// finish puts the HTTP head before the body.
func (b *builder) finish() *exposition {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: %d\r\n\r\n", b.text.Len())
	e := &exposition{text: append([]byte(head), b.text.Bytes()...), fields: b.fields, body: len(head)}
	for i := range e.fields {
		e.fields[i].at += len(head)
	}
	return e
}
