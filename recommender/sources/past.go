package sources

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql"

	"headroom.dev/headroom/recommender"
)

// Gap is a part of the past that could not be had.
type Gap struct {
	Start, End time.Time // both inclusive
	Err        error
}

// GapError says what is missing of the past where the rest was yielded.
type GapError struct{ Gaps []Gap }

func (e *GapError) Error() string {
	texts := make([]string, len(e.Gaps))
	for i, g := range e.Gaps {
		texts[i] = fmt.Sprintf("no history from %s to %s: %s", g.Start.UTC().Format(time.RFC3339), g.End.UTC().Format(time.RFC3339), g.Err)
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns the causes.
func (e *GapError) Unwrap() []error {
	errs := make([]error, len(e.Gaps))
	for i, g := range e.Gaps {
		errs[i] = g.Err
	}
	return errs
}

// How Past fits its queries to the server.
const (
	fewSteps  = 12  // fewer than that are asked for only when fewer pods do not help
	manyPods  = 256 // named in one query at most: 64 KiB with names of 250 bytes
	calmAfter = 4   // chunks that must pass before longer ones are tried again
	giveUp    = 3   // chunks that fail one after the other
)

// Past implements Source. Values are at Start and every Step from there, each over the Step before it (at least Options.Window):
// a restart of the server's back-fill at a later Start that is whole steps on gives the same values.
//
// Chunks go forward in time and hold all pods, so that what is yielded is in order. Each begins with a count of the containers
// that have series in it; its length is such that not more than Options.MaxSamples come. When the server refuses for size
// (or does not finish in time), the chunk is halved, down to 12 steps; then the pods are asked for by name, 256 at a time, then
// half as many, and so on. Other failures are tried again as Options.Retries says; then the chunk is a Gap, and the next is
// tried. Where none came, or three fail in a row, the server is down: the error is then no GapError, and the whole is to be asked
// for again.
func (p *Prometheus) Past(ctx context.Context, of recommender.Past, yield func([]recommender.Sample) error) error {
	fs := forms(of.Resource)
	switch {
	case of.Step < time.Second:
		return fmt.Errorf("cannot ask for the past in steps of %s: the least is 1s", of.Step)
	case of.End.Before(of.Start):
		return errors.New("cannot ask for a past that ends before it starts")
	case fs == nil:
		return ErrNoHistory
	}
	if _, err := regexp.Compile(of.Pods); err != nil {
		return fmt.Errorf("cannot ask for the past of pods: %w", err)
	}
	b := backfill{p: p, of: of, forms: fs, steps: p.opts.MaxPoints, progress: Progress{Of: of}}
	return b.run(ctx, yield)
}

// backfill is one Past under way.
type backfill struct {
	p     *Prometheus
	of    recommender.Past
	forms []form

	steps int // that a chunk has at most
	pods  int // that a query names at most; 0: all, by the regular expression
	calm  int // chunks since the last refusal

	gaps     []Gap
	came     bool // a chunk
	inARow   int  // chunks that failed since
	progress Progress
}

func (b *backfill) run(ctx context.Context, yield func([]recommender.Sample) error) error {
	total := int(b.of.End.Sub(b.of.Start)/b.of.Step) + 1
	for at := 0; at < total; {
		n := min(b.steps, total-at)
		c, err := b.chunk(ctx, at, n)
		switch {
		case err == nil:
			if err := b.deliver(c, yield); err != nil {
				return err
			}
			at = c.next
			b.grow()
			continue
		case ctx.Err() != nil:
			return fmt.Errorf("cannot read history up to %s: %w", b.time(total-1).UTC().Format(time.RFC3339), err)
		case permanent(err):
			return fmt.Errorf("cannot read history: %w", err)
		case tooMuch(err) && b.shrink(n):
			continue
		}
		gap := Gap{Start: b.time(at), End: b.time(at + n - 1), Err: err}
		b.gaps = append(b.gaps, gap)
		b.report(gap.End, 0, &gap)
		at += n
		if b.inARow++; b.inARow >= giveUp {
			break
		}
	}
	switch {
	case len(b.gaps) == 0:
		return nil
	case !b.came || b.inARow >= giveUp:
		first := b.gaps[len(b.gaps)-min(b.inARow, giveUp)]
		return fmt.Errorf("cannot read history from %s on: %w", first.Start.UTC().Format(time.RFC3339), first.Err)
	}
	return &GapError{Gaps: b.gaps}
}

func (b *backfill) deliver(c chunk, yield func([]recommender.Sample) error) error {
	b.came, b.inARow = true, 0
	if len(c.samples) > 0 {
		if err := yield(c.samples); err != nil {
			return err
		}
	}
	b.report(b.time(c.next-1), len(c.samples), nil)
	return nil
}

func (b *backfill) report(until time.Time, samples int, gap *Gap) {
	b.progress.Until, b.progress.Gap = until, gap
	b.progress.Samples += samples
	if b.p.opts.Progress != nil {
		b.p.opts.Progress(b.progress)
	}
}

// shrink makes the next try at a chunk of n steps smaller; false if it cannot be.
func (b *backfill) shrink(n int) bool {
	b.calm = 0
	switch {
	case n > fewSteps:
		b.steps = max(n/2, fewSteps)
	case b.pods == 0:
		b.pods = manyPods
	case b.pods > 1:
		b.pods /= 2
	case n > 1:
		b.steps = n / 2
	default:
		return false
	}
	return true
}

// grow tries longer chunks when several have passed: what was refused may have been the load of the moment.
func (b *backfill) grow() {
	if b.calm++; b.calm >= calmAfter && b.steps < b.p.opts.MaxPoints {
		b.calm, b.steps = 0, min(2*b.steps, b.p.opts.MaxPoints)
	}
}

func (b *backfill) time(i int) time.Time { return b.of.Start.Add(time.Duration(i) * b.of.Step) }

// chunk is what came of some steps.
type chunk struct {
	samples []recommender.Sample // by time
	next    int                  // the first step after it
}

// moment is a container at a time.
type moment struct {
	id recommender.ContainerID
	t  int64
}

// chunk asks for n steps from the at-th on, or for fewer where they would be too many samples.
func (b *backfill) chunk(ctx context.Context, at, n int) (chunk, error) {
	s := scope{namespace: b.of.Namespace, pods: b.of.Pods, window: max(b.of.Step, b.p.opts.Window)}
	containers := make([]int, len(b.forms))
	all := 0
	for i := range b.forms {
		var err error
		if containers[i], err = b.count(ctx, &b.forms[i], s, at, n); err != nil {
			return chunk{}, err
		}
		all += containers[i]
	}
	if all > 0 {
		n = max(1, min(n, b.p.opts.MaxSamples/all))
	}
	c := chunk{next: at + n}
	taken := map[moment]bool{}
	for i := range b.forms {
		if containers[i] == 0 {
			continue
		}
		scopes, err := b.scopes(ctx, &b.forms[i], s, at, n)
		if err != nil {
			return chunk{}, err
		}
		for _, part := range scopes {
			samples, err := b.values(ctx, &b.forms[i], part, at, n, taken)
			if err != nil {
				return chunk{}, err
			}
			c.samples = append(c.samples, samples...)
		}
		if i+1 < len(b.forms) {
			for _, sample := range c.samples {
				taken[moment{sample.Container, sample.At.UnixMilli()}] = true
			}
		}
	}
	slices.SortStableFunc(c.samples, func(x, y recommender.Sample) int { return x.At.Compare(y.At) })
	return c, nil
}

// covering is s with a window that holds all that n steps look at.
func (b *backfill) covering(s scope, n int) scope {
	s.window += time.Duration(n-1)*b.of.Step + lookback
	return s
}

// lookback is how much older than the moment asked for a sample may be for a server, unless it was told otherwise.
const lookback = 5 * time.Minute

// count asks how many containers a form tells of.
func (b *backfill) count(ctx context.Context, f *form, s scope, at, n int) (int, error) {
	by := f.names.namespace + ", " + f.names.pod + ", " + f.names.container
	v, err := b.query(ctx, "count("+f.presence(b.covering(s, n), by)+")", b.time(at+n-1))
	if err != nil || len(v) == 0 {
		return 0, err
	}
	return int(v[0].F), nil
}

// scopes divides the pods as far as the server needs it.
func (b *backfill) scopes(ctx context.Context, f *form, s scope, at, n int) ([]scope, error) {
	if b.pods == 0 {
		return []scope{s}, nil
	}
	v, err := b.query(ctx, f.presence(b.covering(s, n), f.names.pod), b.time(at+n-1))
	if err != nil {
		return nil, err
	}
	pods := make([]string, len(v))
	for i, sample := range v {
		pods[i] = regexp.QuoteMeta(sample.Metric.Get(f.names.pod))
	}
	slices.Sort(pods)
	var list []scope
	for some := range slices.Chunk(pods, b.pods) {
		part := s
		part.pods = strings.Join(some, "|")
		list = append(list, part)
	}
	return list, nil
}

// values asks for the steps of a form and makes samples of what came, without those that are taken.
func (b *backfill) values(ctx context.Context, f *form, s scope, at, n int, taken map[moment]bool) ([]recommender.Sample, error) {
	var out []recommender.Sample
	index := map[moment]int{}
	for _, expr := range f.exprs {
		m, err := b.queryRange(ctx, f.fill(expr, s), at, n)
		if err != nil {
			return nil, err
		}
		for _, series := range m {
			id := f.id(series.Metric)
			if !b.p.named(id) {
				continue
			}
			b.p.unreadable.Add(uint64(len(series.Histograms)))
			for _, point := range series.Floats {
				key := moment{id, point.T}
				if !b.p.usable(point.F) || taken[key] {
					continue
				}
				if len(f.exprs) > 1 {
					if i, ok := index[key]; ok {
						out[i].Value = max(out[i].Value, point.F)
						continue
					}
					index[key] = len(out)
				}
				out = append(out, recommender.Sample{
					Container: id, Resource: b.of.Resource, At: fromMillis(point.T), Value: point.F, Certainty: 1,
				})
			}
		}
	}
	return out, b.certain(ctx, f, s, at, n, out)
}

// certain says how sure samples are.
func (b *backfill) certain(ctx context.Context, f *form, s scope, at, n int, samples []recommender.Sample) error {
	if f.certainty == "" || len(samples) == 0 {
		return nil
	}
	m, err := b.queryRange(ctx, f.fill(f.certainty, s), at, n)
	if err != nil {
		return err
	}
	known := map[moment]float64{}
	for _, series := range m {
		id := f.id(series.Metric)
		for _, point := range series.Floats {
			known[moment{id, point.T}] = point.F
		}
	}
	for i := range samples {
		samples[i].Certainty = unknownCertainty
		if v, ok := known[moment{samples[i].Container, samples[i].At.UnixMilli()}]; ok && v > 0 && v <= 1 {
			samples[i].Certainty = v
		}
	}
	return nil
}

func (b *backfill) query(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	return retried(ctx, b, func() (promql.Vector, error) { return b.p.server.Query(ctx, expr, at) })
}

func (b *backfill) queryRange(ctx context.Context, expr string, at, n int) (promql.Matrix, error) {
	return retried(ctx, b, func() (promql.Matrix, error) {
		return b.p.server.QueryRange(ctx, expr, b.time(at), b.time(at+n-1), b.of.Step)
	})
}

// retried asks again while the failure may pass.
func retried[T any](ctx context.Context, b *backfill, ask func() (T, error)) (T, error) {
	for try := 0; ; try++ {
		b.progress.Queries++
		out, err := ask()
		if err == nil || ctx.Err() != nil || try >= b.p.opts.Retries || permanent(err) || tooMuch(err) {
			return out, err
		}
		timer := time.NewTimer(b.p.opts.Backoff << min(try, 10))
		select {
		case <-ctx.Done():
			timer.Stop()
			return out, cmp.Or(err, ctx.Err())
		case <-timer.C:
		}
	}
}
