package e2e

import (
	"context"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"headroom.dev/headroom/api/v1alpha1"
)

func (c *cluster) recommendations(namespace string) dynamic.ResourceInterface {
	config := rest.CopyConfig(c.Config)
	config.ContentType, config.AcceptContentTypes = "", "" // custom resources have no protobuf
	return dynamic.NewForConfigOrDie(config).Resource(v1alpha1.GroupVersion().WithResource(v1alpha1.ResourceResourceRecommendations)).Namespace(namespace)
}

func (c *cluster) recommendationOf(ctx context.Context, t require.TestingT, namespace, name string) *v1alpha1.ResourceRecommendation {
	found, err := c.recommendations(namespace).Get(ctx, name, metav1.GetOptions{})
	require.NoError(t, err)
	var r v1alpha1.ResourceRecommendation
	require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(found.Object, &r))
	return &r
}

// sampled is how many samples of a resource the controllers have taken.
func (c *cluster) sampled(ctx context.Context, t require.TestingT, resource string) (n float64) {
	pods, err := c.Client.CoreV1().Pods("headroom-system").List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=headroom-controller"})
	require.NoError(t, err)
	for i := range pods.Items {
		a, err := fetch(ctx, http.DefaultClient, "http://"+net.JoinHostPort(pods.Items[i].Status.PodIP, "9402")+"/metrics")
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`(?m)^headroom_recommender_samples_total\{resource="`+resource+`"\} (\S+)$`).FindAllStringSubmatch(a.body, -1) {
			v, err := strconv.ParseFloat(m[1], 64)
			require.NoError(t, err)
			n += v
		}
	}
	return n
}

// TestResourceRecommendation has one written by a person, and one that the namespace asks for, of services with GPUs: their use comes
// from the agents, what their vLLM says of itself from its metrics, both through the adapter's query API. There is no history of hours
// here: what is recommended after some, the tests of recommender/kube show.
func TestResourceRecommendation(t *testing.T) {
	t.Parallel()
	ctx, namespace := t.Context(), shared.namespace(t)
	const spec = "{startup: 0s, slots: 8, serviceTime: 200ms, kvCache: 56Gi}"
	chat := inference("chat", spec, 1)
	chat.Spec.Template.Annotations["headroom.dev/model-weights-bytes"] = "16Gi"
	shared.deploy(t, namespace, chat, inference("other", spec, 1))
	shared.ready(t, namespace, "app=service", 2)
	raw, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&v1alpha1.ResourceRecommendation{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion().String(), Kind: v1alpha1.KindResourceRecommendation},
		ObjectMeta: metav1.ObjectMeta{Name: "mine"},
		Spec:       v1alpha1.ResourceRecommendationSpec{TargetRef: v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "chat"}},
	})
	require.NoError(t, err)
	_, err = shared.recommendations(namespace).Create(ctx, &unstructured.Unstructured{Object: raw}, metav1.CreateOptions{})
	require.NoError(t, err)
	told := func(name string) *v1alpha1.ResourceRecommendation {
		var r *v1alpha1.ResourceRecommendation
		eventually(t, 2*time.Minute, func(t require.TestingT) {
			r = shared.recommendationOf(ctx, t, namespace, name)
			require.Len(t, r.Status.Containers, 1, "%+v", r.Status.Conditions)
			require.NotNil(t, r.Status.Containers[0].GPU)
		})
		return r
	}
	began := time.Now()
	r := told("mine")
	t.Logf("a status after %s", time.Since(began).Round(tick))
	ready := meta.FindStatusCondition(r.Status.Conditions, v1alpha1.ConditionReady)
	require.NotNil(t, ready)
	assert.Equal(t, v1alpha1.ReasonNoHistory, ready.Reason, ready.Message)
	assert.EqualValues(t, 1, *r.Status.Replicas)
	container := r.Status.Containers[0]
	assert.Equal(t, "server", container.Name)
	require.NotNil(t, container.GPU.Now, container.GPU.Message)
	assert.Equal(t, "nvidia.com/gpu", container.GPU.Now.Resource)
	assert.EqualValues(t, 1, container.GPU.Now.Count)
	assert.NotEmpty(t, container.GPU.Model)
	assert.NotEmpty(t, container.GPU.Message)
	t.Logf("%s: %s; GPU %s: %s", ready.Reason, ready.Message, container.GPU.Reason, container.GPU.Message)
	eventually(t, 2*time.Minute, func(t require.TestingT) {
		require.Positive(t, shared.sampled(ctx, t, "gpu-memory"))
		require.Positive(t, shared.sampled(ctx, t, "gpu-compute"))
	})

	_, err = shared.Client.CoreV1().Namespaces().Patch(ctx, namespace, types.MergePatchType,
		[]byte(`{"metadata":{"labels":{"`+v1alpha1.LabelRecommend+`":"true"}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	automatic := told("deployment-other")
	require.Len(t, automatic.OwnerReferences, 1)
	assert.Equal(t, "other", automatic.OwnerReferences[0].Name, "it goes with its workload")
	// One states what no metric tells, and lacks but the hours; of the other the size of the cache, which came from its metrics, is
	// not enough, and nobody knows when its owner will state the rest.
	says := func(name string, dated bool, texts ...string) {
		eventually(t, 3*time.Minute, func(t require.TestingT) { // a look each minute
			r := shared.recommendationOf(ctx, t, namespace, name)
			require.Len(t, r.Status.Containers, 1)
			g := r.Status.Containers[0].GPU
			require.NotNil(t, g)
			require.Equal(t, "Preallocated", g.Reason, g.Message)
			require.Equal(t, dated, g.ReadyAt != nil, g.Message)
			for _, text := range texts {
				require.Contains(t, g.Message, text)
			}
		})
	}
	says("mine", true, "vLLM allocates its memory ahead", "the use of its KV-cache is known for ")
	says("deployment-other", false, "the cache holds 458752 tokens", "headroom.dev/model-weights-bytes", "headroom.dev/kv-bytes-per-token")
	_, err = shared.recommendations(namespace).Get(ctx, "deployment-chat", metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err), "a person has written one")
}
