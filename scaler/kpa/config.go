package kpa

import (
	"fmt"
	"math"
	"time"
)

// Metric is what the autoscaler scales on.
type Metric string

// The metrics of the KPA.
const (
	Concurrency Metric = "concurrency" // requests in flight over all pods
	RPS         Metric = "rps"         // requests per second over all pods
)

// Aggregation is how a window's seconds become one value.
type Aggregation string

// Linear is the mean; WeightedExponential weighs each second by a constant factor more than the one before.
const (
	Linear              Aggregation = "linear"
	WeightedExponential Aggregation = "weighted-exponential"
)

// Bounds that Knative's webhook sets (pkg/apis/autoscaling/register.go).
const (
	targetMin         = 0.01
	windowMin         = 6 * time.Second
	windowMax         = time.Hour
	panicWindowMin    = 1.0
	panicThresholdMin = 110.0
	panicThresholdMax = 1000.0

	// maxScale keeps counts within the int32 that Kubernetes has for them.
	maxScale = math.MaxInt32
)

// Config is what annotations and the ConfigMap config-autoscaler decide for one revision. DefaultConfig has Knative's
// defaults; the names in brackets are Knative's.
type Config struct {
	Metric      Metric      // [metric]
	Aggregation Aggregation // [metric-aggregation-algorithm]

	// Target is the Metric's value per pod at full utilization [target]; 0 stands for ContainerConcurrency, or without
	// that for 100 requests in flight, and for 200 requests per second.
	Target float64
	// ContainerConcurrency is the most requests that a pod takes at once, 0 for no limit. A Target above it is cut to it.
	ContainerConcurrency int
	// TargetUtilizationPercentage of Target is what is aimed for, in (0, 100] [target-utilization-percentage].
	TargetUtilizationPercentage float64

	StableWindow time.Duration // in whole seconds, 6 s to 1 h [window, stable-window]
	// PanicWindowPercentage of StableWindow, rounded to a second, is the panic window, in [1, 100].
	PanicWindowPercentage float64
	// PanicThresholdPercentage is the load over the panic window, in percent of what the ready pods are meant to take, at
	// which panic begins, in [110, 1000].
	PanicThresholdPercentage float64

	MaxScaleUpRate   float64       // times the ready pods, above 1
	MaxScaleDownRate float64       // the ready pods divided by this, above 1
	ScaleDownDelay   time.Duration // in whole seconds, at most 1 h; 0 for none

	// TargetBurstCapacity is the burst, in the Metric's unit, to be taken without queueing [target-burst-capacity]: -1 keeps
	// the activator in the path always, 0 only at zero. It decides no count, except for how long zero waits, and that with
	// -1, when pods are not scraped, silence is a load of 0 and not missing data.
	TargetBurstCapacity float64

	MinScale        int // 0 for none
	MaxScale        int // 0 for none
	InitialScale    int // replicas of a new revision, until it first had as many ready
	ActivationScale int // the least replicas other than zero, at least 2; 0 for none
	// AllowZeroInitialScale permits an InitialScale of 0.
	AllowZeroInitialScale bool

	EnableScaleToZero bool
	// ScaleToZeroGracePeriod is how long traffic must have gone through the activator before the last pod goes.
	ScaleToZeroGracePeriod time.Duration
	// ScaleToZeroPodRetentionPeriod is how long the last pod stays after the revision became inactive, at most 1 h.
	ScaleToZeroPodRetentionPeriod time.Duration
	// ProgressDeadline, and 30 s more, is how long pods may take to become ready before activation is given up.
	ProgressDeadline time.Duration

	// Reachable says whether a route leads to the revision. Without one, MinScale, InitialScale, ScaleDownDelay,
	// ScaleToZeroPodRetentionPeriod and MaxScaleDownRate do not count.
	Reachable bool
}

// DefaultConfig returns Knative's defaults (pkg/autoscaler/config/config.go, pkg/deployment/config.go).
func DefaultConfig() Config {
	return Config{
		Metric:                      Concurrency,
		Aggregation:                 Linear,
		TargetUtilizationPercentage: 70,
		StableWindow:                time.Minute,
		PanicWindowPercentage:       10,
		PanicThresholdPercentage:    200,
		MaxScaleUpRate:              1000,
		MaxScaleDownRate:            2,
		TargetBurstCapacity:         211,
		InitialScale:                1,
		EnableScaleToZero:           true,
		ScaleToZeroGracePeriod:      30 * time.Second,
		ProgressDeadline:            10 * time.Minute,
		Reachable:                   true,
	}
}

// Validate refuses what Knative refuses, and what is no number. The error names the field.
func (c Config) Validate() error {
	for _, check := range []func() error{c.validateMetric, c.validateRates, c.validateWindows, c.validateScale, c.validateZero} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c Config) validateMetric() error {
	switch {
	case c.Metric != Concurrency && c.Metric != RPS:
		return fmt.Errorf("Metric is %q, must be %q or %q", c.Metric, Concurrency, RPS)
	case c.Aggregation != Linear && c.Aggregation != WeightedExponential:
		return fmt.Errorf("Aggregation is %q, must be %q or %q", c.Aggregation, Linear, WeightedExponential)
	case c.Target != 0 && !within(c.Target, targetMin, math.MaxFloat64):
		return fmt.Errorf("Target is %v, must be 0 for the default or at least %v", c.Target, targetMin)
	case c.ContainerConcurrency < 0:
		return fmt.Errorf("ContainerConcurrency is %d, must be at least 0", c.ContainerConcurrency)
	case !within(c.TargetUtilizationPercentage, 1, 100):
		return fmt.Errorf("TargetUtilizationPercentage is %v, must be in [1, 100]", c.TargetUtilizationPercentage)
	case c.TargetBurstCapacity != -1 && !within(c.TargetBurstCapacity, 0, math.MaxFloat64):
		return fmt.Errorf("TargetBurstCapacity is %v, must be at least 0, or -1 for no limit", c.TargetBurstCapacity)
	}
	return nil
}

