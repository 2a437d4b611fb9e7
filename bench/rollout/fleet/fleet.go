// Package fleet makes random clusters of a size at which a planner's time matters, as the API's objects.
package fleet

import (
	"fmt"
	"math/rand/v2"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The size of a cluster.
const (
	Nodes = 5000
	Pods  = 50_000
)

const (
	apps          = 400
	teams         = 40
	gpuResource   = "nvidia.com/gpu"
	zoneLabel     = "topology.kubernetes.io/zone"
	hostLabel     = "kubernetes.io/hostname"
	rackLabel     = "topology.example.com/rack"
	productLabel  = "nvidia.com/gpu.product"
	nodesPerRack  = 20
	tenantsOnNode = 15 // pods of a node at most: GPUs, CPU and the number of pods are never exceeded
)

// Fleet is a cluster as an informer's cache holds it.
type Fleet struct {
	Nodes      []*corev1.Node
	Pods       []*corev1.Pod
	Namespaces []*corev1.Namespace
	Rand       *rand.Rand // goes on where the cluster ends
}

// New draws 5,000 nodes in three zones and 250 racks (8, 4 or no GPUs; some tainted, cordoned) and 50,000 pods on them, of
// which about a third hold GPUs, one in a hundred has anti-affinity, a few are about to go, or nominated.
func New(seed uint64) *Fleet {
	f := &Fleet{Rand: rand.New(rand.NewPCG(seed, 7))}
	for i := range teams {
		f.Namespaces = append(f.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("team-%02d", i), Labels: map[string]string{"kubernetes.io/metadata.name": fmt.Sprintf("team-%02d", i)},
		}})
	}
	free := make([]int, Nodes)
	load := make([]int, Nodes)
	for i := range Nodes {
		free[i] = []int{8, 8, 8, 4, 0}[f.Rand.IntN(5)]
		f.Nodes = append(f.Nodes, f.node(i, free[i]))
	}
	for i := range Pods {
		at := f.Rand.IntN(Nodes)
		for load[at] == tenantsOnNode {
			at = (at + 1) % Nodes
		}
		gpus := min(free[at], []int{0, 0, 0, 1, 1, 2, 4, 8}[f.Rand.IntN(8)])
		free[at] -= gpus
		load[at]++
		f.Pods = append(f.Pods, f.pod(i, f.Nodes[at].Name, gpus))
	}
	return f
}

func (f *Fleet) node(i, gpus int) *corev1.Node {
	name := fmt.Sprintf("node-%05d", i)
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
		hostLabel: name, zoneLabel: string('a' + rune(i%3)), rackLabel: strconv.Itoa(i / nodesPerRack), "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
		"node.kubernetes.io/instance-type": fmt.Sprintf("gpu-%d", gpus), "topology.kubernetes.io/region": "eu-1",
	}}}
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("128"), corev1.ResourceMemory: resource.MustParse("1Ti"),
		corev1.ResourcePods: resource.MustParse("110"), corev1.ResourceEphemeralStorage: resource.MustParse("4Ti"),
	}
	if gpus > 0 {
		n.Labels[productLabel] = []string{"NVIDIA-H200", "NVIDIA-L40S"}[f.Rand.IntN(2)]
		n.Status.Allocatable[gpuResource] = *resource.NewQuantity(int64(gpus), resource.DecimalSI)
		n.Spec.Taints = []corev1.Taint{{Key: gpuResource, Value: "present", Effect: corev1.TaintEffectNoSchedule}}
	}
	if f.Rand.IntN(100) == 0 {
		n.Spec.Unschedulable = true
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "node.kubernetes.io/unschedulable", Effect: corev1.TaintEffectNoSchedule})
	}
	n.Status.Capacity = n.Status.Allocatable
	return n
}

