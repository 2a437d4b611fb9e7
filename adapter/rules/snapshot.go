package rules

import (
	"fmt"
	"iter"
	"slices"
	"time"

	"headroom.dev/headroom/adapter/metric"
)

// Snapshot is what all rules had at one moment. It never changes.
type Snapshot struct {
	at     time.Time
	set    *Set
	views  []rule                // as in set.rules
	memory map[metricKey]*memory // of the metrics that have a fallback
}

// rule is one rule's part of a snapshot.
type rule struct {
	c        *Compiled
	result   *result // nil before the first good evaluation
	err      error
	duration time.Duration
	direct   bool
}

// Status is how one rule fares.
type Status struct {
	Rule       Rule
	Err        error         // why it has no values, or stale ones: it does not compile (*RuleError), or its last evaluation failed
	Evaluated  time.Time     // what the values are from, zero where there are none
	Duration   time.Duration // of the last evaluation
	Direct     bool          // it runs by a plan and not in the PromQL engine
	Series     int           // that the evaluation read; of a Prometheus rule, objects for each of its selectors
	Objects    int           // that got a value; of an external metric, series
	Shadowed   int           // of these, how many have their value from a rule that is asked earlier
	Unlabelled int           // results without the labels that name an object: served for nothing
	Notes      []string      // of results that are served for nothing, a few
}

// At returns the time that the rules were evaluated for.
func (s *Snapshot) At() time.Time { return s.at }

// Metrics returns what rules define, by name, whether there are values now or not: a metric stays discoverable while its
// sources are down or its rule is broken. The list is shared and not to be changed.
func (s *Snapshot) Metrics() []metric.Descriptor { return s.set.descriptors }

// Statuses returns how each rule fares, in the order of the set.
func (s *Snapshot) Statuses() []Status {
	list := make([]Status, len(s.views))
	for i := range s.views {
		v := &s.views[i]
		st := &list[i]
		*st = Status{Rule: v.c.Rule, Err: v.err, Duration: v.duration, Direct: v.direct}
		if r := v.result; r != nil {
			st.Evaluated, st.Series, st.Objects, st.Unlabelled, st.Notes = r.at, r.series, r.objects, r.unlabelled, r.notes
			st.Shadowed = s.shadowed(i)
		}
	}
	return list
}

// shadowed counts the objects of a rule whose value another rule gives.
func (s *Snapshot) shadowed(i int) int {
	v := &s.views[i]
	earlier := s.set.index[metricKey{v.c.Rule.Metric, v.c.Rule.Target.Resource}]
	earlier = earlier[:max(0, slices.Index(earlier, i))]
	n := 0
	for _, e := range v.result.entries {
		if !v.servable(&e, s.at) {
			continue
		}
		if slices.ContainsFunc(earlier, func(j int) bool { return s.views[j].servable(s.views[j].result.find(e.object), s.at) }) {
			n++
		}
	}
	return n
}

// Lookup returns the value of a metric for one object. The error is a *metric.UnknownError where no rule defines the
// metric for that resource, else a *metric.AbsentError. A measured value is never older than its rule's MaxAge at now.
func (s *Snapshot) Lookup(metricName string, object metric.Object, now time.Time) (metric.Value, error) {
	key := metricKey{metricName, object.Resource}
	asked, ok := s.set.index[key]
	if !ok || object.Resource == metric.External {
		return metric.Value{}, &metric.UnknownError{Metric: metricName, Resource: object.Resource}
	}
	o := objectKey{object.Namespace, object.Name}
	var most absence
	for _, i := range asked {
		v := &s.views[i]
		e := v.find(o)
		if v.servable(e, now) {
			return v.value(e), nil
		}
		most = most.orWorse(v.absence(e, v.c.covered(o)))
	}
	if v, ok := s.fallback(key, asked, o, now); ok {
		return v, nil
	}
	return metric.Value{}, &metric.AbsentError{Metric: metricName, Object: object, Reason: most.reason(now)}
}

// Candidates returns what each rule for the metric says of the object, in the order in which they are asked: its value, or
// why it has none, whether a fallback stands in for it or not. External metrics have no objects, and no candidates.
func (s *Snapshot) Candidates(metricName string, object metric.Object, now time.Time) []metric.Candidate {
	if object.Resource == metric.External {
		return nil
	}
	o := objectKey{object.Namespace, object.Name}
	var list []metric.Candidate
	for _, i := range s.set.index[metricKey{metricName, object.Resource}] {
		v := &s.views[i]
		c := metric.Candidate{Rule: v.c.Rule.Name}
		if e := v.find(o); v.servable(e, now) {
			c.Value = v.value(e)
		} else {
			c.Err = &metric.AbsentError{Metric: metricName, Object: object, Reason: v.absence(e, v.c.covered(o)).reason(now)}
		}
		list = append(list, c)
	}
	return list
}

