package forecast

import "math"

// grid are the probabilities whose quantiles are kept; between them Quantile interpolates.
var grid = [...]float64{0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999} //nolint:gochecknoglobals // a constant in all but name

// scored are the places in grid of 0.5, 0.75, 0.9, 0.95 and 0.99, over which the pinball loss is taken: what a scaler asks for lies
// above the median.
var scored = [...]int{4, 5, 6, 7, 8} //nolint:gochecknoglobals // a constant in all but name

const gridSize = 10

// The bins of a histogram: even in asinh(u/binUnit), which is even in u near 0 and in log u beyond, at some 10 % a bin.
const (
	sideBins = 80
	allBins  = 2*sideBins + 1
	binUnit  = 0.05
	binWidth = 0.1
)

// histogram holds errors in units of their expected size; old ones fade. Adding costs a logarithm.
type histogram struct {
	edges   *[allBins + 1]float64 // shared
	bins    [allBins]float64
	total   float64
	next    float64 // the weight of the next error, which grows in place of all others' fading
	growth  float64
	adds    int
	table   [gridSize]float64 // quantiles at grid
	pending int               // errors since table was made
}

// priorWeight is how many errors the prior counts for: it keeps far quantiles apart while few errors are there, since the largest of
// 20 is no 0.99-quantile.
const priorWeight = 15

// refresh is after how many errors the table is made anew.
const refresh = 12

// newHistogram makes one whose errors fade to 1/e after memory of them. It begins with Laplace's distribution of mean size 1.
func newHistogram(memory float64, edges *[allBins + 1]float64) *histogram {
	h := &histogram{growth: 1 / (1 - 1/memory), edges: edges}
	h.clear()
	return h
}

func (h *histogram) clear() {
	h.bins, h.next, h.adds = [allBins]float64{}, 1, 0
	laplace := func(u float64) float64 {
		if u < 0 {
			return math.Exp(u) / 2
		}
		return 1 - math.Exp(-u)/2
	}
	for i := range h.bins {
		h.bins[i] = priorWeight * (laplace(h.edges[i+1]) - laplace(h.edges[i]))
	}
	h.total = priorWeight
	h.tabulate()
}

// binEdges are the lower edges of the bins, and the upper one of the last.
func binEdges() (edges [allBins + 1]float64) {
	for bin := range edges {
		edges[bin] = binUnit * math.Sinh((float64(bin)-sideBins-0.5)*binWidth)
	}
	return edges
}

// add takes in an error.
func (h *histogram) add(u float64) {
	a := math.Abs(u) / binUnit
	position := math.Log(a+math.Sqrt(a*a+1)) / binWidth
	bin := sideBins
	if offset := int(min(position, sideBins) + 0.5); u < 0 {
		bin -= min(offset, sideBins)
	} else {
		bin += min(offset, sideBins)
	}
	h.bins[bin] += h.next
	h.total += h.next
	h.adds++
	h.next *= h.growth
	if h.next > 1e12 {
		h.normalise()
	}
	if h.pending++; h.pending >= refresh || h.adds < 4*refresh {
		h.tabulate()
	}
}

func (h *histogram) normalise() {
	h.total = 0
	for i := range h.bins {
		h.bins[i] /= h.next
		h.total += h.bins[i]
	}
	h.next = 1
}

// tabulate computes the quantiles at grid, even within bins.
func (h *histogram) tabulate() {
	h.pending = 0
	below, bin := 0.0, 0
	for i, p := range grid {
		want := p * h.total
		for bin < allBins-1 && below+h.bins[bin] < want {
			below += h.bins[bin]
			bin++
		}
		part := 1.0
		if h.bins[bin] > 0 {
			part = min(1, (want-below)/h.bins[bin])
		}
		h.table[i] = h.edges[bin] + part*(h.edges[bin+1]-h.edges[bin])
	}
}

// pinball is the loss of a quantile q at probability p when y came (Koenker and Bassett 1978).
func pinball(p, q, y float64) float64 {
	if y >= q {
		return p * (y - q)
	}
	return (1 - p) * (q - y)
}
