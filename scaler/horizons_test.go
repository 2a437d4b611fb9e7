package scaler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestHorizonsReachStartUps: whatever the step, what pods need to start within can be forecast, at horizons that a model takes.
func TestHorizonsReachStartUps(t *testing.T) {
	for step := time.Second; step <= 10*time.Minute; step += 7 * time.Second {
		all := horizons(step)
		require.Equal(t, []time.Duration{step, 3 * step, 5 * step, 10 * step}, all[:4])
		require.GreaterOrEqual(t, all[len(all)-1], farthest)
		_, err := NewService(Config{Step: step, Policy: Policy{Max: 1, Capacity: 1}})
		require.NoError(t, err, step)
	}
	require.Len(t, horizons(time.Minute), 4)
}
