package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"headroom.dev/headroom/bench/adapter/targets"
	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/progress"
)

const (
	// mostPods and their agents fit into the lab's block of 8,189 addresses, and twice into 20,000 open files.
	mostPods = 7000
	// targetPort is vLLM's.
	targetPort = 8000
	// reserved addresses at the start of the block are for the stacks.
	reserved = 16
)

// bench is what a run has.
type bench struct {
	options options
	program string
	cluster *cluster
	fleet   *targets.Fleet
	ours    *ours
	peer    *peer // nil where it is not wanted
	out     outcome
}

// outcome is what a run has measured.
type outcome struct {
	main        int // the number of pods that the goals are for
	differences []difference
	differAt    int // pods
	sheets      []*sheet
	lean        *sheet
	limits      map[int]limit
}

func runBench(ctx context.Context, o options) (err error) {
	began := time.Now()
	p := progress.New(os.Stdout)
	source, err := lab.FindSource("")
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot find our own program: %w", err)
	}
	if o.profile != "" {
		if err := os.MkdirAll(o.profile, 0o750); err != nil {
			return fmt.Errorf("cannot make the profiles' folder: %w", err)
		}
	}
	dir, err := os.MkdirTemp("", "hr-adapter")
	if err != nil {
		return fmt.Errorf("cannot make a state folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{options: o, program: program, out: outcome{limits: map[int]limit{}}}
	if b.cluster, err = startCluster(ctx, source, dir, p); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.cluster.stop()) }()
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.fleet.Stop()) }()
	for i, pods := range o.pods {
		if err := b.size(ctx, i, pods); err != nil {
			return err
		}
	}
	p.Line("measured in %s\n", time.Since(began).Round(time.Second))
	return b.out.report(os.Stdout, o.results)
}

// prepare starts the targets, and gets both stacks ready to start.
func (b *bench) prepare(ctx context.Context) error {
	o := b.options
	plan := targets.Plan{Port: targetPort, Pods: o.pods[len(o.pods)-1], First: b.cluster.next}
	for range reserved {
		plan.First = plan.First.Next()
	}
	raw, err := json.Marshal(plan)
	if err != nil {
		return fmt.Errorf("cannot start the targets: %w", err)
	}
	step := b.cluster.progress.Step("targets")
	if b.fleet, err = targets.Start(plan, b.program, "targets", string(raw)); err != nil {
		return err
	}
	step.Done(fmt.Sprintf("%d listen", plan.Pods+targets.Agents(plan.Pods)))
	if b.ours, err = newOurs(ctx, b.cluster, o.flags); err == nil && o.peerUpTo >= o.pods[0] {
		b.peer, err = newPeer(ctx, b.cluster, plan, o.prometheus)
	}
	if err != nil {
		return errors.Join(err, b.fleet.Stop())
	}
	b.out.main = o.pods[0]
	for _, n := range o.pods {
		if n <= o.peerUpTo {
			b.out.main = n
		}
	}
	return nil
}

// pace is longest at the size that the goals are for.
func (b *bench) pace(pods int) pace {
	switch {
	case b.options.short:
		return pace{warm: 12 * time.Second, idle: 10 * time.Second, asked: 10 * time.Second, requests: 3 * time.Second, steps: 20}
	case pods == b.out.main:
		return pace{warm: 35 * time.Second, idle: 45 * time.Second, asked: 30 * time.Second, requests: 10 * time.Second, steps: 100}
	}
	return pace{warm: 35 * time.Second, idle: 30 * time.Second, asked: 20 * time.Second, requests: 5 * time.Second, steps: 50}
}

// size measures everything at one number of pods.
func (b *bench) size(ctx context.Context, index, pods int) (err error) {
	from := 0
	if index > 0 {
		from = b.options.pods[index-1]
	}
	if err := b.cluster.grow(ctx, b.fleet.Plan, from, pods); err != nil {
		return err
	}
	compared := b.peer != nil && pods <= b.options.peerUpTo
	for _, part := range []struct {
		wanted bool
		do     func(context.Context, int) error
	}{
		{true, b.limit},
		{compared && index == 0, b.both},
		{true, func(ctx context.Context, pods int) error { return b.one(ctx, b.ours.start, pods) }},
		{compared, func(ctx context.Context, pods int) error { return b.one(ctx, b.peer.start, pods) }},
		{compared && pods == b.out.main && b.options.lean, b.leanPeer},
	} {
		if !part.wanted {
			continue
		}
		if err := part.do(ctx, pods); ctx.Err() != nil {
			return ctx.Err() // whatever else err says is of our making
		} else if err != nil { // its figures stay unknown, which misses their goals, and the others are measured
			b.cluster.progress.Line("  at %d pods: %s", pods, err)
		}
	}
	return nil
}

func (b *bench) limit(ctx context.Context, pods int) error {
	l, err := measureLimit(ctx, b.program, b.fleet.Plan, pods)
	if err == nil {
		b.out.limits[pods] = l
	}
	return err
}

// one starts a stack, measures it and stops it.
func (b *bench) one(ctx context.Context, start func(context.Context, int) (*stack, error), pods int) (err error) {
	s, err := start(ctx, pods)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	m, err := b.measure(ctx, s, pods, b.pace(pods))
	if err == nil {
		b.out.sheets = append(b.out.sheets, m)
	}
	return err
}

// both runs both stacks at once, to compare their values.
func (b *bench) both(ctx context.Context, pods int) (err error) {
	mine, err := b.ours.start(ctx, pods)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mine.stop()) }()
	theirs, err := b.peer.start(ctx, pods)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, theirs.stop()) }()
	step := b.cluster.progress.Step(fmt.Sprintf("both, %d pods", pods))
	step.Update("their windows fill")
	if err := sleep(ctx, 35*time.Second); err != nil { // also in a short run: values in unfilled windows differ
		return err
	}
	step.Update("values are compared")
	if b.out.differences, err = compareValues(ctx, mine, theirs, pods); err != nil {
		return err
	}
	b.out.differAt = pods
	step.Done("values compared")
	return nil
}

// leanPeer measures CPU and memory of a Prometheus that drops all but what the rules read.
func (b *bench) leanPeer(ctx context.Context, pods int) (err error) {
	lean := *b.peer
	lean.lean = true
	s, err := lean.start(ctx, pods)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	p := b.pace(pods)
	step := b.cluster.progress.Step(fmt.Sprintf("lean Prometheus, %d pods", pods))
	if err := sleep(ctx, p.warm); err != nil {
		return err
	}
	b.out.lean = newSheet(s.name, pods)
	if err := b.idle(ctx, s, b.out.lean, p.idle); err != nil {
		return err
	}
	step.Done("measured")
	return nil
}
