package traffic

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/rollout/route"
)

// aPlan is a split of Service chat, or of two InferencePools, in the namespace demo.
func aPlan(d dialect, fixed bool, s route.Split) *plan {
	u := "HTTPRoute demo/chat"
	p := &plan{dialect: d, object: u, namespace: ns, split: s, base: Backend{Name: "chat"}, stable: Backend{Name: "chat-" + s.Stable}}
	if s.Canary != "" {
		p.canary = Backend{Name: "chat-" + s.Canary}
	}
	if fixed {
		const group = "inference.networking.k8s.io"
		p.stable, p.canary = Backend{group, "InferencePool", "chat"}, Backend{group, "InferencePool", "chat-next"}
		p.base = p.stable
	}
	return p
}

// TestRules renders the rules in testdata. `render KIND share=X [canary=no] [rule=NAME] [header=N:V] [cookie=N:V] [pools]` prints
// what becomes of the rules below it; each that can be rendered must strip to itself again.
func TestRules(t *testing.T) {
	datadriven.Walk(t, "testdata/rules", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			kinds := map[string]dialect{"http": gateway("HTTPRoute"), "grpc": gateway("GRPCRoute"), "istio": virtualService()}
			split := route.Split{Stable: "old", Canary: "new"}
			rule, fixed, kind := "", false, "http"
			for _, arg := range d.CmdArgs {
				value := strings.Join(arg.Vals, ",")
				name, content, _ := strings.Cut(value, ":")
				switch arg.Key {
				case "share":
					_, err := fmt.Sscan(value, &split.Share)
					require.NoError(t, err)
				case "canary":
					split.Canary = ""
				case "rule":
					rule = value
				case "header":
					split.Matches = append(split.Matches, route.Match{Header: name, Value: content})
				case "cookie":
					split.Matches = append(split.Matches, route.Match{Cookie: name, Value: content})
				case "pools":
					fixed = true
				default:
					kind = arg.Key
				}
			}
			require.NoError(t, split.Validate())
			p := aPlan(kinds[kind], fixed, split)
			p.rule = rule
			rules := rulesFrom(t, d.Input)
			out, kept, err := p.render(rules)
			if err != nil {
				return err.Error() + "\n"
			}
			checkWayBack(t, p, rules, out, kept)
			text, err := yaml.Marshal(out)
			require.NoError(t, err)
			return string(text)
		})
	})
}

func rulesFrom(t require.TestingT, text string) []any {
	raw, err := yaml.YAMLToJSON([]byte(text))
	require.NoError(t, err)
	var rules []any
	require.NoError(t, kjson.Unmarshal(raw, &rules))
	return rules
}

// checkWayBack strips what was rendered.
func checkWayBack(t require.TestingT, p *plan, rules, rendered []any, kept []weights) {
	raw, err := json.Marshal(kept) // as it comes back from the annotation
	require.NoError(t, err)
	kept = nil
	require.NoError(t, json.Unmarshal(raw, &kept))
	require.True(t, p.intact(rendered, kept))
	plain, n, err := p.strip(rendered, kept)
	require.NoError(t, err)
	require.Len(t, kept, n)
	want, err := json.Marshal(rules)
	require.NoError(t, err)
	have, err := json.Marshal(plain)
	require.NoError(t, err)
	require.Equal(t, string(want), string(have), "byte for byte")
}

// TestAnyRules renders rules made by chance, and strips them again, under two splits in a row.
func TestAnyRules(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	rendered := 0
	for range 5_000 {
		d := gateway("HTTPRoute")
		istio := random.IntN(2) == 0
		if istio {
			d = virtualService()
		}
		rules := anyRules(random, istio)
		untouched := runtime.DeepCopyJSONValue(rules)
		for range 2 {
			p := aPlan(d, !istio && random.IntN(3) == 0, anySplit(random))
			p.rule = []string{"", AllRules, "a"}[random.IntN(3)]
			out, kept, err := p.render(rules)
			require.Equal(t, untouched, any(rules), "the argument is nobody's to change")
			if err != nil {
				require.NotContains(t, err.Error(), "%!")
				continue
			}
			rendered++
			checkWayBack(t, p, rules, out, kept)
			share, err := p.share(out)
			require.NoError(t, err)
			total := int64(100)
			if p.split.Canary != "" {
				require.True(t, route.Same(p.split, route.Split{Stable: "old", Canary: "new", Share: share, Matches: p.split.Matches}, total) || !route.Exact(p.split.Share, total), "%v: %v", p.split, share)
			}
		}
	}
	assert.Greater(t, rendered, 1_000, "else too little is tried")
}

func anySplit(random *rand.Rand) route.Split {
	if random.IntN(6) == 0 {
		return route.Split{Stable: "old"}
	}
	s := route.Split{Stable: "old", Canary: "new", Share: []float64{0, 0.01, 0.1, 1.0 / 9, 0.5, 1}[random.IntN(6)]}
	if random.IntN(2) == 0 {
		s.Matches = []route.Match{{Header: "x-canary", Value: "yes"}, {Cookie: "c", Value: "always"}}
	}
	return s
}

func anyRules(random *rand.Rand, istio bool) []any {
	names := []string{"chat", "chat", "other", "chat-next", "chat.demo.svc.cluster.local", "chat.prod"}
	var rules []any
	for i := range 1 + random.IntN(4) {
		var refs []any
		for range 1 + random.IntN(3) {
			name := names[random.IntN(len(names))]
			ref := map[string]any{"name": name, "port": int64(80)}
			if istio {
				ref = map[string]any{"destination": map[string]any{"host": name}}
			} else if random.IntN(3) == 0 {
				ref["group"], ref["kind"] = "inference.networking.k8s.io", "InferencePool"
			}
			if random.IntN(2) == 0 {
				ref["weight"] = []int64{0, 1, 100, 100, 1000}[random.IntN(5)]
			}
			refs = append(refs, ref)
		}
		rule := map[string]any{"backendRefs": refs}
		if istio {
			rule = map[string]any{"route": refs}
		}
		if random.IntN(3) == 0 {
			rule["name"] = string(rune('a' + i))
		}
		rules = append(rules, rule)
	}
	return rules
}

func FuzzRules(f *testing.F) {
	f.Add(`[{"backendRefs":[{"name":"chat","weight":1}]}]`, 0.5, true)
	f.Add(`[{"http":1},{"route":[{"destination":{"host":"chat.demo.svc"}},null]}]`, 0.1, false)
	f.Add(`[{"backendRefs":[{"name":"chat-new"}]},{"backendRefs":[{"name":"chat"}],"matches":[null]}]`, 1.0, true)
	f.Fuzz(func(t *testing.T, text string, share float64, match bool) {
		var rules []any
		if kjson.Unmarshal([]byte(text), &rules) != nil {
			return
		}
		split := route.Split{Stable: "old", Canary: "new", Share: share}
		if match {
			split.Matches = []route.Match{{Header: "a", Value: "b"}, {Cookie: "c", Value: "d"}}
		}
		if split.Validate() != nil {
			return
		}
		for _, d := range []dialect{gateway("HTTPRoute"), virtualService()} {
			for _, fixed := range []bool{false, true} {
				p := aPlan(d, fixed, split)
				one := int64(1)
				kept := []weights{{Base: &one}}
				if plain, _, err := p.strip(rules, kept); err == nil { // what nobody rendered
					p.scrub(plain, kept)
				}
				_, _ = p.share(rules)
				if out, kept, err := p.render(rules); err == nil {
					checkWayBack(t, p, rules, out, kept)
				}
			}
		}
	})
}
