package capacity

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/placement"
	"headroom.dev/headroom/rollout/placement/kube"
)

// chanceCluster is a few nodes of four GPUs with pods of all priorities, of the service and others, bound, waiting, terminating.
func chanceCluster(r *rand.Rand) *cached {
	c := &cached{namespaces: []corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "prod"}}, {ObjectMeta: metav1.ObjectMeta{Name: "ml"}}}}
	n := 1 + r.IntN(5)
	for i := range n {
		name := fmt.Sprint("n", i)
		node := corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name, "zone": fmt.Sprint(i % 2)}},
			Status:     corev1.NodeStatus{Allocatable: corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("4"), "pods": resource.MustParse("10")}},
		}
		if r.IntN(5) == 0 {
			node.Spec.Taints = []corev1.Taint{{Key: "spot", Effect: corev1.TaintEffectNoSchedule}}
		}
		c.nodes = append(c.nodes, node)
		for left := r.IntN(5); left > 0; {
			p := chancePod(r, fmt.Sprint("p", len(c.pods)), min(left, 1+r.IntN(2)))
			left -= int(requestsOf(&p)["nvidia.com/gpu"])
			p.Spec.NodeName = name
			c.pods = append(c.pods, p)
		}
	}
	for range r.IntN(4) { // that wait
		c.pods = append(c.pods, chancePod(r, fmt.Sprint("p", len(c.pods)), 1))
	}
	return c
}

func chancePod(r *rand.Rand, name string, gpus int) corev1.Pod {
	p := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: []string{"prod", "ml"}[r.IntN(2)], Name: name, UID: types.UID(name), ResourceVersion: fmt.Sprint(r.Uint64()), Labels: map[string]string{"app": []string{"chat", "train", "other"}[r.IntN(3)], hashLabel: "old"}},
		Spec: corev1.PodSpec{Priority: new([]int32{-10, -1, 0, 50, 100, 200}[r.IntN(6)]), TerminationGracePeriodSeconds: new(int64(r.IntN(100))), Containers: []corev1.Container{{
			Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"nvidia.com/gpu": *resource.NewQuantity(int64(gpus), resource.DecimalSI)}},
		}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	if p.Namespace == "prod" && p.Labels["app"] == "chat" {
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "chat-old", Controller: new(true)}}
	}
	if r.IntN(8) == 0 {
		p.DeletionTimestamp = &metav1.Time{}
	}
	return p
}

func chanceSpec(r *rand.Rand) *v1alpha1.RolloutPolicySpec {
	spec := &v1alpha1.RolloutPolicySpec{TargetRef: v1alpha1.TargetReference{Kind: "Deployment", Name: "chat"}}
	spec.Sources = []v1alpha1.CapacitySource{{Kind: "Free"}, {Kind: "Preempt"}, {Kind: "Preempt", Name: "train", Preempt: &v1alpha1.PreemptSource{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": []string{"train", "chat"}[r.IntN(2)]}},
	}}}
	return spec
}

func chanceNeed(r *rand.Rand) Need {
	t := server(1 + r.IntN(3))
	t.Spec.NodeSelector, t.Spec.Priority = nil, nil
	own := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "chat"}}
	switch r.IntN(4) {
	case 0:
		t.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: own}}
	case 1:
		t.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: corev1.LabelHostname, LabelSelector: own}}}}
	}
	return Need{Namespace: "prod", Template: t, Labels: map[string]string{hashLabel: "new"}, Most: 1 + r.IntN(12)}
}

// look1 looks once. The service's priority is 10, the default class's of cached.
func look1(t *testing.T, c *Client, spec *v1alpha1.RolloutPolicySpec, n Need) *Report {
	t.Helper()
	r, err := c.Look(t.Context(), spec, n)
	require.NoError(t, err)
	return r
}

