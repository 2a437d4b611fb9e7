package judge

import (
	"fmt"
	"math"
)

// lookAtGauge holds a gauge to its limits. An absent or invalid value neither counts as a breach nor ends a row of them.
func (j *Judge) lookAtGauge(m Metric, s *series, fresh, stable arm, v *MetricVerdict) {
	needsOld := m.MaxRatio > 0 || m.MinRatio > 0
	if fresh.pods > 0 {
		v.New.Value = fresh.value.Gauge
	}
	if stable.pods > 0 {
		v.Old.Value = stable.value.Gauge
	}
	if s.Failed {
		v.Outcome, v.Reason = Fail, BeyondLimits
		v.Message = m.Name + ": failed at an earlier look"
		return
	}
	other := stable
	if !needsOld {
		other = fresh // only new counts
	}
	if reason, message := usable(m, fresh, other); reason != "" {
		v.Reason, v.Message = reason, message
		if m.Absence == AbsenceIgnore && (reason == NoData || reason == ArmAbsent) {
			v.Reason = Ignored
		}
		return
	}
	if v.Old.Value > 0 {
		v.Effect = Effect{Ratio: v.New.Value / v.Old.Value, Low: math.NaN(), High: math.NaN(), OK: true}
	}
	breach, undefined := m.breach(v.New.Value, v.Old.Value)
	switch {
	case undefined:
		v.Reason, v.Message = InvalidData, fmt.Sprintf("%s: old is %v, so there is no ratio", m.Name, v.Old.Value)
		return
	case breach != "":
		s.Breaches, s.Good = s.Breaches+1, 0
		v.Message = fmt.Sprintf("%s: %s (look %d of %d in a row)", m.Name, breach, s.Breaches, m.Breaches)
	default:
		s.Breaches, s.Good = 0, s.Good+1
		v.Message = fmt.Sprintf("%s: %.4g is within its limits (look %d of %d in a row)", m.Name, v.New.Value, s.Good, m.Passes)
	}
	switch {
	case s.Breaches >= m.Breaches:
		s.Failed = true
		v.Outcome, v.Reason = Fail, BeyondLimits
	case s.Good >= m.Passes:
		v.Outcome, v.Reason = Pass, WithinLimits
	default:
		v.Reason = Gathering
	}
}

// breach says which limit the value is beyond, "" for none; undefined where a ratio is needed and old is not above 0.
func (m Metric) breach(value, old float64) (text string, undefined bool) {
	switch {
	case m.Max != nil && value > *m.Max:
		return fmt.Sprintf("%.4g is above %.4g", value, *m.Max), false
	case m.Min != nil && value < *m.Min:
		return fmt.Sprintf("%.4g is below %.4g", value, *m.Min), false
	case m.MaxRatio == 0 && m.MinRatio == 0:
		return "", false
	case old <= 0:
		return "", true
	case m.MaxRatio > 0 && value/old > m.MaxRatio:
		return fmt.Sprintf("%.4g is above %.4g times old's %.4g", value, m.MaxRatio, old), false
	case m.MinRatio > 0 && value/old < m.MinRatio:
		return fmt.Sprintf("%.4g is below %.4g times old's %.4g", value, m.MinRatio, old), false
	}
	return "", false
}