func (c Config) validateRates() error {
	switch {
	case !within(c.MaxScaleUpRate, math.Nextafter(1, 2), math.MaxFloat64):
		return fmt.Errorf("MaxScaleUpRate is %v, must be greater than 1", c.MaxScaleUpRate)
	case !within(c.MaxScaleDownRate, math.Nextafter(1, 2), math.MaxFloat64):
		return fmt.Errorf("MaxScaleDownRate is %v, must be greater than 1", c.MaxScaleDownRate)
	case !within(c.PanicThresholdPercentage, panicThresholdMin, panicThresholdMax):
		return fmt.Errorf("PanicThresholdPercentage is %v, must be in [%v, %v]",
			c.PanicThresholdPercentage, panicThresholdMin, panicThresholdMax)
	case !within(c.PanicWindowPercentage, panicWindowMin, 100):
		return fmt.Errorf("PanicWindowPercentage is %v, must be in [%v, 100]", c.PanicWindowPercentage, panicWindowMin)
	}
	return nil
}

func (c Config) validateWindows() error {
	switch {
	case c.StableWindow < windowMin || c.StableWindow > windowMax:
		return fmt.Errorf("StableWindow is %v, must be in [%v, %v]", c.StableWindow, windowMin, windowMax)
	case c.StableWindow%time.Second != 0:
		return fmt.Errorf("StableWindow is %v, must be whole seconds", c.StableWindow)
	case c.ScaleDownDelay < 0 || c.ScaleDownDelay > windowMax:
		return fmt.Errorf("ScaleDownDelay is %v, must be in [0s, %v]", c.ScaleDownDelay, windowMax)
	case c.ScaleDownDelay%time.Second != 0:
		return fmt.Errorf("ScaleDownDelay is %v, must be whole seconds", c.ScaleDownDelay)
	}
	return nil
}

func (c Config) validateScale() error {
	switch {
	case c.MinScale < 0 || c.MinScale > maxScale:
		return fmt.Errorf("MinScale is %d, must be in [0, %d]", c.MinScale, maxScale)
	case c.MaxScale < 0 || c.MaxScale > maxScale:
		return fmt.Errorf("MaxScale is %d, must be in [0, %d]", c.MaxScale, maxScale)
	case c.MaxScale > 0 && c.MinScale > c.MaxScale:
		return fmt.Errorf("MinScale is %d, must be at most MaxScale, which is %d", c.MinScale, c.MaxScale)
	case c.InitialScale < 0 || c.InitialScale > maxScale:
		return fmt.Errorf("InitialScale is %d, must be in [0, %d]", c.InitialScale, maxScale)
	case c.InitialScale == 0 && !c.AllowZeroInitialScale:
		return fmt.Errorf("InitialScale is 0, must be at least 1 unless AllowZeroInitialScale is true")
	case c.ActivationScale == 0:
		return nil
	case c.ActivationScale < 2 || c.ActivationScale > maxScale:
		return fmt.Errorf("ActivationScale is %d, must be 0 for none or in [2, %d]", c.ActivationScale, maxScale)
	case c.ActivationScale < c.MinScale:
		return fmt.Errorf("ActivationScale is %d, must be at least MinScale, which is %d", c.ActivationScale, c.MinScale)
	case c.MaxScale > 0 && c.ActivationScale > c.MaxScale:
		return fmt.Errorf("ActivationScale is %d, must be at most MaxScale, which is %d", c.ActivationScale, c.MaxScale)
	}
	return nil
}

func (c Config) validateZero() error {
	switch {
	case c.ScaleToZeroGracePeriod <= 0:
		return fmt.Errorf("ScaleToZeroGracePeriod is %v, must be positive", c.ScaleToZeroGracePeriod)
	case c.ScaleToZeroPodRetentionPeriod < 0 || c.ScaleToZeroPodRetentionPeriod > windowMax:
		return fmt.Errorf("ScaleToZeroPodRetentionPeriod is %v, must be in [0s, %v]", c.ScaleToZeroPodRetentionPeriod, windowMax)
	case c.ProgressDeadline <= 0:
		return fmt.Errorf("ProgressDeadline is %v, must be positive", c.ProgressDeadline)
	case c.ProgressDeadline%time.Second != 0:
		return fmt.Errorf("ProgressDeadline is %v, must be whole seconds", c.ProgressDeadline)
	}
	return nil
}

// within is false for NaN.
func within(x, low, high float64) bool { return x >= low && x <= high }

// targets returns the value per pod that is aimed for, and that a pod can take (pkg/reconciler/autoscaling/resources/target.go).
func (c Config) targets() (target, total float64) {
	switch {
	case c.Metric == RPS:
		total = 200
	case c.ContainerConcurrency > 0:
		total = float64(c.ContainerConcurrency)
	default:
		total = 100
	}
	if c.Target != 0 {
		total = c.Target
		if c.Metric == Concurrency && c.ContainerConcurrency > 0 {
			total = min(c.Target, float64(c.ContainerConcurrency))
		}
	}
	return max(targetMin, total*(c.TargetUtilizationPercentage/100)), total
}

// panicWindow returns the panic window in whole seconds (pkg/reconciler/autoscaling/resources/metric.go).
func (c Config) panicWindow() time.Duration {
	return max(time.Second, time.Duration(float64(c.StableWindow)*c.PanicWindowPercentage/100).Round(time.Second))
}
