package exact

import (
	"fmt"
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	zone = "topology.kubernetes.io/zone"
	rack = "example.com/rack"
	gpu  = "nvidia.com/gpu"
	mig  = "nvidia.com/mig-1g.10gb"
)

// world is a random cluster and the pod that is to be placed in it.
type world struct {
	nodes []*corev1.Node
	pods  []*corev1.Pod
	pod   *corev1.Pod
}

// dice draws; roomy worlds have nodes with much room, and new pods that ask little: where coupling decides.
type dice struct {
	*rand.Rand

	roomy bool
}

func (d dice) chance(p float64) bool { return d.Float64() < p }

func pick[T any](d dice, of ...T) T { return of[d.IntN(len(of))] }

// namespaces are the same in all worlds.
func namespaces() []*corev1.Namespace {
	var out []*corev1.Namespace
	for _, name := range []string{"x", "y"} {
		out = append(out, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"team": name}}})
	}
	return out
}

// newWorld draws a world. Each has its own habits, so that rare combinations come with frequent ones of other things.
func newWorld(d dice) *world {
	w := &world{}
	d.roomy = d.chance(0.7)
	for i := range 1 + d.IntN(8) {
		n := d.node(i)
		if d.roomy {
			n.Spec.Unschedulable = false
			if d.chance(0.6) {
				n.Spec.Taints = nil
			}
			n.Status.Allocatable[corev1.ResourceCPU], n.Status.Allocatable[corev1.ResourceMemory] = resource.MustParse("16"), resource.MustParse("64Gi")
			n.Status.Allocatable[corev1.ResourcePods] = *resource.NewQuantity(int64(5+d.IntN(5)), resource.DecimalSI)
			n.Status.Allocatable[gpu] = *resource.NewQuantity(int64(4+d.IntN(5)), resource.DecimalSI)
		}
		w.nodes = append(w.nodes, n)
	}
	coupled := pick(d, 0, 0.5, 1)
	for i := range d.IntN(pick(d, 1, 4, 12)) {
		p := d.basic(fmt.Sprint("p", i))
		if d.chance(coupled / 6) {
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: d.terms()}}
		}
		p.Spec.NodeName = pick(d, w.nodes...).Name
		switch {
		case d.chance(0.2):
			p.DeletionTimestamp = &metav1.Time{}
		case d.chance(0.05):
			p.Spec.NodeName, p.Status.NominatedNodeName = "", p.Spec.NodeName
		}
		w.pods = append(w.pods, p)
	}
	w.pod = d.incoming(coupled)
	return w
}

func (d dice) node(i int) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("n", i), Labels: map[string]string{}}}
	label := func(key string, p float64, values ...string) {
		if d.chance(p) {
			n.Labels[key] = pick(d, values...)
		}
	}
	label(zone, 0.95, "a", "b", "c")
	label(rack, 0.9, "1", "2", "3", "4", "5")
	label(corev1.LabelHostname, 0.97, n.Name)
	label("gpus", 0.7, "1", "4", "8", "many")
	label("empty", 0.3, "")
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(500*int64(d.IntN(12)), resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(int64(d.IntN(12))<<30, resource.BinarySI),
		corev1.ResourcePods:   *resource.NewQuantity(int64(1+d.IntN(8)), resource.DecimalSI),
	}
	more := func(name corev1.ResourceName, p float64, units int) {
		if d.chance(p) {
			n.Status.Allocatable[name] = *resource.NewQuantity(int64(d.IntN(units+1)), resource.DecimalSI)
		}
	}
	more(gpu, 0.8, 8)
	more(mig, 0.3, 7)
	more(corev1.ResourceEphemeralStorage, 0.8, 10)
	more("hugepages-2Mi", 0.2, 4)
	n.Spec.Unschedulable = d.chance(0.07)
	if d.chance(0.3) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{
			Key: pick(d, "spot", gpu), Value: pick(d, "", "yes"),
			Effect: pick(d, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute, corev1.TaintEffectPreferNoSchedule),
		})
	}
	if d.chance(0.5) {
		n.Status.DeclaredFeatures = []string{"RestartAllContainersOnContainerExits", "NobodyKnows"}
	}
	return n
}

// basic is what every pod has: labels, requests, ports.
func (d dice) basic(name string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: name, Namespace: pick(d, "x", "x", "y"), UID: types.UID(name), Labels: map[string]string{"app": pick(d, "llm", "web")},
	}}
	if d.chance(0.5) {
		p.Labels["version"] = pick(d, "1", "2")
	}
	p.Spec.Priority = new(pick[int32](d, -10, 0, 100))
	p.Spec.Containers = []corev1.Container{d.container()}
	if d.chance(0.2) {
		p.Spec.InitContainers = []corev1.Container{d.container()}
		if d.chance(0.5) {
			p.Spec.InitContainers[0].RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		}
	}
	if d.chance(0.1) {
		p.Spec.Overhead = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m")}
	}
	return p
}

