package histogram

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// The bounds of what a Shape can be. maxBuckets is three words of bits; the VPA's shapes have 176 buckets.
const (
	maxBuckets  = 192
	minHalfLife = time.Second
	maxHalfLife = 1000 * 24 * time.Hour
)

// maxDecayExponent is the number of half-lives after which the reference time moves forward, lest weights overflow.
const maxDecayExponent = 100

// Options say what buckets a histogram has and how fast it forgets.
type Options struct {
	First    float64 // size of the first bucket, in the unit of the values
	Ratio    float64 // size of a bucket over that of the one below it, above 1
	Max      float64 // the last bucket starts at it or above
	Epsilon  float64 // the least weight of a bucket that counts as filled
	HalfLife time.Duration
}

// Shape is Options with the tables that spare a histogram its logarithms and powers: about 36 KiB, made once and shared. It may
// be used from several goroutines.
type Shape struct {
	options  Options
	buckets  int
	log      float64 // of the ratio
	slope    float64 // (Ratio-1)/First
	halfLife float64 // nanoseconds
	starts   []float64
	edges    []float64 // Ratio^b: bucket b begins where value·slope+1 reaches it, as far as floats can say
	cells    []uint8   // bucket of the start of each of 32 equal parts of each power of two
	factors  [1 << factorBits]factor
}

// factor is a power of two that was computed before, and that XOR the age it is of. Whoever reads the halves of two finds that
// they belong to no age asked for.
type factor struct{ power, check atomic.Uint64 }

// factorBits is of the number of factors: 2048 are 32 KiB. The samples of a round over a cluster have the seconds of that round,
// and histograms the reference times of the days on which they were begun: some hundred powers for 100,000 containers. Half of a
// sample's time would be that of its power.
const factorBits = 11

const (
	cellBits  = 5
	cellShift = 52 - cellBits // of a float64's bits: what is left is the exponent and the first cellBits of the mantissa
	cellZero  = 1023 << cellBits

	// nearEdge is how near to an edge, relative to it, the table is not believed. Of log(x)/log(Ratio) the error is a few units in
	// the last place, 176·2⁻⁵² ≈ 4e-14 at most; times log 1.05 that moves an edge by 2e-15 of itself.
	nearEdge = 1e-12
)

// NewShape makes the tables, or says what is wrong with the options.
func NewShape(o Options) (*Shape, error) {
	for _, v := range []float64{o.First, o.Ratio - 1, o.Max, o.Epsilon} {
		if !(v > 0) || math.IsInf(v, 0) {
			return nil, errors.New("cannot make a histogram: the first bucket, the maximum and epsilon must be positive, the ratio above 1")
		}
	}
	if o.HalfLife < minHalfLife || o.HalfLife > maxHalfLife {
		return nil, fmt.Errorf("cannot make a histogram with a half-life of %v: it must be between %v and %v", o.HalfLife, minHalfLife, maxHalfLife)
	}
	s := &Shape{options: o, log: math.Log(o.Ratio), slope: (o.Ratio - 1) / o.First, halfLife: float64(o.HalfLife)}
	n := math.Ceil(math.Log(o.Max*(o.Ratio-1)/o.First+1)/s.log) + 1
	if !(n >= 2 && n <= maxBuckets) {
		return nil, fmt.Errorf("cannot make a histogram of %.0f buckets: there must be 2 to %d", n, maxBuckets)
	}
	s.buckets = int(n)
	for b := range s.buckets {
		power := math.Pow(o.Ratio, float64(b))
		s.edges = append(s.edges, power)
		s.starts = append(s.starts, o.First*(power-1)/(o.Ratio-1))
	}
	s.starts[0] = 0
	bucket := 0
	for cell := 0; ; cell++ {
		x := math.Float64frombits(uint64(cell+cellZero) << cellShift)
		for bucket+1 < s.buckets && s.edges[bucket+1] <= x {
			bucket++
		}
		s.cells = append(s.cells, uint8(bucket))
		if bucket == s.buckets-1 {
			return s, nil
		}
	}
}

// Options returns what the shape was made of.
func (s *Shape) Options() Options { return s.options }

// Buckets returns the number of buckets.
func (s *Shape) Buckets() int { return s.buckets }

// Start returns where a bucket begins: First·(Ratio^b−1)/(Ratio−1). It is not a number for a bucket that there is not.
func (s *Shape) Start(bucket int) float64 {
	if bucket < 0 || bucket >= s.buckets {
		return math.NaN()
	}
	return s.starts[bucket]
}

// Find returns the bucket of a value that is not negative; what is above the last belongs to it. It answers as the VPA's
// logarithm does, also where that is a bucket off: Find(0.0205) is 1 although Start(2) is 0.020499999999999987.
func (s *Shape) Find(value float64) int {
	if value < s.options.First {
		return 0
	}
	x := value*s.slope + 1
	cell := math.Float64bits(x)>>cellShift - cellZero
	if cell >= uint64(len(s.cells)) {
		return s.buckets - 1
	}
	b := int(s.cells[cell])
	for b+1 < s.buckets && s.edges[b+1] <= x {
		b++
	}
	if x-s.edges[b] < nearEdge*x || b+1 < s.buckets && s.edges[b+1]-x < nearEdge*x {
		return s.exact(value)
	}
	return b
}

// exact is the VPA's own formula, in its order of operations.
func (s *Shape) exact(value float64) int {
	b := math.Log(value*(s.options.Ratio-1)/s.options.First+1) / s.log
	return int(min(b, float64(s.buckets-1)))
}

// factor is what a weight at a time is multiplied with: 2^((at−reference)/half-life). Times are Unix nanoseconds.
func (s *Shape) factor(at, reference int64) float64 {
	age := uint64(at - reference)
	known := &s.factors[age*0x9E3779B97F4A7C15>>(64-factorBits)]
	power := known.power.Load()
	if power^known.check.Load() != age || power == 0 {
		power = math.Float64bits(math.Exp2(float64(at-reference) / s.halfLife))
		known.power.Store(power)
		known.check.Store(power ^ age)
	}
	return math.Float64frombits(power)
}
