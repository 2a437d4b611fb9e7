package rules

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"headroom.dev/headroom/adapter/metric"
)

// found is one series of an external metric.
type found struct {
	key    objectKey
	labels map[string]string
	value  metric.Value
	why    absence // where there is no value
	ok     bool
}

// External returns the series of an external metric that a namespace sees and whose labels match. The error is a
// *metric.UnknownError where no rule defines it, a *metric.AbsentError where nothing matches or all is too old, and an
// *metric.AmbiguousError where what matches comes from rules about several resources.
func (s *Snapshot) External(
	metricName, namespace string, match func(map[string]string) bool, now time.Time,
) ([]metric.Series, error) {
	asked, ok := s.set.external[metricName]
	if !ok {
		return nil, &metric.UnknownError{Metric: metricName, Resource: metric.External}
	}
	var list []metric.Series
	var by []string
	var most absence
	others := 0 // series that do not match
	for _, same := range s.byResource(asked) {
		g := s.gather(metricName, same, namespace, match, now)
		others += g.others
		for i := range g.list {
			f := &g.list[i]
			if f.ok {
				list = append(list, metric.Series{Labels: f.labels, Value: f.value})
			} else {
				most = most.orWorse(f.why)
			}
		}
		if len(g.list) > 0 {
			by = append(by, s.distinction(same))
			continue
		}
		for _, i := range same {
			most = most.orWorse(s.views[i].absence(nil, s.views[i].sees(namespace, objectKey{name: namespace})))
		}
	}
	switch {
	case len(by) > 1:
		return nil, &metric.AmbiguousError{Metric: metricName, Reason: "the selector matches series about the same pods " +
			"in several ways, which would be added up; let it name one, " + strings.Join(by, " or ")}
	case len(list) > 0:
		return list, nil
	}
	reason := most.reason(now)
	if len(by) == 0 {
		if v, ok := s.stated(asked, namespace, now); ok && others == 0 {
			return []metric.Series{{Labels: map[string]string{}, Value: v}}, nil
		}
		if others > 0 {
			reason = fmt.Sprintf("none of its %d series there matches", others)
		}
	}
	return nil, &metric.AbsentError{Metric: metricName, Object: metric.Object{Namespace: namespace}, Reason: reason}
}

// byResource parts rules, which are in the order of their resources, by these.
func (s *Snapshot) byResource(asked []int) [][]int {
	var list [][]int
	resource := func(i int) string { return s.views[i].c.Rule.Target.Resource }
	for _, i := range asked {
		if n := len(list); n > 0 && resource(list[n-1][0]) == resource(i) {
			list[n-1] = append(list[n-1], i)
		} else {
			list = append(list, []int{i})
		}
	}
	return list
}

// distinction is the label that a selector names to mean the series of rules about one resource.
func (s *Snapshot) distinction(same []int) string {
	c := s.views[same[0]].c
	switch t := &c.Rule.Target; {
	case t.Resource != metric.External:
		return t.NameLabel + "=…"
	case len(t.Labels) > 0:
		return t.Labels[0] + "=…"
	}
	return "a label of rule " + c.Rule.Name
}

// gathering takes in the series of rules about one resource, in the order in which they are asked.
type gathering struct {
	match  func(map[string]string) bool
	places map[objectKey]int // in list; -1 for what does not match
	list   []found           // that match, with a value or without
	others int               // that do not match
}

func (g *gathering) take(f found) {
	i, again := g.places[f.key]
	switch {
	case !again && g.match(f.labels):
		g.places[f.key] = len(g.list)
		g.list = append(g.list, f)
	case !again:
		g.places[f.key] = -1
		g.others++
	case i >= 0 && !g.list[i].ok && f.ok:
		g.list[i] = f
	case i >= 0 && !g.list[i].ok:
		g.list[i].why = g.list[i].why.orWorse(f.why)
	}
}

// gather returns what rules about one resource have for a namespace.
func (s *Snapshot) gather(metricName string, same []int, namespace string, match func(map[string]string) bool, now time.Time) *gathering {
	g := &gathering{match: match, places: map[objectKey]int{}}
	for _, i := range same {
		v := &s.views[i]
		for e := range v.visible(namespace) {
			if v.servable(e, now) {
				g.take(found{key: e.object, labels: e.labels, value: v.value(e), ok: true})
			} else {
				g.take(found{key: e.object, labels: e.labels, why: v.absence(e, true)})
			}
		}
	}
	first := &s.views[same[0]]
	key := metricKey{metricName, first.c.Rule.Target.Resource}
	m := s.memory[key]
	if m == nil {
		return g
	}
	for o, memo := range m.last {
		if slices.ContainsFunc(same, func(i int) bool { return s.views[i].sees(namespace, o) }) {
			g.take(found{key: o, labels: memo.labels, why: first.absence(nil, true)})
		}
	}
	for i := range g.list {
		if f := &g.list[i]; !f.ok {
			f.value, f.ok = s.fallback(key, same, f.key, now)
		}
	}
	slices.SortFunc(g.list, func(a, b found) int { return a.key.compare(b.key) })
	return g
}

// visible yields the entries that are served as external series in a namespace.
func (v *rule) visible(namespace string) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for _, ns := range [...]string{namespace, ""} {
			entries := v.result.within(ns)
			for i := range entries {
				if e := &entries[i]; v.sees(namespace, e.object) && !yield(e) {
					return
				}
			}
		}
	}
}

// sees reports whether the rule serves an object or series as an external series in a namespace.
func (v *rule) sees(namespace string, o objectKey) bool {
	if v.c.Rule.Target.Resource == metric.Namespaces && o.name != namespace {
		return false
	}
	return (o.namespace == "" || o.namespace == namespace) && (v.c.covers == nil || v.c.covers[namespace])
}

// stated returns the number that a rule states for a metric that has no series at all in a namespace.
func (s *Snapshot) stated(asked []int, namespace string, now time.Time) (metric.Value, bool) {
	for _, i := range asked {
		r := &s.views[i].c.Rule
		if r.Fallback == nil || r.Fallback.Value == nil || !s.views[i].sees(namespace, objectKey{name: namespace}) {
			continue
		}
		if v, ok := s.fallback(metricKey{r.Metric, r.Target.Resource}, []int{i}, objectKey{namespace: namespace}, now); ok {
			return v, true
		}
	}
	return metric.Value{}, false
}
