package kpa

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDefaultConfigIsValid(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
}

func TestConfigRefused(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		field string
		set   func(*Config)
	}{
		{"Metric", func(c *Config) { c.Metric = "cpu" }},
		{"Aggregation", func(c *Config) { c.Aggregation = "" }},
		{"Target", func(c *Config) { c.Target = 0.001 }},
		{"Target", func(c *Config) { c.Target = -1 }},
		{"Target", func(c *Config) { c.Target = nan }},
		{"Target", func(c *Config) { c.Target = math.Inf(1) }},
		{"ContainerConcurrency", func(c *Config) { c.ContainerConcurrency = -1 }},
		{"TargetUtilizationPercentage", func(c *Config) { c.TargetUtilizationPercentage = 0.7 }},
		{"TargetUtilizationPercentage", func(c *Config) { c.TargetUtilizationPercentage = 101 }},
		{"TargetUtilizationPercentage", func(c *Config) { c.TargetUtilizationPercentage = nan }},
		{"TargetBurstCapacity", func(c *Config) { c.TargetBurstCapacity = -2 }},
		{"TargetBurstCapacity", func(c *Config) { c.TargetBurstCapacity = nan }},
		{"MaxScaleUpRate", func(c *Config) { c.MaxScaleUpRate = 1 }},
		{"MaxScaleUpRate", func(c *Config) { c.MaxScaleUpRate = nan }},
		{"MaxScaleDownRate", func(c *Config) { c.MaxScaleDownRate = 1 }},
		{"MaxScaleDownRate", func(c *Config) { c.MaxScaleDownRate = math.Inf(1) }},
		{"PanicThresholdPercentage", func(c *Config) { c.PanicThresholdPercentage = 2 }},
		{"PanicThresholdPercentage", func(c *Config) { c.PanicThresholdPercentage = 1001 }},
		{"PanicWindowPercentage", func(c *Config) { c.PanicWindowPercentage = 0.1 }},
		{"PanicWindowPercentage", func(c *Config) { c.PanicWindowPercentage = 101 }},
		{"StableWindow", func(c *Config) { c.StableWindow = 5 * time.Second }},
		{"StableWindow", func(c *Config) { c.StableWindow = 2 * time.Hour }},
		{"StableWindow", func(c *Config) { c.StableWindow = 6500 * time.Millisecond }},
		{"ScaleDownDelay", func(c *Config) { c.ScaleDownDelay = -time.Second }},
		{"ScaleDownDelay", func(c *Config) { c.ScaleDownDelay = 2 * time.Hour }},
		{"ScaleDownDelay", func(c *Config) { c.ScaleDownDelay = 1500 * time.Millisecond }},
		{"MinScale", func(c *Config) { c.MinScale = -1 }},
		{"MaxScale", func(c *Config) { c.MaxScale = -1 }},
		{"MaxScale", func(c *Config) { c.MaxScale = math.MaxInt32 + 1 }},
		{"MinScale", func(c *Config) { c.MinScale, c.MaxScale = 3, 2 }},
		{"InitialScale", func(c *Config) { c.InitialScale = -1 }},
		{"InitialScale", func(c *Config) { c.InitialScale = 0 }},
		{"ActivationScale", func(c *Config) { c.ActivationScale = 1 }},
		{"ActivationScale", func(c *Config) { c.ActivationScale, c.MinScale = 2, 3 }},
		{"ActivationScale", func(c *Config) { c.ActivationScale, c.MaxScale = 4, 3 }},
		{"ScaleToZeroGracePeriod", func(c *Config) { c.ScaleToZeroGracePeriod = 0 }},
		{"ScaleToZeroPodRetentionPeriod", func(c *Config) { c.ScaleToZeroPodRetentionPeriod = -1 }},
		{"ScaleToZeroPodRetentionPeriod", func(c *Config) { c.ScaleToZeroPodRetentionPeriod = 2 * time.Hour }},
		{"ProgressDeadline", func(c *Config) { c.ProgressDeadline = 0 }},
		{"ProgressDeadline", func(c *Config) { c.ProgressDeadline = time.Millisecond }},
	} {
		config := DefaultConfig()
		c.set(&config)
		a, err := New(config, testStart(), 0)
		require.Error(t, err, c.field)
		assert.Nil(t, a)
		assert.True(t, strings.HasPrefix(err.Error(), "cannot make a KPA: "+c.field+" is "), err.Error())
	}
	_, err := New(DefaultConfig(), testStart(), -1)
	require.ErrorContains(t, err, "readyPods is -1")
}

// TestTargets has the ways to a target of Knative's pkg/reconciler/autoscaling/resources/target.go.
func TestTargets(t *testing.T) {
	for _, c := range []struct {
		name          string
		set           func(*Config)
		target, total float64
	}{
		{"defaults", func(*Config) {}, 70, 100},
		{"container concurrency", func(c *Config) { c.ContainerConcurrency = 10 }, 7, 10},
		{"target", func(c *Config) { c.Target = 20 }, 14, 20},
		{"target above the limit", func(c *Config) { c.Target, c.ContainerConcurrency = 20, 10 }, 7, 10},
		{"target below the limit", func(c *Config) { c.Target, c.ContainerConcurrency = 10, 20 }, 7, 10},
		{"rps", func(c *Config) { c.Metric = RPS }, 140, 200},
		{"rps knows no limit", func(c *Config) { c.Metric, c.Target, c.ContainerConcurrency = RPS, 20, 10 }, 14, 20},
		{"utilization", func(c *Config) { c.TargetUtilizationPercentage = 50 }, 50, 100},
		{"least target", func(c *Config) { c.Target, c.TargetUtilizationPercentage = 0.01, 1 }, 0.01, 0.01},
	} {
		config := DefaultConfig()
		c.set(&config)
		require.NoError(t, config.Validate(), c.name)
		target, total := config.targets()
		assert.InDelta(t, c.target, target, 1e-12, c.name)
		assert.InDelta(t, c.total, total, 1e-12, c.name)
	}
}

func TestPanicWindow(t *testing.T) {
	c := DefaultConfig()
	assert.Equal(t, 6*time.Second, c.panicWindow())
	c.StableWindow = 6 * time.Second
	assert.Equal(t, time.Second, c.panicWindow(), "0.6 s, rounded")
	c.PanicWindowPercentage = 1
	assert.Equal(t, time.Second, c.panicWindow(), "0.06 s, at least 1 s")
}
