package exact

import (
	"flag"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"headroom.dev/headroom/recommender/vpa"
)

var (
	seedFlag       = flag.Uint64("seed", 1, "seed of the streams")
	streamsFlag    = flag.Int("streams", 1500, "streams")
	operationsFlag = flag.Int("operations", 2000, "operations of each stream")
)

// outcome is what came of streams.
type outcome struct {
	compared, differences int
	first                 []string // differences, at most ten
	covered               map[string]int
}

func (o *outcome) differ(format string, args ...any) {
	o.differences++
	if len(o.first) < 10 {
		o.first = append(o.first, fmt.Sprintf(format, args...))
	}
}

func (o *outcome) cover(what string) { o.covered[what]++ }

func (o *outcome) coverIf(does bool, what string) {
	if does {
		o.cover(what)
	}
}

func same[T comparable](o *outcome, what string, ours, theirs T) {
	o.compared++
	if ours != theirs {
		o.differ("%s: %v, the library's is %v", what, ours, theirs)
	}
}

// sameFloat wants the same bits.
func sameFloat(o *outcome, what string, ours, theirs float64) {
	o.compared++
	if math.Float64bits(ours) != math.Float64bits(theirs) {
		o.differ("%s: %v, the library's is %v", what, ours, theirs)
	}
}

func sameTime(o *outcome, what string, ours, theirs time.Time) {
	o.compared++
	if !ours.Equal(theirs) {
		o.differ("%s: %v, the library's is %v", what, ours, theirs)
	}
}

// required is what streams must have come upon, for the comparison to say anything of it.
var required = []string{
	"a gap of over 100 half-lives", "time goes back by weeks", "time is at the end of an interval", "a CPU sample out of order",
	"a negative CPU sample", "a memory sample out of order", "a new memory interval", "an old OOM kill", "a late OOM kill",
	"an OOM kill after another in its interval", "a merge", "a merge of histograms with different reference times",
	"a current peak taken from a checkpoint", "a checkpoint by way of JSON", "a checkpoint from memory", "a checkpoint that is refused",
	"a checkpoint that nobody saved", "a checkpoint without a reference time", "a recommendation without CPU samples",
	"an upper bound of 1e14", "time is 100 half-lives after the reference time", "an OOM kill an interval before the newest sample",
}

// drive drives both through streams, until there is a difference if that is enough.
func drive(t testing.TB, seed uint64, streams, operations int, m mutation, enough bool) *outcome {
	out := &outcome{covered: map[string]int{}}
	for n := range streams {
		before := out.differences
		newStream(t, seed, uint64(n), out, m).run(operations)
		if out.differences != before && enough {
			break
		}
	}
	return out
}

// TestExact drives the library and ours through the same streams, and compares them after each operation.
func TestExact(t *testing.T) {
	began := time.Now()
	out := drive(t, *seedFlag, *streamsFlag, *operationsFlag, mutation{}, false)
	fmt.Fprintf(t.Output(), "seed %d (-seed N draws others)\nstreams      %d of %d operations, %.0f s\ncomparisons  %d\ndifferences  %d\n",
		*seedFlag, *streamsFlag, *operationsFlag, time.Since(began).Seconds(), out.compared, out.differences)
	for _, what := range slices.Sorted(maps.Keys(out.covered)) {
		fmt.Fprintf(t.Output(), "%10d  %s\n", out.covered[what], what)
	}
	assert.Zero(t, out.differences, strings.Join(out.first, "\n"))
	for _, what := range required {
		assert.NotZero(t, out.covered[what], "no stream came upon this: %s", what)
	}
}

// TestDifferencesAreFound makes ours another VPA, by as little as can be, and wants that to be noticed.
func TestDifferencesAreFound(t *testing.T) {
	f := func(what string, m mutation) {
		t.Helper()
		out := drive(t, *seedFlag, 300, 500, m, true)
		first := "nothing"
		if len(out.first) > 0 {
			first = out.first[0]
		}
		fmt.Fprintf(t.Output(), "%-45s %s\n", what, first)
		assert.NotZero(t, out.differences, "nobody noticed: %s", what)
	}
	config := func(what string, change func(*vpa.Config)) { t.Helper(); f(what, mutation{config: change}) }
	config("margin +0.001", func(c *vpa.Config) { c.Margin += 0.001 })
	config("a pod's least CPU +1 millicore", func(c *vpa.Config) { c.PodMinCPU += 4 })
	config("a pod's least memory +1 byte", func(c *vpa.Config) { c.PodMinMemoryMB += 4.0 / (1 << 20) })
	config("CPU target +0.001", func(c *vpa.Config) { c.CPU.Target = nudge(c.CPU.Target) })
	config("CPU lower bound +0.001", func(c *vpa.Config) { c.CPU.Lower = nudge(c.CPU.Lower) })
	config("CPU upper bound +0.001", func(c *vpa.Config) { c.CPU.Upper = nudge(c.CPU.Upper) })
	config("memory target +0.001", func(c *vpa.Config) { c.Memory.Target = nudge(c.Memory.Target) })
	config("memory lower bound +0.001", func(c *vpa.Config) { c.Memory.Lower = nudge(c.Memory.Lower) })
	config("memory upper bound +0.001", func(c *vpa.Config) { c.Memory.Upper = nudge(c.Memory.Upper) })
	config("CPU confidence +1 s", func(c *vpa.Config) { c.CPU.Confidence += time.Second })
	config("memory confidence +1 s", func(c *vpa.Config) { c.Memory.Confidence += time.Second })
	config("CPU half-life +1 ns", func(c *vpa.Config) { c.CPU.HalfLife++ })
	config("memory half-life +1 ns", func(c *vpa.Config) { c.Memory.HalfLife++ })
	config("memory interval +1 ns", func(c *vpa.Config) { c.MemoryInterval++ })
	config("OOM ratio +0.000001", func(c *vpa.Config) { c.OOMBumpUpRatio += 1e-6 })
	config("OOM bump-up +1 byte", func(c *vpa.Config) { c.OOMMinBumpUp++ })
	config("CPU rounded to one more", func(c *vpa.Config) { c.RoundCPU++ })
	config("memory rounded to one more", func(c *vpa.Config) { c.RoundMemory++ })
	f("samples 1 ns later", mutation{at: 1})
	f("CPU samples +1 millicore", mutation{cpu: 1})
	f("memory samples +1 byte", mutation{memory: 1})
	f("merge leaves the other's reference time", mutation{keep: true})
	f("checkpoints with the current peaks", mutation{peaks: true})
	f("a sample in a hundred dropped", mutation{skip: true})
}

func nudge(p float64) float64 {
	if p > 0.5 {
		return p - 0.001
	}
	return p + 0.001
}