// TestLookProperties holds what is true of every look, on clusters by chance.
func TestLookProperties(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var free, preempted, second int
	for i := range 400 {
		c, spec, n := chanceCluster(r), chanceSpec(r), chanceNeed(r)
		client := &Client{Client: c}
		got := look1(t, client, spec, n)
		again := look1(t, client, spec, n)
		require.Equal(t, got, again, "case %d: a second look sees the same", i)

		shuffled := &cached{nodes: slices.Clone(c.nodes), pods: slices.Clone(c.pods), namespaces: c.namespaces}
		r.Shuffle(len(shuffled.nodes), func(i, j int) {
			shuffled.nodes[i], shuffled.nodes[j] = shuffled.nodes[j], shuffled.nodes[i]
		})
		r.Shuffle(len(shuffled.pods), func(i, j int) { shuffled.pods[i], shuffled.pods[j] = shuffled.pods[j], shuffled.pods[i] })
		require.Equal(t, got, look1(t, &Client{Client: shuffled}, spec, n), "case %d: in whatever order", i)

		slim := &cached{nodes: c.nodes, namespaces: c.namespaces}
		for j := range c.pods {
			slim.pods = append(slim.pods, *Slim(&c.pods[j]))
		}
		require.Equal(t, got, look1(t, &Client{Client: slim}, spec, n), "case %d: with what a cache keeps", i)

		require.Equal(t, oracle(t, c, n), got.Sources[0].Replicas, "case %d: free", i)
		require.LessOrEqual(t, got.GPUs*got.Sources[0].Replicas, got.Free, "case %d: what is free is free", i)
		total := 0
		for _, s := range got.Sources {
			require.LessOrEqual(t, s.Replicas, n.Most)
			total += s.Replicas
			require.True(t, s.Delay == 0 || s.Kind == rollout.Preempt && s.Replicas > 0)
		}
		require.LessOrEqual(t, total, max(n.Most, got.Sources[0].Replicas), "case %d: no more than is needed", i)

		// Were all gone that may go, that much would be free.
		less := &cached{nodes: c.nodes, namespaces: c.namespaces}
		picks, err := chooser(spec.Sources[2].Preempt)
		require.NoError(t, err)
		for _, p := range c.pods {
			low := priorityIn(&p) < 10 && p.DeletionTimestamp == nil && p.Spec.NodeName != ""
			if own := p.Namespace == "prod" && p.Labels["app"] == "chat"; !low || own || priorityIn(&p) >= 0 && !picks(&p) {
				less.pods = append(less.pods, p)
			}
		}
		if n.Template.Spec.TopologySpreadConstraints == nil { // spread may be kept by those that go
			require.GreaterOrEqual(t, look1(t, &Client{Client: less}, spec, n).Sources[0].Replicas, total, "case %d", i)
		}
		free, preempted, second = free+got.Sources[0].Replicas, preempted+got.Sources[1].Replicas, second+got.Sources[2].Replicas
	}
	require.Positive(t, free)
	require.Positive(t, preempted)
	require.Positive(t, second)
}

// oracle counts without memory, by the library alone.
func oracle(t *testing.T, c *cached, n Need) int {
	t.Helper()
	var nodes []*corev1.Node
	var pods []*corev1.Pod
	for i := range c.nodes {
		nodes = append(nodes, &c.nodes[i])
	}
	for i := range c.pods {
		pods = append(pods, &c.pods[i])
	}
	cluster, err := kube.Cluster(nodes, pods, []*corev1.Namespace{&c.namespaces[0], &c.namespaces[1]}, nil)
	require.NoError(t, err)
	s, err := placement.NewSnapshot(cluster)
	require.NoError(t, err)
	template := n.Template.DeepCopy()
	template.Labels[hashLabel] = n.Labels[hashLabel]
	template.Spec.Priority = new(int32(10))
	shape, err := kube.Shape(n.Namespace, template, nil)
	require.NoError(t, err)
	a, err := s.Fit(shape, n.Most)
	require.NoError(t, err)
	return a.Count
}

