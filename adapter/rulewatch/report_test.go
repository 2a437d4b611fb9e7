package rulewatch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"

	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/adapter/rules"
	"headroom.dev/headroom/api/v1alpha1"
)

// evaluator stands for the adapter that takes rules up and evaluates them.
type evaluator struct {
	mu       sync.Mutex
	w        *watched
	frozen   []rules.Rule // where set, the adapter works on with these
	outcomes map[string]rules.Status
	seen     []rules.Rule // what compiled is of
	compiled []rules.Compiled
}

func (e *evaluator) set(name string, s rules.Status) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.outcomes[name] = s
}

func (e *evaluator) freeze(list []rules.Rule) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.frozen = list
}

func (e *evaluator) statuses() []rules.Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := e.frozen
	if list == nil {
		if _, calls := e.w.last(); calls > 0 {
			list = e.w.lastRules()
		}
	}
	if e.compiled == nil || len(list) != len(e.seen) || len(list) > 0 && &list[0] != &e.seen[0] {
		built := rules.Rule{Name: "a", Origin: rules.BuiltIn, Metric: "m", Expr: "built-in", Target: rules.Target{Resource: metric.Pods}}
		set, _ := rules.Compile(append([]rules.Rule{built}, list...))
		e.seen, e.compiled = list, set.Rules()
	}
	var out []rules.Status
	for _, c := range e.compiled {
		s := rules.Status{Evaluated: time.Now(), Duration: time.Millisecond, Series: 3, Objects: 2}
		if o, ok := e.outcomes[c.Rule.Name]; ok {
			s = o
		}
		s.Rule = c.Rule
		if c.Err != nil {
			s = rules.Status{Rule: c.Rule, Err: c.Err}
		}
		out = append(out, s)
	}
	return out
}

// report runs Report for a Watcher until the test ends or the function that it returns is called.
func (c *cluster) report(w *watched, identity string) (e *evaluator, stop func()) {
	ctx, cancel := context.WithCancel(c.t.Context())
	e = &evaluator{w: w, outcomes: map[string]rules.Status{}}
	done := make(chan error, 1)
	go func() {
		done <- w.Report(ctx, ReportOptions{Namespace: "headroom-system", Lease: "status", Identity: identity, Statuses: e.statuses})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(c.t, <-done)
	})
	c.t.Cleanup(stop)
	return e, stop
}

func ready(s v1alpha1.MetricRuleStatus) string {
	if len(s.Conditions) == 0 {
		return "no condition"
	}
	return fmt.Sprintf("%s %s %s", s.Conditions[0].Status, s.Conditions[0].Reason, s.Conditions[0].Message)
}

func TestStatusesAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.put("a", spec("e"))
		c.put("bad", spec("e("))
		worse := spec("e")
		worse["maxAge"] = "for ever"
		c.put("worse", worse)
		w := c.start()
		settle(100 * time.Millisecond)
		e, _ := c.report(w, "one")
		settle(3 * time.Second)
		require.Equal(t, "True Evaluated ", ready(c.status("a")))
		require.EqualValues(t, 1, c.status("a").ObservedGeneration)
		require.EqualValues(t, 3, *c.status("a").Series)
		require.Equal(t, "pods", c.status("a").ServedFor)
		require.Equal(t, "False Invalid 1:3: parse error: unclosed left parenthesis", ready(c.status("bad")))
		require.Equal(t, `False Invalid cannot read the rule: time: invalid duration "for ever"`, ready(c.status("worse")))
		for _, name := range []string{"a", "bad", "worse"} {
			require.Len(t, c.writesOf(name), 1, name)
		}

		// A change is told within two seconds, an outcome within calm, all else every half minute; what stays the same never.
		c.put("a", spec("f"))
		settle(2 * time.Second)
		require.EqualValues(t, 2, c.status("a").ObservedGeneration)
		require.Len(t, c.writesOf("a"), 2)
		e.set("a", rules.Status{Err: errors.New("timed out"), Evaluated: time.Now()})
		settle(calm + time.Second)
		require.Equal(t, "False EvaluationFailed timed out", ready(c.status("a")))
		require.Len(t, c.writesOf("a"), 3)
		settle(10 * time.Minute)
		require.Len(t, c.writesOf("a"), 3, "nothing changes any more")
		e.set("a", rules.Status{Evaluated: time.Now(), Series: 3, Objects: 2})
		settle(calm + time.Second)
		require.Equal(t, "True Evaluated ", ready(c.status("a")))
		require.Len(t, c.writesOf("bad"), 1)
		_, calls := w.last()
		require.Equal(t, 2, calls, "a status is no change of a rule")
		require.Equal(t, 1, w.log.count("\n"), "who writes, and no fault")
	})
}

func TestAStatusThatMovesIsWrittenSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.put("a", spec("e"))
		c.put("flaps", spec("e"))
		w := c.start()
		e, _ := c.report(w, "one")
		for i := range 600 {
			s := rules.Status{Evaluated: time.Now()}
			if i%2 == 0 {
				s.Err = fmt.Errorf("timed out at %d", i)
			}
			e.set("flaps", s)
			settle(time.Second)
		}
		require.InDelta(t, 600/refresh.Seconds(), len(c.writesOf("a")), 2, "its last evaluation's time moves")
		require.InDelta(t, 600/calm.Seconds(), len(c.writesOf("flaps")), 30)
		for _, name := range []string{"a", "flaps"} {
			times := c.writesOf(name)
			for i := range times[1:] {
				require.GreaterOrEqual(t, times[i+1].Sub(times[i]), calm, name)
			}
		}
	})
}

func TestAThousandRulesAreNoStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for i := range 1000 {
			c.put(fmt.Sprintf("r%03d", i), spec("e"))
		}
		w := c.start()
		settle(time.Second)
		c.report(w, "one")
		settle(60 * time.Second)
		total := 0
		for i := range 1000 {
			n := len(c.writesOf(fmt.Sprintf("r%03d", i)))
			require.GreaterOrEqual(t, n, 1)
			total += n
		}
		require.LessOrEqual(t, total, 61*writesATick)
		c.put("r999", spec("f"))
		settle(2 * time.Second)
		require.EqualValues(t, 2, c.status("r999").ObservedGeneration, "a change goes before a refresh")
	})
}

// TestARuleThatChangesUnderWay: no status is written of a spec that the adapter has not evaluated, nor over one that it has
// not seen.
func TestARuleThatChangesUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.put("a", spec("e"))
		w := c.start()
		settle(100 * time.Millisecond)
		e, _ := c.report(w, "one")
		settle(2 * time.Second)
		require.Len(t, c.writesOf("a"), 1)

		e.freeze(w.lastRules())
		c.put("a", spec("f"))
		settle(time.Minute)
		require.Len(t, c.writesOf("a"), 1, "the adapter is slow to take it up")
		e.freeze(nil)
		settle(2 * time.Second)
		require.EqualValues(t, 2, c.status("a").ObservedGeneration)

		// The rule changes just before the write arrives.
		var once sync.Once
		conflicts := 0
		c.dynamic.PrependReactor("patch", "metricrules", func(a clienttesting.Action) (bool, runtime.Object, error) {
			once.Do(func() { c.put("a", spec("g")) })
			handled, o, err := c.applyStatus(a)
			if apierrors.IsConflict(err) {
				conflicts++
			}
			return handled, o, err
		})
		e.set("a", rules.Status{Err: errors.New("down"), Evaluated: time.Now()})
		settle(calm + 2*time.Second)
		require.Equal(t, 1, conflicts)
		require.EqualValues(t, 3, c.status("a").ObservedGeneration)
		require.Equal(t, "False EvaluationFailed down", ready(c.status("a")))

		c.remove("a")
		settle(time.Minute)
		require.Equal(t, 1, w.log.count("\n"), "none of this is a fault")
	})
}

func TestOneReplicaWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.put("a", spec("e"))
		one, two := c.start(), c.start()
		settle(100 * time.Millisecond)
		_, stop := c.report(one, "one")
		settle(time.Second)
		c.report(two, "two")
		settle(5 * time.Minute)
		require.Equal(t, 1, one.log.count("this replica writes"))
		require.Zero(t, two.log.count("this replica writes"))
		require.LessOrEqual(t, len(c.writesOf("a")), 11)
		stop() // gives the Lease up
		settle(5 * time.Second)
		require.Equal(t, 1, two.log.count("this replica writes"))
		before := len(c.writesOf("a"))
		settle(time.Minute)
		require.Greater(t, len(c.writesOf("a")), before)
	})
}

func TestWithoutALeaseNothingElseSuffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var denied atomic.Bool
		c.client.PrependReactor("*", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			return denied.Load(), nil, apierrors.NewForbidden(schema.GroupResource{Resource: "leases"}, "status", errors.New("no"))
		})
		w := c.start()
		settle(100 * time.Millisecond)
		_, _ = c.report(w, "one")
		settle(time.Minute)
		denied.Store(true)
		settle(20 * time.Second)
		c.put("a", spec("e"))
		settle(time.Minute)
		list, _ := w.last()
		require.Equal(t, []string{"a: e"}, list)
		require.Empty(t, c.writesOf("a"), "the Lease is lost")
		require.Equal(t, 1, w.log.count("forbidden"), "said once")
		denied.Store(false)
		settle(20 * time.Second)
		require.NotEmpty(t, c.writesOf("a"))
	})
}

func TestFailingWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for i := range 50 {
			c.put(fmt.Sprint("r", i), spec("e"))
		}
		w := c.start()
		settle(100 * time.Millisecond)
		var mu sync.Mutex
		tries, fault := 0, errors.New("admission says no")
		c.dynamic.PrependReactor("patch", "metricrules", func(clienttesting.Action) (bool, runtime.Object, error) {
			mu.Lock()
			defer mu.Unlock()
			tries++
			return fault != nil, nil, fault
		})
		c.report(w, "one")
		settle(5 * time.Minute)
		require.Equal(t, 1, w.log.count("admission says no"))
		mu.Lock()
		require.InDelta(t, 300, tries, 5, "one try each second")
		fault = nil
		mu.Unlock()
		settle(5 * time.Second)
		for i := range 50 {
			require.NotEmpty(t, c.writesOf(fmt.Sprint("r", i)))
		}
	})
}

func TestReportOptionsThatCannotBeUsed(t *testing.T) {
	c := newCluster(t)
	w := New(Options{Dynamic: c.dynamic, Client: c.client})
	err := w.Report(t.Context(), ReportOptions{Namespace: "n", Lease: "l"})
	require.EqualError(t, err, "cannot elect who writes the status of MetricRules: Lock identity is empty")
}

func TestANamespaceThatComesLateIsPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var allowed atomic.Bool
		c.client.PrependReactor("list", "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) {
			return !allowed.Load(), nil, errors.New("forbidden")
		})
		selecting := spec("e")
		selecting["namespaceSelector"] = map[string]any{}
		c.put("a", selecting)
		w := c.start()
		c.report(w, "one")
		settle(5 * time.Second)
		require.Equal(t, "Unknown Pending spec.namespaceSelector: the namespaces are not known yet", ready(c.status("a")))
		allowed.Store(true)
		settle(calm + 3*time.Second)
		require.Equal(t, "True Evaluated ", ready(c.status("a")))
	})
}
