package capacity

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
)

// cached answers as the manager's cache does with UnsafeDisableDeepCopy: each object is copied into the list by value.
type cached struct {
	client.Client

	nodes      []corev1.Node
	pods       []corev1.Pod
	namespaces []corev1.Namespace
}

func (c *cached) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	switch l := list.(type) {
	case *corev1.NodeList:
		l.Items = append(make([]corev1.Node, 0, len(c.nodes)), c.nodes...)
	case *corev1.PodList:
		l.Items = append(make([]corev1.Pod, 0, len(c.pods)), c.pods...)
	case *corev1.NamespaceList:
		l.Items = append(make([]corev1.Namespace, 0, len(c.namespaces)), c.namespaces...)
	case *schedulingv1.PriorityClassList:
		l.Items = []schedulingv1.PriorityClass{{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Value: 10, GlobalDefault: true}}
	default:
		return fmt.Errorf("a list of %T was not expected", list)
	}
	return nil
}

// fleet is 5,000 nodes of 8 GPUs with ten pods each, of which half hold a GPU, a third of them of negative priority.
func fleet() *cached {
	const nodes, each = 5000, 10
	r := rand.New(rand.NewPCG(1, 2))
	c := &cached{namespaces: []corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "prod"}}}}
	allocatable := corev1.ResourceList{
		"cpu": resource.MustParse("128"), "memory": resource.MustParse("1Ti"), "nvidia.com/gpu": resource.MustParse("8"), "pods": resource.MustParse("110"),
	}
	for i := range nodes {
		name := fmt.Sprintf("node-%05d", i)
		c.nodes = append(c.nodes, corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name, "product": []string{"H200", "L40S"}[i%2]}},
			Status:     corev1.NodeStatus{Allocatable: allocatable},
		})
		for j := range each {
			requests := corev1.ResourceList{"cpu": resource.MustParse(fmt.Sprintf("%dm", 500+r.IntN(8000))), "memory": resource.MustParse("8Gi")}
			if r.IntN(2) == 0 {
				requests["nvidia.com/gpu"] = resource.MustParse("1")
			}
			p := fmt.Sprintf("pod-%d-%d", i, j)
			c.pods = append(c.pods, corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: p, UID: types.UID(p), ResourceVersion: "1", Labels: map[string]string{"app": fmt.Sprint("app-", r.IntN(200))}},
				Spec: corev1.PodSpec{
					NodeName: name, Priority: new(int32(r.IntN(3) - 1)), Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: requests}}},
				},
				Status: corev1.PodStatus{Phase: corev1.PodRunning},
			})
		}
	}
	return c
}

// server asks for as many GPUs of an H200.
func server(gpus int) *corev1.PodTemplateSpec {
	return &corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "chat"}},
		Spec: corev1.PodSpec{NodeSelector: map[string]string{"product": "H200"}, Containers: []corev1.Container{{
			Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"nvidia.com/gpu": *resource.NewQuantity(int64(gpus), resource.DecimalSI)}},
		}}},
	}
}

// BenchmarkLook is a look at 5,000 nodes and 50,000 pods: the first one, later ones of which one pod in a hundred has changed, and
// one that has to make room.
func BenchmarkLook(b *testing.B) {
	free := &v1alpha1.RolloutPolicySpec{TargetRef: v1alpha1.TargetReference{Kind: "Deployment", Name: "chat"}}
	preempt := &v1alpha1.RolloutPolicySpec{TargetRef: free.TargetRef, Sources: []v1alpha1.CapacitySource{{Kind: "Free"}, {Kind: "Preempt"}}}
	f := fleet()
	run := func(name string, spec *v1alpha1.RolloutPolicySpec, gpus int, next func(i int, c *Client) *Client) {
		b.Run(name, func(b *testing.B) {
			c := &Client{Client: f}
			n := Need{Namespace: "prod", Template: server(gpus), Most: 16}
			for i := 0; b.Loop(); i++ {
				c = next(i, c)
				r, err := c.Look(b.Context(), spec, n)
				require.NoError(b, err)
				b.ReportMetric(float64(r.Sources[0].Replicas+r.Sources[1].Replicas), "fit")
			}
		})
	}
	change := func(i int, c *Client) *Client {
		for j := i % 100; j < len(f.pods); j += 100 {
			f.pods[j].ResourceVersion = fmt.Sprint(i)
		}
		return c
	}
	run("first", free, 1, func(int, *Client) *Client { return &Client{Client: f} })
	run("later", free, 1, change)
	run("preempt", preempt, 8, change)
}
