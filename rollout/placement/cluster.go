package placement

// Resources are units by name, as a node's status.allocatable and a container's requests name them: "cpu" in thousandths of
// a core, "pods" in pods, everything else in the units that Kubernetes counts (bytes, devices).
type Resources map[string]int64

// The two resources that are more to the scheduler than a name.
const (
	CPU  = "cpu"
	Pods = "pods"
)

// Cluster is what a Snapshot is made of. The order of nodes and pods does not matter.
type Cluster struct {
	Nodes []Node
	// Pods are all that have a node, or are nominated for one, and have not ended. Of those without either only the scheduler's
	// queue knows when their turn comes: they hold nothing and are left out.
	Pods []Pod
	// Namespaces are the labels of all namespaces by name: a namespaceSelector asks for them. Nil where nobody has read them;
	// a shape for which they matter is then answered with unknown.
	Namespaces map[string]map[string]string
}

// Node is what the scheduler reads of a node.
type Node struct {
	Name          string
	Labels        map[string]string
	Taints        []Taint
	Unschedulable bool // spec.unschedulable: kubectl cordon
	Allocatable   Resources
	// Unfit are units of Allocatable that no pod is to get: GPUs with errors that the device plugin still offers. One that a
	// pod holds is to be named only once the pod is gone: its unit counts as requested until then.
	Unfit Resources
	// Features are status.declaredFeatures.
	Features []string
}

// Taint keeps pods off that do not tolerate it, where Effect is NoSchedule or NoExecute.
type Taint struct{ Key, Value, Effect string }

// Toleration is one of a pod's. Operator is "Equal", "Exists" or "" for Equal; "Lt" and "Gt" depend on a feature gate of the
// scheduler, which makes the answer unknown.
type Toleration struct{ Key, Operator, Value, Effect string }

// Key names a pod.
type Key struct{ Namespace, Name string }

func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Shape is what the scheduler reads of a pod: pods that are alike in it fit alike.
type Shape struct {
	Namespace string
	Labels    map[string]string
	Priority  int32
	// Requests are of the whole pod, with init containers and overhead.
	Requests  Resources
	HostPorts []HostPort

	NodeSelector map[string]string
	// NodeAffinity is the required one: nil for none. One without terms matches no node.
	NodeAffinity *NodeAffinity
	Tolerations  []Toleration
	// Spread are the topology spread constraints that say DoNotSchedule.
	Spread []Spread
	// Affinity and AntiAffinity are the required terms.
	Affinity, AntiAffinity []Term
	// Features are those that a node must declare.
	Features []string
	// NotModelled says what bears on the scheduler's answer and is not here: a volume's nodes, claims of devices. Where it is
	// not empty, the answer is unknown. It is read of the shape that is to be placed alone.
	NotModelled []string
}

// Pod is a pod that is there. Of its Shape what bears on others is read: its labels, requests, ports and anti-affinity.
type Pod struct {
	Name string
	Shape
	Node string
	// Nominated: Node is the one for which preemption made room (status.nominatedNodeName), not yet the pod's own.
	Nominated bool
	// Terminating: it has been told to end. It holds what it holds until it is gone.
	Terminating bool
}

// Key names the pod.
func (p *Pod) Key() Key { return Key{p.Namespace, p.Name} }

// HostPort is a port of the node that a container takes. IP "" is every address, Protocol "" is TCP.
type HostPort struct {
	IP, Protocol string
	Port         int32
}

// NodeAffinity matches a node that one of its terms matches.
type NodeAffinity struct{ Terms []NodeTerm }

// NodeTerm matches a node when all its requirements do; one without any matches none.
type NodeTerm struct {
	Labels []Requirement
	// Name are requirements on the node's name (matchFields, metadata.name): In and NotIn, with one value each.
	Name []Requirement
}

// Operator relates a label to values.
type Operator string

// The operators of selectors; Gt and Lt are node affinity's alone.
const (
	In           Operator = "In"
	NotIn        Operator = "NotIn"
	Exists       Operator = "Exists"
	DoesNotExist Operator = "DoesNotExist"
	Gt           Operator = "Gt"
	Lt           Operator = "Lt"
)

// Requirement is on one label.
type Requirement struct {
	Key      string
	Operator Operator
	Values   []string
}

// Selector selects labels that meet all its requirements: everything when there are none, nothing when Nothing is set (a
// selector that is absent).
type Selector struct {
	Nothing bool
	Require []Requirement
}

// Spread is a topology spread constraint that says DoNotSchedule.
type Spread struct {
	TopologyKey string
	MaxSkew     int32
	MinDomains  int32 // 0 for none: 1
	Selector    Selector
	// IgnoreAffinity: nodes that the pod's node affinity and selector exclude count as well (nodeAffinityPolicy: Ignore).
	IgnoreAffinity bool
	// HonorTaints: nodes with a taint that the pod does not tolerate do not count (nodeTaintsPolicy: Honor).
	HonorTaints bool
}

// Term is a required term of pod affinity or anti-affinity. It is about the pods of Namespaces, and of those that
// NamespaceSelector selects: the edge writes the pod's own namespace into Namespaces where a term names none.
type Term struct {
	TopologyKey       string
	Selector          Selector
	Namespaces        []string
	NamespaceSelector Selector
}
