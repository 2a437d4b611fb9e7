package agent

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
)

// Whatever a label's value is, Prometheus' own parser reads it back.
func TestLabelsAreReadBack(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	const alphabet = "ab \\\"\n{}=,\u00e9\u4e16\xff\x00"
	for range 2000 {
		raw := make([]byte, random.IntN(12))
		for i := range raw {
			raw[i] = alphabet[random.IntN(len(alphabet))]
		}
		value := string(raw)
		text := "# TYPE m gauge\nm" + braces(label{"b", value}, label{"a", "x"}) + " 1\n"
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(strings.NewReader(text))
		require.NoError(t, err, "%q", text)
		labels := families["m"].GetMetric()[0].GetLabel()
		require.Len(t, labels, 2)
		require.Equal(t, "a", labels[0].GetName(), "sorted")
		require.Equal(t, strings.ToValidUTF8(value, "\uFFFD"), labels[1].GetValue())
	}
}
