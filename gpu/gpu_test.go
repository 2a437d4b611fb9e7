package gpu

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
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
