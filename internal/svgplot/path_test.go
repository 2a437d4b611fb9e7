package svgplot

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestBands: an area lies between its lines, and is left open where either is absent.
func TestBands(t *testing.T) {
	absent := math.NaN()
	x, y := &Axis{Lo: 0, Hi: 6, From: 0, To: 60}, &Axis{Lo: 0, Hi: 10, From: 100, To: 0}
	lower := []float64{0, 0, absent, 2, 5, 1}
	upper := []float64{1, 2, 3, absent, 5, 4}
	assert.Equal(t, "M0 100V90H10V80H20V100H10V100H0ZM50 90V60H60V90H50Z", Band(x, y, 0, 1, lower, upper))
	assert.Equal(t, "M0 90H10L10 80H20L20 70H30M40 50H50L50 60H60", Steps(x, y, 0, 1, upper))
}
