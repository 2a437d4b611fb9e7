package app

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/scaler/report"
	"headroom.dev/headroom/scaler/simulate"
)

// try runs backtest as a user does.
func try(t *testing.T, args ...string) (out, errOut string, err error) {
	t.Helper()
	var o, e strings.Builder
	cmd := newCommand(&o, &e, func() time.Time { return noon })
	cmd.SetArgs(append([]string{"backtest"}, args...))
	err = cmd.ExecuteContext(t.Context())
	return o.String(), e.String(), err
}

// file writes a file into a folder of the test.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// csv is four hours of a wave in minutes.
func csv() string {
	var b strings.Builder
	b.WriteString("timestamp,requests\n")
	for i := range 240 {
		fmt.Fprintf(&b, "%s,%.0f\n", noon.Add(time.Duration(i)*time.Minute).Format(time.RFC3339), 600+500*math.Sin(float64(i)/20))
	}
	return b.String()
}

// TestBacktest: the table, the JSON and the page tell the same.
func TestBacktest(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write([]byte(csv()))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	trace := file(t, "wave.csv.gz", packed.String())
	page := filepath.Join(t.TempDir(), "page.html")
	out, _, err := try(t, "--trace", trace, "--startup", "60s", "--gpus-per-replica", "2", "--html", page, "-o", "json")
	require.NoError(t, err)
	var r report.Report
	decoder := json.NewDecoder(strings.NewReader(out))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&r))
	assert.Equal(t, "Backtest", r.Kind)
	assert.Equal(t, "wave.csv.gz", r.Trace.Name)
	assert.Equal(t, noon, r.Trace.Start)
	assert.Equal(t, 14400.0, r.Trace.Seconds)
	var names []string
	for _, x := range r.Chosen() {
		names = append(names, x.Policy)
		assert.InDelta(t, 2*x.ReplicaHours, x.GPUHours, 1e-6)
		require.NotNil(t, x.Series, x.Policy)
		assert.InDelta(t, x.Requests-x.Late, float64(x.Attainment)*x.Requests, 1, x.Policy)
		assert.InDelta(t, r.Trace.Requests, x.Requests, 0.02*r.Trace.Requests, "arrivals are Poisson")
	}
	assert.Equal(t, policyNames(), names, "one result of each policy is its own")
	b, err := os.ReadFile(page)
	require.NoError(t, err)
	best, _ := r.Best()
	assert.Contains(t, string(b), best.Policy+" ")
	entries, err := os.ReadDir(filepath.Dir(page))
	require.NoError(t, err)
	assert.Len(t, entries, 1, "no temporary file is left")

	again, _, err := try(t, "--trace", trace, "--startup", "60s", "--gpus-per-replica", "2", "-o", "json")
	require.NoError(t, err)
	assert.Equal(t, out, again, "the same seed gives the same numbers")

	out, _, err = try(t, "--trace", trace, "--tune", "--policies", "hpa,clairvoyant", "--goal", "95")
	require.NoError(t, err)
	assert.Contains(t, out, "Scored:   the last 2h; each policy's setting is the one with the fewest GPU-hours that served 95% on time in the first 2h\n")
	assert.NotContains(t, out, "headroom ")
	assert.Contains(t, out, "Note: half of the trace is less than a day")

	out, _, err = try(t, "--trace", trace, "--frontier=false", "-o", "wide", "--policies", "hpa")
	require.NoError(t, err)
	assert.Equal(t, 1, strings.Count(out, "hpa  "), "one setting alone: %s", out)
}

