package compare

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/lab/load"
)

// run builds what a run of two days of 100 s left behind from a script, a line for each thing:
//
//	requests SIDE FROM TO COUNT late|failed|ontime|canceled   due at even distances
//	pod SIDE NAME CREATED READY REMOVED                        - for never
//	change SIDE AT TO
//	ahead FROM TO
//	wait MILLISECONDS                                          of every request that follows
func run(t *testing.T, input string) observed {
	s := DefaultScenario()
	s.Day, s.Days, s.Learning = 100*time.Second, 2, 1
	o := observed{
		scenario: s, began: zero(), results: map[Side][]load.Result{}, policy: policyState{message: "fine"},
		ledgers: map[Side]*ledger{Stock: newLedger(), Policy: newLedger()},
	}
	for second := range 200 {
		o.samples = append(o.samples, Sample{Seconds: float64(second), Demand: 13, Stock: SideSample{Wanted: 2, Ready: 2}, Policy: SideSample{Wanted: 3, Ready: 3}})
	}
	wait := 0.0
	scan := func(words []string, into ...any) {
		_, err := fmt.Sscan(strings.Join(words, " "), into...)
		require.NoError(t, err, words)
	}
	for line := range strings.Lines(input) {
		words := strings.Fields(line)
		side := Stock
		if words[1] == "policy" {
			side = Policy
		}
		switch words[0] {
		case "requests":
			var from, to float64
			var n int
			scan(words[2:5], &from, &to, &n)
			for i := range n {
				r := result(words[5])
				r.Scheduled = time.Duration((from + (to-from)*float64(i)/float64(n)) * float64(time.Second))
				r.Wait = time.Duration(wait * float64(time.Millisecond))
				o.results[side] = append(o.results[side], r)
			}
		case "pod":
			for i, see := range []func(time.Time){
				func(x time.Time) { o.ledgers[side].see(x, seen{pod: words[2]}) },
				func(x time.Time) { o.ledgers[side].see(x, seen{pod: words[2], ready: true}) },
				func(x time.Time) { o.ledgers[side].gone(x, words[2]) },
			} {
				if words[3+i] != "-" {
					var seconds float64
					scan(words[3+i:4+i], &seconds)
					see(at(seconds))
				}
			}
		case "change":
			var seconds float64
			var to int32
			scan(words[2:4], &seconds, &to)
			o.changes = append(o.changes, change{when: at(seconds), side: side, from: 2, to: to})
		case "ahead":
			var from, to int
			scan(words[1:3], &from, &to)
			for i := from; i < to; i++ {
				o.samples[i].Ahead = true
			}
		case "wait":
			scan(words[1:2], &wait)
		default:
			t.Fatalf("unknown: %s", line)
		}
	}
	return o
}

func result(kind string) load.Result {
	r := load.Result{Code: 200, Latency: time.Second}
	switch kind {
	case "late":
		r.Latency = LateAfter + 1
	case "failed":
		r.Code = 503
	case "canceled":
		r.Code, r.Class = 0, load.ClassCanceled
	}
	return r
}

func TestJudge(t *testing.T) {
	datadriven.RunTest(t, "testdata/judge", func(t *testing.T, d *datadriven.TestData) string {
		s := judge(run(t, d.Input), 15*time.Second)
		var b strings.Builder
		for _, p := range s.Problems {
			fmt.Fprintln(&b, "UNSOUND", p)
		}
		for _, f := range s.Failures {
			fmt.Fprintln(&b, "FAILED", f)
		}
		fmt.Fprintf(&b, "passed %t\n%s\n", s.Passed, s.verdict())
		if d.Cmd == "print" {
			b.Reset()
			s.print(&b)
		}
		return b.String()
	})
}

// example is a run with something of everything.
func example(t *testing.T) Summary {
	t.Helper()
	return judge(run(t, `
wait 1
pod stock a 0 60 -
pod policy b 0 60 150
pod policy c 40 100 -
change stock 120 4
change policy 110 5
ahead 20 40
ahead 120 140
requests stock 0 200 100 ontime
requests stock 130 140 20 late
requests stock 140 150 5 failed
requests policy 0 200 125 ontime
`[1:]), 15*time.Second)
}

// TestPlotIsWellFormed: the pictures parse, have the same scales, and mark what is there to mark.
func TestPlotIsWellFormed(t *testing.T) {
	s := example(t)
	stock, policy := plot(s, Stock), plot(s, Policy)
	for _, svg := range []string{stock, policy, plot(judge(run(t, ""), time.Second), Stock)} {
		decoder := xml.NewDecoder(strings.NewReader(svg))
		for {
			_, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
		}
		require.NotContains(t, svg, "NaN")
		require.NotContains(t, svg, "%!", "a word of package fmt's on a wrong format")
		require.NotContains(t, svg, "Inf")
	}
	marks := func(svg, colour string) int { return strings.Count(svg, fmt.Sprintf(`fill="%s"`, colour)) - 1 } // less the legend's
	require.Equal(t, 10, marks(stock, colourLate), "20 late in 10 s, in steps of one")
	require.Equal(t, 5, marks(stock, colourFailed))
	require.Zero(t, marks(policy, colourLate))
	require.Equal(t, 2, marks(policy, colourAhead), "two stretches")
	require.Equal(t, -1, marks(stock, colourAhead), "the HPA looks at nothing ahead: not even in its legend")
	grid := func(svg string) []string {
		var lines []string
		for line := range strings.Lines(svg) {
			if strings.Contains(line, "#d8dee4") || strings.Contains(line, "/s</text>") {
				lines = append(lines, line)
			}
		}
		return lines
	}
	require.Equal(t, grid(stock), grid(policy))
}

func TestPageStandsAlone(t *testing.T) {
	s := example(t)
	raw, err := page(s)
	require.NoError(t, err)
	text := string(raw)
	require.Equal(t, 2, strings.Count(text, "<svg"))
	require.NotContains(t, text, "<script")
	require.NotRegexp(t, `(src|href)=`, text)
	require.Contains(t, html.UnescapeString(text), s.verdict())
	require.NotContains(t, text, "%!")
	for _, r := range s.rows() {
		require.Contains(t, text, "<td>"+r.Days+"</td><td>"+r.Side+"</td><td>"+r.Requests+"</td>")
	}
}

// TestJSONSaysTheSame: what is written can be read back, with the same counts.
func TestJSONSaysTheSame(t *testing.T) {
	s := example(t)
	raw, err := json.Marshal(s)
	require.NoError(t, err)
	var back Summary
	require.NoError(t, json.Unmarshal(raw, &back))
	require.Equal(t, s.Stock, back.Stock)
	require.Equal(t, s.Days, back.Days)
	require.Equal(t, s.Missed, back.Missed)
}
