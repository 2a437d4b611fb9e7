package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
)

// quarter is the goal: of the library's bytes, and of its time.
const quarter = 0.25

// size is how many containers there are, and how they are fed. Fewer samples an hour for more containers, or filling the
// library's histograms would take half an hour: its bytes do not depend on that, and what of ours does shows in the smaller sizes.
type size struct {
	containers, perHour int
	minutes             int // timed, in a round
	rounds              int
}

const history = 14 * 24 * 60 // minutes

func sizes(short bool) []size {
	if short {
		return []size{{1_000, 6, 30, 3}, {10_000, 1, 3, 3}}
	}
	return []size{{1_000, 30, 60, 7}, {10_000, 4, 6, 7}, {100_000, 1, 2, 3}}
}

// cost is what a fleet costs: bytes for each container, and nanoseconds for each operation by round.
type cost struct {
	name   string
	goal   bool
	bytes  float64
	kept   float64 // bytes of a checkpoint
	rounds [operations][]float64
	failed [operations]error
}

// The operations that are timed.
const (
	sampling = iota
	recommending
	checkpointing
	restarting
	operations
)

func operation(k int) string {
	return [operations]string{"a sample", "a recommendation (CPU and memory)", "a checkpoint", "loading a checkpoint after a restart"}[k]
}

// scale measures every size.
func (r *report) scale(ctx context.Context, o options, say io.Writer) error {
	all, err := contestants()
	if err != nil {
		return err
	}
	for _, s := range sizes(o.short) {
		costs, err := s.measure(ctx, all, newStream(o.seed), say)
		if err != nil {
			return fmt.Errorf("cannot measure %d containers: %w", s.containers, err)
		}
		r.costs(s, costs)
	}
	return nil
}

// measure fills a fleet of each contestant, and then has them do the same, one after another, in rounds.
func (s size) measure(ctx context.Context, all []contestant, in *stream, say io.Writer) ([]*cost, error) {
	fleets, costs := make([]fleet, len(all)), make([]*cost, len(all))
	for k, c := range all {
		begin := time.Now()
		before := heap()
		fleets[k] = c.make(s.containers)
		if err := s.fill(ctx, fleets[k], in); err != nil {
			return nil, err
		}
		costs[k] = &cost{name: c.name, goal: c.goal, bytes: float64(heap()-before) / float64(s.containers)}
		fmt.Fprintf(say, "scale: %d containers: filled %s with %d days of %d samples an hour in %s\n", s.containers, c.name, history/24/60, s.perHour, time.Since(begin).Round(time.Second))
	}
	minute := history
	for round := range s.rounds {
		for k := range all { // who goes first changes
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			k = (k + round) % len(all)
			s.round(all[k], fleets[k], costs[k], in, minute)
		}
		minute += s.minutes
		fmt.Fprintf(say, "scale: %d containers: round %d of %d\n", s.containers, round+1, s.rounds)
	}
	for _, c := range costs {
		if c.failed[recommending] != nil { // what does not do its work costs little
			c.bytes, c.failed[sampling] = math.NaN(), c.failed[recommending]
		}
	}
	runtime.KeepAlive(fleets)
	return costs, nil
}

// heap is what is in use after everything else is gone.
func heap() int64 {
	var m runtime.MemStats
	for range 2 { // the second collects what finalizers of the first let go
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// fill feeds the history, on all processors.
func (s size) fill(ctx context.Context, f fleet, in *stream) error {
	group, ctx := errgroup.WithContext(ctx)
	parts := runtime.GOMAXPROCS(0)
	for part := range parts {
		group.Go(func() error {
			for minute := 0; minute < history; minute += 60 / s.perHour {
				if err := ctx.Err(); err != nil {
					return err
				}
				at := in.at(minute)
				for i := part * s.containers / parts; i < (part+1)*s.containers/parts; i++ {
					cpu, memory := in.usage(i, minute)
					f.sample(i, at, cpu, memory)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// round times each operation once. What fails is not tried again.
func (s size) round(c contestant, f fleet, to *cost, in *stream, minute int) {
	to.add(sampling, s.samples(f, in, minute))
	now := in.at(minute + s.minutes)
	runtime.GC() // each pays for its own garbage
	to.time(recommending, s.containers, func(i int) error {
		_, _, err := f.recommend(i, now)
		return err
	})
	checkpoints := make([][]byte, s.containers)
	to.time(checkpointing, s.containers, func(i int) (err error) {
		checkpoints[i], err = f.checkpoint(i, now)
		return err
	})
	if to.failed[checkpointing] != nil {
		to.failed[restarting] = to.failed[checkpointing]
		return
	}
	sum := 0
	for _, b := range checkpoints {
		sum += len(b)
	}
	to.kept = float64(sum) / float64(s.containers)
	runtime.GC()
	begin := time.Now()
	loaded, err := c.restore(checkpoints)
	to.add(restarting, float64(time.Since(begin))/float64(s.containers))
	runtime.KeepAlive(loaded)
	to.failed[restarting] = err
}

// samples feeds some minutes to all containers and returns the nanoseconds of one sample.
func (s size) samples(f fleet, in *stream, minute int) float64 {
	cpu, memory := make([]float64, s.containers), make([]float64, s.containers)
	var took time.Duration
	runtime.GC()
	for m := range s.minutes {
		for i := range cpu {
			cpu[i], memory[i] = in.usage(i, minute+m)
		}
		at := in.at(minute + m)
		begin := time.Now()
		for i := range cpu {
			f.sample(i, at, cpu[i], memory[i])
		}
		took += time.Since(begin)
	}
	return float64(took) / float64(2*s.minutes*s.containers)
}

func (c *cost) add(operation int, ns float64) { c.rounds[operation] = append(c.rounds[operation], ns) }

// time runs an operation on every container.
func (c *cost) time(operation, n int, f func(i int) error) {
	if c.failed[operation] != nil {
		return
	}
	begin := time.Now()
	for i := range n {
		if err := f(i); err != nil {
			c.failed[operation] = err
			return
		}
	}
	c.add(operation, float64(time.Since(begin))/float64(n))
}
