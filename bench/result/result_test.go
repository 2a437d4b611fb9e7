package result

import (
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAMissedGoalStaysInTableAndFile(t *testing.T) {
	r := New("thing")
	r.AddAtMost("fast", 1.5, "s", 2)
	r.AddAtMost("slow", 2.5, "s", 2)
	r.AddAtMost("never seen", math.NaN(), "s", 2)
	r.Add("plain", 3, "1/s")
	r.AddAtLeast("often enough", 10, "x", 10)
	r.AddAtLeast("too rarely", 9.9, "x", 10)
	r.AddAtLeast("never counted", math.NaN(), "x", 10)
	var table strings.Builder
	require.NoError(t, r.Print(&table))
	require.Contains(t, table.String(), "MISSED")
	require.Contains(t, table.String(), "unknown")

	path, err := r.Write(t.TempDir())
	require.NoError(t, err)
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	var back struct {
		Benchmark string
		Figures   []struct {
			Name  string
			Value *float64
			Met   *bool
		}
	}
	require.NoError(t, json.Unmarshal(raw, &back))
	require.Equal(t, "thing", back.Benchmark)
	met := map[string]bool{}
	for _, f := range back.Figures {
		if f.Met != nil {
			met[f.Name] = *f.Met
		}
	}
	require.Equal(t, map[string]bool{
		"fast": true, "slow": false, "never seen": false, "often enough": true, "too rarely": false, "never counted": false,
	}, met)
	require.Nil(t, back.Figures[2].Value, "unknown is null, not zero")
}

func TestQuantileIsAValueThatWasMeasured(t *testing.T) {
	values := []float64{4, 1, 3, 2}
	require.InDelta(t, 2.0, Quantile(values, 0.5), 0)
	require.InDelta(t, 4.0, Quantile(values, 0.99), 0)
	require.InDelta(t, 1.0, Quantile(values, 0.01), 0)
	require.True(t, math.IsNaN(Quantile(nil, 0.5)))
	require.Equal(t, []float64{4, 1, 3, 2}, values, "the input keeps its order")
}
