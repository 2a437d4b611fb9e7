package metric

// Directory knows what the cluster says about the pods whose labels series bear. It answers from memory; its methods are
// safe for concurrent use.
type Directory interface {
	// Pod returns what is known of a pod, false where there is no such pod.
	Pod(namespace, name string) (Pod, bool)
	// Version changes whenever the answer for any pod does.
	Version() uint64
}

// Pod is what rules need to know of a pod.
type Pod struct {
	Node       string
	Services   []string // of its namespace, whose selector matches it, sorted
	Deployment string   // that owns it, "" where none does
	// Loading says why the pod does not take part yet, "" where it does: its containers have not become ready since they
	// (re)started. A pod that was ready and is overloaded now is not loading.
	Loading string
	// Over says why the pod takes part no more, "" where it does: it terminates or has ended.
	Over string
}
