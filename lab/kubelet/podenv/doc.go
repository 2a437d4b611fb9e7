// Package podenv answers what the kubelet answers about the inside of a container: its environment, the values of field
// and resource references, $(NAME) expansion, and, because the lab has no mount namespaces, where a mounted path really
// lies.
//
// It guarantees the kubelet's semantics where it supports a form at all, and an error that names the form where it does
// not; it never leaves a variable out silently, unless the reference is marked optional.
package podenv
