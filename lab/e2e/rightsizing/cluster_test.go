package rightsizing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	vpav1 "k8s.io/autoscaler/vertical-pod-autoscaler/pkg/apis/autoscaling.k8s.io/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/controlplane"
	"headroom.dev/headroom/lab/process"
)

// container is the name of every container here.
const container = "server"

// cluster is a lab with what acts on recommendations.
type cluster struct {
	*lab.Lab

	api client.Client // VerticalPodAutoscalers and their checkpoints among the rest
}

// bringUp starts a lab with metrics-server and the VPA's parts, and ends it with the test.
func bringUp(t *testing.T) *cluster {
	t.Helper()
	parent, err := shortDir()
	require.NoError(t, err)
	o := lab.DefaultOptions()
	o.Dir, o.Nodes, o.GPUs, o.Rightsizing = filepath.Join(parent, "l"), 2, 0, true
	l, err := lab.Up(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			printLogs(t, o.Dir)
		}
		assert.NoError(t, errors.Join(l.Down(), os.RemoveAll(parent)))
	})
	config := rest.CopyConfig(l.Config)
	// Custom resources have no protobuf.
	config.ContentType, config.AcceptContentTypes = "", ""
	log.SetLogger(logr.Discard())
	require.NoError(t, vpav1.AddToScheme(scheme.Scheme))
	api, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	require.NoError(t, err)
	return &cluster{l, api}
}

// shortDir makes a folder in which unix sockets may lie, for which t.TempDir's may be too long.
func shortDir() (string, error) { return os.MkdirTemp("", "hr") }

// printLogs shows how each of a lab's logs ends.
func printLogs(t *testing.T, dir string) {
	t.Helper()
	paths, _ := filepath.Glob(filepath.Join(dir, "logs", "*.log")) // the pattern is well-formed
	for _, path := range paths {
		t.Logf("--- %s\n%s", path, process.Tail(path, 25))
	}
}

// eventually polls until the check passes, and fails with its last complaint otherwise.
func eventually(t *testing.T, within time.Duration, check func(require.TestingT)) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) { check(c) }, within, 500*time.Millisecond)
}

// sizes are amounts of CPU and memory, as quantities.
type sizes struct{ cpu, memory string }

func (s sizes) list() corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(s.cpu), corev1.ResourceMemory: resource.MustParse(s.memory)}
}

// service is a Deployment of two pods whose containers request one thing and use another.
type service struct {
	name           string
	requests, uses sizes
}

func (c *cluster) deploy(t *testing.T, s service) {
	t.Helper()
	labels := map[string]string{"app": s.name}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: s.name},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: map[string]string{
					controlplane.UsageCPUAnnotation: s.uses.cpu, controlplane.UsageMemoryAnnotation: s.uses.memory,
				}},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: container, Image: "registry.example/" + s.name + ":1", Resources: corev1.ResourceRequirements{Requests: s.requests.list()},
				}}},
			},
		},
	}
	require.NoError(t, c.api.Create(t.Context(), d))
}

// autoscale makes a VerticalPodAutoscaler for the Deployment of the same name.
func (c *cluster) autoscale(t *testing.T, name, recommender string, mode vpav1.UpdateMode, annotations map[string]string) {
	t.Helper()
	v := &vpav1.VerticalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: annotations},
		Spec: vpav1.VerticalPodAutoscalerSpec{
			TargetRef:    &autoscalingv1.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: name},
			UpdatePolicy: &vpav1.PodUpdatePolicy{UpdateMode: &mode},
			Recommenders: []*vpav1.VerticalPodAutoscalerRecommenderSelector{{Name: recommender}},
		},
	}
	require.NoError(t, c.api.Create(t.Context(), v))
}

func (c *cluster) vpa(ctx context.Context, t require.TestingT, name string) *vpav1.VerticalPodAutoscaler {
	var v vpav1.VerticalPodAutoscaler
	require.NoError(t, c.api.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &v))
	return &v
}

// recommended waits for a VerticalPodAutoscaler's recommendation and returns its target.
func (c *cluster) recommended(t *testing.T, name string, within time.Duration) corev1.ResourceList {
	t.Helper()
	var target corev1.ResourceList
	ctx := t.Context()
	eventually(t, within, func(t require.TestingT) {
		v := c.vpa(ctx, t, name)
		require.NotNil(t, v.Status.Recommendation, "%+v", v.Status.Conditions)
		require.Len(t, v.Status.Recommendation.ContainerRecommendations, 1, "%+v", v.Status.Conditions)
		target = v.Status.Recommendation.ContainerRecommendations[0].Target
		require.Len(t, target, 2, "%+v", v.Status.Conditions)
	})
	return target
}

// statusWriters are the field managers that have written a VerticalPodAutoscaler's status.
func (c *cluster) statusWriters(t *testing.T, name string) []string {
	t.Helper()
	var names []string
	for _, m := range c.vpa(t.Context(), t, name).ManagedFields {
		if m.Subresource == "status" {
			names = append(names, m.Manager)
		}
	}
	return names
}

// pods are those of a service that are not being deleted.
func (c *cluster) pods(ctx context.Context, t require.TestingT, name string) []corev1.Pod {
	var list corev1.PodList
	require.NoError(t, c.api.List(ctx, &list, client.InNamespace(namespace), client.MatchingLabels{"app": name}))
	var out []corev1.Pod
	for i := range list.Items {
		if list.Items[i].DeletionTimestamp == nil {
			out = append(out, list.Items[i])
		}
	}
	return out
}

// resized waits until both pods of a service are Running with what its VerticalPodAutoscaler recommends.
func (c *cluster) resized(t *testing.T, name string, within time.Duration) {
	t.Helper()
	ctx := t.Context()
	eventually(t, within, func(t require.TestingT) {
		target := c.vpa(ctx, t, name).Status.Recommendation.ContainerRecommendations[0].Target
		pods := c.pods(ctx, t, name)
		require.Len(t, pods, 2)
		for _, p := range pods {
			require.Equal(t, corev1.PodRunning, p.Status.Phase)
			require.Equal(t, text(target), text(p.Spec.Containers[0].Resources.Requests), p.Name)
			require.Contains(t, p.Annotations, "vpaUpdates", "by the admission controller")
		}
	})
}

// evictions counts the events by which the updater tells of pods that it evicted.
func (c *cluster) evictions(t *testing.T, name string) int {
	t.Helper()
	var events corev1.EventList
	require.NoError(t, c.api.List(t.Context(), &events, client.InNamespace(namespace)))
	n := 0
	for _, e := range events.Items {
		if e.Reason == "EvictedPod" && e.InvolvedObject.Kind == "VerticalPodAutoscaler" && e.InvolvedObject.Name == name {
			n += max(int(e.Count), 1)
		}
	}
	return n
}

// text is a list of resources for people and for comparison.
func text(list corev1.ResourceList) string {
	return fmt.Sprintf("cpu %dm, memory %d", list.Cpu().MilliValue(), list.Memory().Value())
}