// Objects yields, by namespace and name, the objects of a namespace ("" for all) that the metric's rules found series of,
// or whose last value they hold. Lookup says for each whether there is a value.
func (s *Snapshot) Objects(metricName, resource, namespace string) iter.Seq[metric.Object] {
	key := metricKey{metricName, resource}
	var list []objectKey
	for _, i := range s.set.index[key] {
		v := &s.views[i]
		if v.result == nil || resource == metric.External {
			continue
		}
		entries := v.result.entries
		if namespace != "" {
			entries = v.result.within(namespace)
		}
		for j := range entries {
			if o := entries[j].object; v.c.covered(o) {
				list = append(list, o)
			}
		}
	}
	for o := range s.memory[key].objects(namespace) {
		list = append(list, o)
	}
	if !slices.IsSortedFunc(list, objectKey.compare) {
		slices.SortFunc(list, objectKey.compare)
	}
	list = slices.Compact(list)
	return func(yield func(metric.Object) bool) {
		for _, o := range list {
			if !yield(metric.Object{Resource: resource, Namespace: o.namespace, Name: o.name}) {
				return
			}
		}
	}
}

// find returns what the rule has for an object; nil where it has nothing, or does not speak of it any more.
func (v *rule) find(o objectKey) *entry {
	if !v.c.covered(o) {
		return nil
	}
	return v.result.find(o)
}

// servable reports whether an entry, which may be nil, is a value that is young enough at now.
func (v *rule) servable(e *entry, now time.Time) bool {
	return e != nil && e.problem == "" && !e.ended && now.Sub(time.UnixMilli(e.time)) <= v.c.Rule.MaxAge
}

func (v *rule) value(e *entry) metric.Value {
	return metric.Value{
		Value: e.value, Time: time.UnixMilli(e.time), Window: v.c.Window,
		Rule: v.c.Rule.Name, IncludeLoading: v.c.Rule.IncludeLoading,
	}
}

// absence is why a rule has no value. The greater rank says more about the object.
type absence struct {
	rank  int
	rule  *rule
	entry *entry
}

const (
	notCovered  = iota + 1 // the rule does not speak of the object's namespace
	noSeries               // nor of what it found series of
	noResult               // it has not been evaluated, fails, or gives results that name nothing
	endedSeries            // its series have ended
	liveSeries             // it found series, and has no value all the same
)

func (v *rule) absence(e *entry, covered bool) absence {
	a := absence{rule: v, entry: e}
	switch {
	case !covered:
		a.rank = notCovered
	case e != nil && e.ended:
		a.rank = endedSeries
	case e != nil:
		a.rank = liveSeries
	case v.err != nil || v.result == nil || v.result.nameless:
		a.rank = noResult
	default:
		a.rank = noSeries
	}
	return a
}

// orWorse returns the one that says more, of two that say as much the first. Of rules that found nothing, the one that
// looked farthest back says most.
func (a absence) orWorse(b absence) absence {
	if b.rank > a.rank || b.rank == a.rank && a.rank == noSeries && b.rule.c.sight() > a.rule.c.sight() {
		return b
	}
	return a
}

// reason says in a few words why there is no value to serve at now.
func (a absence) reason(now time.Time) string {
	v, e := a.rule, a.entry
	switch {
	case a.rank == notCovered:
		return "no rule for it covers the namespace"
	case e == nil && v.err != nil:
		return v.err.Error()
	case e == nil && v.result == nil:
		return "the rule has not been evaluated yet"
	case e == nil && v.result.nameless:
		return v.c.unlabelled()
	case e == nil:
		return fmt.Sprintf("no sample in %s", v.c.sight())
	case e.ended && e.time == never:
		return "its series have ended, or the server's last scrape failed"
	case e.ended:
		return fmt.Sprintf("its series have ended; the newest sample is %s old", age(now, e))
	case e.time != never && now.Sub(time.UnixMilli(e.time)) > v.c.Rule.MaxAge:
		reason := fmt.Sprintf("newest sample is %s old, at most %s", age(now, e), v.c.Rule.MaxAge)
		if v.err != nil {
			reason += ": " + v.err.Error()
		}
		return reason
	}
	return e.problem
}

func age(now time.Time, e *entry) time.Duration {
	return now.Sub(time.UnixMilli(e.time)).Round(time.Millisecond)
}
