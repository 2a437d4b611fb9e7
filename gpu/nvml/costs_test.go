//go:build linux && cgo

package nvml

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// costs collects how long calls take.
type costs struct {
	mu   sync.Mutex
	took map[string][]time.Duration
}

func (c *costs) observe(call string, took time.Duration, _ bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.took == nil {
		c.took = map[string][]time.Duration{}
	}
	c.took[call] = append(c.took[call], took)
}

// table is docs/nvml-costs.md: the dearest calls first.
func (c *costs) table(driver, card string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	type row struct {
		call        string
		n           int
		median, p99 time.Duration
	}
	var rows []row
	for call, took := range c.took {
		slices.Sort(took)
		rank := func(q float64) time.Duration { return took[min(len(took)-1, int(q*float64(len(took))))] }
		rows = append(rows, row{call, len(took), rank(0.5), rank(0.99)})
	}
	slices.SortFunc(rows, func(a, b row) int { return int(b.median - a.median) })
	var b strings.Builder
	fmt.Fprintf(&b, "# What NVML's calls cost\n\n%s, driver %s; `make test-gpu`. Times are of the C function with go-nvml around it.\n\n", card, driver)
	b.WriteString("| call | calls | median | p99 |\n|---|---|---|---|\n")
	us := func(d time.Duration) string { return fmt.Sprintf("%.1f µs", float64(d.Nanoseconds())/1e3) }
	for _, r := range rows {
		fmt.Fprintf(&b, "| `%s` | %d | %s | %s |\n", r.call, r.n, us(r.median), us(r.p99))
	}
	return b.String()
}

func TestCostsTable(t *testing.T) {
	c := &costs{}
	for i := range 100 {
		c.observe("nvmlDeviceGetMemoryInfo_v2", time.Duration(12+i/99*8)*time.Microsecond, false)
		c.observe("nvmlDeviceGetGraphicsRunningProcesses_v3", 4500*time.Microsecond, false)
	}
	assert.Equal(t, `# What NVML's calls cost

NVIDIA H200, driver 570.1; `+"`make test-gpu`"+`. Times are of the C function with go-nvml around it.

| call | calls | median | p99 |
|---|---|---|---|
| `+"`nvmlDeviceGetGraphicsRunningProcesses_v3`"+` | 100 | 4500.0 µs | 4500.0 µs |
| `+"`nvmlDeviceGetMemoryInfo_v2`"+` | 100 | 12.0 µs | 20.0 µs |
`, c.table("570.1", "NVIDIA H200"))
}
