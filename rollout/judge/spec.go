package judge

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Kind is how a metric is judged.
type Kind string

// Kinds of metrics.
const (
	Errors  Kind = "Errors"  // requests and how many of them failed: counters
	Latency Kind = "Latency" // a Prometheus histogram, or samples put into one
	Gauge   Kind = "Gauge"   // one number of a pod, held to thresholds
)

// Absence says what a gauge that nobody reports does to the verdict. It never passes or fails anything.
type Absence string

// What an absent gauge does.
const (
	AbsenceInconclusive Absence = "Inconclusive" // wait for it; the default
	AbsenceIgnore       Absence = "Ignore"       // judge without it
)

// Metric is one thing to judge. Zero values mean the defaults in brackets.
type Metric struct {
	Name string `json:"name"`
	Kind Kind   `json:"kind"`
	// Critical fails the rollout by itself. Where no metric is critical, all are.
	Critical bool `json:"critical,omitempty"`
	// Weight in Spec.PassScore [1].
	Weight float64 `json:"weight,omitempty"`

	// MaxRatio is how many times old's error rate [1.5], quantile [1.1] or gauge [not judged] new may have.
	MaxRatio float64 `json:"maxRatio,omitempty"`
	// MaxIncrease is by how much new's error rate may exceed old's, as a share of requests [0.01]; within either margin is allowed.
	// Negative: only the ratio counts.
	MaxIncrease float64 `json:"maxIncrease,omitempty"`
	// Quantile of the latency that must be within the margin to pass [0.95].
	Quantile float64 `json:"quantile,omitempty"`

	// Max, Min and MinRatio are further limits of a gauge.
	Max      *float64 `json:"max,omitempty"`
	Min      *float64 `json:"min,omitempty"`
	MinRatio float64  `json:"minRatio,omitempty"`
	// Breaches is after how many looks in a row beyond a limit a gauge fails [3], Passes after how many within all it passes [3].
	Breaches int     `json:"breaches,omitempty"`
	Passes   int     `json:"passes,omitempty"`
	Absence  Absence `json:"absence,omitempty"`
}

// Spec is what to judge and how surely. Zero values mean the defaults in brackets.
type Spec struct {
	Metrics []Metric `json:"metrics"`
	// Alpha bounds the chance that a version no worse than old fails [0.01], Beta the chance that a metric beyond its margin passes [0.05].
	Alpha float64 `json:"alpha,omitempty"`
	Beta  float64 `json:"beta,omitempty"`
	// WarmUp leaves out pods younger than that [0].
	WarmUp time.Duration `json:"warmUp,omitempty"`
	// MinRequests is how many requests of new, past warm-up, a metric needs before it decides [100]; MinLooks how many looks [2].
	MinRequests float64 `json:"minRequests,omitempty"`
	MinLooks    int     `json:"minLooks,omitempty"`
	// MaxDuration ends the judging as Inconclusive [never].
	MaxDuration time.Duration `json:"maxDuration,omitempty"`
	// PassScore is the share of the metrics' weight that must pass [1].
	PassScore float64 `json:"passScore,omitempty"`
}

func orDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

// complete returns the spec with its defaults, or what is wrong with it.
func (s Spec) complete() (Spec, error) {
	orDefault(&s.Alpha, 0.01)
	orDefault(&s.Beta, 0.05)
	orDefault(&s.MinRequests, 100)
	orDefault(&s.MinLooks, 2)
	orDefault(&s.PassScore, 1)
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	refuse(len(s.Metrics) == 0, "metrics: at least one is needed")
	refuse(!within(s.Alpha, 1e-9, 0.5), "alpha: %v is not in [1e-9, 0.5]", s.Alpha)
	refuse(!within(s.Beta, 1e-9, 0.5), "beta: %v is not in [1e-9, 0.5]", s.Beta)
	refuse(!within(s.MinRequests, 0, math.MaxFloat64), "minRequests: %v is not a number of requests", s.MinRequests)
	refuse(s.MinLooks < 0, "minLooks: %d is negative", s.MinLooks)
	refuse(!within(s.PassScore, 1e-9, 1), "passScore: %v is not in (0, 1]", s.PassScore)
	refuse(s.WarmUp < 0, "warmUp: %v is negative", s.WarmUp)
	refuse(s.MaxDuration < 0, "maxDuration: %v is negative", s.MaxDuration)
	metrics, names, critical := make([]Metric, len(s.Metrics)), map[string]bool{}, false
	for i, m := range s.Metrics {
		refuse(m.Name == "", "metrics[%d].name: missing", i)
		refuse(names[m.Name], "metrics[%d].name: %q is there twice", i, m.Name)
		names[m.Name] = true
		critical = critical || m.Critical
		metrics[i] = m.complete()
		if err := metrics[i].check(); err != nil {
			errs = append(errs, fmt.Errorf("metrics[%d].%w", i, err))
		}
	}
	for i := range metrics {
		metrics[i].Critical = metrics[i].Critical || !critical
	}
	s.Metrics = metrics
	return s, errors.Join(errs...)
}