func (d dice) container() corev1.Container {
	c := corev1.Container{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{}}}
	ask := func(name corev1.ResourceName, p float64, q string) {
		if d.chance(p) {
			c.Resources.Requests[name] = resource.MustParse(q)
		}
	}
	ask(corev1.ResourceCPU, 0.7, pick(d, "0", "100m", "300m", "1", "1500m"))
	ask(corev1.ResourceMemory, 0.6, pick(d, "64Mi", "1Gi", "3Gi"))
	ask(gpu, 0.5, pick(d, "1", "1", "2", "4"))
	ask(mig, 0.1, "1")
	ask(corev1.ResourceEphemeralStorage, 0.2, pick(d, "1", "3"))
	ask("hugepages-2Mi", 0.03, "1")
	ask("example.com/nowhere", 0.02, pick(d, "0", "1"))
	if d.chance(0.1) {
		c.Ports = []corev1.ContainerPort{{
			HostPort: pick[int32](d, 8080, 9090), HostIP: pick(d, "", "0.0.0.0", "10.0.0.1", "10.0.0.2"), Protocol: pick(d, "", corev1.ProtocolTCP, corev1.ProtocolUDP),
		}}
	}
	return c
}

func (d dice) selector() *metav1.LabelSelector {
	switch d.IntN(12) {
	case 0:
		return nil
	case 1:
		return &metav1.LabelSelector{}
	case 2:
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "version", Operator: pick(d, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist)}}}
	case 3:
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "version", Operator: pick(d, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn), Values: []string{"1"}}}}
	}
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": pick(d, "llm", "llm", "web")}}
}

func (d dice) key() string { return pick(d, zone, zone, rack, corev1.LabelHostname, "empty") }

func (d dice) terms() []corev1.PodAffinityTerm {
	var out []corev1.PodAffinityTerm
	for range 1 + d.IntN(2) {
		t := corev1.PodAffinityTerm{TopologyKey: d.key(), LabelSelector: d.selector()}
		switch d.IntN(8) {
		case 0:
			t.Namespaces = []string{pick(d, "x", "y")}
		case 1:
			t.NamespaceSelector = &metav1.LabelSelector{}
		case 2:
			t.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": pick(d, "x", "y", "nobody")}}
		}
		out = append(out, t)
	}
	return out
}

// incoming is the pod to be placed.
func (d dice) incoming(coupled float64) *corev1.Pod {
	p := d.basic("new")
	p.Namespace = "x"
	p.Labels["app"] = "llm"
	if d.roomy {
		p.Spec.InitContainers, p.Spec.Containers[0].Ports = nil, nil
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{gpu: resource.MustParse(pick(d, "1", "1", "2"))}
	}
	for range d.IntN(3) {
		p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{
			Key: pick(d, "", "spot", gpu, corev1.TaintNodeUnschedulable), Operator: pick(d, "", corev1.TolerationOpEqual, corev1.TolerationOpExists, corev1.TolerationOpExists),
			Value: pick(d, "", "", "yes"), Effect: pick(d, "", "", corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute),
		})
	}
	a := &corev1.Affinity{}
	if d.chance(0.2) {
		a.NodeAffinity = &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: d.nodeSelector()}
	}
	if d.chance(0.1) {
		p.Spec.NodeSelector = map[string]string{zone: pick(d, "a", "b")}
	}
	if d.chance(coupled * 0.4) {
		a.PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: d.terms()}
	}
	if d.chance(coupled * 0.4) {
		a.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: d.terms()}
	}
	p.Spec.Affinity = a
	for d.chance(coupled*0.7) && len(p.Spec.TopologySpreadConstraints) < 3 {
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, d.spread())
	}
	if d.chance(0.05) {
		p.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestartAllContainers}}
	}
	return p
}

func (d dice) spread() corev1.TopologySpreadConstraint {
	c := corev1.TopologySpreadConstraint{
		TopologyKey: d.key(), MaxSkew: pick[int32](d, 1, 1, 2, 3), LabelSelector: d.selector(),
		WhenUnsatisfiable: pick(d, corev1.DoNotSchedule, corev1.DoNotSchedule, corev1.DoNotSchedule, corev1.ScheduleAnyway),
	}
	if d.chance(0.2) {
		c.MinDomains = new(int32(1 + d.IntN(4)))
	}
	if d.chance(0.5) {
		c.NodeAffinityPolicy = new(pick(d, corev1.NodeInclusionPolicyIgnore, corev1.NodeInclusionPolicyHonor))
	}
	if d.chance(0.3) {
		c.NodeTaintsPolicy = new(pick(d, corev1.NodeInclusionPolicyIgnore, corev1.NodeInclusionPolicyHonor))
	}
	if d.chance(0.2) {
		c.MatchLabelKeys = []string{"version"}
	}
	return c
}

func (d dice) nodeSelector() *corev1.NodeSelector {
	s := &corev1.NodeSelector{}
	for range d.IntN(3) {
		var t corev1.NodeSelectorTerm
		for range d.IntN(3) {
			r := corev1.NodeSelectorRequirement{Key: pick(d, zone, "gpus", "empty"), Operator: pick(d, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn, corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist, corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt)}
			switch r.Operator {
			case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
				r.Values = []string{pick(d, "a", "b", "4", "")}
			case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
				r.Values = []string{pick(d, "0", "3", "7")}
			}
			t.MatchExpressions = append(t.MatchExpressions, r)
		}
		if d.chance(0.2) {
			t.MatchFields = []corev1.NodeSelectorRequirement{{Key: metav1.ObjectNameField, Operator: pick(d, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn), Values: []string{pick(d, "n0", "n1")}}}
		}
		s.NodeSelectorTerms = append(s.NodeSelectorTerms, t)
	}
	return s
}
