package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"headroom.dev/headroom/bench/adapter/targets"
	"headroom.dev/headroom/bench/usage"
)

// pace is how long each part of a stack's measurement takes.
type pace struct {
	warm     time.Duration // until the longest window, 30 s, is full
	idle     time.Duration // only scraping
	asked    time.Duration // as by HPAs
	requests time.Duration // for each number of clients
	steps    int           // of freshness
}

// clientCounts are how many ask at once.
func clientCounts() []int { return []int{1, 8, 64} }

// sheet is what was measured of one stack at one size. What could not be measured is NaN.
type sheet struct {
	stack               string
	pods                int
	scrapes             float64 // of each target, per second
	idleCPU, askedCPU   float64 // seconds per minute
	idlePeak, askedPeak float64 // bytes
	serverCPU           float64 // of the API server while HPAs ask, seconds per minute
	fresh               []float64
	direct              map[int]asked
	through             asked   // 8 clients, through the API server
	perRequest          float64 // CPU of the stack for one request, with 8 clients, in seconds
	serverPerRequest    float64 // and of the API server
}

func newSheet(stack string, pods int) *sheet {
	nan := math.NaN()
	unknown := asked{rate: nan, p50: nan, p99: nan}
	m := &sheet{
		stack: stack, pods: pods, scrapes: nan, idleCPU: nan, askedCPU: nan, idlePeak: nan, askedPeak: nan, serverCPU: nan,
		perRequest: nan, serverPerRequest: nan, direct: map[int]asked{}, through: unknown,
	}
	for _, n := range clientCounts() {
		m.direct[n] = unknown
	}
	return m
}

// measure measures a stack that has just started.
func (b *bench) measure(ctx context.Context, s *stack, pods int, p pace) (*sheet, error) {
	m := newSheet(s.name, pods)
	step := b.cluster.progress.Step(fmt.Sprintf("%s, %d pods", s.name, pods))
	for _, part := range []struct {
		what string
		do   func() error
	}{
		{"its windows fill", func() error { return sleep(ctx, p.warm) }},
		{"only scraping", func() error { return b.idle(ctx, s, m, p.idle) }},
		{"asked by HPAs", func() error { return b.asked(ctx, s, m, p.asked) }},
		{"freshness", func() (err error) {
			m.fresh, err = freshness(ctx, s.door, b.fleet, pods, p.steps, rand.New(rand.NewPCG(seed, uint64(pods))), func(done int) {
				step.Update(fmt.Sprintf("freshness, step %d of %d", done, p.steps))
			})
			return err
		}},
		{"requests", func() error { return b.requests(ctx, s, m, p.requests, step.Update) }},
	} {
		step.Update(part.what)
		if err := part.do(); err != nil {
			if ended := s.failed(); ended != nil || ctx.Err() != nil {
				return nil, errors.Join(ctx.Err(), ended)
			}
			b.cluster.progress.Line("  %s, %d pods, %s: not measured: %s", s.name, pods, part.what, err)
		}
	}
	step.Done("measured")
	return m, nil
}

const seed = 1

// over measures what pids use while do runs, in seconds of CPU per minute, and the peak memory after it.
func over(do func() error, pids ...int) (perMinute, total, peak float64, err error) {
	before, err := usage.Of(pids...)
	if err != nil {
		return 0, 0, 0, err
	}
	began := time.Now()
	if err := do(); err != nil {
		return 0, 0, 0, err
	}
	took := time.Since(began)
	after, err := usage.Of(pids...)
	total = (after.CPU - before.CPU).Seconds()
	return total / took.Minutes(), total, after.Peak, err
}

func (b *bench) idle(ctx context.Context, s *stack, m *sheet, length time.Duration) error {
	before, err := b.fleet.Do(targets.Command{})
	if err != nil {
		return err
	}
	m.idleCPU, _, m.idlePeak, err = over(func() error { return sleep(ctx, length) }, s.pids()...)
	if err != nil {
		return err
	}
	after, err := b.fleet.Do(targets.Command{})
	if err != nil {
		return err
	}
	m.scrapes = float64(after.Scrapes-before.Scrapes) / after.At.Sub(before.At).Seconds() / float64(m.pods+targets.Agents(m.pods))
	return b.profile(ctx, s, fmt.Sprintf("idle-%d", m.pods))
}

func (b *bench) asked(ctx context.Context, s *stack, m *sheet, length time.Duration) error {
	server, err := b.cluster.apiServer()
	if err != nil {
		return err
	}
	load := func() error { return hpaLoad(ctx, s.door, targets.Apps(m.pods), length) }
	m.askedCPU, _, m.askedPeak, err = over(func() (err error) {
		m.serverCPU, _, _, err = over(load, server)
		return err
	}, s.pids()...)
	return err
}

func (b *bench) requests(ctx context.Context, s *stack, m *sheet, length time.Duration, tell func(string)) (err error) {
	apps := targets.Apps(m.pods)
	server, err := b.cluster.apiServer()
	if err != nil {
		return err
	}
	for _, clients := range clientCounts() {
		tell(fmt.Sprintf("requests, %d clients", clients))
		var ours, api float64
		_, ours, _, err = over(func() error {
			_, api, _, err = over(func() error {
				m.direct[clients], err = ask(ctx, s.door, apps, clients, length)
				return err
			}, server)
			return err
		}, s.pids()...)
		if err != nil {
			return err
		}
		if clients == 8 {
			m.perRequest, m.serverPerRequest = ours/float64(m.direct[8].count), api/float64(m.direct[8].count)
		}
	}
	tell("requests through the API server")
	front, err := b.cluster.front(ctx)
	if err != nil {
		return err
	}
	err = s.until(ctx, "the API server's way to the adapter", func(ctx context.Context) error {
		status, body, err := front.get(ctx, listPath(targets.App(0), rateMetric))
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("HTTP %d: %.300q", status, body)
		}
		return err
	})
	if err != nil {
		return err
	}
	m.through, err = ask(ctx, front, apps, 8, length)
	return err
}

// profile takes profiles of our adapter's CPU and memory, where --profile asks for them.
func (b *bench) profile(ctx context.Context, s *stack, name string) error {
	if b.options.profile == "" || s.insecure {
		return nil
	}
	admin, err := b.cluster.aggregated(s.door.address, "bench", "system:masters")
	if err != nil {
		return err
	}
	for _, of := range []struct{ what, query string }{{"profile", "profile?seconds=20"}, {"heap", "heap"}} {
		status, body, err := admin.get(ctx, "/debug/pprof/"+of.query)
		if err != nil || status != http.StatusOK {
			return fmt.Errorf("cannot take a profile: HTTP %d: %.300q (%w)", status, body, err)
		}
		path := filepath.Join(b.options.profile, name+"."+of.what+".pprof")
		if err := os.WriteFile(path, body, 0o600); err != nil {
			return fmt.Errorf("cannot keep a profile: %w", err)
		}
		b.cluster.progress.Line("  profile in %s", path)
	}
	return nil
}
