package promapi

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/adapter/store"
)

func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// vault is in every series of the other namespace, and in no expression.
const vault = "vault 113"

// worlds returns two stores: the first has namespaces shop and bank, the second shop alone, with the same samples.
func worlds(rng *rand.Rand) (both, alone *store.Store) {
	keep := map[string]time.Duration{"a_total": time.Minute, "b": time.Minute, "h_bucket": time.Minute}
	both, alone = store.New(store.Options{Keep: keep}), store.New(store.Options{Keep: keep})
	counters := map[string]float64{}
	for i := range 40 {
		at := time.Unix(epoch-39+int64(i), 0)
		for _, target := range []string{"shop/p", "bank/p", "shop/q", "bank/r"} {
			ns, pod, _ := strings.Cut(target, "/")
			var samples []store.Sample
			for _, name := range []string{"a_total", "b", "h_bucket"} {
				for _, le := range []string{"0.1", "1", "+Inf"} {
					if rng.IntN(20) == 0 {
						continue // the series ends, or begins
					}
					zone := map[string]string{"bank": vault}[ns] // "" is no label
					ls := labels.FromStrings("__name__", name, "namespace", ns, "pod", pod, "le", le, "zone", zone).WithoutEmpty()
					counters[ls.String()] += float64(rng.IntN(8))
					samples = append(samples, store.Sample{Labels: ls, Value: counters[ls.String()]})
				}
			}
			both.Append(target, at, samples)
			if ns == "shop" {
				alone.Append(target, at, samples)
			}
		}
	}
	return both, alone
}

// promQL makes random expressions that reach for everything.
type promQL struct{ *rand.Rand }

func (g promQL) one(list ...string) string { return list[g.IntN(len(list))] }

func (g promQL) matcher() string {
	return g.one(`namespace="bank"`, `namespace=~"bank|shop"`, `namespace!="shop"`, `namespace!~"shop"`, `namespace=""`, `namespace=~".*"`,
		`pod="r"`, `pod=~"p|r"`, `le="1"`, `le!~"0.*"`, `__name__=~"a.*|b"`, `__name__!=""`, `pod!="p"`)
}

func (g promQL) selector() string {
	var ms []string
	for range g.IntN(4) {
		ms = append(ms, g.matcher())
	}
	if g.IntN(8) == 0 {
		return `{__name__=~".+",` + strings.Join(ms, ",") + `}`
	}
	if name := g.one("a_total", "b", "h_bucket"); !strings.Contains(strings.Join(ms, ","), "__name__") {
		return name + `{` + strings.Join(ms, ",") + `}`
	}
	return `{` + strings.Join(append(ms, `pod!=""`), ",") + `}`
}

func (g promQL) modifier() string {
	return g.one("", "", "", " offset 3s", " offset -2s", " @ 1699999990", " @ end()", " @ start() offset 5s")
}

func (g promQL) ranged(depth int) string {
	if depth > 0 && g.IntN(2) == 0 {
		return "(" + g.vector(depth-1) + ")" + g.one("[10s:2s]", "[5s:]", "[20s:5s]") + g.modifier()
	}
	return g.selector() + g.one("[5s]", "[20s]", "[1m]") + g.modifier()
}

func (g promQL) vector(depth int) string {
	if depth == 0 {
		return g.selector() + g.modifier()
	}
	v := func() string { return g.vector(depth - 1) }
	by := func() string {
		return g.one("", " by (namespace)", " by (pod, le)", " without (le)", " by (__name__)", " without (namespace)")
	}
	switch g.IntN(16) {
	case 0:
		return g.one("rate", "increase", "max_over_time", "last_over_time", "count_over_time", "changes", "present_over_time",
			"absent_over_time", "timestamp(last_over_time", "deriv") + "(" + g.ranged(depth) + ")"
	case 1, 2:
		return g.one("sum", "avg", "max", "count", "group", "stddev") + by() + " (" + v() + ")"
	case 3:
		return g.one("topk", "bottomk") + "(2, " + g.selector() + ")"
	case 4:
		return `count_values("namespace", ` + v() + ")"
	case 5:
		return "absent(" + v() + ")"
	case 6:
		return `label_replace(` + v() + `, "` + g.one("namespace", "pod", "x") + `", "` + g.one("shop", "bank", "$1-x") + `", "` +
			g.one("namespace", "pod", "le") + `", "(.*)")`
	case 7:
		return `label_join(` + v() + `, "` + g.one("namespace", "x") + `", "/", "namespace", "pod")`
	case 8:
		return "histogram_quantile(0.5, sum by (namespace, pod, le) (rate(" + g.ranged(0) + ")))"
	case 9, 10:
		return "(" + v() + g.one(" or ", " and ", " unless ", " or on (pod) ", " and on () ", " unless on (namespace) ") + v() + ")"
	case 11:
		return "(" + v() + g.one(" + ", " * ", " > ", " == bool ", " - on (pod, le) ", " / ignoring (namespace) ") + v() + ")"
	case 12:
		return "(" + v() + " * on (pod) group_left (namespace) max by (pod, namespace) (" + v() + "))"
	case 13:
		return "vector(scalar(" + v() + "))"
	case 14:
		return g.one("sort", "abs", "-", "timestamp", "sort_desc", "round") + "(" + v() + ")"
	default:
		return g.selector() + g.modifier()
	}
}

