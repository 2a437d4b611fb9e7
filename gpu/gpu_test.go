package gpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestValue(t *testing.T) {
	for _, c := range []struct {
		value  Value
		text   string
		reason string
	}{
		{Known(0), "0", ""},
		{Known(0.87), "0.87", ""},
		{Known(85899345920), "8.589934592e+10", ""},
		{Unknown("Not Supported"), "unknown: Not Supported", "Not Supported"},
		{Value{}, "unknown: not read", "not read"},
		{Known(math.NaN()), "unknown: NaN is no measurement", "NaN is no measurement"},
		{Known(math.Inf(1)), "unknown: +Inf is no measurement", "+Inf is no measurement"},
	} {
		assert.Equal(t, c.text, c.value.String())
		assert.Equal(t, c.reason, c.value.Reason())
		_, ok := c.value.Get()
		assert.Equal(t, c.reason == "", ok)
	}
}

func TestOverdueErrorNamesCall(t *testing.T) {
	err := &OverdueError{Call: "nvmlDeviceGetName", Since: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)}
	assert.EqualError(t, err, "nvmlDeviceGetName was called at 03:04:05.006 and has not returned")
}

// For every device: the shares and the rest are the whole, or all are unknown; a share is never without an owner.
func TestAttributeConserves(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	value := func(limit float64) Value {
		if random.IntN(4) == 0 {
			return Unknown("drawn")
		}
		return Known(random.Float64() * limit)
	}
	for range 10000 {
		sample := Sample{Utilization: value(1), MemoryUsed: value(1e11)}
		owners := make([]Owner, random.IntN(4))
		for i := range owners {
			owners[i] = Owner{Namespace: "n", Pod: fmt.Sprintf("p%d", i), Container: "c"}
		}
		a := Attribute(sample, owners)
		require.Equal(t, len(owners), a.Sharers)
		require.Len(t, a.Shares, map[int]int{1: 1}[len(owners)], "no split is invented")
		for _, share := range a.Shares {
			require.Contains(t, owners, share.Owner)
		}
		requireConserved(t, sample.Utilization, a, func(u Usage) Value { return u.Utilization })
		requireConserved(t, sample.MemoryUsed, a, func(u Usage) Value { return u.MemoryUsed })
	}
}

func requireConserved(t *testing.T, whole Value, a Attribution, quantity func(Usage) Value) {
	t.Helper()
	parts := []Value{quantity(a.Unattributed)}
	for _, share := range a.Shares {
		parts = append(parts, quantity(share.Usage))
	}
	sum := 0.0
	want, known := whole.Get()
	for _, part := range parts {
		number, ok := part.Get()
		require.Equal(t, known, ok)
		require.Equal(t, whole.Reason(), part.Reason())
		require.GreaterOrEqual(t, number, 0.0)
		sum += number
	}
	require.InDelta(t, want, sum, 0, "exactly: nothing is computed")
}