func (f *Fleet) pod(i int, node string, gpus int) *corev1.Pod {
	app := fmt.Sprintf("app-%03d", f.Rand.IntN(apps))
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("%s-%06d", app, i), Namespace: fmt.Sprintf("team-%02d", f.Rand.IntN(teams)), UID: types.UID(strconv.Itoa(i)), ResourceVersion: "1",
			Labels: map[string]string{"app": app, "pod-template-hash": fmt.Sprintf("%08x", f.Rand.Uint32()), "tier": "serving"},
		},
		Spec: corev1.PodSpec{
			NodeName: node, Priority: new(int32(f.Rand.IntN(3)) - 1), Tolerations: gpuToleration(),
			Containers: []corev1.Container{
				container("server", strconv.Itoa(1+f.Rand.IntN(8)), fmt.Sprintf("%dGi", 4+f.Rand.IntN(28)), gpus), container("proxy", "100m", "128Mi", 0),
			},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	if f.Rand.IntN(100) == 0 {
		p.Spec.Affinity = apart(app)
	}
	switch f.Rand.IntN(500) {
	case 0:
		p.DeletionTimestamp = &metav1.Time{}
	case 1:
		p.Spec.NodeName, p.Status.NominatedNodeName, p.Status.Phase = "", node, corev1.PodPending
	}
	return p
}

func gpuToleration() []corev1.Toleration {
	return []corev1.Toleration{{Key: gpuResource, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}
}

func container(name, cpu, memory string, gpus int) corev1.Container {
	c := corev1.Container{Name: name, Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
	}}}
	if gpus > 0 {
		c.Resources.Requests[gpuResource] = *resource.NewQuantity(int64(gpus), resource.DecimalSI)
	}
	return c
}

func selects(app string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
}

// apart keeps an app's pods on nodes of their own.
func apart(app string) *corev1.Affinity {
	return &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
		{TopologyKey: hostLabel, LabelSelector: selects(app)},
	}}}
}

// Shape is a kind of service that is updated in a fleet.
type Shape struct {
	Name     string
	GPUs     int
	Template corev1.PodTemplateSpec
}

// Shapes are from the plainest to those whose pods depend on each other, which cost more to count.
func Shapes() []Shape {
	template := func(gpus int, change func(*corev1.PodTemplateSpec)) corev1.PodTemplateSpec {
		t := corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "app-007", "pod-template-hash": "new"}},
			Spec: corev1.PodSpec{
				Containers: []corev1.Container{container("server", "8", "32Gi", gpus)}, NodeSelector: map[string]string{productLabel: "NVIDIA-H200"},
				Tolerations: gpuToleration(), Priority: new(int32(1)),
			},
		}
		change(&t)
		return t
	}
	spread := func(t *corev1.PodTemplateSpec, keys ...string) {
		for _, key := range keys {
			t.Spec.TopologySpreadConstraints = append(t.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
				MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: selects("app-007"),
			})
		}
	}
	return []Shape{
		{"1 GPU, node selector", 1, template(1, func(*corev1.PodTemplateSpec) {})},
		{"8 GPUs, node selector", 8, template(8, func(*corev1.PodTemplateSpec) {})},
		{"1 GPU, zones spread, hosts apart", 1, template(1, func(t *corev1.PodTemplateSpec) { spread(t, zoneLabel); t.Spec.Affinity = apart("app-007") })},
		{"2 GPUs, zones and hosts spread", 2, template(2, func(t *corev1.PodTemplateSpec) { spread(t, zoneLabel, hostLabel) })},
		{"4 GPUs, all in one rack", 4, template(4, func(t *corev1.PodTemplateSpec) {
			t.Labels["app"] = "app-alone"
			t.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
				{TopologyKey: rackLabel, LabelSelector: selects("app-alone")},
			}}}
		})},
	}
}

// Churn makes one pod in a hundred look changed, as pods' statuses do.
func (f *Fleet) Churn() {
	for i := f.Rand.IntN(100); i < len(f.Pods); i += 100 {
		f.Pods[i].ResourceVersion = strconv.FormatUint(f.Rand.Uint64(), 10)
	}
}