// TestBacktestGaps: they are said, and nothing of them is scored.
func TestBacktestGaps(t *testing.T) {
	lines := strings.Split(csv(), "\n")
	trace := file(t, "gap.csv", strings.Join(append(lines[:60:60], lines[90:]...), "\n"))
	out, _, err := try(t, "--trace", trace, "--policies", "hpa", "--frontier=false", "-o", "json")
	require.NoError(t, err)
	var r report.Report
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	assert.Equal(t, 1, r.Trace.Gaps)
	assert.Equal(t, 1800.0, r.Trace.GapSeconds)
	assert.Contains(t, strings.Join(r.Notes, "\n"), "the trace has a gap of 30m")
	s := r.Results[0].Series
	unknown := 0
	for i := range s.Demand {
		if math.IsNaN(float64(s.Demand[i])) {
			unknown++
			assert.True(t, math.IsNaN(float64(s.Needed[i])))
			assert.False(t, math.IsNaN(float64(s.Ready[i])))
		}
	}
	assert.InDelta(t, 1800, float64(unknown)*s.Step, 2*s.Step)
}

// TestBacktestRefuses: one line that names the flag, file, line or field; nothing is written.
func TestBacktestRefuses(t *testing.T) {
	good := file(t, "good.csv", csv())
	f := func(want string, args ...string) {
		t.Helper()
		page := filepath.Join(t.TempDir(), "page.html")
		out, _, err := try(t, append(args, "--html", page)...)
		require.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), "\n")
		assert.Empty(t, out)
		left, err := os.ReadDir(filepath.Dir(page))
		require.NoError(t, err)
		assert.Empty(t, left)
	}
	trace := func(text string) []string { return []string{"--trace", file(t, "bad.csv", text)} }
	f("exactly one of --trace, --from-prometheus and --synthetic")
	f("exactly one of --trace, --from-prometheus and --synthetic", "--trace", good, "--synthetic", "daily")
	f("--trace: open /nope.csv: no such file", "--trace", "/nope.csv")
	f("bad.csv: it is empty", trace("")...)
	f("line 1: no column for the time", trace("a,b\n1,2\n")...)
	f("it has 1 rows", trace("second,requests\n0,1\n")...)
	f(`line 3: "x" is not a number`, trace("second,requests\n0,1\n60,x\n120,3\n")...)
	f("line 4: 30 is before the line above", trace("second,requests\n0,1\n60,2\n30,3\n")...)
	f("line 3: demand is -2", trace("second,requests\n0,1\n60,-2\n120,3\n")...)
	f("cannot unpack", trace("\x1f\x8bnot gzip")...)
	f(`--output: "yaml"`, "--trace", good, "-o", "yaml")
	f(`--policies: "nope" is none of hpa, `, "--trace", good, "--policies", "nope")
	f("--min: 5 is above --max, which is 2", "--trace", good, "--min", "5", "--max", "2")
	f("--slots: 0 is below 1", "--trace", good, "--slots", "0")
	f("--goal: 101 is not a positive number of at most 100", "--trace", good, "--goal", "101")
	f("--gpus-per-replica: 0 is not", "--trace", good, "--gpus-per-replica", "0")
	f("--goal: NaN is not", "--trace", good, "--goal", "NaN")
	f(`"-1s"`, "--trace", good, "--startup", "-1s")
	f(`"soon" is no duration`, "--trace", good, "--startup", "soon")
	f("metric window and delay", "--trace", good, "--metric-delay", "5m")
	f("--query: must say", "--from-prometheus", "http://127.0.0.1:1")
	f("--query: needs --from-prometheus", "--trace", good, "--query", "up")
	f("--from-prometheus: URL", "--from-prometheus", "nonsense", "--query", "up")
	f("--synthetic: no synthetic trace is called", "--synthetic", "nope")
	f("--synthetic: a synthetic trace of 10s is too short", "--synthetic", "daily", "--length", "10s")
	f("--step: 1s", "--from-prometheus", "http://127.0.0.1:1", "--query", "up", "--step", "1s", "--since", "1s")
	_, _, err := try(t, "--trace", good, "--html", filepath.Join(t.TempDir(), "no", "page.html"))
	require.ErrorContains(t, err, "--html: ")
}

// prometheus answers query_range with a value of a function of time for each step.
type prometheus struct {
	*httptest.Server
	asked []int // points of each request
}

