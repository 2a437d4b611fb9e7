// Package kube turns the API's objects into what rollout/placement counts over.
//
// Guarantees: it reads what the scheduler of Kubernetes 1.37 reads, with the same helpers where there are some, at its default
// feature gates (pkg/scheduler/framework/types.go for what a pod requests and a node offers). What bears on placing and has no
// place in the plain structs is named in Shape.NotModelled, so that the answer is unknown rather than wrong: volumes that nodes
// can or cannot reach, claims of devices, extended resources that a DeviceClass provides, scheduling gates and groups, other
// schedulers. Devices of DRA are not counted.
package kube

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/component-helpers/nodedeclaredfeatures"
	resourcehelpers "k8s.io/component-helpers/resource"

	"headroom.dev/headroom/rollout/placement"
)

// schedulerVersion is whose rules for declared features are applied.
const schedulerVersion = "1.37.0"

// Cluster reads nodes, pods and namespaces as listed. Pods that have ended and such as have no node, nor one that preemption
// made room on, are left out. Namespaces may be nil where they were not listed. Unfit is by node, see placement.Node.
func Cluster(nodes []*corev1.Node, pods []*corev1.Pod, namespaces []*corev1.Namespace, unfit map[string]placement.Resources) (placement.Cluster, error) {
	c := placement.Cluster{Nodes: make([]placement.Node, 0, len(nodes)), Pods: make([]placement.Pod, 0, len(pods))}
	for _, n := range nodes {
		node := Node(n)
		node.Unfit = unfit[n.Name]
		c.Nodes = append(c.Nodes, node)
	}
	for _, p := range pods {
		pod, there, err := Pod(p)
		if err != nil {
			return placement.Cluster{}, err
		}
		if there {
			c.Pods = append(c.Pods, pod)
		}
	}
	if namespaces != nil {
		c.Namespaces = make(map[string]map[string]string, len(namespaces))
		for _, ns := range namespaces {
			c.Namespaces[ns.Name] = ns.Labels
		}
	}
	return c, nil
}

// Node reads a node.
func Node(n *corev1.Node) placement.Node {
	out := placement.Node{
		Name: n.Name, Labels: n.Labels, Unschedulable: n.Spec.Unschedulable, Allocatable: resources(n.Status.Allocatable), Features: n.Status.DeclaredFeatures,
	}
	for _, t := range n.Spec.Taints {
		out.Taints = append(out.Taints, placement.Taint{Key: t.Key, Value: t.Value, Effect: string(t.Effect)})
	}
	return out
}

