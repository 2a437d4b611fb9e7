package rules

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/adapter/store"
)

// slowServer is a Remote that takes its time.
type slowServer struct {
	takes time.Duration
	mu    sync.Mutex
	asked map[string]int
	most  int
	now   int
}

func (s *slowServer) Query(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	s.mu.Lock()
	s.asked[expr]++
	s.now++
	s.most = max(s.most, s.now)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.now--
		s.mu.Unlock()
	}()
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ls := labels.FromStrings("namespace", "n", "pod", "p", "headroom_part", "value")
	t := float64(at.UnixMilli()) / 1000
	return promql.Vector{
		{Metric: ls, F: t},
		{Metric: labels.NewBuilder(ls).Set("headroom_part", "time_0").Labels(), F: t},
	}, nil
}

func TestAServerDelaysNobody(t *testing.T) {
	for takes, want := range map[time.Duration]struct {
		least, most int
		err         bool
	}{
		0:                      {12, 13, false},
		400 * time.Millisecond: {12, 13, false},
		2 * time.Second:        {12, 13, false},
		4 * time.Second:        {7, 8, false},
		time.Hour:              {3, 3, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			list := []Rule{podRule("here", "b")}
			for i := range 8 {
				r := podRule(fmt.Sprint("there", i), fmt.Sprint("a", i))
				r.Source = Prometheus
				list = append(list, r)
			}
			set := mustCompile(t, list...)
			st := store.New(store.Options{Keep: set.Needs()})
			s := &slowServer{takes: takes, asked: map[string]int{}}
			var last *Snapshot
			ticking(t, Options{Store: st, Remote: s}, set, st, time.Minute, func(snap *Snapshot, now time.Time) {
				require.Zero(t, dataAge(t, snap, "here", now))
				last = snap
			})
			for _, c := range set.Rules()[1:] {
				n := s.asked[c.query]
				require.GreaterOrEqual(t, n, want.least, takes)
				require.LessOrEqual(t, n, want.most, takes)
			}
			require.Len(t, s.asked, 8, "one query for each rule")
			require.Equal(t, want.err, last.Statuses()[1].Err != nil, takes)
		})
	}
}

// TestIdleRulesAskTheServerSeldom: most built-in rules find nothing.
func TestIdleRulesAskTheServerSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := podRule("m", "a")
		r.Source = Prometheus
		set := mustCompile(t, r)
		st := store.New(store.Options{})
		s := &counting{}
		ticking(t, Options{Store: st, Remote: s}, set, st, time.Minute, func(*Snapshot, time.Time) {})
		require.Equal(t, 2, s.asked, "every 30 s")
	})
}

// counting is a Remote without any series.
type counting struct{ asked int }

func (c *counting) Query(context.Context, string, time.Time) (promql.Vector, error) {
	c.asked++
	return nil, nil
}

func TestRemoteAnswersAreNotTrusted(t *testing.T) {
	r := podRule("m", "a offset 10s or b or a offset 10s")
	r.Source = Prometheus
	set := mustCompile(t, r)
	require.Equal(t, "label_replace((\na offset 10s or b or a offset 10s\n), \"headroom_part\", \"value\", \"headroom_part\", \".*\")\n"+
		"or label_replace(min by (namespace, pod) (timestamp(a offset 10000ms)), \"headroom_part\", \"time_0\", \"headroom_part\", \".*\")\n"+
		"or label_replace(min by (namespace, pod) (timestamp(b)), \"headroom_part\", \"time_1\", \"headroom_part\", \".*\")", set.Rules()[0].query)
	now := time.UnixMilli(1e12)
	sample := func(part, pod string, v float64) promql.Sample {
		return promql.Sample{Metric: labels.FromStrings("namespace", "n", "pod", pod, "headroom_part", part), F: v}
	}
	snap := evaluate(t, set, Options{Remote: answer{sample("value", "a", 1), sample("time_0", "a", 1e9-11), sample("value", "b", 2), sample("time_1", "b", 2e9)}}, now)
	v, err := snap.Lookup("m", pod("a"), now)
	require.NoError(t, err)
	require.Equal(t, time.Second, v.Age(now), "an offset's samples count from where it looks")
	v, err = snap.Lookup("m", pod("b"), now)
	require.NoError(t, err)
	require.Zero(t, v.Age(now), "nothing is from the future")
	native := sample("value", "a", 0)
	native.H = &histogram.FloatHistogram{Count: 3}
	snap = evaluate(t, set, Options{Remote: answer{native, sample("time_0", "a", 1e9-11)}}, now)
	_, err = snap.Lookup("m", pod("a"), now)
	require.ErrorContains(t, err, "the result is a histogram, not a number")
	for _, part := range []string{"", "time_2", "time_-1", "time_x", "other"} {
		snap := evaluate(t, set, Options{Remote: answer{sample(part, "a", 1)}}, now)
		require.ErrorContains(t, snap.Statuses()[0].Err, "was not asked for", part)
	}
	snap = evaluate(t, set, Options{}, now)
	require.ErrorContains(t, snap.Statuses()[0].Err, "no Prometheus server is configured")
}

// answer is a Remote that always says the same.
type answer promql.Vector

func (a answer) Query(context.Context, string, time.Time) (promql.Vector, error) {
	return append(promql.Vector(nil), a...), nil
}
