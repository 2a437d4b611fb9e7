package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"headroom.dev/headroom/recommender"
)

// outcome is what each setting did on a trace, in the order of the settings.
type outcome struct {
	*trace
	scores []score
}

// accuracy plays every trace to every setting.
func accuracy(ctx context.Context, traces []*trace, all []setting, say io.Writer) ([]*outcome, error) {
	total := 0
	perSeries := make([][][]score, len(traces))
	for i, t := range traces {
		total += len(t.series)
		perSeries[i] = make([][]score, len(t.series))
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	var mu sync.Mutex
	done, told := 0, time.Now()
	for i, t := range traces {
		for k, s := range t.series {
			group.Go(func() error {
				scores, err := judge(ctx, s, all)
				if err != nil {
					return fmt.Errorf("cannot replay %s: %w", s.name, err)
				}
				mu.Lock()
				defer mu.Unlock()
				perSeries[i][k] = scores
				done++
				if time.Since(told) > 5*time.Second || done == total {
					told = time.Now()
					fmt.Fprintf(say, "accuracy: %d of %d series, %d settings each\n", done, total, len(all))
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	list := make([]*outcome, len(traces))
	for i, t := range traces {
		list[i] = &outcome{trace: t}
		for j := range all {
			var scores []score
			for _, s := range perSeries[i] {
				scores = append(scores, s[j])
			}
			list[i].scores = append(list[i].scores, mean(scores))
		}
	}
	return list, nil
}

func judge(ctx context.Context, s *series, all []setting) ([]score, error) {
	scores := make([]score, len(all))
	for j, setting := range all {
		r, err := replay(ctx, s, setting.make(s.resource))
		if err != nil {
			return nil, err
		}
		risk := setting.risk
		if risk == 0 {
			risk = recommender.DefaultPolicy(s.resource).Risk
		}
		hold := setting.hold
		if hold == 0 {
			hold = recommender.DefaultPolicy(s.resource).Hold
		}
		scores[j] = scoreOf(s, r, risk, hold)
	}
	return scores, nil
}

// families are the outcomes of the traces of one family and resource, and their mean. A family of one trace is that trace.
func families(list []*outcome) []*outcome {
	var means []*outcome
	members := map[string][]*outcome{}
	for _, o := range list {
		if members[o.family] == nil {
			means = append(means, &outcome{trace: &trace{name: o.family, family: o.family, series: o.series[:1]}})
		}
		members[o.family] = append(members[o.family], o)
	}
	for _, m := range means {
		if group := members[m.family]; len(group) == 1 {
			m.trace = group[0].trace
		}
		m.scores = meanOf(members[m.family])
	}
	return means
}

// meanOf is the macro mean of outcomes, setting by setting.
func meanOf(list []*outcome) []score {
	scores := make([]score, len(list[0].scores))
	for j := range scores {
		var column []score
		for _, o := range list {
			column = append(column, o.scores[j])
		}
		scores[j] = mean(column)
	}
	return scores
}

// of keeps the outcomes of a resource.
func of(list []*outcome, r recommender.Resource) []*outcome {
	return slices.DeleteFunc(slices.Clone(list), func(o *outcome) bool { return o.resource() != r })
}