// normalised decodes an answer so that neither the order of results nor the last digits of sums count.
func normalised(t *testing.T, body []byte) any {
	t.Helper()
	var doc map[string]any
	require.NoError(t, json.Unmarshal(body, &doc), "%s", body)
	if e, ok := doc["error"].(string); ok { // its examples are arbitrary
		return regexp.MustCompile(`\{.*\}`).ReplaceAllString(e, "{}")
	}
	data, ok := doc["data"].(map[string]any)
	if !ok {
		return doc
	}
	list, ok := data["result"].([]any)
	if !ok || data["resultType"] == "scalar" || data["resultType"] == "string" {
		return doc
	}
	var out []string
	for _, r := range list {
		r := r.(map[string]any)
		points, _ := r["values"].([]any)
		if p, ok := r["value"]; ok {
			points = []any{p}
		}
		text := fmt.Sprint(r["metric"])
		for _, p := range points {
			f, err := strconv.ParseFloat(p.([]any)[1].(string), 64)
			require.NoError(t, err)
			text += fmt.Sprintf(" %v:%.9g", p.([]any)[0], f)
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}

// TestNamespacesDoNotInterfere asks a server with two namespaces for one of them, and a server that has this one alone:
// whatever is asked, the answers are the same. So nothing of the other can be learned.
func TestNamespacesDoNotInterfere(t *testing.T) {
	rng := seeded(t)
	both, alone := worlds(rng)
	opts := ServerOptions{Lookback: 5 * time.Second}
	one, two := NewServer(alone, opts).Handler("shop"), NewServer(both, opts)
	g := promQL{rng}
	said, hid := 0, 0
	for range 1500 {
		expr := g.vector(rng.IntN(4))
		request := "GET /query?time=" + fmt.Sprint(epoch-rng.IntN(10)) + "&query=" + url.QueryEscape(expr)
		switch rng.IntN(8) {
		case 0:
			request = fmt.Sprintf("POST /query_range?start=%d&end=%d&step=3&query=%s", epoch-10, epoch, url.QueryEscape(expr))
		case 1:
			request = g.one("GET /series?", "GET /labels?", "GET /label/namespace/values?", "GET /label/pod/values?") +
				"match[]=" + url.QueryEscape(g.selector()) + "&match[]=" + url.QueryEscape(g.selector())
		}
		want := normalised(t, ask(one, request).Body.Bytes())
		got := ask(two.Handler("shop"), request).Body
		require.NotContains(t, got.String(), vault, "%s\n%s", request, expr)
		require.Equal(t, want, normalised(t, got.Bytes()), "%s\n%s", request, expr)
		if list, ok := want.([]string); ok && len(list) > 0 {
			said++
		}
		if everything := normalised(t, ask(two.Handler(""), request).Body.Bytes()); fmt.Sprint(everything) != fmt.Sprint(want) {
			hid++
		}
	}
	require.Greater(t, said, 500, "answers with results")
	require.Greater(t, hid, 500, "requests to which the whole store gives another answer")
}

// FuzzNamespaces is the same for whatever the fuzzer writes.
func FuzzNamespaces(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	g := promQL{rng}
	for range 50 {
		f.Add(g.vector(2))
	}
	f.Add(`info(b)`)
	f.Add(`{"namespace"="bank"}`)
	f.Add(`b{namespace="shop",namespace="bank"} or {"b",namespace=~"bank"}`)
	both, alone := worlds(rng)
	opts := ServerOptions{Timeout: time.Second}
	one, two := NewServer(alone, opts).Handler("shop"), NewServer(both, opts).Handler("shop")
	f.Fuzz(func(t *testing.T, expr string) {
		for _, request := range []string{"GET /query?time=1699999999&query=", "GET /series?match[]=", "GET /label/namespace/values?match[]="} {
			request += url.QueryEscape(expr)
			a, b := ask(one, request), ask(two, request)
			if a.Code == 503 || b.Code == 503 { // one was just quick enough
				t.Skip()
			}
			require.NotContains(t, b.Body.String(), vault, expr)
			require.Equal(t, normalised(t, a.Body.Bytes()), normalised(t, b.Body.Bytes()), expr)
		}
	})
}
