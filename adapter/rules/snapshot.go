package rules

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	"headroom.dev/headroom/adapter/metric"
)

// Snapshot is what all rules gave at one moment. It never changes.
type Snapshot struct {
	at    time.Time
	rules []result // as in Set.rules
	index map[metricKey]int
}

// Status is how one rule fared.
type Status struct {
	Rule       Rule
	Err        error         // why the rule as a whole has no values: it does not compile (*RuleError) or could not be evaluated
	Duration   time.Duration // of the evaluation
	Objects    int           // that got a value
	Unlabelled int           // results without labels namespace and pod: served for nothing
	Ambiguous  int           // objects with more than one result: withheld
	Examples   []string      // of the last two, a few
}

// result is one rule's part of a snapshot.
type result struct {
	rule    *Compiled
	status  Status
	entries []entry // by object
}

// entry is one object's value, or why it has none.
type entry struct {
	object  objectKey
	value   float64
	time    time.Time // of the data behind it; zero where that is unknown, then there is a problem
	ended   bool      // all series behind it have ended
	problem string    // why there is no value; empty where there is one
}

func (k objectKey) compare(o objectKey) int {
	return cmp.Or(cmp.Compare(k.namespace, o.namespace), cmp.Compare(k.pod, o.pod))
}

// At returns the time that the rules were evaluated for.
func (s *Snapshot) At() time.Time { return s.at }

// Metrics returns what rules define, by name, whether there are values now or not: a metric stays discoverable while its
// sources are down or its rule is broken.
func (s *Snapshot) Metrics() []metric.Descriptor {
	list := make([]metric.Descriptor, 0, len(s.index))
	for _, i := range s.index {
		r := s.rules[i].rule.Rule
		list = append(list, metric.Descriptor{Name: r.Metric, Resource: r.Resource, Unit: r.Unit})
	}
	slices.SortFunc(list, func(a, b metric.Descriptor) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Resource, b.Resource))
	})
	return list
}

// Statuses returns how each rule fared, in the order of the set.
func (s *Snapshot) Statuses() []Status {
	list := make([]Status, len(s.rules))
	for i := range s.rules {
		list[i] = s.rules[i].status
	}
	return list
}

// Lookup returns the value of a metric for one object. The error is a *metric.UnknownError where no rule defines the
// metric for that resource, else a *metric.AbsentError. A value is never older than its rule's MaxAge at now.
func (s *Snapshot) Lookup(metricName string, object metric.Object, now time.Time) (metric.Value, error) {
	i, ok := s.index[metricKey{metricName, object.Resource}]
	if !ok {
		return metric.Value{}, &metric.UnknownError{Metric: metricName, Resource: object.Resource}
	}
	r := &s.rules[i]
	e := r.find(objectKey{object.Namespace, object.Name})
	if reason := r.absence(e, now); reason != "" {
		return metric.Value{}, &metric.AbsentError{Metric: metricName, Object: object, Reason: reason}
	}
	return metric.Value{Value: e.value, Time: e.time, Window: r.rule.Window}, nil
}

func (r *result) find(key objectKey) *entry {
	i, ok := slices.BinarySearchFunc(r.entries, key, func(e entry, k objectKey) int { return e.object.compare(k) })
	if !ok {
		return nil
	}
	return &r.entries[i]
}

// absence says why there is no value to serve at now; empty where there is one.
func (r *result) absence(e *entry, now time.Time) string {
	switch {
	case r.status.Err != nil:
		return r.status.Err.Error()
	case e == nil && r.status.Unlabelled > 0:
		return unlabelled
	case e == nil:
		return fmt.Sprintf("no sample in %s", r.rule.lookBack())
	case e.ended:
		return fmt.Sprintf("its series have ended; the newest sample is %s old", age(now.Sub(e.time)))
	case e.time.IsZero():
		return e.problem
	case now.Sub(e.time) > r.rule.Rule.MaxAge:
		return fmt.Sprintf("newest sample is %s old, at most %s", age(now.Sub(e.time)), r.rule.Rule.MaxAge)
	default:
		return e.problem
	}
}

func age(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// Objects yields, by namespace and name, the objects of a namespace ("" for all) that the metric's rule found series of.
// Lookup says for each whether there is a value.
func (s *Snapshot) Objects(metricName, resource, namespace string) iter.Seq[metric.Object] {
	return func(yield func(metric.Object) bool) {
		i, ok := s.index[metricKey{metricName, resource}]
		if !ok {
			return
		}
		list := s.rules[i].entries
		from, _ := slices.BinarySearchFunc(list, namespace, func(e entry, ns string) int { return cmp.Compare(e.object.namespace, ns) })
		for _, e := range list[from:] {
			if namespace != "" && e.object.namespace != namespace {
				return
			}
			if !yield(metric.Object{Resource: resource, Namespace: e.object.namespace, Name: e.object.pod}) {
				return
			}
		}
	}
}
