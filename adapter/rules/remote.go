package rules

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
)

// Remote is a Prometheus-compatible server.
type Remote interface {
	// Query runs an instant query and returns its vector; any other result is an error.
	Query(ctx context.Context, expr string, at time.Time) (promql.Vector, error)
}

// The label that parts the answer to a rule's one query: valuePart on its results, timePart and a number on the sample
// times of each selector.
const (
	partLabel = "headroom_part"
	valuePart = "value"
	timePart  = "time_"
)

// remoteQuery returns what brings the values of a rule's expression together with the times of the newest samples of its
// selectors, the oldest for each object. Prometheus and VictoriaMetrics understand it: label_replace with a source label
// that nothing has sets a label on all, and timestamp() of a selector is the time of its sample there and there. The new
// lines let the expression end in a comment.
func remoteQuery(c *Compiled) string {
	var b strings.Builder
	part := func(expr, name string) {
		fmt.Fprintf(&b, "label_replace(%s, %q, %q, %q, \".*\")", expr, partLabel, name, partLabel)
	}
	part("(\n"+c.Rule.Expr+"\n)", valuePart)
	for i, s := range c.remoteSelectors() {
		b.WriteString("\nor ")
		part(fmt.Sprintf("min by (%s) (timestamp(%s))", strings.Join(c.dating, ", "), s.timed()), timePart+strconv.Itoa(i))
	}
	return b.String()
}

// remoteSelectors returns the selectors of the expression, those that look alike once.
func (c *Compiled) remoteSelectors() []selector {
	var list []selector
	seen := map[string]bool{}
	for _, s := range c.selectors {
		if text := s.timed(); !seen[text] {
			seen[text] = true
			list = append(list, s)
		}
	}
	return list
}

// timed is the selector as it looks at its samples.
func (s *selector) timed() string {
	if s.offset == 0 {
		return s.text
	}
	return s.text + " offset " + strconv.FormatInt(s.offset.Milliseconds(), 10) + "ms"
}

// runRemote evaluates a rule on the server.
func (e *Evaluator) runRemote(ctx context.Context, c *Compiled, former *result, now time.Time) (*result, error) {
	ctx, cancel := context.WithTimeout(ctx, e.opts.RemoteTimeout)
	defer cancel()
	vector, err := e.opts.Remote.Query(ctx, c.query, now)
	if err != nil {
		return nil, err
	}
	selectors := c.remoteSelectors()
	d := &dates{by: c.dating}
	for range selectors {
		d.selections = append(d.selections, newSelection(true))
	}
	values := vector[:0]
	for _, s := range vector {
		name := s.Metric.Get(partLabel)
		if name == valuePart {
			s.Metric = labels.NewBuilder(s.Metric).Del(partLabel).Labels()
			values = append(values, s)
			continue
		}
		i, err := strconv.Atoi(strings.TrimPrefix(name, timePart))
		if err != nil || i < 0 || i >= len(selectors) {
			return nil, fmt.Errorf("the server's answer has a series %s that was not asked for", s.Metric)
		}
		// A server's clock may be ahead of ours, but nothing is younger than now.
		t := min(int64(math.Round(s.F*1000))+selectors[i].offset.Milliseconds(), now.UnixMilli())
		d.selections[i].add(groupOf(s.Metric, d.by), seen{live: t, ended: never})
		d.series++
	}
	m := newMaker(c, former, now, e.opts.MaxResults)
	m.res.series = d.series
	return m.takeVector(values, d)
}
