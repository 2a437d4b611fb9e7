package sources

import (
	"context"
	"time"

	"github.com/prometheus/prometheus/promql"

	"headroom.dev/headroom/recommender"
)

// Querier asks a Prometheus-compatible server.
type Querier interface {
	// Query returns the instant vector that expr gives at a moment.
	Query(ctx context.Context, expr string, at time.Time) (promql.Vector, error)
	// QueryRange returns the values of expr from start to end, both inclusive.
	QueryRange(ctx context.Context, expr string, start, end time.Time, step time.Duration) (promql.Matrix, error)
}

// Options say how a Prometheus is asked; zero values stand for the defaults.
type Options struct {
	// Window is the least that a reading looks back: twice the interval at which the server scrapes or more, since a rate needs
	// two samples. Default 2m. In the past it is the step where that is longer, so that windows leave no gap.
	Window time.Duration
	// MaxSamples bounds the samples that Past holds at a time; default 500,000 (some 60 MB with what they were decoded from).
	MaxSamples int
	// MaxPoints bounds the steps of one range query; default 10,000, as Prometheus refuses more than 11,000.
	MaxPoints int
	// Retries is how often a failed query of Past is asked again, after Backoff, twice that, and so on; defaults 3 and 1s.
	// Less than 0 is never.
	Retries int
	Backoff time.Duration
	// Progress is told after each chunk how far Past has come; it may be nil.
	Progress func(Progress)
	// Now is the clock; nil stands for time.Now.
	Now func() time.Time
}

// Progress is how far a Past has come.
type Progress struct {
	Of      recommender.Past
	Until   time.Time // up to which everything was yielded that could be had
	Samples int
	Queries int // asked so far, those that were refused or failed included
	Gap     *Gap
}

// Prometheus reads any Prometheus-compatible server; forms has the exact expressions. It is safe for concurrent use.
type Prometheus struct {
	server Querier
	opts   Options
	counts
}

// NewPrometheus makes a source of a server.
func NewPrometheus(server Querier, opts Options) *Prometheus {
	setDefault(&opts.Window, 2*time.Minute)
	setDefault(&opts.MaxSamples, 500_000)
	setDefault(&opts.MaxPoints, 10_000)
	setDefault(&opts.Backoff, time.Second)
	if opts.Retries == 0 {
		opts.Retries = 3
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Prometheus{server: server, opts: opts}
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Samples implements Source: CPU and memory of containers, GPUs and engines, over the last Window.
func (p *Prometheus) Samples(ctx context.Context, namespace string) ([]recommender.Sample, error) {
	s := scope{namespace: namespace, window: p.opts.Window}
	at := p.opts.Now()
	ask := func(ctx context.Context, expr string) (promql.Vector, error) { return p.server.Query(ctx, expr, at) }
	return gather(resources(), func(r recommender.Resource) ([]recommender.Sample, error) {
		return instant(ctx, r, s, ask, &p.counts)
	})
}
