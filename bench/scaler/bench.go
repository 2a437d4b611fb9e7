package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"headroom.dev/headroom/scaler/simulate"
)

type options struct {
	traces, only, results string
	startUps              []time.Duration
	length                time.Duration
	seed                  uint64
}

// goals are the attainments that policies are tuned to. Two, because the strictness decides what a forecast is worth.
func goals() []float64 { return []float64{0.99, 0.999} }

// contest is one trace at one start-up time: the trials of each family.
type contest struct {
	trace   named
	startUp time.Duration
	trials  map[string][]simulate.Trial
	names   []string // of the families, in order
	took    time.Duration
}

func run(ctx context.Context, o options) error {
	var traces []named
	var err error
	if o.traces != "" {
		traces, err = read(o, os.Stderr)
	} else {
		traces, err = synthetic(o)
	}
	if err != nil {
		return err
	}
	contests := make([]*contest, 0, len(traces)*len(o.startUps))
	for _, t := range traces {
		for _, d := range o.startUps {
			contests = append(contests, &contest{trace: t, startUp: d, trials: map[string][]simulate.Trial{}})
		}
	}
	if err := hold(ctx, contests, o.seed, os.Stderr); err != nil {
		return err
	}
	return report(contests, o)
}

// hold runs the contests, as many at once as there are processors, and says how far it is.
func hold(ctx context.Context, contests []*contest, seed uint64, say io.Writer) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	var mu sync.Mutex
	done := 0
	for _, c := range contests {
		group.Go(func() error {
			begin := time.Now()
			if err := c.hold(ctx, seed); err != nil {
				return fmt.Errorf("cannot bench on %s: %w", c.trace.Name, err)
			}
			c.took = time.Since(begin)
			mu.Lock()
			defer mu.Unlock()
			done++
			fmt.Fprintf(say, "%d of %d: %s, start-up %s, took %s\n", done, len(contests), c.trace.Name, c.startUp, c.took.Round(time.Second))
			return nil
		})
	}
	return group.Wait()
}

// hold runs every family. The part before the middle is what they are tuned on, of which the first half is left for learning;
// the part after it is what they are scored on.
func (c *contest) hold(ctx context.Context, seed uint64) error {
	load, err := simulate.NewLoad(c.trace.Trace, simulate.Plant{StartUp: c.startUp, Max: most, Seed: seed})
	if err != nil {
		return err
	}
	cut := (c.trace.Duration() / 2).Truncate(time.Second)
	for _, f := range families(c.startUp) {
		if err := ctx.Err(); err != nil {
			return err
		}
		trials, err := simulate.Try(load, f, goals()[len(goals())-1], cut)
		if err != nil {
			return err
		}
		c.names = append(c.names, f.Name)
		c.trials[f.Name] = trials
	}
	return nil
}
