package report

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"headroom.dev/headroom/internal/svgplot"
)

// TestScenarios shows reports that are given in their own JSON form.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var r Report
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var b strings.Builder
			var err error
			switch d.Cmd {
			case "report":
				r = Report{}
				decoder := json.NewDecoder(strings.NewReader(d.Input))
				decoder.DisallowUnknownFields()
				if err = decoder.Decode(&r); err == nil {
					err = r.Check()
				}
			case "table":
				err = r.WriteTable(&b, d.HasArg("wide"))
			case "json":
				err = r.WriteJSON(&b)
			default:
				d.Fatalf(t, "there is no command %s", d.Cmd)
			}
			if err != nil {
				return "error: " + err.Error() + "\n"
			}
			return b.String()
		})
	})
}

// wave is a report of three policies on a daily wave, with a gap, and with names that try to be more than names.
func wave() *Report {
	const buckets, step = 672, 1800.0
	start := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	r := &Report{
		Trace: Trace{Name: `<script>alert("x")</script>.csv`, Start: start, Seconds: buckets * step, Step: 60, Requests: 7.3e6, Mean: 6.03, Peak: 13.2, Gaps: 1, GapSeconds: 7200},
		Plant: []Setting{{"start-up", "3m"}, {"slots", "8"}, {"service time", "4s"}, {"GPUs per replica", "2"}},
		Goal:  0.99,
	}
	for i, policy := range []string{"hpa", `a"onload="x`, Clairvoyant} {
		s := &Series{Step: step}
		for b := range buckets {
			demand := Number(6 - 5*math.Cos(2*math.Pi*float64(b)/48))
			if b > 200 && b < 205 {
				demand = Absent()
			}
			needed := Number(math.Ceil(float64(demand) / 2))
			lag := Number(math.Ceil((6 - 5*math.Cos(2*math.Pi*float64(b-2*(2-i))/48)) / 2))
			late := max(0, needed-lag) * 300
			s.Demand, s.Needed, s.Desired = append(s.Demand, demand), append(s.Needed, needed), append(s.Desired, lag+1)
			s.Missing = append(s.Missing, max(0, needed-lag))
			s.Ready, s.Loading, s.Waiting, s.Late = append(s.Ready, lag), append(s.Loading, 1), append(s.Waiting, 0), append(s.Late, late)
		}
		for j := range 5 {
			k := float64(j)
			x := Result{
				Policy: policy, Setting: []string{"requests_per_second 8 a replica", "utilization 0.8", "perfect"}[i], Chosen: j == 2,
				Requests: 7.3e6, Late: 1e5, Attainment: Number(1 - math.Pow(10, -0.6-0.5*k-0.3*float64(i))), ReplicaHours: 400 + 60*k - 20*float64(i),
				GPUHours: 800 + 120*k - 40*float64(i), UnderTime: 0.1, OverTime: 0.5, Under: 0.03, Over: 0.2, Changes: 312 - 100*i, KilledLoading: 3 - i,
				WaitP50: 0, WaitP95: 0.4, WaitP99: Number(20 - 9*i),
			}
			if x.Chosen {
				x.Series = s
			}
			if policy == Clairvoyant {
				if !x.Chosen {
					continue
				}
				x.Attainment = 1
			}
			r.Results = append(r.Results, x)
		}
	}
	r.Notes = []string{"The trace has a gap of 2h: no demand is known there, and none of it is scored."}
	return r
}

// TestPage: the page is well formed, needs nothing from elsewhere, runs nothing, and says what it shows.
func TestPage(t *testing.T) {
	var b bytes.Buffer
	r := wave()
	require.NoError(t, r.WriteHTML(&b))
	inspect(t, b.Bytes())
	text := b.String()
	for _, want := range []string{
		"requests on time", "GPU-hours, loading included", "replicas", "late/s", "time (UTC)", "goal 99%", "<title>hpa requests_per_second 8 a replica: ",
		"a gap of 2h", "needed: replicas that serve", "prefers-color-scheme: dark", "@media print",
	} {
		assert.Contains(t, text, want)
	}
	assert.NotContains(t, text, "<script")
	assert.NotContains(t, text, "ZgotmplZ", "a value that the template refused")
	assert.NotContains(t, text, "NaN")
	assert.Equal(t, 7, strings.Count(text, `<svg viewBox="0 0 1080`), "the frontier, and two plots for each policy")
	assert.Equal(t, 1, strings.Count(text, `<tr class="best">`))
}

