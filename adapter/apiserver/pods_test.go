package apiserver

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	metadatafake "k8s.io/client-go/metadata/fake"

	"headroom.dev/headroom/adapter/metric"
)

// TestSelectPods compares selecting by index with asking every pod, while labels change.
func TestSelectPods(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	index, _ := newPods(t)
	p := &Provider{opts: Options{Pods: index}}
	all := map[string]*corev1.Pod{}
	for range 2000 {
		name := fmt.Sprintf("p%d", rnd.IntN(50))
		changed := pod(name, func(p *corev1.Pod) {
			p.Namespace = []string{"a", "b"}[rnd.IntN(2)]
			p.Labels = map[string]string{}
			for _, key := range []string{"x", "y", "z"} {
				if rnd.IntN(3) > 0 {
					p.Labels[key] = []string{"", "1", "2"}[rnd.IntN(3)]
				}
			}
		})
		key := changed.Namespace + "/" + name
		if rnd.IntN(4) == 0 {
			require.NoError(t, index.Delete(changed))
			delete(all, key)
		} else {
			require.NoError(t, index.Update(changed))
			all[key] = changed
		}

		var terms []string
		for range rnd.IntN(4) {
			term := []string{"%s=1", "%s==2", "%s=", "%s in (1)", "%s in (1,2)", "%s!=1", "%s notin (1)", "%s", "!%s"}[rnd.IntN(9)]
			terms = append(terms, fmt.Sprintf(term, []string{"x", "y", "z"}[rnd.IntN(3)]))
		}
		selector, err := labels.Parse(strings.Join(terms, ","))
		require.NoError(t, err)
		var want []string
		for i := range 50 {
			if pod := all[fmt.Sprintf("a/p%d", i)]; pod != nil && selector.Matches(labels.Set(pod.Labels)) {
				want = append(want, pod.Name)
			}
		}
		var got []string
		pods, err := p.selectPods("a", selector, now)
		require.NoError(t, err)
		for i, pod := range pods {
			got = append(got, pod.Name)
			require.True(t, i == 0 || pods[i-1].Name < pod.Name, "sorted, and no pod twice")
		}
		require.ElementsMatch(t, want, got, selector.String())
	}
	none, err := p.selectPods("a", labels.Nothing(), now)
	require.NoError(t, err)
	assert.Empty(t, none)
}

func TestMetadataLister(t *testing.T) {
	scheme := metadatafake.NewTestScheme()
	require.NoError(t, metav1.AddMetaToScheme(scheme))
	deployment := func(name, tier string) runtime.Object {
		return &metav1.PartialObjectMetadata{
			TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: name, Labels: map[string]string{"tier": tier}},
		}
	}
	l := MetadataLister{Client: metadatafake.NewSimpleMetadataClient(scheme, deployment("a", "x"), deployment("b", "y"), deployment("c", "x")), Kinds: NewKinds(nil)}
	list, err := l.Names(t.Context(), metric.Deployments, "demo", labels.SelectorFromSet(labels.Set{"tier": "x"}))
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"a", "c"}, list)
	_, err = l.Names(t.Context(), "widgets.example.com", "demo", labels.Everything())
	require.EqualError(t, err, "the kind of widgets.example.com is not known yet")
}
