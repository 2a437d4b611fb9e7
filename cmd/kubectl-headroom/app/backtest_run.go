package app

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"headroom.dev/headroom/scaler/report"
	"headroom.dev/headroom/scaler/simulate"
)

// points are how many a plot has over its width: more would be narrower than its lines.
const points = 700

// outcome is a policy at one setting.
type outcome struct {
	family string
	own    bool            // it is the manifest's own setting
	choose simulate.Result // of the first part, by which a setting is chosen
	scored simulate.Result // of the part that is scored
}

// simulate runs every policy at every setting, and makes the report.
func (b *backtest) simulate(ctx context.Context, trace *simulate.Trace, m *manifests, p *progress) (*report.Report, error) {
	defer p.done()
	plant := b.plant.simulated()
	if mean := meanWork(trace.Requests); mean > 0 { // what targets are worked out from must be the trace's own
		plant.ServiceTime = mean
	}
	s, err := b.service(m, &plant, trace)
	if err != nil {
		return nil, err
	}
	load, err := simulate.NewLoad(trace, plant)
	if err != nil {
		return nil, err
	}
	cut := time.Duration(0)
	if b.tune {
		cut = (trace.Duration() / 2).Truncate(time.Second)
	}
	outcomes, err := b.runAll(ctx, load, s, cut, p)
	if err != nil {
		return nil, err
	}
	r := &report.Report{
		Kind: report.Kind, Trace: describe(trace, cut), Plant: b.plant.settings(load, &plant), Goal: report.Number(b.goal / 100), Tuned: b.tune,
	}
	b.results(r, trace, outcomes)
	r.Notes = append(b.notes(trace, load), s.notes...)
	return r, nil
}

// runAll runs as many at once as there are processors.
func (b *backtest) runAll(ctx context.Context, load *simulate.Load, s *service, cut time.Duration, p *progress) ([]outcome, error) {
	candidates := b.candidates(s)
	outcomes := make([]outcome, len(candidates))
	options := simulate.RunOptions{Points: points}
	if cut > 0 {
		options.Cuts, options.Points = []time.Duration{cut}, 2*points
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	var done atomic.Int32
	for i, c := range candidates {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			policy := c.policy()
			p.step(policy.Name()+", "+policy.Setting(), int(done.Load()), len(candidates))
			parts, err := simulate.Run(load, policy, options)
			if err != nil {
				return err
			}
			outcomes[i] = outcome{family: c.family, own: c.own, choose: parts[0], scored: parts[len(parts)-1]}
			done.Add(1)
			return nil
		})
	}
	return outcomes, group.Wait()
}

// results puts the outcomes into the report, with one of each policy marked as its own: by what was tuned, or the manifest's.
// The clairvoyant's is chosen by the part that is scored, since it knows that as well.
func (b *backtest) results(r *report.Report, trace *simulate.Trace, outcomes []outcome) {
	chosen := map[string]int{}
	for i := range outcomes {
		o := &outcomes[i]
		best, found := chosen[o.family]
		switch {
		case !found:
			chosen[o.family] = i
		case o.family == report.Clairvoyant:
			if o.scored.Better(&outcomes[best].scored, b.goal/100) {
				chosen[o.family] = i
			}
		case b.tune:
			if o.choose.Better(&outcomes[best].choose, b.goal/100) {
				chosen[o.family] = i
			}
		case o.own:
			chosen[o.family] = i
		}
	}
	for i := range outcomes {
		o := &outcomes[i]
		r.Results = append(r.Results, b.result(trace, o, chosen[o.family] == i))
	}
}

func (b *backtest) result(trace *simulate.Trace, o *outcome, chosen bool) report.Result {
	x := &o.scored
	out := report.Result{
		Policy: o.family, Setting: x.Setting, Chosen: chosen, Requests: x.Requests, Late: x.Late, Failed: x.Failed,
		Attainment: report.Number(x.Attainment), ReplicaHours: x.ReplicaHours, GPUHours: x.ReplicaHours * b.plant.gpus,
		UnderTime: report.Number(x.UnderTime), OverTime: report.Number(x.OverTime), Under: report.Number(x.Under), Over: report.Number(x.Over),
		Changes: x.Changes, KilledLoading: x.KilledLoading, KilledBusy: x.KilledBusy,
		WaitP50: report.Number(x.WaitP50.Seconds()), WaitP95: report.Number(x.WaitP95.Seconds()), WaitP99: report.Number(x.WaitP99.Seconds()),
	}
	if x.Requests == 0 {
		out.Attainment = report.Absent()
	}
	if chosen {
		out.Series = series(trace, x.Series)
	}
	return out
}

