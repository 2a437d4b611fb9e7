package app

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/spf13/pflag"

	"headroom.dev/headroom/adapter/promapi"
	"headroom.dev/headroom/scaler/simulate"
)

// demandOptions say where demand comes from.
type demandOptions struct {
	trace     string
	column    string
	perSecond bool

	server promapi.ClientOptions
	query  string
	since  span
	step   span

	synthetic string
	length    span
	peak      float64
}

func (d *demandOptions) addTo(fs *pflag.FlagSet) {
	*d = demandOptions{since: span(14 * 24 * time.Hour), step: span(time.Minute), length: span(14 * 24 * time.Hour), peak: 20}
	d.server.Timeout = 2 * time.Minute
	fs.StringVar(&d.trace, "trace", "", "CSV with past demand, .gz too: a header; a column timestamp, ts, time or second; and a column requests (in each row's time), "+
		"value, rate or rps (per second), or ContextTokens and GeneratedTokens (a row for each request)")
	fs.StringVar(&d.column, "column", "", "name of the column with demand, where it is none of these")
	fs.BoolVar(&d.perSecond, "per-second", false, "that column is a rate, not a number of requests")
	fs.StringVar(&d.server.URL, "from-prometheus", "", "Prometheus-compatible server that has past demand, with the path before /api/v1 if it has one")
	fs.StringVar(&d.query, "query", "", "PromQL for demand in requests per second, with one series as its result")
	fs.Var(&d.since, "since", "how far back")
	fs.Var(&d.step, "step", "time between two values")
	fs.StringVar(&d.server.BearerTokenFile, "prometheus-bearer-token-file", "", "file with the token to send")
	fs.StringVar(&d.server.CAFile, "prometheus-ca-file", "", "authorities that sign the server's certificate; without it the system's")
	fs.StringToStringVar(&d.server.Headers, "prometheus-header", nil, "header to send with each query, as X-Scope-OrgID=team-a")
	fs.StringVar(&d.synthetic, "synthetic", "", "made-up demand instead: one of "+strings.Join(shapeNames(), ", "))
	fs.Var(&d.length, "length", "how long made-up demand is")
	fs.Float64Var(&d.peak, "peak", d.peak, "requests per second at the top of made-up demand")
}

func (d *demandOptions) check() error {
	if err := d.combination(); err != nil {
		return err
	}
	if d.synthetic != "" {
		return checkShape(d.synthetic, time.Duration(d.length))
	}
	if d.server.URL == "" {
		return nil
	}
	if err := d.server.Validate(); err != nil {
		return fmt.Errorf("--from-prometheus: %w", err)
	}
	return nil
}

// combination checks the flags against each other.
func (d *demandOptions) combination() error {
	sources := 0
	for _, s := range []string{d.trace, d.server.URL, d.synthetic} {
		if s != "" {
			sources++
		}
	}
	switch {
	case sources != 1:
		return errors.New("exactly one of --trace, --from-prometheus and --synthetic must say where demand comes from")
	case d.server.URL != "" && d.query == "":
		return errors.New("--query: must say what demand is on the server, as 'sum(rate(http_requests_total[1m]))'")
	case d.server.URL == "" && d.query != "":
		return errors.New("--query: needs --from-prometheus")
	case time.Duration(d.step) < time.Second || d.step > d.since/2:
		return fmt.Errorf("--step: %s is not from 1s to half of --since, %s", &d.step, &d.since)
	case d.trace == "" && (d.column != "" || d.perSecond):
		return errors.New("--column and --per-second are about --trace")
	case !(d.peak > 0) || math.IsInf(d.peak, 0):
		return fmt.Errorf("--peak: %v is not a positive number", d.peak)
	}
	return nil
}

