package judge

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSpecsThatContradictThemselves(t *testing.T) {
	low, high := 1.0, 2.0
	for want, s := range map[string]Spec{
		"metrics: at least one":        {},
		"metrics[0].name: missing":     {Metrics: []Metric{{Kind: Errors}}},
		"is there twice":               {Metrics: []Metric{{Name: "a", Kind: Errors}, {Name: "a", Kind: Errors}}},
		"is none of Errors":            {Metrics: []Metric{{Name: "a", Kind: "Error"}}},
		"metrics[0].maxRatio: 0.5":     {Metrics: []Metric{{Name: "a", Kind: Errors, MaxRatio: 0.5}}},
		"metrics[0].maxRatio: NaN":     {Metrics: []Metric{{Name: "a", Kind: Latency, MaxRatio: math.NaN()}}},
		"metrics[0].quantile: 95":      {Metrics: []Metric{{Name: "a", Kind: Latency, Quantile: 95}}},
		"a gauge needs one":            {Metrics: []Metric{{Name: "a", Kind: Gauge}}},
		"metrics[0].min: 2 is above":   {Metrics: []Metric{{Name: "a", Kind: Gauge, Min: &high, Max: &low}}},
		"metrics[0].absence: \"Pass\"": {Metrics: []Metric{{Name: "a", Kind: Gauge, Max: &high, Absence: "Pass"}}},
		"alpha: 5":                     {Metrics: []Metric{{Name: "a", Kind: Errors}}, Alpha: 5},
		"passScore: -1":                {Metrics: []Metric{{Name: "a", Kind: Errors}}, PassScore: -1},
	} {
		_, err := New(s)
		require.ErrorContains(t, err, want)
	}
}
