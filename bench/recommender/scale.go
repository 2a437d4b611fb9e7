package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// quarter is the goal: of the library's bytes, and of its time.
const quarter = 0.25

// size is how many containers there are. The first size is fed two weeks of samples. Larger ones are loaded from its checkpoints,
// each as often as it takes, as after a restart: feeding them would take hours.
type size struct {
	containers, rounds int
}

const (
	history = 14 * 24 * 60 // minutes
	timed   = 60           // minutes of samples in a round: each hour has one end, where ours learns
	// most is how many containers are timed: of more, so many that are spread over all, so that none is in the processor's caches.
	most = 1000
)

// sizes and how many samples an hour the first one is fed.
func sizes(short bool) (list []size, perHour int) {
	if short {
		return []size{{200, 3}, {10_000, 3}}, 4
	}
	return []size{{1_000, 5}, {10_000, 5}, {100_000, 3}}, 12
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
	in := newStream(o.seed)
	list, perHour := sizes(o.short)
	var kept [][][]byte // checkpoints by contestant
	for _, s := range list {
		fleets, costs := make([]fleet, len(all)), make([]*cost, len(all))
		for k, c := range all {
			begin, before := time.Now(), heap()
			if kept == nil {
				fleets[k] = c.make(s.containers)
				err = fill(ctx, fleets[k], s.containers, perHour, in)
			} else {
				fleets[k], err = c.restore(again(kept[k], s.containers))
			}
			if err != nil {
				return fmt.Errorf("cannot measure %d containers of %s: %w", s.containers, c.name, err)
			}
			took := time.Since(begin)
			costs[k] = &cost{name: c.name, goal: c.goal, bytes: float64(heap()-before) / float64(s.containers)}
			fmt.Fprintf(say, "scale: %d containers of %s are there after %s\n", s.containers, c.name, took.Round(time.Second/10))
		}
		if kept == nil {
			if kept, err = save(fleets, s.containers, in.at(history)); err != nil {
				return err
			}
		}
		if err := s.measure(ctx, all, fleets, costs, in, say); err != nil {
			return err
		}
		r.costs(s, costs)
	}
	return nil
}

// save makes the checkpoints that larger fleets are loaded from.
func save(fleets []fleet, n int, now time.Time) ([][][]byte, error) {
	kept := make([][][]byte, len(fleets))
	for k, f := range fleets {
		for i := range n {
			b, err := f.checkpoint(i, now)
			if err != nil {
				return nil, fmt.Errorf("cannot save a checkpoint: %w", err)
			}
			kept[k] = append(kept[k], b)
		}
	}
	return kept, nil
}

// again repeats checkpoints until there are n.
func again(checkpoints [][]byte, n int) [][]byte {
	list := make([][]byte, n)
	for i := range list {
		list[i] = checkpoints[i%len(checkpoints)]
	}
	return list
}

// measure has the fleets do the same, one after another, in rounds.
func (s size) measure(ctx context.Context, all []contestant, fleets []fleet, costs []*cost, in *stream, say io.Writer) error {
	minute := history
	for round := range s.rounds {
		for k := range all { // who goes first changes
			if err := ctx.Err(); err != nil {
				return err
			}
			k = (k + round) % len(all)
			s.round(all[k], fleets[k], costs[k], in, minute)
		}
		minute += timed
		fmt.Fprintf(say, "scale: %d containers: round %d of %d\n", s.containers, round+1, s.rounds)
	}
	runtime.KeepAlive(fleets)
	for _, c := range costs {
		if c.failed[recommending] != nil { // what does not do its work costs little
			c.bytes, c.failed[sampling] = math.NaN(), c.failed[recommending]
		}
	}
	return nil
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
func fill(ctx context.Context, f fleet, n, perHour int, in *stream) error {
	group, ctx := errgroup.WithContext(ctx)
	parts := runtime.GOMAXPROCS(0)
	for part := range parts {
		group.Go(func() error {
			for minute := 0; minute < history; minute += 60 / perHour {
				if err := ctx.Err(); err != nil {
					return err
				}
				at := in.at(minute)
				for i := part * n / parts; i < (part+1)*n/parts; i++ {
					cpu, memory := in.usage(i, minute)
					f.sample(i, at, cpu, memory)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// each calls f with the number of every container that is timed.
func (s size) each(f func(i int) error) error {
	n := min(s.containers, most)
	for i := range n {
		if err := f(i * (s.containers / n)); err != nil {
			return err
		}
	}
	return nil
}

// round times each operation once. What fails is not tried again.
func (s size) round(c contestant, f fleet, to *cost, in *stream, minute int) {
	now := in.at(minute + timed - 1) // within the hour: its end is the next sample's, where its cost is counted
	h := s.hour(in, minute)
	to.time(sampling, func() (int, error) { return s.samples(f, in, minute, h) })
	to.time(recommending, func() (int, error) {
		return min(s.containers, most), s.each(func(i int) error {
			_, _, err := f.recommend(i, now)
			return err
		})
	})
	var checkpoints [][]byte
	to.time(checkpointing, func() (int, error) {
		err := s.each(func(i int) error {
			b, err := f.checkpoint(i, now)
			checkpoints = append(checkpoints, b)
			return err
		})
		return len(checkpoints), err
	})
	sum := 0
	for _, b := range checkpoints {
		sum += len(b)
	}
	to.kept = float64(sum) / float64(len(checkpoints))
	var loaded fleet
	to.time(restarting, func() (n int, err error) {
		loaded, err = c.restore(checkpoints)
		return len(checkpoints), err
	})
	runtime.KeepAlive(loaded)
}

// hour is an hour of usage of the containers that are timed, a minute apart, made before the clock starts.
type hour struct{ cpu, memory [][]float64 }

func (s size) hour(in *stream, minute int) hour {
	var h hour
	for m := range timed {
		h.cpu, h.memory = append(h.cpu, nil), append(h.memory, nil)
		_ = s.each(func(i int) error { // f returns none
			cpu, memory := in.usage(i, minute+m)
			h.cpu[m], h.memory[m] = append(h.cpu[m], cpu), append(h.memory[m], memory)
			return nil
		})
	}
	return h
}

// samples feeds an hour and returns how many samples that were.
func (s size) samples(f fleet, in *stream, minute int, h hour) (int, error) {
	for m := range timed {
		at := in.at(minute + m)
		k := 0
		_ = s.each(func(i int) error { // f returns none
			f.sample(i, at, h.cpu[m][k], h.memory[m][k])
			k++
			return nil
		})
	}
	return 2 * timed * min(s.containers, most), nil
}

func (c *cost) add(operation int, ns float64) { c.rounds[operation] = append(c.rounds[operation], ns) }

// spent is the processor time of this process, its garbage collection included: on a shared machine the clock on the wall tells
// what the others do.
func spent() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // it fails only for arguments that are not these
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// time times what does an operation so many times, in processor time. Each pays for its own garbage.
func (c *cost) time(operation int, f func() (n int, err error)) {
	if c.failed[operation] != nil {
		return
	}
	runtime.GC()
	begin := spent()
	n, err := f()
	c.add(operation, float64(spent()-begin)/float64(n))
	c.failed[operation] = err
}