// inspect parses a page strictly: each element that is opened is closed in order, and nothing points outside.
func inspect(t *testing.T, page []byte) {
	t.Helper()
	void := map[string]bool{"meta": true}
	var open []string
	z := html.NewTokenizer(bytes.NewReader(page))
	for {
		switch z.Next() {
		case html.ErrorToken:
			require.Empty(t, open, "elements left open")
			require.ErrorContains(t, z.Err(), "EOF")
			_, err := html.Parse(bytes.NewReader(page))
			require.NoError(t, err)
			return
		case html.StartTagToken, html.SelfClosingTagToken:
			token := z.Token()
			assert.NotContains(t, []string{"script", "link", "img", "image", "iframe", "object", "embed", "use", "base", "form"}, token.Data)
			for _, a := range token.Attr {
				assert.NotContains(t, []string{"src", "href", "xlink:href", "srcset", "action", "style"}, a.Key)
				assert.False(t, strings.HasPrefix(a.Key, "on"), a.Key)
			}
			if token.Type == html.StartTagToken && !void[token.Data] {
				open = append(open, token.Data)
			}
		case html.EndTagToken:
			name := z.Token().Data
			require.NotEmpty(t, open, "</%s> closes nothing", name)
			require.Equal(t, open[len(open)-1], name)
			open = open[:len(open)-1]
		default: // text, comments and the doctype
			if len(open) > 0 && open[len(open)-1] == "style" {
				style := string(z.Raw())
				assert.NotContains(t, style, "url(")
				assert.NotContains(t, style, "@import")
			}
		}
	}
}

// TestPageOfLittle: what is missing leaves its place out and fails nothing.
func TestPageOfLittle(t *testing.T) {
	for _, r := range []*Report{
		{},
		{Results: []Result{{Policy: "hpa", Chosen: true, Attainment: Absent()}}},
		{Goal: 1, Results: []Result{{Policy: "hpa", Chosen: true, Attainment: 1, Series: &Series{Step: 60}}}},
		{Results: []Result{{Policy: "hpa", Chosen: true, Attainment: 0, Series: &Series{
			Step: 60, Demand: []Number{Absent()}, Needed: []Number{Absent()}, Desired: []Number{1}, Ready: []Number{1},
			Loading: []Number{0}, Missing: []Number{Absent()}, Waiting: []Number{0}, Late: []Number{Absent()},
		}}}},
	} {
		var b bytes.Buffer
		require.NoError(t, r.WriteHTML(&b))
		inspect(t, b.Bytes())
		assert.NotContains(t, b.String(), "NaN")
		assert.NotContains(t, b.String(), "Inf")
	}
}

// TestSharedAxes: what is compared has the same ticks at the same places.
func TestSharedAxes(t *testing.T) {
	p := wave().page()
	require.Len(t, p.Policies, 3)
	for _, other := range p.Policies[1:] {
		assert.Equal(t, p.Policies[0].Replicas.X, other.Replicas.X)
		assert.Equal(t, p.Policies[0].Replicas.Y, other.Replicas.Y)
		assert.Equal(t, p.Policies[0].Late.X, other.Late.X)
		assert.Equal(t, p.Policies[0].Late.Y, other.Late.Y)
	}
	assert.Equal(t, p.Policies[0].Replicas.X, p.Policies[0].Late.X)
}

// TestAxes: every axis has ticks within its ends, in order, far enough apart to be read.
func TestAxes(t *testing.T) {
	check := func(a svgplot.Axis, name string) {
		t.Helper()
		require.GreaterOrEqual(t, len(a.Ticks), 2, name)
		last := math.Inf(-1)
		for _, tick := range a.Ticks {
			var at float64
			require.NoError(t, json.Unmarshal([]byte(tick.At), &at), name)
			assert.GreaterOrEqual(t, at, min(a.From, a.To)-0.1, name)
			assert.LessOrEqual(t, at, max(a.From, a.To)+0.1, name)
			along := math.Abs(at - a.From)
			assert.Greater(t, along-last, 10.0, name)
			last = along
		}
	}
	for _, hi := range []float64{0, 1e-4, 0.3, 1, 7, 99, 1234, 5e6} {
		check(svgplot.Linear(0, hi, 300, 0, 5, true), short(hi))
		check(svgplot.Linear(hi*0.9, hi, 0, 1000, 8, false), short(hi))
	}
	for _, worst := range []float64{0, 0.2, 0.9, 0.985, 0.9991} {
		for _, best := range []float64{0.5, 0.95, 0.999, 0.99999, 1} {
			if best >= worst {
				a, _ := attainments(worst, best, 300, 0)
				check(a, share(Number(worst), 3)+" to "+share(Number(best), 3))
			}
		}
	}
	for _, start := range []time.Time{{}, time.Date(2026, 3, 2, 13, 7, 41, 0, time.UTC)} {
		for _, span := range []float64{600, 3500, 6 * 3600, 86400, 6.5 * 86400, 28 * 86400, 200 * 86400} {
			check(svgplot.Clock(start, 0, span, 0, 1000), svgplot.Duration(span))
			check(svgplot.Clock(start, span, 2*span, 0, 1000), svgplot.Duration(span))
		}
	}
}

func TestSharesAreNotRoundedUp(t *testing.T) {
	for n, want := range map[Number]string{1: "100.00%", 0.99999: "99.99%", 0.9999: "99.99%", 0.12345: "12.35%", 0: "0.00%"} {
		assert.Equal(t, want, share(n, 2))
	}
	assert.Equal(t, "-", share(Absent(), 2))
}
