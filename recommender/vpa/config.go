// Package vpa is the VerticalPodAutoscaler's own estimator: from the same samples it makes the same recommendations and the same
// checkpoints, to the last int64, as k8s.io/autoscaler/vertical-pod-autoscaler v1.8.1 (pkg/recommender: model/container.go,
// model/aggregate_container_state.go, model/types.go, logic/estimator.go, logic/recommender.go, checkpoint/checkpoint_writer.go,
// routines/cpu_integer_post_processor.go and pkg/utils/vpa/capping.go). `make test-vpa-exact` holds it to that.
//
// A Model is the flags, made once. An Aggregate is what is known of all containers of one name of a workload, an Instance the
// little that must be known of one container of one pod. Samples go to an Instance, which hands them to its Aggregate; the Model
// makes recommendations of Aggregates. The library's oddities are kept, and named where they are.
//
// It differs in what it refuses, always with false or an error: samples, kills and checkpoints that are negative, not a number or
// of a time before 1970 or after 2200, which the library accepts or panics at. The deprecated --humanize-memory is not offered.
//
// Nothing here reads a clock, and nothing but a Model is safe for concurrent use.
package vpa

import (
	"errors"
	"fmt"
	"math"
	"time"

	"headroom.dev/headroom/recommender/histogram"
)

// Config is the VPA recommender's flags, by their names. Amounts are millicores and bytes.
type Config struct {
	Margin                float64 // --recommendation-margin-fraction
	PodMinCPU             float64 // --pod-recommendation-min-cpu-millicores: shared by a pod's containers; 0 for none
	PodMinMemoryMB        float64 // --pod-recommendation-min-memory-mb: MiB, shared by a pod's containers; 0 for none
	CPU, Memory           Bounds
	MemoryInterval        time.Duration // --memory-aggregation-interval: of which each container has one peak
	MemoryIntervals       int64         // --memory-aggregation-interval-count: after as many an idle aggregate expires
	OOMBumpUpRatio        float64       // --oom-bump-up-ratio
	OOMMinBumpUp          float64       // --oom-min-bump-up-bytes
	RoundCPU, RoundMemory int64         // --round-cpu-millicores, --round-memory-bytes: 1 or 0 for none
}

// Bounds are the percentiles (0 to 1) of one resource that a recommendation starts from.
type Bounds struct {
	Target     float64       // --target-cpu-percentile, --target-memory-percentile
	Lower      float64       // --recommendation-lower-bound-…-percentile
	Upper      float64       // --recommendation-upper-bound-…-percentile
	Confidence time.Duration // --confidence-interval-…: history of so long narrows the bounds to half and twice
	HalfLife   time.Duration // --…-histogram-decay-half-life
}

// DefaultConfig is the flags' defaults.
func DefaultConfig() Config {
	day := 24 * time.Hour
	b := Bounds{Target: 0.9, Lower: 0.5, Upper: 0.95, Confidence: day, HalfLife: day}
	return Config{
		Margin: 0.15, PodMinCPU: 25, PodMinMemoryMB: 250, CPU: b, Memory: b, MemoryInterval: day, MemoryIntervals: 8,
		OOMBumpUpRatio: 1.2, OOMMinBumpUp: 100 << 20, RoundCPU: 1, RoundMemory: 1,
	}
}

// maxInterval bounds what a memory peak's time can lie ahead of its sample's.
const maxInterval = 365 * 24 * time.Hour

// Validate says what is wrong with the configuration, all of it.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, what string) {
		if !ok {
			errs = append(errs, fmt.Errorf("vpa: %s", what))
		}
	}
	amount := func(v float64) bool { return v >= 0 && v <= maxAmount }
	check(amount(c.Margin), "the margin fraction must not be negative")
	check(amount(c.PodMinCPU) && amount(c.PodMinMemoryMB), "a pod's minimum must not be negative")
	for _, b := range []Bounds{c.CPU, c.Memory} {
		for _, p := range []float64{b.Target, b.Lower, b.Upper} {
			check(p >= 0 && p <= 1, "percentiles must be between 0 and 1")
		}
		check(b.Confidence > 0, "confidence intervals must be positive")
	}
	check(c.MemoryInterval > 0 && c.MemoryInterval <= maxInterval, "the memory aggregation interval must be positive and a year at most")
	check(c.MemoryIntervals > 0 && c.MemoryIntervals < math.MaxInt64/int64(maxInterval), "the number of memory aggregation intervals must be 1 to 292")
	check(c.OOMBumpUpRatio >= 1 && c.OOMBumpUpRatio <= maxAmount, "the OOM bump-up ratio must be 1 or more")
	check(amount(c.OOMMinBumpUp), "the least OOM bump-up must not be negative")
	check(c.RoundCPU >= 0 && c.RoundMemory >= 0, "what amounts are rounded to must not be negative")
	return errors.Join(errs...)
}

// Model is a configuration with what can be computed ahead. It does not change.
type Model struct {
	config      Config
	cpu, memory *histogram.Shape
}

// New makes a model, or says what is wrong with the configuration.
func New(c Config) (*Model, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	// The VPA's buckets. Other ones would need another version of the checkpoint.
	cpu, err := histogram.NewShape(histogram.Options{First: 0.01, Ratio: 1.05, Max: 1000, Epsilon: epsilon, HalfLife: c.CPU.HalfLife})
	if err != nil {
		return nil, fmt.Errorf("vpa: CPU: %w", err)
	}
	memory, err := histogram.NewShape(histogram.Options{First: 1e7, Ratio: 1.05, Max: 1e12, Epsilon: epsilon, HalfLife: c.Memory.HalfLife})
	if err != nil {
		return nil, fmt.Errorf("vpa: memory: %w", err)
	}
	return &Model{config: c, cpu: cpu, memory: memory}, nil
}

// Config returns what the model was made of.
func (m *Model) Config() Config { return m.config }
