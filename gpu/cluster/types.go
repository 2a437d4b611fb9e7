package cluster

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
)

// The types below have of a core/v1 Pod and Node and of a resource.k8s.io/v1 ResourceSlice the fields that this package
// reads. JSON decoding skips the rest, so that a pod of 10 KB leaves a few hundred bytes here, and the binary goes without
// k8s.io/api: its four groups that are used here would cost 6 MB of binary and 1.4 MiB of RSS, the clientset 10 MiB.

// header begins every object.
type header struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        metadata `json:"metadata"`
}

type metadata struct {
	Name            string      `json:"name"`
	Namespace       string      `json:"namespace"`
	UID             string      `json:"uid"`
	ResourceVersion string      `json:"resourceVersion"`
	Labels          labels      `json:"labels"`
	Annotations     annotations `json:"annotations"`
}

type labels struct {
	MIGState string `json:"nvidia.com/mig.config.state"`
}

type annotations struct {
	ConfigHash       string `json:"kubernetes.io/config.hash"`
	ConfigMirror     string `json:"kubernetes.io/config.mirror"`
	InitialEventsEnd string `json:"k8s.io/initial-events-end"` // of the bookmark that ends a streamed list
}

// GetObjectMeta returns what the reflector asks of an object.
func (h *header) GetObjectMeta() metav1.Object {
	m := &metav1.ObjectMeta{
		Name: h.Metadata.Name, Namespace: h.Metadata.Namespace,
		UID: types.UID(h.Metadata.UID), ResourceVersion: h.Metadata.ResourceVersion,
	}
	if end := h.Metadata.Annotations.InitialEventsEnd; end != "" {
		m.Annotations = map[string]string{metav1.InitialEventsAnnotationKey: end}
	}
	return m
}

type pod struct {
	header `json:",inline"`
	Spec   struct {
		Containers          []container `json:"containers"`
		InitContainers      []container `json:"initContainers"`
		EphemeralContainers []container `json:"ephemeralContainers"`
	} `json:"spec"`
	Status struct {
		Containers          []containerStatus `json:"containerStatuses"`
		InitContainers      []containerStatus `json:"initContainerStatuses"`
		EphemeralContainers []containerStatus `json:"ephemeralContainerStatuses"`
	} `json:"status"`
}

type container struct {
	Name          string `json:"name"`
	RestartPolicy string `json:"restartPolicy"` // "Always" makes an init container a sidecar
}

type containerStatus struct {
	Name        string `json:"name"`
	ContainerID string `json:"containerID"` // "containerd://…"; empty until it has run
	State       struct {
		Terminated *struct {
			ExitCode int `json:"exitCode"`
		} `json:"terminated"`
	} `json:"state"`
}

type node struct {
	header `json:",inline"`
}

type resourceSlice struct {
	header `json:",inline"`
	Spec   struct {
		Driver string `json:"driver"`
		Pool   struct {
			Name       string `json:"name"`
			Generation int64  `json:"generation"`
		} `json:"pool"`
		Devices []struct {
			Name       string               `json:"name"`
			Attributes map[string]attribute `json:"attributes"`
		} `json:"devices"`
	} `json:"spec"`
}

type attribute struct {
	String string `json:"string"`
}

// list is a PodList, NodeList or ResourceSliceList.
type list[T any] struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []T `json:"items"`
}

// The reflector neither copies nor changes objects; what it hands on is read once. So these copies may share.

func (p *pod) DeepCopyObject() runtime.Object           { c := *p; return &c }
func (n *node) DeepCopyObject() runtime.Object          { c := *n; return &c }
func (s *resourceSlice) DeepCopyObject() runtime.Object { c := *s; return &c }
func (l *list[T]) DeepCopyObject() runtime.Object       { c := *l; return &c }

// codecs returns the codecs of the types that the watches read.
func codecs() runtime.NegotiatedSerializer {
	scheme := runtime.NewScheme()
	v1 := schema.GroupVersion{Version: "v1"}
	dra := schema.GroupVersion{Group: "resource.k8s.io", Version: "v1"}
	metav1.AddToGroupVersion(scheme, v1)
	metav1.AddToGroupVersion(scheme, dra)
	scheme.AddKnownTypeWithName(v1.WithKind("Pod"), &pod{})
	scheme.AddKnownTypeWithName(v1.WithKind("PodList"), &list[pod]{})
	scheme.AddKnownTypeWithName(v1.WithKind("Node"), &node{})
	scheme.AddKnownTypeWithName(v1.WithKind("NodeList"), &list[node]{})
	scheme.AddKnownTypeWithName(dra.WithKind("ResourceSlice"), &resourceSlice{})
	scheme.AddKnownTypeWithName(dra.WithKind("ResourceSliceList"), &list[resourceSlice]{})
	return serializer.NewCodecFactory(scheme).WithoutConversion()
}
