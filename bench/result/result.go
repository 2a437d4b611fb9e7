// Package result is the one form of every benchmark's outcome: a table for people and a JSON file for comparisons. A goal
// that is missed stays in both, as missed.
package result

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// Figure is one measured number. Goal is what it should be ("<= 2"), empty where there is none; Met is nil then, and also
// where the value is unknown, which is written as null.
type Figure struct {
	Name  string   `json:"name"`
	Value *float64 `json:"value"`
	Unit  string   `json:"unit"`
	Goal  string   `json:"goal,omitempty"`
	Met   *bool    `json:"met,omitempty"`
}

// Machine is where it was measured.
type Machine struct {
	CPU   string `json:"cpu"`
	Cores int    `json:"cores"`
	OS    string `json:"os"`
	Go    string `json:"go"`
}

// Result is a whole benchmark.
type Result struct {
	Benchmark string   `json:"benchmark"`
	Machine   Machine  `json:"machine"`
	Figures   []Figure `json:"figures"`
}

// New returns an empty result for this machine.
func New(benchmark string) *Result {
	return &Result{Benchmark: benchmark, Machine: Machine{
		CPU: cpuModel(), Cores: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(),
	}}
}

// Add appends a figure without a goal; NaN is an unknown value.
func (r *Result) Add(name string, value float64, unit string) {
	f := Figure{Name: name, Unit: unit}
	if !math.IsNaN(value) && !math.IsInf(value, 0) {
		f.Value = &value
	}
	r.Figures = append(r.Figures, f)
}

// AddAtMost appends a figure that should not be above goal. An unknown value misses it.
func (r *Result) AddAtMost(name string, value float64, unit string, goal float64) {
	r.Add(name, value, unit)
	f := &r.Figures[len(r.Figures)-1]
	f.Goal, f.Met = fmt.Sprintf("<= %g", goal), new(f.Value != nil && *f.Value <= goal)
}

// AddAtLeast appends a figure that should not be below goal. An unknown value misses it.
func (r *Result) AddAtLeast(name string, value float64, unit string, goal float64) {
	r.Add(name, value, unit)
	f := &r.Figures[len(r.Figures)-1]
	f.Goal, f.Met = fmt.Sprintf(">= %g", goal), new(f.Value != nil && *f.Value >= goal)
}

// Print writes the table.
func (r *Result) Print(w io.Writer) error {
	fmt.Fprintf(w, "%s on %s, %d cores, %s, %s\n\n", r.Benchmark, r.Machine.CPU, r.Machine.Cores, r.Machine.OS, r.Machine.Go)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight|tabwriter.Debug)
	fmt.Fprintln(t, "figure\tvalue\tunit\tgoal\t\t")
	for _, f := range r.Figures {
		value, met := "unknown", ""
		if f.Value != nil {
			value = fmt.Sprintf("%.4g", *f.Value)
		}
		if f.Met != nil {
			met = map[bool]string{true: "met", false: "MISSED"}[*f.Met]
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t\n", f.Name, value, f.Unit, f.Goal, met)
	}
	return t.Flush()
}

// Write writes dir/NAME.json.
func (r *Result) Write(dir string) (path string, err error) {
	var raw bytes.Buffer
	encoder := json.NewEncoder(&raw)
	encoder.SetEscapeHTML(false) // "<= 2" is for people too
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(r); err != nil {
		return "", fmt.Errorf("cannot write the result of %s: %w", r.Benchmark, err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("cannot write the result of %s: %w", r.Benchmark, err)
	}
	path = filepath.Join(dir, r.Benchmark+".json")
	if err := os.WriteFile(path, raw.Bytes(), 0o644); err != nil { //nolint:gosec // a report that anybody may read
		return "", fmt.Errorf("cannot write the result of %s: %w", r.Benchmark, err)
	}
	return path, nil
}

// Quantile returns the nearest-rank quantile (0 < q ≤ 1) of values, NaN where there are none. With fewer than 1/(1−q) values it
// is the largest one.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, min(len(sorted)-1, int(math.Ceil(q*float64(len(sorted))))-1))]
}

// cpuModel reads the processor's name where Linux tells it.
func cpuModel() string {
	raw, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(raw)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
