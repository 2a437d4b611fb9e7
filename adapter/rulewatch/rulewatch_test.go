package rulewatch

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"headroom.dev/headroom/adapter/rules"
)

func TestChangesArriveWithin100ms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.put("b", spec("b1"))
		w := c.start()
		settle(100 * time.Millisecond)
		list, calls := w.last()
		require.Equal(t, []string{"b: b1"}, list)
		require.Equal(t, 1, calls)

		for _, step := range []struct {
			change func()
			want   []string
		}{
			{func() { c.put("a", spec("a1")) }, []string{"a: a1", "b: b1"}},
			{func() { c.put("a", spec("a2")) }, []string{"a: a2", "b: b1"}},
			{func() { c.remove("b") }, []string{"a: a2"}},
			{func() { c.remove("a") }, []string{}},
			// Deleted and made anew at once: another object with the same generation.
			{func() { c.put("a", spec("a1")) }, []string{"a: a1"}},
			{func() { c.remove("a"); c.put("a", spec("a2")) }, []string{"a: a2"}},
		} {
			at := time.Now()
			step.change()
			settle(100 * time.Millisecond)
			list, calls = w.last()
			require.Equal(t, step.want, list)
			require.LessOrEqual(t, w.times[calls-1].Sub(at), 100*time.Millisecond)
		}
		require.Equal(t, 7, calls)
		settle(time.Hour) // watches end and begin again
		_, after := w.last()
		require.Equal(t, calls, after, "nothing changed")
		require.Zero(t, w.log.count("\n"))
	})
}

func TestAStormOfChangesIsGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		w := c.start()
		settle(100 * time.Millisecond)
		begin := time.Now()
		for i := range 1000 {
			c.put(fmt.Sprintf("r%02d", i%50), spec(fmt.Sprint("e", i)))
			time.Sleep(time.Millisecond)
		}
		settle(100 * time.Millisecond)
		list, calls := w.last()
		require.Len(t, list, 50)
		require.Equal(t, "r49: e999", list[49])
		require.LessOrEqual(t, calls, 22, "one call for each 50 ms")
		require.GreaterOrEqual(t, calls, 18, "a storm delays nothing")
		require.Equal(t, 50*time.Millisecond, w.times[1].Sub(begin))
	})
}

func TestOneBadRuleHarmsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.put("good", spec("e"))
		undecodable := spec("e")
		undecodable["maxAge"] = "for ever"
		c.put("undecodable", undecodable)
		both := spec("e")
		both["external"] = map[string]any{}
		c.put("both", both)
		selector := spec("e")
		selector["namespaceSelector"] = map[string]any{"matchExpressions": []any{map[string]any{"key": "k", "operator": "Near"}}}
		c.put("selector", selector)
		w := c.start()
		settle(time.Second)
		serving := func() (names []string) {
			set, _ := rules.Compile(w.lastRules())
			require.Len(t, set.Rules(), 4, "each holds its place")
			for _, r := range set.Rules() {
				if r.Err == nil && r.Rule.Namespaces == nil {
					names = append(names, r.Rule.Name)
				}
			}
			return names
		}
		require.Equal(t, []string{"good"}, serving())
		c.put("undecodable", spec("f"))
		settle(100 * time.Millisecond)
		require.Equal(t, []string{"good", "undecodable"}, serving())
	})
}

func TestWithoutTheDefinition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.fail(noSuchResource())
		w := c.start()
		settle(100 * time.Millisecond)
		list, calls := w.last()
		require.Equal(t, []string{}, list, "it is known that there are none")
		require.Equal(t, 1, calls)
		settle(time.Hour)
		require.Equal(t, 1, w.log.count("\n"), "said once")

		c.put("a", spec("a1"))
		c.fail(nil)
		settle(2 * time.Second)
		list, calls = w.last()
		require.Equal(t, []string{"a: a1"}, list)
		require.Equal(t, 2, calls)

		// A server that starts may not know its resources yet.
		c.fail(noSuchResource())
		settle(8 * time.Second)
		c.fail(errors.New("connection refused"))
		settle(time.Minute)
		c.fail(noSuchResource())
		settle(8 * time.Second)
		c.fail(nil)
		settle(10 * time.Second)
		_, calls = w.last()
		require.Equal(t, 2, calls, "kept")

		c.fail(noSuchResource())
		settle(15 * time.Second)
		list, calls = w.last()
		require.Equal(t, []string{}, list)
		require.Equal(t, 3, calls)
	})
}

func TestWithoutTheAPIServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.fail(errors.New("connection refused"))
		c.put("a", spec("a1"))
		w := c.start()
		settle(time.Minute)
		_, calls := w.last()
		require.Zero(t, calls, "nobody knows which rules there are")
		require.Equal(t, 1, w.log.count("connection refused"))
		c.fail(nil)
		settle(2 * time.Second)
		list, _ := w.last()
		require.Equal(t, []string{"a: a1"}, list)

		c.fail(errors.New("connection refused"))
		c.remove("a")
		c.put("a", spec("a2")) // another object, of the same generation
		settle(time.Hour)
		_, calls = w.last()
		require.Equal(t, 1, calls, "what is known stays")
		c.fail(nil)
		settle(3 * time.Second)
		list, _ = w.last()
		require.Equal(t, []string{"a: a2"}, list)
	})
}

func TestNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.namespace("one", nil)
		c.namespace("two", map[string]string{"team": "chat"})
		var asked int
		c.client.PrependReactor("list", "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) {
			asked++
			return false, nil, nil
		})
		c.put("plain", spec("e"))
		w := c.start()
		settle(time.Minute)
		require.Zero(t, asked, "no rule asks for namespaces")

		selecting := spec("f")
		selecting["namespaceSelector"] = map[string]any{"matchLabels": map[string]any{"team": "chat"}}
		c.put("selecting", selecting)
		settle(200 * time.Millisecond)
		require.Equal(t, 1, asked)
		require.Nil(t, w.lastRules()[0].Namespaces, "all")
		require.Equal(t, []string{"two"}, w.lastRules()[1].Namespaces)

		c.namespace("one", map[string]string{"team": "chat"})
		settle(100 * time.Millisecond)
		require.Equal(t, []string{"one", "two"}, w.lastRules()[1].Namespaces, "labelled later")
		_, calls := w.last()
		c.namespace("three", nil)
		c.namespace("one", map[string]string{"team": "chat", "else": "x"})
		settle(time.Second)
		_, after := w.last()
		require.Equal(t, calls, after, "no matter to any rule")

		require.NoError(t, c.client.CoreV1().Namespaces().Delete(t.Context(), "two", metav1.DeleteOptions{}))
		c.namespace("one", nil)
		settle(100 * time.Millisecond)
		require.Equal(t, []string{}, w.lastRules()[1].Namespaces, "none, not all")
	})
}

func TestForbiddenNamespacesCostOnlyRulesThatSelect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.client.PrependReactor("list", "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, errors.New("forbidden")
		})
		selecting := spec("f")
		selecting["namespaceSelector"] = map[string]any{}
		c.put("selecting", selecting)
		c.put("plain", spec("e"))
		w := c.start()
		settle(time.Minute)
		list, calls := w.last()
		require.Equal(t, []string{"plain: e", "selecting: f"}, list)
		require.Equal(t, 1, calls)
		require.Nil(t, w.lastRules()[0].Namespaces)
		require.Equal(t, []string{}, w.lastRules()[1].Namespaces, "serves nothing")
		require.Equal(t, 1, w.log.count("forbidden"))
		_, judged := w.judgements()
		require.ErrorIs(t, judged["selecting"].err, ErrNamespacesUnknown)
	})
}
