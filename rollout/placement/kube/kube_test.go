package kube

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/rollout/placement"
)

func parse[T any](t *testing.T, text string) T {
	t.Helper()
	var out T
	require.NoError(t, yaml.UnmarshalStrict([]byte(text), &out))
	return out
}

func TestNode(t *testing.T) {
	n := parse[corev1.Node](t, `
metadata: {name: n1, labels: {zone: a}}
spec: {unschedulable: true, taints: [{key: spot, value: "yes", effect: NoSchedule}]}
status:
  declaredFeatures: [Some]
  allocatable: {cpu: 1500m, memory: 2Gi, pods: "110", nvidia.com/gpu: "8", hugepages-2Mi: 4Mi, storage: 1Gi, requests.example.com/x: "3"}
`)
	require.Equal(t, placement.Node{
		Name: "n1", Labels: map[string]string{"zone": "a"}, Unschedulable: true, Features: []string{"Some"},
		Taints:      []placement.Taint{{Key: "spot", Value: "yes", Effect: "NoSchedule"}},
		Allocatable: placement.Resources{"cpu": 1500, "memory": 2 << 30, "pods": 110, "nvidia.com/gpu": 8, "hugepages-2Mi": 4 << 20},
	}, Node(&n))
}

func TestPod(t *testing.T) {
	p := parse[corev1.Pod](t, `
metadata: {name: p, namespace: x, labels: {app: a}}
spec:
  nodeName: n1
  priority: 7
  overhead: {cpu: 250m}
  initContainers:
  - {name: load, resources: {requests: {cpu: "4", nvidia.com/gpu: "1"}}}
  - {name: side, restartPolicy: Always, ports: [{hostPort: 9000, containerPort: 1}], resources: {requests: {cpu: 100m}}}
  containers:
  - {name: c, ports: [{hostPort: 8080, containerPort: 1, hostIP: 10.0.0.1, protocol: UDP}, {containerPort: 5}], resources: {requests: {cpu: "1", nvidia.com/gpu: "2"}}}
  affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone, labelSelector: {matchLabels: {app: a}}}]}}
`)
	got, there, err := Pod(&p)
	require.NoError(t, err)
	require.True(t, there)
	require.Equal(t, placement.Pod{Name: "p", Node: "n1", Shape: placement.Shape{
		Namespace: "x", Labels: map[string]string{"app": "a"}, Priority: 7,
		// The init container has 4 CPUs to itself, and beside it what the overhead takes; the sidecar only begins after it.
		Requests:  placement.Resources{"cpu": 4250, "nvidia.com/gpu": 2},
		HostPorts: []placement.HostPort{{Port: 9000}, {IP: "10.0.0.1", Protocol: "UDP", Port: 8080}},
		AntiAffinity: []placement.Term{{
			TopologyKey: "zone", Namespaces: []string{"x"}, NamespaceSelector: placement.Selector{Nothing: true},
			Selector: placement.Selector{Require: []placement.Requirement{{Key: "app", Operator: placement.In, Values: []string{"a"}}}},
		}},
	}}, got)

	p.DeletionTimestamp = &metav1.Time{}
	got, _, err = Pod(&p)
	require.NoError(t, err)
	require.True(t, got.Terminating)

	p.Spec.NodeName, p.Status.NominatedNodeName = "", "n2"
	got, there, err = Pod(&p)
	require.NoError(t, err)
	require.True(t, there)
	require.True(t, got.Nominated)
	require.Equal(t, "n2", got.Node)

	for _, ended := range []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed} {
		p.Status.Phase = ended
		_, there, err = Pod(&p)
		require.NoError(t, err)
		require.False(t, there)
	}
}