// series turns points into lists. Where most of a point lies in a gap of the trace, what was demanded is not known.
func series(trace *simulate.Trace, list []simulate.Point) *report.Series {
	if len(list) < 2 {
		return nil
	}
	width := list[1].At.Sub(list[0].At)
	s := &report.Series{From: list[0].At.Sub(trace.Start).Seconds(), Step: width.Seconds()}
	for i := range list {
		p := &list[i]
		known := report.Number(1)
		if inGap(trace, p.At.Sub(trace.Start), width) {
			known = report.Absent()
		}
		s.Demand = append(s.Demand, known*report.Number(p.Arrivals))
		s.Needed = append(s.Needed, known*report.Number(p.Needed))
		s.Desired = append(s.Desired, report.Number(p.Wanted))
		s.Ready = append(s.Ready, report.Number(p.Ready))
		s.Loading = append(s.Loading, report.Number(p.Loading))
		s.Missing = append(s.Missing, known*report.Number(p.Missing))
		s.Waiting = append(s.Waiting, report.Number(p.Queue))
		s.Late = append(s.Late, known*report.Number(p.Late))
	}
	return s
}

func inGap(trace *simulate.Trace, at, width time.Duration) bool {
	if len(trace.Rate) == 0 {
		return false
	}
	first := int(at / trace.Step)
	last := min(int((at+width-1)/trace.Step), len(trace.Rate)-1)
	unknown := 0
	for i := first; i <= last; i++ {
		if math.IsNaN(trace.Rate[i]) {
			unknown++
		}
	}
	return 2*unknown > last-first+1
}

// describe is the trace for the report.
func describe(t *simulate.Trace, cut time.Duration) report.Trace {
	d := report.Trace{Name: t.Name, Seconds: t.Duration().Seconds(), Step: t.Step.Seconds(), ScoredFrom: cut.Seconds(), Mean: report.Absent(), Peak: report.Absent()}
	if t.Start.Year() > 1970 { // else its times count from its beginning
		d.Start = t.Start
	}
	count, length := t.Gaps()
	d.Gaps, d.GapSeconds = count, length.Seconds()
	if len(t.Requests) > 0 {
		d.Requests = float64(len(t.Requests))
		d.Step = 0
		d.Peak = report.Number(busiest(t.Requests))
	}
	for _, rate := range t.Rate {
		if math.IsNaN(rate) {
			continue
		}
		d.Requests += rate * t.Step.Seconds()
		if !(float64(d.Peak) >= rate) {
			d.Peak = report.Number(rate)
		}
	}
	if known := d.Seconds - d.GapSeconds; known > 0 {
		d.Mean = report.Number(d.Requests / known)
	}
	return d
}

// meanWork is how long a request takes a slot on average; 0 without requests.
func meanWork(list []simulate.Request) time.Duration {
	sum := 0.0
	for i := range list {
		sum += list[i].Work
	}
	return time.Duration(sum / max(float64(len(list)), 1) * float64(time.Second))
}

// busiest is the most requests in a minute, per second.
func busiest(list []simulate.Request) float64 {
	most, first := 0, 0
	for i := range list {
		for list[i].At-list[first].At >= time.Minute {
			first++
		}
		most = max(most, i-first+1)
	}
	return float64(most) / 60
}

// settings are the plant's, in the words of the flags.
func (p *plantOptions) settings(load *simulate.Load, plant *simulate.Plant) []report.Setting {
	list := []report.Setting{
		setting("startup", p.startUp.String()+" ± "+p.jitter.String()), setting("scheduling", &p.scheduling), setting("slots", p.slots),
	}
	if len(load.Trace.Requests) > 0 {
		list = append(list, setting("tokens-per-second", fmt.Sprintf("%g (prefill %g)", p.decode, p.prefill)))
	} else {
		list = append(list, setting("service-time", &p.serviceTime))
	}
	list = append(list,
		setting("replicas", fmt.Sprintf("%d to %d", plant.Min, plant.Max)), setting("gpus-per-replica", p.gpus), setting("metric-delay", &p.metricDelay), setting("metric-window", &p.metricWindow),
		setting("late-after", &p.lateAfter), setting("timeout", &p.timeout), setting("drain", &p.drain), setting("seed", p.seed))
	return list
}

// notes are what a reader should know before believing the numbers.
func (b *backtest) notes(t *simulate.Trace, load *simulate.Load) []string {
	var notes []string
	notes = append(notes, fmt.Sprintf("a replica can do %.3g requests per second at most: %s on average take one of its %d slots each",
		load.Capacity(), time.Duration(float64(b.plant.slots)/load.Capacity()*float64(time.Second)).Round(time.Millisecond), b.plant.slots))
	if n, length := t.Gaps(); n > 0 {
		gaps := "a gap of " + report.Duration(length)
		if n > 1 {
			gaps = fmt.Sprintf("%d gaps, %s in all", n, report.Duration(length))
		}
		notes = append(notes, "the trace has "+gaps+": no demand is known there, no policy decides, and nothing of it is scored")
	}
	if b.tune && t.Duration() < 48*time.Hour {
		notes = append(notes, "half of the trace is less than a day: what is tuned on it knows nothing of a day's wave")
	}
	return notes
}