func newPrometheus(t *testing.T, series int, value func(at time.Time) float64) *prometheus {
	t.Helper()
	p := &prometheus{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		number := func(name string) float64 {
			v, err := strconv.ParseFloat(r.FormValue(name), 64)
			assert.NoError(t, err, name)
			return v
		}
		start, end, step := number("start"), number("end"), number("step")
		p.asked = append(p.asked, int((end-start)/step)+1)
		var list []string
		for s := range series {
			var values []string
			for at := start; at <= end; at += step {
				if v := value(time.Unix(int64(at), 0)); !math.IsNaN(v) {
					values = append(values, fmt.Sprintf(`[%.0f,"%v"]`, at, v))
				}
			}
			list = append(list, fmt.Sprintf(`{"metric":{"pod":"%d"},"values":[%s]}`, s, strings.Join(values, ",")))
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"status":"success","data":{"resultType":"matrix","result":[%s]}}`, strings.Join(list, ","))
	}))
	t.Cleanup(p.Close)
	return p
}

// TestDemandFromPrometheus: history comes in parts that a server agrees to, each value at its time, what is missing as gaps.
func TestDemandFromPrometheus(t *testing.T) {
	begins := noon.Add(-10 * 24 * time.Hour)
	value := func(at time.Time) float64 {
		if at.Before(begins) || at.Hour() == 3 {
			return math.NaN()
		}
		return float64(at.Unix()%86400) / 1000
	}
	p := newPrometheus(t, 1, value)
	d := demandOptions{query: "sum(rate(x[1m]))", since: span(14 * 24 * time.Hour), step: span(time.Minute)}
	d.server.URL = p.URL
	trace, err := d.ask(t.Context(), newProgress(&strings.Builder{}, time.Now), noon.Add(17*time.Second))
	require.NoError(t, err)
	assert.Equal(t, []int{10000, 10000, 160}, p.asked)
	assert.Equal(t, begins, trace.Start, "what was before the first value is left out")
	assert.Len(t, trace.Rate, 10*1440+1)
	count, length := trace.Gaps()
	assert.Equal(t, 10, count)
	assert.Equal(t, 10*time.Hour, length)
	for i, rate := range trace.Rate {
		if want := value(trace.Start.Add(time.Duration(i) * time.Minute)); !math.IsNaN(want) {
			require.InDelta(t, want, rate, 1e-9, "step %d", i)
		}
	}

	refuse := func(want string, p *prometheus) {
		t.Helper()
		d.server.URL = p.URL
		_, _, err := try(t, "--from-prometheus", p.URL, "--query", "up", "--since", "1h")
		require.ErrorContains(t, err, want)
	}
	refuse(`--query: its result is 2 series, among them {pod="0"} and {pod="1"}; demand is one: sum(…) adds them up`, newPrometheus(t, 2, value))
	refuse("--query: the server has 0 values of it in the last 1h", newPrometheus(t, 0, value))
	refuse("--query: demand is -1 at 2026-11-23T", newPrometheus(t, 1, func(time.Time) float64 { return -1 }))
	p.Close()
	refuse("--from-prometheus: cannot query "+p.URL, p)

	out, _, err := try(t, "--from-prometheus", newPrometheus(t, 1, func(time.Time) float64 { return 5 }).URL, "--query", "up", "--since", "2h", "--policies", "hpa", "--frontier=false")
	require.NoError(t, err)
	assert.Contains(t, out, "Trace:    up; 2h from 2026-11-23 10:01 UTC in steps of 1m; 36,000 requests, 5/s on average")
}

// TestBetter holds the choice to what it says, over all pairs of a few results.
func TestBetter(t *testing.T) {
	const goal = 0.99
	r := func(onTime, hours float64) simulate.Result {
		return simulate.Result{Attainment: onTime, ReplicaHours: hours}
	}
	order := []simulate.Result{r(0.99, 10), r(1, 11), r(0.999, 12), r(0.98, 3), r(0.98, 5), r(0.2, 1)}
	for i := range order {
		for j := range order {
			assert.Equal(t, i < j, (&order[i]).Better(&order[j], goal), "%d, %d", i, j)
		}
	}
}
