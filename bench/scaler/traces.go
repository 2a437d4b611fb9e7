package main

import (
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"headroom.dev/headroom/scaler/simulate"
)

// peak is the 99th percentile that traces of rates are brought to, in requests per second: 20 replicas of the plant.
const peak = 40

// named is a trace with what is known of its shape.
type named struct {
	*simulate.Trace
	daily float64 // correlation with the day before, of means over ten minutes; NaN where it is too short to tell
}

// cyclic: a day explains at least a third of the variance of the next one (r² of 0.33).
func (n named) cyclic() bool { return n.daily >= 0.57 }

func synthetic(o options) ([]named, error) {
	var list []named
	for _, shape := range simulate.Shapes() {
		if !strings.Contains(shape, o.only) {
			continue
		}
		t, err := simulate.Synthetic(shape, o.length, o.seed)
		if err != nil {
			return nil, err
		}
		list = append(list, named{t.Scaled(peak), daily(t)})
	}
	return list, nil
}

// read finds all traces under a folder. What is no demand is left out, and said.
func read(o options, say io.Writer) ([]named, error) {
	var list []named
	err := filepath.WalkDir(o.traces, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, gz := strings.CutSuffix(d.Name(), ".gz")
		name, csv := strings.CutSuffix(name, ".csv")
		relative, err := filepath.Rel(o.traces, path)
		if err != nil {
			return err
		}
		if !csv || !strings.Contains(relative, o.only) {
			return nil
		}
		if strings.HasSuffix(name, "_ms") || strings.HasSuffix(name, "_bytes") {
			fmt.Fprintf(say, "%s is left out: by its unit it is no demand\n", relative)
			return nil
		}
		t, err := open(path, strings.TrimSuffix(strings.TrimSuffix(relative, ".gz"), ".csv"), gz)
		if err != nil {
			fmt.Fprintf(say, "%s is left out: %v\n", relative, err)
			return nil
		}
		n := named{t, daily(t)}
		if t.Rate != nil {
			n.Trace = t.Scaled(peak)
		}
		list = append(list, n)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the traces of %s: %w", o.traces, err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no trace in %s: want .csv or .csv.gz", o.traces)
	}
	return list, nil
}

func open(path, name string, gz bool) (*simulate.Trace, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	var r io.Reader = f
	if gz {
		z, err := gzip.NewReader(f)
		if err != nil {
			return nil, fmt.Errorf("cannot unpack %s: %w", path, err)
		}
		r = z
	}
	return simulate.ReadTrace(name, r, simulate.ReadOptions{})
}

// daily is how well a day tells the next one.
func daily(t *simulate.Trace) float64 {
	const width = 10 * time.Minute
	if t.Duration() < 3*24*time.Hour {
		return math.NaN()
	}
	sums := make([]float64, int(t.Duration()/width)+1)
	counts := make([]float64, len(sums))
	for i, v := range t.Rate {
		if k := int(time.Duration(i) * t.Step / width); !math.IsNaN(v) {
			sums[k] += v
			counts[k]++
		}
	}
	for _, r := range t.Requests {
		sums[int(r.At/width)]++
	}
	lag := int(24 * time.Hour / width)
	var sx, sy, sxx, syy, sxy, n float64
	for i := lag; i < len(sums); i++ {
		x, y := sums[i-lag], sums[i]
		if t.Requests == nil {
			x, y = x/counts[i-lag], y/counts[i]
		}
		if math.IsNaN(x) || math.IsNaN(y) {
			continue
		}
		sx, sy, sxx, syy, sxy, n = sx+x, sy+y, sxx+x*x, syy+y*y, sxy+x*y, n+1
	}
	return (sxy - sx*sy/n) / math.Sqrt((sxx-sx*sx/n)*(syy-sy*sy/n))
}
