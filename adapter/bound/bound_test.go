package bound

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	f := func(text string, span time.Duration, why string) {
		t.Helper()
		expr, err := Parse(text, span)
		if why == "" {
			require.NoError(t, err, text)
			require.NotNil(t, expr)
			return
		}
		require.ErrorContains(t, err, why, text)
	}
	f(`sum by (pod) (rate(x[5m]))`, 0, "")
	f(`max_over_time(rate(x[1m])[1h:1s])`, 0, "")
	f(`max_over_time(x[16m:1ms])`, 0, "")
	f(`max_over_time(x[17m:1ms])`, 0, "the subqueries have more than 1000000 steps")
	f(`max_over_time(x[16m:1ms])`, time.Hour, "the subqueries have more than 1000000 steps")
	f(`topk by (pod) (20, x)`, 0, "")
	f(`topk by (pod) (21, x)`, 0, "topk by group takes a number of at most 20")
	f(`topk(1e9, x)`, 0, "")
	f(strings.Repeat("(", 3000)+"1"+strings.Repeat(")", 3000), 0, "more than 4000 tokens")
	f(strings.Repeat("(", 300)+"1"+strings.Repeat(")", 300), 0, "nests deeper than 200")
	f(strings.Repeat(`label_join(`, 7)+"x"+strings.Repeat(`, "a", "", "a", "a")`, 7), 0, "label_join would make labels too long")
	f(`label_replace(x, "a", "$1", "b", "((((c{10}){10}){9})*d)*")`, 0, "instructions, at most 1000")
	f(`sum(`, 0, "parse error")
	f(`limitk(3, x)`, 0, "experimental")
}
