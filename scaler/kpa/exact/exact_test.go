package exact

import (
	"flag"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"knative.dev/serving/pkg/autoscaler/metrics"

	"headroom.dev/headroom/scaler/kpa"
)

var (
	seedFlag   = flag.Uint64("seed", 1, "seed of the scenarios")
	randomFlag = flag.Int("random", 12, "wholly random scenarios, beside those of every kind")
	lengthFlag = flag.Duration("length", 7*24*time.Hour, "virtual time of each scenario")
)

// TestExact drives Knative's autoscaler and ours through the same weeks, compares them at every decision, and fails for
// each difference and for each branch that no scenario took.
func TestExact(t *testing.T) {
	t.Logf("seed %d; -seed N draws other scenarios", *seedFlag)
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "scenario\tsteps\tmismatches\tbranches\tmost replicas\tseconds")
	all, steps, mismatches := branches{}, 0, 0
	for kind := range len(kinds) + *randomFlag {
		s := draw(kind, *seedFlag)
		t.Run(s.name, func(t *testing.T) {
			began := time.Now()
			p := &pair{s: s, branches: branches{}}
			synctest.Test(t, p.run)
			steps, mismatches = steps+p.steps, mismatches+p.mismatches
			for b, n := range p.branches {
				all[b] += n
			}
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%.1f\n", s.name, p.steps, p.mismatches, len(p.branches), p.most, time.Since(began).Seconds())
		})
	}
	fmt.Fprintf(w, "all\t%d\t%d\t%d of %d\n", steps, mismatches, len(all), len(required()))
	require.NoError(t, w.Flush())
	fmt.Fprintf(t.Output(), "\n%s\n%s\n", table.String(), all.table())
	assert.Zero(t, mismatches)
	assert.Empty(t, all.missing(), "branches that no scenario took")
}

// pair is both autoscalers over one service.
type pair struct {
	s          *scenario
	t          *testing.T
	knative    *knative
	reachable  bool
	branches   branches
	steps      int
	mismatches int
	most       int // replicas

	mu   sync.Mutex
	ours *kpa.Autoscaler
	last kpa.Result
	prev time.Time // of the last decision

	newest int64 // second of the newest report
}

// settle is between a tick of Knative's and our look at it.
const settle = time.Millisecond

func (p *pair) run(t *testing.T) {
	p.t, p.reachable = t, p.s.config.Reachable
	rng := p.s.service.rng
	time.Sleep(time.Duration(rng.IntN(10_000)) * time.Millisecond) // buckets are aligned to the clock, tickers are not
	start := time.Now()
	p.s.service.start = start
	for range p.s.adopt {
		p.s.service.pods = append(p.s.service.pods, 0)
	}
	var err error
	p.ours, err = kpa.New(p.s.config, start, p.s.adopt)
	require.NoError(t, err)
	p.knative = newKnative(t, p.s.config, p.s.adopt)
	p.knative.scrape = p.scrape
	p.knative.startScaling()
	defer p.knative.close()
	if p.s.adopt == 0 {
		p.s.service.resize(start, p.s.config.InitialScale)
	}
	p.branches.start(p.s)
	time.Sleep(time.Duration(10+rng.IntN(970)) * time.Millisecond)
	p.knative.startScraping()

	for tick := start.Add(2 * time.Second); tick.Sub(start) <= *lengthFlag; tick = tick.Add(2 * time.Second) {
		time.Sleep(time.Until(tick.Add(settle)))
		synctest.Wait()
		p.compare()
		p.between()
	}
}

// between is what happens until the next tick: pods, routes, the activator.
func (p *pair) between() {
	now := time.Now()
	s, rng := &p.s.service, p.s.service.rng
	s.resize(now, int(*p.knative.target.Spec.Replicas))
	p.knative.ready = s.ready(now)
	if hidden := p.s.hidden.at(s.now(now), rng); hidden == p.reachable {
		p.reachable = !hidden
		p.knative.updateReachability(p.reachable)
		p.ours.SetReachable(p.reachable)
		p.branches.hitIf(p.reachable, "route comes back")
	}
	if p.s.queue == 0 {
		return
	}
	for range 2 {
		time.Sleep(time.Duration(300+rng.IntN(500)) * time.Millisecond)
		if rng.Float64() < p.s.queue {
			p.activator()
		}
	}
}

// activator reports what waits in it, which can wake a revision at zero.
func (p *pair) activator() {
	now := time.Now()
	stat, ok := p.s.service.queue(now, p.knative.ready)
	if !ok {
		return
	}
	at := now
	if rng := p.s.service.rng; p.s.late && rng.IntN(4) == 0 {
		at = at.Add(-time.Duration(rng.Float64() * 1.3 * float64(p.s.config.StableWindow)))
	}
	p.knative.collector.Record(p.knative.key, at, stat)
	p.record(at, stat)
	if p.s.poke && *p.knative.target.Spec.Replicas == 0 {
		p.knative.scalers.Poke(p.knative.key, stat)
		synctest.Wait()
		p.compare()
	}
}

// scrape is called by Knative's collector.
func (p *pair) scrape() (metrics.Stat, error) {
	now := time.Now()
	stat, err := p.s.service.scrape(now, p.knative.ready)
	if err == nil && stat != (metrics.Stat{}) {
		p.record(now, stat)
	}
	return stat, err
}

func (p *pair) record(now time.Time, stat metrics.Stat) {
	value := stat.AverageConcurrentRequests - stat.AverageProxiedConcurrentRequests
	if p.s.config.Metric == kpa.RPS {
		value = stat.RequestCount - stat.ProxiedRequestCount
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	require.NoError(p.t, p.ours.Record(now, value))
	p.branches.record(p, now.Unix())
	p.newest = max(p.newest, now.Unix())
}

// compare looks at what Knative decided since the last look: one decision, or none where it was not poked.
func (p *pair) compare() {
	calls := p.knative.take()
	if len(calls) == 0 {
		return
	}
	require.Len(p.t, calls, 1)
	call := calls[0]
	gauges, err := p.knative.gauges.read(p.knative.ctx)
	require.NoError(p.t, err)
	want := p.knative.reconcile()
	ready := p.knative.ready

	p.mu.Lock()
	got := p.ours.Scale(call.now, ready)
	p.mu.Unlock()
	p.steps++
	p.most = max(p.most, got.Replicas)

	theirs := got // what only a valid step decides stays ours otherwise
	theirs.Valid = call.result.ScaleValid
	if theirs.Valid {
		name := "kn.revision.concurrency."
		if p.s.config.Metric == kpa.RPS {
			name = "kn.revision.rps."
		}
		theirs.Desired = int(call.result.DesiredPodCount)
		theirs.ExcessBurstCapacity = int(call.result.ExcessBurstCapacity)
		theirs.StableValue, theirs.PanicValue = gauges[name+"stable"], gauges[name+"panic"]
	}
	theirs.Panic = gauges["kn.revision.panic.mode"] > 0
	theirs.Replicas = int(*p.knative.target.Spec.Replicas)
	theirs.Phase = p.knative.phase()
	if theirs != got || got.Valid && (math.IsNaN(got.StableValue) || math.IsNaN(got.PanicValue)) {
		p.mismatches++
		if p.mismatches <= 3 {
			p.t.Errorf("at %v with %d ready:\nours    %+v\nKnative %+v", call.now.Sub(p.s.service.start), ready, got, theirs)
		}
	}
	p.branches.step(p, got, want, ready, call.now)
	p.last, p.prev = got, call.now
}