func (m Metric) complete() Metric {
	orDefault(&m.Weight, 1)
	switch m.Kind {
	case Errors:
		orDefault(&m.MaxRatio, 1.5)
		orDefault(&m.MaxIncrease, 0.01)
	case Latency:
		orDefault(&m.MaxRatio, 1.1)
		orDefault(&m.Quantile, 0.95)
	case Gauge:
		orDefault(&m.Breaches, 3)
		orDefault(&m.Passes, 3)
		orDefault(&m.Absence, AbsenceInconclusive)
	}
	return m
}

func (m Metric) check() error {
	switch {
	case !within(m.Weight, 1e-9, 1e9):
		return fmt.Errorf("weight: %v is not in (0, 1e9]", m.Weight)
	case m.Kind == Errors && !within(m.MaxRatio, 1.01, 30):
		return fmt.Errorf("maxRatio: %v is not in [1.01, 30]", m.MaxRatio)
	case m.Kind == Errors && !within(m.MaxIncrease, -1, 1):
		return fmt.Errorf("maxIncrease: %v is not a share of requests", m.MaxIncrease)
	case m.Kind == Latency && !within(m.MaxRatio, 1.01, 10):
		return fmt.Errorf("maxRatio: %v is not in [1.01, 10]", m.MaxRatio)
	case m.Kind == Latency && !within(m.Quantile, 0.01, 0.9999):
		return fmt.Errorf("quantile: %v is not in [0.01, 0.9999]", m.Quantile)
	case m.Kind == Gauge:
		return m.checkGauge()
	case m.Kind != Errors && m.Kind != Latency:
		return fmt.Errorf("kind: %q is none of Errors, Latency, Gauge", m.Kind)
	}
	return nil
}

func (m Metric) checkGauge() error {
	if m.Breaches < 1 || m.Passes < 1 {
		return errors.New("breaches, passes: less than 1")
	}
	if m.Absence != AbsenceInconclusive && m.Absence != AbsenceIgnore {
		return fmt.Errorf("absence: %q is neither Inconclusive nor Ignore", m.Absence)
	}
	return m.checkLimits()
}

func (m Metric) checkLimits() error {
	low, high := math.Inf(-1), math.Inf(1)
	if m.Min != nil {
		low = *m.Min
	}
	if m.Max != nil {
		high = *m.Max
	}
	switch {
	case m.Max == nil && m.Min == nil && m.MaxRatio == 0 && m.MinRatio == 0:
		return errors.New("max, min, maxRatio, minRatio: a gauge needs one of them")
	case math.IsNaN(low) || math.IsNaN(high):
		return errors.New("max, min: not a number")
	case low > high:
		return fmt.Errorf("min: %v is above max, %v", low, high)
	case !within(m.MaxRatio, 0, 1e9) || !within(m.MinRatio, 0, 1e9):
		return errors.New("maxRatio, minRatio: not a ratio")
	case m.MaxRatio > 0 && m.MinRatio > m.MaxRatio:
		return fmt.Errorf("minRatio: %v is above maxRatio, %v", m.MinRatio, m.MaxRatio)
	}
	return nil
}

// within is false for NaN.
func within(v, low, high float64) bool { return v >= low && v <= high }

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