// Pod reads a pod; false where it holds nothing: it has ended, or has neither a node nor the promise of one.
func Pod(p *corev1.Pod) (placement.Pod, bool, error) {
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed || p.Spec.NodeName == "" && p.Status.NominatedNodeName == "" {
		return placement.Pod{}, false, nil
	}
	out := placement.Pod{Name: p.Name, Node: p.Spec.NodeName, Terminating: p.DeletionTimestamp != nil}
	if out.Node == "" {
		out.Node, out.Nominated = p.Status.NominatedNodeName, true
	}
	out.Namespace, out.Labels, out.HostPorts = p.Namespace, p.Labels, hostPorts(&p.Spec)
	if p.Spec.Priority != nil {
		out.Priority = *p.Spec.Priority
	}
	out.Requests = requests(p)
	var err error
	if out.AntiAffinity, err = antiAffinity(p.Namespace, p.Labels, &p.Spec); err != nil {
		return placement.Pod{}, false, fmt.Errorf("pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	return out, true, nil
}

// Shape reads the pods that a template makes in a namespace: give the labels that the controller adds (pod-template-hash)
// in the template, or what is counted by them is not counted. The priority is the template's spec.priority, which the API
// server's admission has only written into pods: set Shape.Priority from the PriorityClass where the template names one.
// Classes are the DeviceClasses of the cluster. The template may be as its owner wrote it: it is read Defaulted.
func Shape(namespace string, t *corev1.PodTemplateSpec, classes []*resourcev1.DeviceClass) (placement.Shape, error) {
	t = Defaulted(t)
	spec := &t.Spec
	s := placement.Shape{Namespace: namespace, Labels: t.Labels, HostPorts: hostPorts(spec), NodeSelector: spec.NodeSelector}
	if spec.Priority != nil {
		s.Priority = *spec.Priority
	}
	s.Requests = resources(resourcehelpers.PodRequests(&corev1.Pod{Spec: *spec}, resourcehelpers.PodResourcesOptions{}))
	for i := range spec.Tolerations {
		o := &spec.Tolerations[i]
		s.Tolerations = append(s.Tolerations, placement.Toleration{Key: o.Key, Operator: string(o.Operator), Value: o.Value, Effect: string(o.Effect)})
	}
	var err error
	if s.NodeAffinity, err = nodeAffinity(spec.Affinity); err != nil {
		return s, err
	}
	if s.Spread, err = spread(spec.TopologySpreadConstraints, t.Labels); err != nil {
		return s, err
	}
	if a := spec.Affinity; a != nil && a.PodAffinity != nil {
		s.Affinity, err = terms("podAffinity", namespace, t.Labels, a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
		if err != nil {
			return s, err
		}
	}
	if s.AntiAffinity, err = antiAffinity(namespace, t.Labels, spec); err != nil {
		return s, err
	}
	if s.Features, err = features(spec); err != nil {
		return s, err
	}
	s.NotModelled = notModelled(spec, s.Requests, classes)
	return s, nil
}

func features(spec *corev1.PodSpec) ([]string, error) {
	set, err := nodedeclaredfeatures.DefaultFramework.InferForPodScheduling(&nodedeclaredfeatures.PodInfo{Spec: spec}, version.MustParseSemantic(schedulerVersion))
	if err != nil {
		return nil, fmt.Errorf("cannot infer the features that the pod needs: %w", err)
	}
	names, err := nodedeclaredfeatures.DefaultFramework.Unmap(set)
	if err != nil {
		return nil, fmt.Errorf("cannot name the features that the pod needs: %w", err)
	}
	return names, nil
}

// resources keeps what the scheduler counts, in its units: framework.Resource.Add and IsScalarResourceName.
func resources(list corev1.ResourceList) placement.Resources {
	if len(list) == 0 {
		return nil
	}
	out := make(placement.Resources, len(list))
	for name, q := range list {
		switch {
		case name == corev1.ResourceCPU:
			out[placement.CPU] = q.MilliValue()
		case counted(name):
			out[string(name)] = q.Value()
		}
	}
	return out
}

// counted reports whether the scheduler counts a resource.
func counted(name corev1.ResourceName) bool {
	return name == corev1.ResourceCPU || name == corev1.ResourceMemory || name == corev1.ResourcePods || name == corev1.ResourceEphemeralStorage ||
		scalar(string(name))
}

func scalar(name string) bool {
	switch {
	case strings.HasPrefix(name, corev1.ResourceHugePagesPrefix), strings.HasPrefix(name, corev1.ResourceAttachableVolumesPrefix):
		return true
	case !strings.Contains(name, "/"):
		return false
	}
	return strings.Contains(name, corev1.ResourceDefaultNamespacePrefix) || !strings.HasPrefix(name, corev1.DefaultResourceRequestsPrefix)
}

// hostPorts is GetHostPorts of pkg/scheduler/util: of containers and sidecars.
func hostPorts(spec *corev1.PodSpec) []placement.HostPort {
	var out []placement.HostPort
	add := func(c *corev1.Container) {
		for _, p := range c.Ports {
			if p.HostPort > 0 {
				out = append(out, placement.HostPort{IP: p.HostIP, Protocol: string(p.Protocol), Port: p.HostPort})
			}
		}
	}
	for i := range spec.InitContainers {
		if c := &spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(c)
		}
	}
	for i := range spec.Containers {
		add(&spec.Containers[i])
	}
	return out
}
