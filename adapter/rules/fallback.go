package rules

import (
	"iter"
	"maps"
	"time"

	"headroom.dev/headroom/adapter/metric"
)

// remembered is how long the last value of an object is kept whose metric serves a stated number: it only dates that.
const remembered = time.Hour

// memory is what fallbacks of one metric for one resource rest on. It never changes once a snapshot has it.
type memory struct {
	since time.Time // when the metric was first evaluated
	last  map[objectKey]memo
}

// memo is an object's last value.
type memo struct {
	value  metric.Value
	labels map[string]string // of an external series
	served time.Time         // when it was last young enough, as far as ticks tell
}

// remember begins a memory for the metrics that have a fallback now, and ends it for those that have none any more.
func (e *Evaluator) remember(now time.Time) {
	former := e.memory
	e.memory = map[metricKey]*memory{}
	for _, c := range e.set.rules {
		if c.Err != nil || c.Rule.Fallback == nil {
			continue
		}
		key := metricKey{c.Rule.Metric, c.Rule.Target.Resource}
		if m, ok := former[key]; ok {
			e.memory[key] = m
		} else if e.memory[key] == nil {
			e.memory[key] = &memory{since: now}
		}
	}
}

// learn brings the memory up to date with a snapshot, which then has it.
func (e *Evaluator) learn(s *Snapshot, now time.Time) {
	s.memory = make(map[metricKey]*memory, len(e.memory))
	for key, m := range e.memory {
		asked := s.set.index[key]
		keep := s.keep(asked)
		last := maps.Clone(m.last)
		if last == nil {
			last = map[objectKey]memo{}
		}
		maps.DeleteFunc(last, func(_ objectKey, old memo) bool { return now.Sub(old.served) > keep })
		for _, i := range asked {
			v := &s.views[i]
			if v.result == nil {
				continue
			}
			for j := range v.result.entries {
				entry := &v.result.entries[j]
				old, ok := last[entry.object]
				if ok && old.served.Equal(now) || !ok && len(last) >= e.opts.MaxResults || !v.servable(entry, now) || !v.covers(entry.object) {
					continue
				}
				last[entry.object] = memo{value: v.value(entry), labels: entry.labels, served: now}
			}
		}
		e.memory[key] = &memory{since: m.since, last: last}
		s.memory[key] = e.memory[key]
	}
}

// keep returns how long the last values of a metric can matter.
func (s *Snapshot) keep(asked []int) time.Duration {
	var most time.Duration
	for _, i := range asked {
		if f := s.views[i].c.Rule.Fallback; f != nil && f.Value != nil {
			most = max(most, f.After+remembered)
		} else if f != nil {
			most = max(most, f.After+f.HoldFor)
		}
	}
	return most
}

// fallback returns what stands in for a value that no rule has.
func (s *Snapshot) fallback(key metricKey, asked []int, o objectKey, now time.Time) (metric.Value, bool) {
	m := s.memory[key]
	if m == nil {
		return metric.Value{}, false
	}
	for _, i := range asked {
		v := &s.views[i]
		f := v.c.Rule.Fallback
		if v.c.Err != nil || f == nil || !v.covers(o) {
			continue
		}
		last, ever := m.last[o]
		begin := m.since.Add(f.After)
		if ever {
			begin = last.served.Add(f.After)
		}
		switch {
		case now.Before(begin):
		case f.Value != nil:
			out := metric.Value{
				Value: *f.Value, Time: begin, Rule: v.c.Rule.Name, Fallback: metric.SetFallback, IncludeLoading: v.c.Rule.IncludeLoading,
			}
			if ever {
				out.Time = last.value.Time
			}
			return out, true
		case ever && now.Sub(begin) <= f.HoldFor:
			out := last.value
			out.Fallback = metric.HeldFallback
			return out, true
		}
	}
	return metric.Value{}, false
}

// covers reports whether the rule speaks of what the key names: an object, or a series of an external metric.
func (v *rule) covers(o objectKey) bool {
	if v.c.Rule.Target.Resource == metric.External && o.namespace == "" {
		return true
	}
	return v.c.covered(o)
}

// objects yields the objects of a namespace ("" for all) with a last value.
func (m *memory) objects(namespace string) iter.Seq[objectKey] {
	return func(yield func(objectKey) bool) {
		if m == nil {
			return
		}
		for o := range m.last {
			if (namespace == "" || o.namespace == namespace) && !yield(o) {
				return
			}
		}
	}
}
