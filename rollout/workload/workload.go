// Package workload reads and writes what rollouts update: a Deployment, a StatefulSet or a DaemonSet, as rollout sees it.
//
// Objects are read from the API server and kept as it has them, so that a write loses nothing that a newer one knows. A version is
// identified by its pod template, not by a hash that a controller will give its pods: the template of the workload, of its
// ReplicaSet and of its ControllerRevision have one ID, so that a version is known before there is a ReplicaSet and after an undo.
//
// What is written are the fields that rollout holds, and the template, by one update of the object as it was read: whatever others
// have written since makes it fail with ErrConflict. Fields that were read and are written back leave the spec as it was to the byte.
package workload

import (
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/rollout"
)

// Manager is the field manager of all that is written here.
const Manager = "headroom-rollout"

// Ref names a workload.
type Ref struct {
	types.NamespacedName

	Kind rollout.Kind // "" is a Deployment
}

func (r Ref) String() string { return fmt.Sprintf("%s %q", r.Kind, r.Name) }

// Seen is a workload at one moment, read from the API server and not from a cache.
type Seen struct {
	Ref
	// Object is the workload as the API server has it (unstructured, so that fields of newer versions survive a write); nil where it
	// does not exist, or is being deleted, and so is Workload.
	Object   client.Object
	Workload *rollout.Workload
	// Template is the one that the object has now.
	Template *corev1.PodTemplateSpec
	// Selector are the labels of its pods: the selector's matchLabels.
	Selector map[string]string
	// Versions are its templates by ID: what Object has, and every ReplicaSet's or ControllerRevision's.
	Versions map[string]Version

	now time.Time
}

// Version is a pod template of a workload, with its pods.
type Version struct {
	// ID identifies a template: a hash of what the API server serves of it, without the labels that controllers add. It is the same
	// before and after there is a ReplicaSet, and after an undo.
	ID string
	// Hash is what the pods carry in pod-template-hash or controller-revision-hash; "" before there is a ReplicaSet or a
	// ControllerRevision.
	Hash     string
	Revision int64     // 0 before there is a ReplicaSet or a ControllerRevision
	Created  time.Time // zero before there is a ReplicaSet or a ControllerRevision
	// Template is empty, and ID is Hash, where pods are left of a ControllerRevision that is gone.
	Template *corev1.PodTemplateSpec
	// Counts are the pods that are not being deleted, by what they wait for.
	Counts rollout.Version
	// Pods are those that are not being deleted and have not ended.
	Pods []*corev1.Pod

	raw         map[string]any    // the template with all that the API server serves of it
	annotations map[string]string // of the ReplicaSet or ControllerRevision, or of the workload while there is none
}

// Core returns the versions as rollout counts them.
func (s *Seen) Core() map[string]rollout.Version {
	out := make(map[string]rollout.Version, len(s.Versions))
	for id, v := range s.Versions {
		out[id] = v.Counts
	}
	return out
}

// ErrConflict means that the workload has changed, or is gone, since it was read. Nothing was written.
var ErrConflict = errors.New("the workload has changed in the meantime")

// Client reads and writes workloads.
type Client struct {
	Reader client.Reader // not from a cache
	Writer client.Writer
	Now    func() time.Time
}
