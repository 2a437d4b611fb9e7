package main

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// trace is demand on a grid, NaN where there is none.
type trace struct {
	name   string
	step   time.Duration
	values []float64
}

// readTraces reads every CSV file (.csv or .csv.gz) below a directory.
func readTraces(directory string) ([]trace, error) {
	var traces []trace
	err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(strings.TrimSuffix(path, ".gz"), ".csv") {
			return err
		}
		name, err := filepath.Rel(directory, path)
		if err != nil {
			return err
		}
		t, err := readTrace(path)
		switch {
		case errors.Is(err, errContainers):
			return nil // many series in one file: no service's demand
		case err != nil:
			return fmt.Errorf("cannot read trace %s: %w", path, err)
		}
		t.name = strings.TrimSuffix(strings.TrimSuffix(name, ".gz"), ".csv")
		traces = append(traces, t)
		return nil
	})
	if err == nil && len(traces) == 0 {
		err = fmt.Errorf("no .csv or .csv.gz with the demand of one service below %s", directory)
	}
	return traces, err
}

var errContainers = errors.New("a file of many containers")

func readTrace(path string) (trace, error) {
	file, err := os.Open(path)
	if err != nil {
		return trace{}, err
	}
	defer func() { _ = file.Close() }()
	var in io.Reader = file
	if strings.HasSuffix(path, ".gz") {
		if in, err = gzip.NewReader(file); err != nil {
			return trace{}, err
		}
	}
	return parseTrace(in)
}

// parseTrace reads a header and lines of time and value. A column "value" is averaged over each step, "requests" is summed; in files of
// single requests (column TIMESTAMP) lines are counted.
func parseTrace(in io.Reader) (trace, error) {
	lines := bufio.NewScanner(in)
	if !lines.Scan() {
		return trace{}, errors.New("it is empty")
	}
	columns := strings.Split(strings.TrimSpace(lines.Text()), ",")
	if len(columns) > 2 && columns[2] == "container" {
		return trace{}, errContainers
	}
	events := columns[0] == "TIMESTAMP"
	var times, values []float64
	for number := 2; lines.Scan(); number++ {
		fields := strings.Split(strings.TrimSpace(lines.Text()), ",")
		if len(fields) < 2 {
			return trace{}, fmt.Errorf("line %d: no value", number)
		}
		at, value, err := parseLine(fields, events)
		if err != nil {
			return trace{}, fmt.Errorf("line %d: %w", number, err)
		}
		times, values = append(times, at), append(values, value)
	}
	if err := lines.Err(); err != nil {
		return trace{}, err
	}
	if len(times) < 2 {
		return trace{}, errors.New("it has fewer than two lines of data")
	}
	// An hour of requests has too few minutes to learn from.
	step := time.Minute
	if times[len(times)-1]-times[0] < 86400 {
		step = 10 * time.Second
	}
	return trace{step: step, values: onGrid(times, values, step.Seconds(), events || columns[1] == "requests")}, nil
}

func parseLine(fields []string, events bool) (at, value float64, err error) {
	if events {
		t, err := time.Parse("2006-01-02 15:04:05", fields[0])
		if err != nil {
			return 0, 0, err
		}
		return float64(t.UnixNano()) / 1e9, 1, nil
	}
	if at, err = strconv.ParseFloat(fields[0], 64); err != nil {
		return 0, 0, err
	}
	value, err = strconv.ParseFloat(fields[1], 64)
	return at, value, err
}

// onGrid sums values up to rates, or averages them.
func onGrid(times, values []float64, step float64, rate bool) []float64 {
	first := math.Floor(times[0]/step) * step
	sums := make([]float64, int((times[len(times)-1]-first)/step)+1)
	counts := make([]float64, len(sums))
	for i, at := range times {
		if k := int((at - first) / step); k >= 0 && k < len(sums) {
			sums[k] += values[i]
			counts[k]++
		}
	}
	for i := range sums {
		switch {
		case rate:
			sums[i] /= step
		case counts[i] == 0:
			sums[i] = math.NaN()
		default:
			sums[i] /= counts[i]
		}
	}
	return sums
}

// synthetic makes traces whose truth is known, 14 days each.
func synthetic(seed uint64) []trace {
	const day, days = 1440, 14
	random := rand.New(rand.NewPCG(seed, 0))
	make1 := func(name string, next func(i int) float64) trace {
		t := trace{name: "synthetic/" + name, step: time.Minute}
		for i := range days * day {
			t.values = append(t.values, max(0, next(i)))
		}
		return t
	}
	daily := func(i int) float64 { return 60 - 45*math.Cos(2*math.Pi*float64(i)/day) }
	walk, slow := 50.0, 0.0
	return []trace{
		make1("daily", func(i int) float64 { return daily(i) * (1 + 0.1*random.NormFloat64()) }),
		make1("weekly", func(i int) float64 {
			weekend := 1.0
			if i/day%7 >= 5 {
				weekend = 0.5
			}
			slow += -slow/120 + 0.01*random.NormFloat64()
			return daily(i) * weekend * math.Exp(slow+0.05*random.NormFloat64())
		}),
		make1("bursts", func(i int) float64 {
			burst := 1.0
			if i%60 < 5 {
				burst = 3
			}
			return (20 + daily(i)/3) * burst * (1 + 0.08*random.NormFloat64())
		}),
		make1("walk", func(int) float64 {
			walk *= math.Exp(0.02 * random.NormFloat64())
			return walk
		}),
		make1("noise", func(int) float64 { return 50 * (1 + 0.2*random.NormFloat64()) }),
	}
}
