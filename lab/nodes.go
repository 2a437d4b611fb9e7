package lab

import (
	"context"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"headroom.dev/headroom/lab/controlplane"
	"headroom.dev/headroom/lab/kubelet"
	"headroom.dev/headroom/lab/kubelet/devices"
)

// nodesReadyDeadline bounds the wait for KWOK to make the nodes Ready; four nodes were seen to take under a second.
const nodesReadyDeadline = time.Minute

// node is a GPU node as NVIDIA's GPU feature discovery (k8s-device-plugin, docs/gpu-feature-discovery) labels it.
func node(i int, o Options, p product) *corev1.Node {
	gpus := o.GPUs
	name := nodeName(i)
	labels := map[string]string{
		corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
	}
	capacity := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewQuantity(p.nodeCPU, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(p.nodeGB<<30, resource.BinarySI),
		corev1.ResourcePods:   resource.MustParse("250"),
	}
	if gpus > 0 {
		capacity[devices.Resource] = *resource.NewQuantity(int64(gpus), resource.DecimalSI)
		for key, value := range map[string]string{
			"present": "true", "product": p.name, "count": strconv.Itoa(gpus), "replicas": "1", "family": p.family,
			"memory": strconv.FormatInt(p.memory.Value()>>20, 10), "machine": "headroom-lab", "mode": "compute", "sharing-strategy": "none",
			"compute.major": p.computeMajor, "compute.minor": p.computeMinor,
		} {
			labels["nvidia.com/gpu."+key] = value
		}
		labels["nvidia.com/mig.capable"] = strconv.FormatBool(p.migCapable)
		labels["nvidia.com/mig.strategy"] = "single"
		labels["nvidia.com/cuda.driver-version.full"] = kubelet.DriverVersion
		labels["feature.node.kubernetes.io/pci-10de.present"] = "true"
	}
	annotations := map[string]string{controlplane.NodeAnnotation: "fake"}
	if o.Rightsizing {
		key, path := controlplane.UsagePath(name)
		annotations[key] = path
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: annotations},
		Status: corev1.NodeStatus{
			Capacity: capacity, Allocatable: capacity,
			NodeInfo: corev1.NodeSystemInfo{
				Architecture: "amd64", OperatingSystem: "linux", KubeletVersion: "headroom-lab", ContainerRuntimeVersion: "headroom-lab",
				OSImage: "headroom lab", KernelVersion: "lab",
			},
		},
	}
}

// createNodes makes the nodes and waits until they are Ready and the default service account exists, before which the
// API server refuses pods.
func createNodes(ctx context.Context, client kubernetes.Interface, o Options) error {
	p, err := productOf(o.Product)
	if err != nil {
		return err
	}
	for i := range o.Nodes {
		n := node(i, o, p)
		if _, err := client.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("cannot create node %s: %w", n.Name, err)
		}
	}
	missing := "the nodes"
	err = wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, nodesReadyDeadline, true, func(ctx context.Context) (bool, error) {
		nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		for i := range nodes.Items {
			if !nodeReady(&nodes.Items[i]) {
				missing = "node " + nodes.Items[i].Name
				return false, nil
			}
		}
		missing = "the default service account"
		_, err = client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("cannot wait any longer for %s: %w", missing, err)
	}
	return nil
}

func nodeReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			// A fresh node carries a not-ready taint until the node lifecycle controller has seen it Ready.
			return c.Status == corev1.ConditionTrue && len(n.Spec.Taints) == 0
		}
	}
	return false
}

// kubeletNodes are the same nodes for the lab's kubelet, with a stable UUID for each GPU.
func kubeletNodes(o Options) ([]kubelet.Node, error) {
	p, err := productOf(o.Product)
	if err != nil {
		return nil, err
	}
	nodes := make([]kubelet.Node, o.Nodes)
	for i := range nodes {
		nodes[i].Name = nodeName(i)
		for g := range o.GPUs {
			nodes[i].GPUs = append(nodes[i].GPUs, kubelet.GPU{
				UUID: fmt.Sprintf("GPU-%08x-1ab0-4000-8000-%012x", i, g), Model: p.name, MemoryBytes: uint64(p.memory.Value()),
			})
		}
	}
	return nodes, nil
}
