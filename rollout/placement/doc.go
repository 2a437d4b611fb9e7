// Package placement says how many more pods of a shape fit in a cluster now, where, and what would have to go for more: by the
// rules of the stock scheduler (Kubernetes 1.37, default plugins and feature gates) over plain structs. Sums of free GPUs do
// not: eight that are free on eight nodes hold no pod of eight.
//
// # Guarantees
//
// Count is never more than the scheduler lets be placed, whatever nodes it prefers by its scores. Where that choice decides how
// many fit, Most and Placements tell what can be had besides. Where something bears on the answer that is not modelled, there
// is no number: Known is false and NotModelled says what. The same input gives the same answer, in whatever order nodes and
// pods come. `make test-placement-exact` holds all of it, reasons included, to the scheduler's own code on random clusters.
//
// What a count cannot promise: that no other pod comes first. Pods that wait in the scheduler's queue hold nothing, but those
// that preemption made room for do, against shapes of the same or a lower priority. Nor does the scheduler know of unfit
// devices: they are counted out, and a taint or the device plugin has to keep it off them.
//
// # What is modelled
//
// By plugin of pkg/scheduler/framework/plugins (v1.37.2), in the order in which they refuse a node, which Reasons keep:
//
//   - NodeUnschedulable (nodeunschedulable/node_unschedulable.go): cordoned nodes, and the toleration that ignores it.
//   - TaintToleration (tainttoleration/taint_toleration.go, k8s.io/api/core/v1/toleration.go): NoSchedule and NoExecute.
//   - NodeAffinity (nodeaffinity/node_affinity.go, component-helpers/scheduling/corev1/nodeaffinity): the node selector, required
//     terms with In, NotIn, Exists, DoesNotExist, Gt and Lt, and those on the node's name.
//   - NodePorts (nodeports/node_ports.go): host ports by address and protocol.
//   - NodeResourcesFit (noderesources/fit.go): CPU, memory, ephemeral storage, huge pages, GPUs, MIG and every other extended
//     resource, the number of pods; and with Node.Unfit devices that no pod is to get.
//   - PodTopologySpread (podtopologyspread/filtering.go, common.go): constraints that say DoNotSchedule, with minDomains, the
//     node inclusion policies and matchLabelKeys; pods that terminate do not count.
//   - InterPodAffinity (interpodaffinity/filtering.go): required affinity with its first pod's exception, anti-affinity of the
//     pod and of those that are there, namespaces and their selectors; pods that terminate count until they are gone.
//   - NodeDeclaredFeatures (nodedeclaredfeatures/nodedeclaredfeatures.go).
//   - Pods that are nominated for a node (framework/runtime: RunFilterPluginsWithNominatedPods): what they request and their
//     ports. Where spread or affinity is about one of them the answer is unknown, because the scheduler asks of each node
//     whether it passes with its own nominees and without, which is no one state of the cluster.
//
// Not modelled, and unknown where it matters: volumes that nodes can or cannot reach or of which a node takes only so many,
// claims of devices (DRA), scheduling gates and groups, Lt and Gt in tolerations, namespace selectors while the namespaces are
// not known. Neither are settings that only the scheduler's configuration shows: added affinity, ignored resources, extenders.
// What only prefers (ScheduleAnyway, preferred affinity, PreferNoSchedule) refuses nothing.
//
// # How much more is not more
//
// Where nodes do not depend on each other, a node more, a pod less or a GPU more never lower the count. With topology spread they
// can: a new zone in which nothing fits holds all others back. With affinity a pod that goes may be the one to follow; so a
// count with pods that terminate can fall when they are gone, which AfterTerminating tells.
//
// # Cost
//
// 5,000 nodes and 50,000 pods: 50 ms of CPU for the snapshot and a count, half of it the snapshot (BenchmarkPlan). A Snapshot
// shares with its With what they have in common: ten pods more or less cost 0.1 ms.
package placement
