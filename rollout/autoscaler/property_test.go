package autoscaler

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// TestNoEditIsLost holds an HPA again and again while others edit it, dies after random writes, and releases it. What is left is what
// those edits would have made of the HPA had nobody held it.
func TestNoEditIsLost(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	lost := 0
	for run := range 150 {
		random := rand.New(rand.NewPCG(seed, uint64(run)))
		spec := map[string]any{"maxReplicas": int64(9), "metrics": []any{drifting()}}
		for range random.IntN(6) {
			edit(random)(spec)
		}
		fill(spec)
		if least(pick(spec)) > most(spec) {
			continue
		}
		h := hpa(t, "h", `{}`)
		maps.Copy(specOf(h), runtime.DeepCopyJSON(spec))
		s := newServer(t, h)
		s.drops = random.IntN(8) == 0
		if s.drops {
			dropTolerances(spec)
			dropTolerances(specOf(h))
			s = newServer(t, h)
			s.drops = true
		}
		told := ""
		for range random.IntN(12) {
			if random.IntN(2) == 0 {
				floor := random.IntN(14) - 1
				s.broken = s.writes + random.IntN(3) // 0: never again
				_, err := s.client().Hold(t.Context(), chat, floor)
				require.True(t, err == nil || errors.Is(err, errDied), err)
				told += fmt.Sprintf("hold %d: %v\n", floor, specOf(s.get(t, "h")))
				continue
			}
			if alike := tryEdit(t, s, random, spec); alike {
				lost++
			}
			told += fmt.Sprintf("edit: %v\n", specOf(s.get(t, "h")))
		}
		for range 3 {
			s.broken = s.writes + random.IntN(2)
			err := s.client().Release(t.Context(), chat)
			require.True(t, err == nil || errors.Is(err, errDied), err)
		}
		after := specOf(s.get(t, "h"))
		delete(after, "scaleTargetRef")
		require.Equal(t, spec, after, "run %d:\n%s", run, told)
		require.Empty(t, ours(s.get(t, "h")))
	}
	t.Logf("%d edits left out", lost)
}

func most(spec map[string]any) int64 {
	n, _ := spec["maxReplicas"].(int64)
	return n
}

func dropTolerances(spec map[string]any) {
	behavior, _ := spec[fieldBehavior].(map[string]any)
	for _, direction := range []string{"scaleUp", "scaleDown"} {
		if rules, ok := behavior[direction].(map[string]any); ok {
			delete(rules, "tolerance")
		}
	}
}

// tryEdit makes one edit to the held HPA and to the spec as it would be without us. It is left out, and told, where the API server
// refuses it for the held minimum, and where what it writes is there already: such an edit is none.
func tryEdit(t *testing.T, s *server, random *rand.Rand, spec map[string]any) (leftOut bool) {
	t.Helper()
	do := edit(random)
	now := s.get(t, "h")
	edited := runtime.DeepCopyJSON(specOf(now))
	do(edited)
	fill(edited)
	without := runtime.DeepCopyJSON(spec)
	do(without)
	fill(without)
	if s.drops {
		dropTolerances(edited)
		dropTolerances(without)
	}
	if reflect.DeepEqual(edited, specOf(now)) && !reflect.DeepEqual(without, spec) || least(without) > most(without) {
		return true
	}
	// From what is held to something else and back again, before we looked.
	if r, err := recordOf(now); err == nil && r != nil && least(edited) != least(specOf(now)) && least(edited) == least(r.Wrote) {
		return true
	}
	if !s.change(t, func(u *unstructured.Unstructured) { u.Object["spec"] = edited }) {
		return true
	}
	clear(spec)
	maps.Copy(spec, without)
	return false
}

// edit is something that somebody does to an HPA's spec.
func edit(random *rand.Rand) func(spec map[string]any) {
	direction := []string{"scaleUp", "scaleDown"}[random.IntN(2)]
	n := random.Int64N(9)
	set := func(name string, v any) func(spec map[string]any) {
		return func(spec map[string]any) { inner(inner(spec, fieldBehavior), direction)[name] = v }
	}
	switch random.IntN(9) {
	case 0, 1:
		return func(spec map[string]any) { spec[fieldMin] = n }
	case 2:
		return func(spec map[string]any) { spec["maxReplicas"] = n + 4 }
	case 3:
		return func(spec map[string]any) {
			m := drifting()
			if n%2 == 0 {
				m = map[string]any{"type": "Pods", "pods": map[string]any{"metric": map[string]any{"name": fmt.Sprint("metric", n)}, "target": map[string]any{"type": "AverageValue", "averageValue": "1"}}}
			}
			spec["metrics"] = []any{m}
		}
	case 4:
		return set("tolerance", fmt.Sprintf("%d0m", n+1))
	case 5:
		return set("stabilizationWindowSeconds", n+1)
	case 6:
		return set("policies", []any{map[string]any{"type": "Pods", "value": n + 1, "periodSeconds": int64(60)}})
	case 7:
		return set("selectPolicy", []string{"Min", "Disabled"}[random.IntN(2)])
	default:
		return func(spec map[string]any) { delete(spec, fieldBehavior) }
	}
}
