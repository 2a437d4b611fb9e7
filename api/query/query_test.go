package query

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNumber(t *testing.T) {
	for _, v := range []float64{0, -1.5, 1e300, math.NaN(), math.Inf(1), math.Inf(-1)} {
		b, err := json.Marshal(Number(v))
		require.NoError(t, err)
		var back Number
		require.NoError(t, json.Unmarshal(b, &back), string(b))
		assert.True(t, float64(back) == v || math.IsNaN(v) && math.IsNaN(float64(back)), string(b))
	}
	var n Number
	require.EqualError(t, json.Unmarshal([]byte(`"x"`), &n), `cannot read the number "x": strconv.ParseFloat: parsing "x": invalid syntax`)
}