func TestShape(t *testing.T) {
	tpl := parse[corev1.PodTemplateSpec](t, `
metadata: {labels: {app: a, pod-template-hash: abc}}
spec:
  nodeSelector: {zone: a}
  tolerations: [{key: nvidia.com/gpu, operator: Exists}]
  containers: [{name: c, resources: {requests: {nvidia.com/gpu: "1"}}, restartPolicyRules: [{action: RestartAllContainers}]}]
  topologySpreadConstraints:
  - {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}
  - {maxSkew: 2, topologyKey: host, whenUnsatisfiable: DoNotSchedule, minDomains: 3, nodeTaintsPolicy: Honor, nodeAffinityPolicy: Ignore, labelSelector: {matchLabels: {app: a}}, matchLabelKeys: [pod-template-hash, missing]}
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms: [{matchExpressions: [{key: gpus, operator: Gt, values: ["3"]}], matchFields: [{key: metadata.name, operator: NotIn, values: [n1]}]}]
    podAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
      - {topologyKey: rack, labelSelector: {}, namespaceSelector: {}, mismatchLabelKeys: [pod-template-hash]}
`)
	s, err := Shape("x", &tpl, nil)
	require.NoError(t, err)
	in := func(key, value string) placement.Requirement {
		return placement.Requirement{Key: key, Operator: placement.In, Values: []string{value}}
	}
	require.Equal(t, placement.Shape{
		Namespace: "x", Labels: tpl.Labels, NodeSelector: map[string]string{"zone": "a"},
		Requests: placement.Resources{"nvidia.com/gpu": 1}, Tolerations: []placement.Toleration{{Key: "nvidia.com/gpu", Operator: "Exists"}},
		Spread: []placement.Spread{{
			TopologyKey: "host", MaxSkew: 2, MinDomains: 3, HonorTaints: true, IgnoreAffinity: true,
			Selector: placement.Selector{Require: []placement.Requirement{in("app", "a"), in("pod-template-hash", "abc")}},
		}},
		NodeAffinity: &placement.NodeAffinity{Terms: []placement.NodeTerm{{
			Labels: []placement.Requirement{{Key: "gpus", Operator: placement.Gt, Values: []string{"3"}}},
			Name:   []placement.Requirement{{Key: "metadata.name", Operator: placement.NotIn, Values: []string{"n1"}}},
		}}},
		Affinity: []placement.Term{{TopologyKey: "rack", Selector: placement.Selector{Require: []placement.Requirement{
			{Key: "pod-template-hash", Operator: placement.NotIn, Values: []string{"abc"}},
		}}}},
		Features: []string{"RestartAllContainersOnContainerExits"},
	}, s)
}

func TestNotModelled(t *testing.T) {
	tpl := parse[corev1.PodTemplateSpec](t, `
spec:
  schedulerName: mine
  nodeName: n1
  schedulingGates: [{name: wait}]
  schedulingGroup: {podGroupName: g}
  resourceClaims: [{name: gpu}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: d}}, {name: tmp, emptyDir: {}}, {name: scratch, ephemeral: {}}]
  containers: [{name: c, resources: {requests: {example.com/gpu: "1", deviceclass.resource.kubernetes.io/b: "1"}}}]
`)
	s, err := Shape("x", &tpl, []*resourcev1.DeviceClass{
		{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: resourcev1.DeviceClassSpec{ExtendedResourceName: new("example.com/gpu")}},
		{ObjectMeta: metav1.ObjectMeta{Name: "b"}},
		{ObjectMeta: metav1.ObjectMeta{Name: "c"}},
	})
	require.NoError(t, err)
	require.Equal(t, []string{
		"spec.schedulerName: mine decides by rules of its own",
		"spec.nodeName: the pod is bound without a scheduler",
		"spec.schedulingGates[0]: wait holds the pod back",
		"spec.schedulingGroup: the pod is placed with its group",
		"spec.resourceClaims[0]: the devices of gpu are the scheduler's to allocate",
		"spec.volumes[0]: which nodes can reach data",
		"spec.volumes[2]: which nodes can reach scratch",
		"resources.requests: example.com/gpu may come from devices of DeviceClass a",
		"resources.requests: deviceclass.resource.kubernetes.io/b may come from devices of DeviceClass b",
	}, s.NotModelled)
}

