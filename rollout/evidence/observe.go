package evidence

import (
	"fmt"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"headroom.dev/headroom/rollout/judge"
)

// observe puts together what the judge takes.
func (s *scene) observe() judge.Observations {
	of := func(pods []*corev1.Pod) []judge.Pod {
		list := make([]judge.Pod, 0, len(pods))
		for _, p := range pods {
			one := judge.Pod{Name: p.Name, Age: age(p, s.now), Values: map[string]judge.Value{}}
			for i := range s.plan.metrics {
				m := &s.plan.metrics[i]
				if v, ok := s.value(m, p.Name); ok {
					one.Values[m.Name] = v
				}
			}
			list = append(list, one)
		}
		return list
	}
	return judge.Observations{New: of(s.new), Old: of(s.old), Mix: s.record.Key}
}

func (s *scene) value(m *wanted, pod string) (judge.Value, bool) {
	if m.Kind == judge.Gauge {
		v, ok := s.gauges[m.Name][pod]
		return judge.Value{Gauge: v}, ok
	}
	if s.record.Sources[m.Name] == "" {
		return judge.Value{}, false
	}
	return s.readings.value(m.candidates(s.record)[0], pod)
}

// quiet names a metric that a quarter of a version's pods, or more, have served no request for since the judge looked: they have
// not been scraped yet, or there was none. Which looks are taken so depends on requests alone, never on how many of them failed;
// and a look that has two scrapes of some pods and none of others would take that for other weights.
func (s *scene) quiet(o judge.Observations) string {
	for name, before := range s.record.Requests {
		for arm, pods := range map[string][]judge.Pod{"new": o.New, "old": o.Old} {
			seen, moved := 0, 0
			for _, p := range pods {
				last, ok := before[p.Name]
				v, reports := p.Values[name]
				if !ok || !reports {
					continue
				}
				seen++
				if requests(v) != last {
					moved++
				}
			}
			if 4*moved < 3*seen {
				return fmt.Sprintf("%s: %d of %d pods of the %s version have counted no requests since the last look", name, seen-moved, seen, arm)
			}
		}
	}
	return ""
}

// remember keeps what the counters stand at.
func (s *scene) remember(o judge.Observations) {
	s.record.Requests = map[string]map[string]float64{}
	for i := range s.plan.metrics {
		m := &s.plan.metrics[i]
		if m.Kind == judge.Gauge {
			continue
		}
		of := map[string]float64{}
		for _, p := range slices.Concat(o.New, o.Old) {
			if v, ok := p.Values[m.Name]; ok && requests(v) >= 0 && !math.IsInf(requests(v), 0) {
				of[p.Name] = requests(v)
			}
		}
		s.record.Requests[m.Name] = of
	}
}
