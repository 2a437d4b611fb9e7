package evidence

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/judge"
)

// conclude says what the judge's verdict means at this key: a Fail holds wherever the evidence came from, a Pass needs looks here
// that saw most of the pods that are here now.
func (s *scene) conclude(v judge.Verdict) {
	unseen, mute := s.unseen(&v)
	if unseen == "" && !v.Pause {
		s.record.Here++
	}
	message := s.explain(&v)
	switch {
	case v.Outcome == judge.Fail:
		s.say(rollout.Fail, string(v.Reason), message, &v)
	case v.Outcome == judge.Pass && mute:
		s.say(rollout.Inconclusive, string(judge.NoData), unseen, &v)
	case v.Outcome == judge.Pass && unseen != "":
		s.say(rollout.NoResult, string(judge.Gathering), unseen, &v)
	case v.Outcome == judge.Pass && s.record.Here < minLooks:
		s.say(rollout.NoResult, string(judge.Gathering), fmt.Sprintf("%s so far; look %d of %d at this step", message, s.record.Here, minLooks), &v)
	case v.Outcome == judge.Pass:
		s.say(rollout.Pass, string(v.Reason), message, &v)
	case v.Pause:
		s.say(rollout.Inconclusive, string(v.Reason), message, &v)
	default:
		s.say(rollout.NoResult, string(v.Reason), message, &v)
	}
}

// unseen says that a look did not see most of the new pods; mute is that some of them have been Ready for long enough to be seen.
func (s *scene) unseen(v *judge.Verdict) (message string, mute bool) {
	for _, m := range v.Metrics {
		if m.Reason == judge.Ignored || 2*m.New.Pods >= len(s.new) {
			continue
		}
		for _, p := range s.new {
			ready, since := readySince(p)
			mute = mute || ready && len(s.readings[p.Name]) == 0 && s.now.Sub(since) > s.plan.spec.WarmUp+maxAge
		}
		return fmt.Sprintf("%s: this look saw %d of %d new pods", m.Name, m.New.Pods, len(s.new)), mute
	}
	return "", false
}

// explain adds to a message what the judge cannot know: the names that were looked for, and why there is no answer.
func (s *scene) explain(v *judge.Verdict) string {
	var absent []string
	parts := []string{v.Message}
	for _, m := range v.Metrics {
		if m.Reason != judge.NoData && m.Reason != judge.ArmAbsent {
			continue
		}
		if fault := s.faults[m.Name]; fault != "" {
			parts = append(parts, m.Name+": "+fault)
			continue
		}
		absent = append(absent, m.Name)
	}
	if v.Outcome == judge.Inconclusive && len(absent) > 0 {
		parts = append(parts, s.lookedFor(absent))
	}
	if len(s.record.LeftOut) > 0 {
		parts = append(parts, "without "+strings.Join(s.record.LeftOut, ", ")+", which neither version reports")
	}
	return strings.Join(parts, "; ")
}

// lookedFor names the series that metrics were looked for under.
func (s *scene) lookedFor(metrics []string) string {
	var parts []string
	for i := range s.plan.metrics {
		m := &s.plan.metrics[i]
		if !slices.Contains(metrics, m.Name) {
			continue
		}
		switch m.Kind {
		case judge.Errors:
			parts = append(parts, s.whyNoErrors(m))
		case judge.Latency:
			var names []string
			for _, one := range m.candidates(s.record) {
				names = append(names, one.histogram+"_bucket")
			}
			parts = append(parts, m.Name+": looked for "+strings.Join(names, ", "))
		case judge.Gauge:
			parts = append(parts, m.Name+": looked for "+m.metric+m.query)
		}
	}
	return strings.Join(parts, "; ")
}

// whyNoErrors tells a counter that does not say which requests failed from none at all.
func (s *scene) whyNoErrors(m *wanted) string {
	var names, blind []string
	for _, one := range m.candidates(s.record) {
		name := one.all[0].name
		names = append(names, name)
		for pod := range s.readings {
			if s.record.Sources[m.Name] == "" && len(s.readings[pod][name]) > 0 && !slices.Contains(blind, name) {
				blind = append(blind, name)
			}
		}
	}
	text := m.Name + ": looked for failed requests in " + strings.Join(names, ", ")
	if len(blind) > 0 {
		text += "; " + strings.Join(blind, ", ") + " is there, but does not tell failures for both versions"
	}
	return text + "; a metric that is optional in spec.analysis.metrics may be absent"
}

// figures are what the status shows of each metric.
func (s *scene) figures(v *judge.Verdict) []v1alpha1.RolloutMetricVerdict {
	var list []v1alpha1.RolloutMetricVerdict
	for _, m := range v.Metrics {
		show := s.shown(&m)
		out := v1alpha1.RolloutMetricVerdict{
			Name: m.Name, Result: string(m.Outcome), Reason: string(m.Reason), Message: m.Message, Old: show(m.Old.Value), New: show(m.New.Value),
		}
		if e := m.Effect; e.OK && finite(e.Ratio) {
			out.Ratio = short(e.Ratio)
			switch {
			case finite(e.Low) && finite(e.High):
				out.Ratio += fmt.Sprintf(" (%s to %s)", short(e.Low), short(e.High))
			case finite(e.Low):
				out.Ratio += fmt.Sprintf(" (%s or more)", short(e.Low))
			}
		}
		list = append(list, out)
	}
	return list
}

// shown is how a metric's values are written; "" for what is not known.
func (s *scene) shown(m *judge.MetricVerdict) func(float64) string {
	unit, factor := "", 1.0
	switch m.Kind {
	case judge.Errors:
		unit, factor = " %", 100
	case judge.Latency:
		for i := range s.plan.metrics {
			if w := &s.plan.metrics[i]; w.Name == m.Name && s.record.Sources[m.Name] != "" {
				unit = strings.TrimRight(" "+w.candidates(s.record)[0].unit(), " ")
			}
		}
	case judge.Gauge:
	}
	return func(x float64) string {
		if !finite(x) {
			return ""
		}
		return short(factor*x) + unit
	}
}

// short has three digits: 0.0123, 3.1, 412, 12,300 as 12300.
func short(x float64) string {
	if x == 0 || !finite(x) {
		return strconv.FormatFloat(x, 'g', -1, 64)
	}
	digits := 2 - int(math.Floor(math.Log10(math.Abs(x))))
	text := strconv.FormatFloat(x, 'f', max(0, min(digits, 12)), 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
