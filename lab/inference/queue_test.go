package inference

import (
	"context"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// customer is one request of a queueing test: when it arrives, what it wants, and what became of it.
type customer struct {
	at, end time.Duration
	tokens  int
	code    int
}

// serve sends the customers to the server at their times, in virtual time, and waits for all.
func serve(s *Server, list []customer) {
	began := time.Now()
	var all sync.WaitGroup
	for i := range list {
		c := &list[i]
		time.Sleep(c.at - time.Since(began))
		all.Go(func() {
			var out outcome
			_, _ = s.spend(context.Background(), question{MaxTokens: &c.tokens}, time.Now(), &out)
			c.code, c.end = out.code, time.Since(began)
		})
	}
	all.Wait()
}

// poissonCustomers arrive at that rate per second, all with the same number of tokens where tokens > 0.
func poissonCustomers(rng *rand.Rand, n int, rate float64, tokens int) []customer {
	list := make([]customer, n)
	at := time.Duration(0)
	for i := range list {
		at += time.Duration(rng.ExpFloat64() / rate * float64(time.Second))
		list[i] = customer{at: at, tokens: tokens}
		if tokens == 0 {
			list[i].tokens = 1 + rng.IntN(300)
		}
	}
	return list
}

// oracle is a FIFO queue worked out by hand, with no goroutine and no clock: each request starts when it has come and a
// slot is free, and is refused when too many have come before it and not started.
func oracle(spec Spec, seed uint64, list []customer) (served []customer, busy, slotTime time.Duration) {
	draws := newEngine(spec, seed)
	free := make([]time.Duration, spec.Slots)
	var starts []time.Duration
	type interval struct{ from, to time.Duration }
	var intervals []interval
	for _, c := range list {
		waiting := 0
		for _, start := range starts {
			if start > c.at {
				waiting++
			}
		}
		slices.Sort(free)
		if free[0] > c.at && waiting >= spec.Queue {
			c.code, c.end = http.StatusServiceUnavailable, c.at
			served = append(served, c)
			continue
		}
		start := max(c.at, free[0])
		got := draws.startLocked(time.Time{})
		c.code, c.end = http.StatusOK, start+scale(got.unit, c.tokens)
		if got.fails {
			c.code = http.StatusInternalServerError
		}
		free[0] = c.end
		starts = append(starts, start)
		intervals = append(intervals, interval{start, c.end})
		slotTime += c.end - start
		served = append(served, c)
	}
	covered := time.Duration(0) // intervals are in order of their starts
	for _, i := range intervals {
		if i.to > covered {
			busy += i.to - max(i.from, covered)
			covered = i.to
		}
	}
	return served, busy, slotTime
}

func TestQueueAgainstOracle(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	refused := 0
	for range 40 {
		spec := DefaultSpec()
		spec.Slots, spec.Queue, spec.ErrorRate = 1+rng.IntN(6), rng.IntN(12), rng.Float64()/2
		spec.ServiceTime = Distribution{Median: 50 * time.Millisecond, Sigma: rng.Float64()}
		list := poissonCustomers(rng, 300, 20*float64(spec.Slots)*rng.Float64(), 0)
		want, busy, slotTime := oracle(spec, seed, list)
		synctest.Test(t, func(t *testing.T) {
			s := New(spec, seed, 0)
			serve(s, list)
			require.Equal(t, want, list, "slots %d, queue %d", spec.Slots, spec.Queue)
			used := s.Usage()
			require.Equal(t, busy, used.Busy)
			require.Equal(t, slotTime, used.SlotTime)
			require.Zero(t, used.Running+used.Waiting)
		})
		for _, c := range want {
			if c.code == http.StatusServiceUnavailable {
				refused++
			}
		}
	}
	require.Positive(t, refused, "no case has filled its queue")
}

// TestMeanWaitAgainstTheory compares one slot with the Pollaczek–Khinchine formula for M/G/1,
// W = λ·E[S²] / (2·(1-λ·E[S])). For several slots there is none with lognormal service times; TestQueueAgainstOracle is
// exact for any number.
func TestMeanWaitAgainstTheory(t *testing.T) {
	const n, median = 60_000, 0.05
	for _, sigma := range []float64{0, 0.3, 0.8} {
		spec := DefaultSpec()
		spec.Slots, spec.Queue = 1, maxQueue
		spec.ServiceTime = Distribution{Median: 50 * time.Millisecond, Sigma: sigma}
		mean, square := median*math.Exp(sigma*sigma/2), median*median*math.Exp(2*sigma*sigma)
		rate := 0.6 / mean
		want := rate * square / (2 * (1 - 0.6))
		synctest.Test(t, func(t *testing.T) {
			s := New(spec, 11, 0)
			list := poissonCustomers(rand.New(rand.NewPCG(12, 0)), n, rate, ReferenceTokens)
			serve(s, list)
			inSystem := time.Duration(0)
			for _, c := range list {
				inSystem += c.end - c.at
			}
			wait := (inSystem - s.Usage().SlotTime).Seconds() / n
			t.Logf("sigma %g: mean wait %.2f ms, theory %.2f ms", sigma, 1000*wait, 1000*want)
			require.InEpsilon(t, want, wait, 0.06)
			require.InEpsilon(t, 0.6, s.Usage().Busy.Seconds()/list[n-1].end.Seconds(), 0.02, "utilisation")
		})
	}
}

func TestClientsThatGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := DefaultSpec()
		spec.Slots, spec.ServiceTime = 1, Distribution{Median: time.Second}
		s := New(spec, 1, 0)
		ask := func(patience time.Duration) *outcome {
			out := new(outcome)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			began := time.Now()
			go func() {
				defer cancel()
				_, _ = s.spend(ctx, question{}, began, out)
				out.latency = time.Since(began)
			}()
			synctest.Wait()
			return out
		}
		first, second, third := ask(300*time.Millisecond), ask(100*time.Millisecond), ask(time.Minute)
		require.Equal(t, 2, s.Usage().Waiting)
		pass := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		pass(200 * time.Millisecond)
		require.Equal(t, 1, s.Usage().Waiting, "the second has left the queue")
		require.Equal(t, outcome{code: 499, finished: "abort", latency: 100 * time.Millisecond, firstToken: 100 * time.Millisecond}, *second)
		pass(200 * time.Millisecond)
		require.Equal(t, 499, first.code)
		require.Equal(t, 30, first.output, "tokens of the 300 ms it was served")
		require.Equal(t, 1, s.Usage().Running, "the third has the slot of the first")
		pass(time.Second)
		require.Equal(t, 200, third.code)
		require.Equal(t, 1300*time.Millisecond, third.latency)
		require.Zero(t, s.Usage().Running)
	})
}

func TestUpdateChangesSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := DefaultSpec()
		spec.Slots, spec.ServiceTime = 1, Distribution{Median: time.Second}
		s := New(spec, 1, 0)
		for range 5 {
			go func() { _, _ = s.spend(context.Background(), question{}, time.Now(), new(outcome)) }()
		}
		synctest.Wait()
		require.Equal(t, 4, s.Usage().Waiting)
		spec.Slots = 3
		require.NoError(t, s.Update(spec))
		require.Equal(t, 3, s.Usage().Running, "at once")
		spec.Slots = 1
		require.NoError(t, s.Update(spec))
		require.Equal(t, 3, s.Usage().Running, "what runs is left to run")
		require.Equal(t, int64(spec.GPUMemory+spec.KVCache), int64(memory(s.engine.state(), phaseReady, 1)))
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, 1, s.Usage().Running)
		time.Sleep(2 * time.Second)
		spec.Slots = 0
		require.ErrorContains(t, s.Update(spec), "slots: 0")
	})
}

func TestMemory(t *testing.T) {
	now := state{spec: Spec{Slots: 4, GPUMemory: 16 << 30, KVCache: 8 << 30}, running: 1}
	require.Equal(t, Bytes(0), memory(now, phaseNew, 0))
	require.Equal(t, Bytes(4<<30), memory(now, phaseLoading, 0.25))
	require.Equal(t, Bytes(18<<30), memory(now, phaseReady, 1))
	require.Equal(t, Bytes(0), memory(now, phaseStopped, 1))
}

// TestSlotGivenToOneWhoGoes lets a client go and a slot fall free to it before the client has left the queue: the slot
// must not be lost.
func TestSlotGivenToOneWhoGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := DefaultSpec()
		spec.Slots = 1
		e := newEngine(spec, 1)
		_, err := e.enter(context.Background())
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		left := make(chan error, 1)
		go func() {
			_, err := e.enter(ctx)
			left <- err
		}()
		synctest.Wait()
		e.mu.Lock() // so that the client, once woken, cannot leave the queue yet
		cancel()
		e.leaveLocked(time.Now())
		require.Equal(t, 1, e.running, "the slot is the client's")
		e.mu.Unlock()
		require.ErrorIs(t, <-left, context.Canceled)
		require.Zero(t, e.state().running)
	})
}