func TestBadInput(t *testing.T) {
	f := func(want, text string) {
		t.Helper()
		tpl := parse[corev1.PodTemplateSpec](t, text)
		_, err := Shape("x", &tpl, nil)
		require.ErrorContains(t, err, want)
	}
	f(`topologySpreadConstraints[0].whenUnsatisfiable: unknown "Never"`, `{spec: {topologySpreadConstraints: [{whenUnsatisfiable: Never}]}}`)
	f("podAffinity[0].topologyKey: empty", `{spec: {affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{}]}}}}`)
	f(`matchFields[0].key: unknown field "spec.x"`, `{spec: {affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: spec.x}]}]}}}}}`)

	bad := parse[corev1.Pod](t, `{metadata: {name: p, namespace: x}, spec: {nodeName: n, affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{}]}}}}`)
	_, err := Cluster(nil, []*corev1.Pod{&bad}, nil, nil)
	require.ErrorContains(t, err, "pod x/p: podAntiAffinity[0].topologyKey: empty")
}

func TestCluster(t *testing.T) {
	node := parse[corev1.Node](t, `{metadata: {name: n}, status: {allocatable: {nvidia.com/gpu: "8", pods: "10"}}}`)
	pending := parse[corev1.Pod](t, `{metadata: {name: waits, namespace: x}, spec: {containers: [{name: c}]}}`)
	ns := corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "x", Labels: map[string]string{"team": "ml"}}}
	c, err := Cluster([]*corev1.Node{&node}, []*corev1.Pod{&pending}, []*corev1.Namespace{&ns}, map[string]placement.Resources{"n": {"nvidia.com/gpu": 2}})
	require.NoError(t, err)
	require.Empty(t, c.Pods)
	require.Equal(t, map[string]map[string]string{"x": {"team": "ml"}}, c.Namespaces)
	s, err := placement.NewSnapshot(c)
	require.NoError(t, err)
	a, err := s.Fit(placement.Shape{Requests: placement.Resources{"nvidia.com/gpu": 3}}, 0)
	require.NoError(t, err)
	require.Equal(t, 2, a.Count)
}

// TestShapeIsOfPodsNotOfTheTemplate: the API server gives pods what their template does not say.
func TestShapeIsOfPodsNotOfTheTemplate(t *testing.T) {
	tpl := parse[corev1.PodTemplateSpec](t, `
spec:
  hostNetwork: true
  initContainers:
  - {name: load, resources: {limits: {memory: 8Gi}}}
  containers:
  - {name: c, ports: [{containerPort: 8000}, {containerPort: 9000, hostPort: 9001}], resources: {requests: {cpu: 100m}, limits: {cpu: "2", nvidia.com/gpu: 2}}}
`)
	before := tpl.DeepCopy()
	s, err := Shape("x", &tpl, nil)
	require.NoError(t, err)
	require.Equal(t, placement.Resources{"cpu": 100, "memory": 8 << 30, "nvidia.com/gpu": 2}, s.Requests)
	require.Equal(t, []placement.HostPort{{Port: 8000}, {Port: 9001}}, s.HostPorts)
	require.Equal(t, before, &tpl)

	tpl = parse[corev1.PodTemplateSpec](t, `
spec:
  resources: {limits: {cpu: "4", memory: 4Gi, hugepages-2Mi: 8Mi}}
  containers: [{name: c, resources: {requests: {cpu: "1", nvidia.com/gpu: 1}, limits: {nvidia.com/gpu: 1}}}]
`)
	s, err = Shape("x", &tpl, nil)
	require.NoError(t, err)
	require.Equal(t, placement.Resources{"cpu": 1000, "memory": 4 << 30, "hugepages-2Mi": 8 << 20, "nvidia.com/gpu": 1}, s.Requests)
}
