package exact

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"knative.dev/serving/pkg/apis/autoscaling"
	asconfig "knative.dev/serving/pkg/autoscaler/config"
	"knative.dev/serving/pkg/deployment"

	"headroom.dev/headroom/scaler/kpa"
)

// TestDefaults holds DefaultConfig to Knative's defaults.
func TestDefaults(t *testing.T) {
	theirs, err := asconfig.NewConfigFromMap(nil)
	require.NoError(t, err)
	deployments, err := deployment.NewConfigFromMap(map[string]string{"queue-sidecar-image": "image"})
	require.NoError(t, err)
	assert.Equal(t, kpa.Config{
		Metric:                        kpa.Concurrency,
		Aggregation:                   kpa.Linear, // newCollection, where no annotation says otherwise
		TargetUtilizationPercentage:   100 * theirs.ContainerConcurrencyTargetFraction,
		StableWindow:                  theirs.StableWindow,
		PanicWindowPercentage:         theirs.PanicWindowPercentage,
		PanicThresholdPercentage:      theirs.PanicThresholdPercentage,
		MaxScaleUpRate:                theirs.MaxScaleUpRate,
		MaxScaleDownRate:              theirs.MaxScaleDownRate,
		ScaleDownDelay:                theirs.ScaleDownDelay,
		TargetBurstCapacity:           theirs.TargetBurstCapacity,
		MinScale:                      int(theirs.MinScale),
		MaxScale:                      int(theirs.MaxScale),
		InitialScale:                  int(theirs.InitialScale),
		AllowZeroInitialScale:         theirs.AllowZeroInitialScale,
		EnableScaleToZero:             theirs.EnableScaleToZero,
		ScaleToZeroGracePeriod:        theirs.ScaleToZeroGracePeriod,
		ScaleToZeroPodRetentionPeriod: theirs.ScaleToZeroPodRetentionPeriod,
		ProgressDeadline:              deployments.ProgressDeadline,
		Reachable:                     true,
	}, kpa.DefaultConfig())
	assert.Equal(t, theirs.TargetUtilization, theirs.ContainerConcurrencyTargetFraction, "one default for both metrics")
}

// TestSameConfigsRefused changes one or two fields of a valid configuration, and both must refuse or take it.
func TestSameConfigsRefused(t *testing.T) {
	t.Logf("seed %d", *seedFlag)
	rng := rand.New(rand.NewPCG(*seedFlag, 99))
	around := func(edges ...float64) float64 { return edges[rng.IntN(len(edges))] + float64(rng.IntN(3)-1)/8 }
	seconds := func(edges ...float64) time.Duration { return time.Duration(around(edges...) * float64(time.Second)) }
	changes := []func(*kpa.Config){
		func(c *kpa.Config) { c.Metric = []kpa.Metric{"", "rps", "cpu", "RPS"}[rng.IntN(4)] },
		func(c *kpa.Config) {
			c.Aggregation = []kpa.Aggregation{"linear", "weighted-exponential", "mean"}[rng.IntN(3)]
		},
		func(c *kpa.Config) { c.Target = []float64{-1, 0.009, 0.01, 5}[rng.IntN(4)] },
		func(c *kpa.Config) { c.TargetUtilizationPercentage = around(0, 1, 100) },
		func(c *kpa.Config) { c.TargetBurstCapacity = around(-1, 0, -2) },
		func(c *kpa.Config) { c.MaxScaleUpRate = around(1) },
		func(c *kpa.Config) { c.MaxScaleDownRate = around(1) },
		func(c *kpa.Config) { c.PanicThresholdPercentage = around(110, 1000) },
		func(c *kpa.Config) { c.PanicWindowPercentage = around(1, 100) },
		func(c *kpa.Config) { c.StableWindow = seconds(6, 60, 3600) },
		func(c *kpa.Config) { c.ScaleDownDelay = seconds(0, 60, 3600) },
		func(c *kpa.Config) { c.ScaleToZeroGracePeriod = seconds(0, 30) },
		func(c *kpa.Config) { c.ScaleToZeroPodRetentionPeriod = seconds(0, 3600) },
		func(c *kpa.Config) { c.ProgressDeadline = seconds(0, 600) },
		func(c *kpa.Config) { c.MinScale = rng.IntN(8) - 1 },
		func(c *kpa.Config) { c.MaxScale = rng.IntN(8) - 1 },
		func(c *kpa.Config) { c.InitialScale = rng.IntN(4) - 1 },
		func(c *kpa.Config) { c.ActivationScale = rng.IntN(8) - 1 },
		func(c *kpa.Config) { c.AllowZeroInitialScale = rng.IntN(2) == 0 },
	}
	refused := 0
	for range 20_000 {
		c := kpa.DefaultConfig()
		for range 1 + rng.IntN(4) {
			changes[rng.IntN(len(changes))](&c)
		}
		ours, theirs := c.Validate(), knativeRefuses(c)
		require.Equal(t, theirs == nil, ours == nil, "%+v\nours    %v\nKnative %v", c, ours, theirs)
		if ours != nil {
			refused++
		}
	}
	t.Logf("20000 configurations, %d refused by both", refused)
	assert.Greater(t, refused, 1000)
	assert.Less(t, refused, 19_000)
}

func knativeRefuses(c kpa.Config) error {
	cluster, err := clusterConfig(c)
	if err != nil {
		return err
	}
	if err := autoscaling.ValidateAnnotations(context.Background(), cluster, annotations(c)); err != nil {
		return err
	}
	_, err = deployment.NewConfigFromMap(map[string]string{
		"queue-sidecar-image": "image", "progress-deadline": c.ProgressDeadline.String(),
	})
	return err
}
