package direct

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// generator makes expressions, of which most are supported.
type generator struct {
	rng   *rand.Rand
	exact bool // sums come in the engine's order, so that what is not continuous may follow
	depth int
}

func pick[T any](rng *rand.Rand, list ...T) T { return list[rng.IntN(len(list))] }

func (g *generator) vector() string {
	g.depth--
	defer func() { g.depth++ }()
	if g.depth < 0 {
		return g.leaf()
	}
	switch g.rng.IntN(12) {
	case 0, 1:
		return g.leaf()
	case 2, 3, 4:
		return g.aggregate()
	case 5:
		q := pick(g.rng, "0.5", "0.95", "0", "1", "1.5", "-1", "NaN")
		inner := pick(g.rng, g.leaf(), g.leaf(), g.vector(),
			"sum by (namespace, pod, le) (rate(h_bucket[5s]))", "h_bucket", // so that rules share them
			fmt.Sprintf("sum by (namespace, pod, le) (rate(%s[%ds]))", pick(g.rng, "h_bucket", "k_bucket"), 2+g.rng.IntN(8)))
		return fmt.Sprintf("histogram_quantile(%s, %s)", q, inner)
	case 6:
		return g.function()
	case 7:
		k := pick(g.rng, "2", "-1.5", "0", "1000", "Inf", "NaN", "(3 - 1)", "-(2 ^ 3)")
		op := g.operator()
		if g.rng.IntN(2) == 0 {
			return fmt.Sprintf("(%s %s %s)", k, op, g.vector())
		}
		return fmt.Sprintf("(%s %s %s)", g.vector(), op, k)
	case 8:
		return "-(" + g.vector() + ")"
	case 9, 10:
		return fmt.Sprintf("(%s %s%s %s)", g.vector(), g.operator(), g.matching(), g.vector())
	default:
		return fmt.Sprintf("(%s %s%s %s)", g.vector(), pick(g.rng, "or", "and", "unless"), g.matching(), g.vector())
	}
}

func (g *generator) matching() string {
	return pick(g.rng, "", "", "", " on (namespace, pod)", " ignoring (code)", " on (pod)", " ignoring (le, x)", " on ()",
		" on (namespace, pod, service)", " ignoring (namespace)")
}

func (g *generator) operator() string {
	if !g.exact {
		return pick(g.rng, "+", "-", "*", "/", "^")
	}
	return pick(g.rng, "+", "-", "*", "/", "%", "^", "==", "!=", ">", "<", ">=", "<=", "> bool", "== bool", "atan2")
}

func (g *generator) function() string {
	name := pick(g.rng, "abs", "sqrt", "exp", "ln", "clamp_min(%s, 2)", "clamp_max(%s, 20)", "clamp(%s, 5, 1)", "clamp(%s, 1, 5)")
	if g.exact && g.rng.IntN(2) == 0 {
		name = pick(g.rng, "ceil", "floor", "round", "round(%s, 0.5)", "log2", "log10")
	}
	if strings.Contains(name, "%s") {
		return fmt.Sprintf(name, g.vector())
	}
	return name + "(" + g.vector() + ")"
}

func (g *generator) aggregate() string {
	op := pick(g.rng, "sum", "sum", "avg", "min", "max", "count", "group", "stddev", "stdvar")
	by := pick(g.rng, "", " by (namespace, pod)", " by (namespace, pod, le)", " by (pod)", " by (service, namespace)", " without (code)",
		" without (le, x)", " by (code)", " without (pod)", " by (__name__)")
	inner := g.vector()
	if strings.Contains(inner, "histogram_quantile") { // whose results the engine has in random order
		op = pick(g.rng, "min", "max", "count")
	}
	return fmt.Sprintf("%s%s (%s)", op, by, inner)
}

func (g *generator) leaf() string {
	name := pick(g.rng, "a_total", "b_total", "g", "f", "h_bucket", "k_bucket", "nothing")
	matchers := pick(g.rng, "", "", "", `{code!="500"}`, `{pod=~"p[0-2]"}`, `{namespace="n0"}`, `{pod=""}`, `{service=~"s.*"}`, `{service!="all"}`)
	offset := pick(g.rng, "", "", "", "", " offset 2s", " offset 5s")
	if g.rng.IntN(3) == 0 {
		return name + matchers + offset
	}
	fn := pick(g.rng, "rate", "rate", "increase", "delta", "irate", "idelta", "sum_over_time", "avg_over_time", "max_over_time",
		"min_over_time", "count_over_time", "last_over_time", "present_over_time", "changes", "resets")
	return fmt.Sprintf("%s(%s%s[%dms]%s)", fn, name, matchers, pick(g.rng, 1000, 2500, 4000, 9000), offset)
}