// read gets the demand.
func (d *demandOptions) read(ctx context.Context, plant *plantOptions, p *progress, now time.Time) (*simulate.Trace, error) {
	switch {
	case d.synthetic != "":
		return d.makeUp(plant.seed)
	case d.server.URL != "":
		return d.ask(ctx, p, now)
	}
	return d.open(plant)
}

// open reads a file, unpacked if it is gzip, whatever it is called.
func (d *demandOptions) open(plant *plantOptions) (*simulate.Trace, error) {
	f, err := os.Open(d.trace)
	if err != nil {
		return nil, fmt.Errorf("--trace: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	buffered := bufio.NewReaderSize(f, 1<<16)
	var r io.Reader = buffered
	if magic, _ := buffered.Peek(2); string(magic) == "\x1f\x8b" {
		if r, err = gzip.NewReader(buffered); err != nil {
			return nil, fmt.Errorf("--trace: cannot unpack %s: %w", d.trace, err)
		}
	}
	t, err := simulate.ReadTrace(filepath.Base(d.trace), r, simulate.ReadOptions{
		Column: d.column, PerSecond: d.perSecond, PrefillTokensPerSecond: plant.prefill, DecodeTokensPerSecond: plant.decode,
	})
	if err != nil {
		return nil, fmt.Errorf("--trace: %w", err)
	}
	return t, nil
}

// chunk is how many steps are asked for at once: Prometheus refuses answers of more than 11,000 points a series.
const chunk = 10_000

// ask reads the demand of the past from a server. Steps without a value are gaps; those before the first and after the last
// are left out.
func (d *demandOptions) ask(ctx context.Context, p *progress, now time.Time) (*simulate.Trace, error) {
	client, err := promapi.NewClient(d.server)
	if err != nil {
		return nil, fmt.Errorf("--from-prometheus: %w", err)
	}
	defer client.CloseIdleConnections()
	step := time.Duration(d.step)
	end := now.Truncate(step)
	count := int(time.Duration(d.since) / step)
	start := end.Add(-time.Duration(count-1) * step)
	rates := make([]float64, count)
	for i := range rates {
		rates[i] = math.NaN()
	}
	for first := 0; first < count; first += chunk {
		p.step("asking for "+d.query, first, count)
		last := min(first+chunk, count) - 1
		m, err := client.QueryRange(ctx, d.query, start.Add(time.Duration(first)*step), start.Add(time.Duration(last)*step), step)
		if err != nil {
			return nil, fmt.Errorf("--from-prometheus: %w", err)
		}
		if err := fill(rates, m, start, step); err != nil {
			return nil, fmt.Errorf("--query: %w", err)
		}
	}
	from, to := 0, count
	for from < to && math.IsNaN(rates[from]) {
		from++
	}
	for to > from && math.IsNaN(rates[to-1]) {
		to--
	}
	if to-from < 2 {
		return nil, fmt.Errorf("--query: the server has %d values of it in the last %s; two or more are needed", to-from, &d.since)
	}
	return &simulate.Trace{Name: d.query, Start: start.Add(time.Duration(from) * step).UTC(), Step: step, Rate: rates[from:to]}, nil
}

// fill puts the values of the one series where they belong.
func fill(rates []float64, m promql.Matrix, start time.Time, step time.Duration) error {
	if len(m) > 1 {
		return fmt.Errorf("its result is %d series, among them %s and %s; demand is one: sum(…) adds them up", len(m), m[0].Metric, m[1].Metric)
	}
	for _, series := range m {
		if len(series.Histograms) > 0 {
			return errors.New("its result is histograms, not numbers")
		}
		for _, f := range series.Floats {
			at := time.UnixMilli(f.T)
			i := int(at.Sub(start) / step)
			if i < 0 || i >= len(rates) {
				continue
			}
			if f.F < 0 || math.IsInf(f.F, 0) {
				return fmt.Errorf("demand is %v at %s: it must be 0 or more", f.F, at.UTC().Format(time.RFC3339))
			}
			rates[i] = f.F
		}
	}
	return nil
}
