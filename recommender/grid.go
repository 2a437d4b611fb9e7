package recommender

import "math"

// Values are kept on one logarithmic grid from 1/1000 to 1000 of a resource's unit (cores, 10⁹ bytes, 1): as a level of 1 to 255,
// 5.6 % apart, where their distribution is what matters, and as a mark of 1 to 65535, 0.021 % apart, where a peak decides between
// sizes. 0 is the absence of a value. What is outside is taken to the grid's end.
const (
	gridLow    = 1e-3
	gridSpan   = 6 * math.Ln10 // ln of the grid's end over its start
	topLevel   = 255
	topMark    = 65535
	levelWidth = gridSpan / (topLevel - 1) // ln of the ratio of two neighbours
	markWidth  = gridSpan / (topMark - 1)
	lnGridLow  = -3 * math.Ln10
)

// unitOf is the resource's unit on the grid.
func unitOf(r Resource) float64 {
	if isMemory(r) {
		return 1e9
	}
	return 1
}

// isMemory says that what counts of a resource is its peak: too little kills.
func isMemory(r Resource) bool { return r == Memory || r == GPUMemory }

// markOf returns the smallest mark that is not below a value in units.
func markOf(value float64) uint16 {
	if value <= gridLow {
		return 1
	}
	// The tolerance keeps a mark's own value on it.
	return uint16(min(math.Ceil((math.Log(value)-lnGridLow)/markWidth-1e-6)+1, topMark))
}

func markValue(m uint16) float64 { return gridLow * math.Exp(float64(m-1)*markWidth) }

// markLevel is a mark's place among the levels, mostly between two.
func markLevel(m uint16) float64 { return 1 + float64(m-1)*(markWidth/levelWidth) }

// levelOf returns the smallest level that is not below a value in units.
func levelOf(value float64) uint8 {
	if value <= gridLow {
		return 1
	}
	return uint8(min((math.Log(value)-lnGridLow)/levelWidth+2, topLevel))
}

// levelAt is the place of a value among the levels, within the grid.
func levelAt(value float64) float64 {
	if value <= gridLow {
		return 1
	}
	return min((math.Log(value)-lnGridLow)/levelWidth+1, topLevel)
}

func levelValue(level float64) float64 { return gridLow * math.Exp((level-1)*levelWidth) }