// TestMemory: what was read before is read again where it has changed, and forgotten where it has gone.
func TestMemory(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 40 {
		c, spec, n := chanceCluster(r), chanceSpec(r), chanceNeed(r)
		client := &Client{Client: c}
		for step := range 15 {
			switch j := r.IntN(len(c.pods) + 1); {
			case j == len(c.pods):
				p := chancePod(r, fmt.Sprintf("new-%d", step), 1)
				p.Spec.NodeName = "n0"
				c.pods = append(c.pods, p)
			case r.IntN(2) == 0:
				c.pods = slices.Delete(c.pods, j, j+1)
			default:
				p := chancePod(r, c.pods[j].Name, 1)
				p.Namespace, p.Spec.NodeName = c.pods[j].Namespace, c.pods[j].Spec.NodeName
				c.pods[j] = p
			}
			require.Equal(t, look1(t, &Client{Client: c}, spec, n), look1(t, client, spec, n))
			require.Len(t, client.known, len(c.pods))
		}
	}
}

// TestEnsureInterrupted fails each write in turn, with a process that has forgotten all, and goes on: what stands in the end is what
// the last uses alone would have made.
func TestEnsureInterrupted(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	chance := func() []rollout.Use {
		var out []rollout.Use
		for _, name := range []string{"request", "buffer", "pods"} {
			if r.IntN(2) == 0 {
				out = append(out, rollout.Use{Source: rollout.Source{Kind: rollout.Provision, Name: name}, Replicas: 1 + r.IntN(3)})
			}
		}
		return out
	}
	stage := func() *world {
		w := newWorld(t)
		for _, line := range []string{"namespace prod", "class serving value=100", "class batch value=-5", "crd ProvisioningRequest v1", "crd CapacityBuffer v1beta1"} {
			w.line(line)
		}
		w.service = *server(1)
		w.service.Spec.PriorityClassName = "serving"
		for _, s := range []v1alpha1.ProvisionSource{
			{ProvisioningRequest: &v1alpha1.ProvisioningRequestSource{}},
			{CapacityBuffer: &v1alpha1.CapacityBufferSource{}},
			{Placeholder: &v1alpha1.PlaceholderSource{PriorityClassName: "batch"}},
		} {
			w.policy.Spec.Sources = append(w.policy.Spec.Sources, v1alpha1.CapacitySource{
				Kind: "Provision", Name: []string{"request", "buffer", "pods"}[len(w.policy.Spec.Sources)], Provision: &s,
			})
		}
		return w
	}
	crashes := 0
	for range 6 {
		w := stage()
		var last []rollout.Use
		for range 5 {
			last = chance()
			w.failed = fmt.Errorf("cut off")
			for left := 0; ; left++ { // each time one write further
				w.left = left
				w.restart()
				if !strings.Contains(w.ensure(last), "cut off") {
					break
				}
				crashes++
			}
		}
		fresh := stage()
		fresh.ensure(last)
		require.Equal(t, fresh.show(), w.show())
		w.ensure(last)
		require.Empty(t, w.writes)
	}
	require.Positive(t, crashes)
}

// FuzzConditions: whatever is in a status, there is an answer or an error.
func FuzzConditions(f *testing.F) {
	f.Add("Failed", "True", "Because", "no GPUs", true)
	f.Add("", "", "", "", false)
	f.Fuzz(func(t *testing.T, kind, status, reason, message string, proper bool) {
		o := (&maker{p: &v1alpha1.RolloutPolicy{}}).object(deploymentKind(), "x", map[string]any{"status": map[string]any{"conditions": message}})
		if proper {
			o.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": kind, "status": status, "reason": reason, "message": message}}}
		}
		got, err := stateOfRequest(t.Context(), o)
		require.Equal(t, proper, err == nil)
		if proper && (kind != "Provisioned" || status != "True") {
			require.NotEmpty(t, got)
		}
	})
}
