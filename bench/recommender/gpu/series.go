package gpu

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const file = "alibaba-genai-2026/gpu_memory_used_bytes.csv.gz"

// read reads the trace below a directory.
func read(directory string) (series []Series, err error) {
	path := filepath.Join(directory, filepath.FromSlash(file))
	in, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the trace of GPU memory: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	plain, err := gzip.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("cannot read the trace of GPU memory %s: %w", path, err)
	}
	series, err = parse(plain)
	if err != nil {
		return nil, fmt.Errorf("cannot read the trace of GPU memory %s: %w", path, err)
	}
	return series, nil
}

// parse reads lines of a time in seconds, a value in bytes and a container, after a header.
func parse(in io.Reader) ([]Series, error) {
	lines := bufio.NewScanner(in)
	if !lines.Scan() || strings.TrimSpace(lines.Text()) != "timestamp,value,container" {
		return nil, errors.New("its header is not timestamp,value,container")
	}
	type sample struct {
		at    float64
		value float64
	}
	all := map[string][]sample{}
	for number := 2; lines.Scan(); number++ {
		fields := strings.Split(strings.TrimSpace(lines.Text()), ",")
		if len(fields) != 3 {
			return nil, fmt.Errorf("line %d has %d fields, not 3", number, len(fields))
		}
		at, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		value, err := strconv.ParseFloat(fields[1], 64)
		if err != nil || !(value >= 0) {
			return nil, fmt.Errorf("line %d: %q is no use of memory", number, fields[1])
		}
		all[fields[2]] = append(all[fields[2]], sample{at, value})
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	var series []Series
	for name, samples := range all {
		slices.SortStableFunc(samples, func(a, b sample) int { return cmp.Compare(a.at, b.at) })
		s := Series{Name: name}
		for _, one := range samples {
			s.Times = append(s.Times, time.Unix(0, int64(one.at*1e9)).UTC())
			s.Values = append(s.Values, one.value)
		}
		series = append(series, s)
	}
	if len(series) == 0 {
		return nil, errors.New("it has no samples")
	}
	slices.SortFunc(series, func(a, b Series) int { return cmp.Compare(a.Name, b.Name) })
	return series, nil
}

// synthetic makes 72 containers of a day: a base of weights, and requests that come at random with a load that falls towards the night
// and take some memory for some minutes. A few are flat, and a few leak.
func synthetic(seed uint64) []Series {
	random := rand.New(rand.NewPCG(seed, 1))
	start := time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	const step, steps = 57 * time.Second, 1440
	series := make([]Series, 0, 72)
	for i := range 72 {
		s := Series{Name: fmt.Sprintf("synthetic-%02d", i)}
		base := (8 + 30*random.Float64()) * 1e9
		spike := base * (0.05 + 0.6*random.Float64())
		kind := i % 9 // 0 flat, 1 leaking
		until, extra := 0, 0.0
		for k := range steps {
			load := 1.2 - float64(k)/steps
			if kind > 1 && k >= until && random.Float64() < 0.01*load {
				until, extra = k+2+random.IntN(8), spike*random.ExpFloat64()/2
			}
			value := base
			if k < until {
				value += extra
			}
			if kind == 1 {
				value += base * 0.5 * float64(k) / steps
			}
			s.Times = append(s.Times, start.Add(time.Duration(k)*step))
			s.Values = append(s.Values, min(value, 140e9))
		}
		series = append(series, s)
	}
	return series
}
