// Package workload reads and writes what rollouts update: a Deployment, a StatefulSet or a DaemonSet, as rollout sees it.
package workload

import (
	"context"
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

	Kind rollout.Kind
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
	// Selector are the labels of its pods.
	Selector map[string]string
	// Versions are its templates by ID: what Object has, and every ReplicaSet's or ControllerRevision's.
	Versions map[string]Version
}

// Version is a pod template of a workload, with its pods.
type Version struct {
	// ID identifies a template: a hash of what the API server serves of it, without the labels that controllers add. It is the same
	// before and after there is a ReplicaSet, and after an undo.
	ID string
	// Hash is what the pods carry in pod-template-hash or controller-revision-hash; "" before there is a ReplicaSet.
	Hash     string
	Revision int64
	Created  time.Time // zero before there is a ReplicaSet or a ControllerRevision
	Template *corev1.PodTemplateSpec
	// Counts are the pods that are not being deleted, by what they wait for.
	Counts rollout.Version
	// Pods are those that are not being deleted.
	Pods []*corev1.Pod
}

// Description is what a person knows a version by.
type Description struct {
	Images map[string]string // by container
	Model  string            // from headroom.dev/model-version, or the engine's arguments
	Reason string            // from headroom.dev/change-reason or kubernetes.io/change-cause
}

// Describe tells what a person knows a version by.
func (v *Version) Describe() Description { return Description{} }

// Name is a version in messages: "revision 5 (7f9b8c6d4)".
func (v *Version) Name() string { return v.ID }

// Core returns the versions as rollout counts them.
func (s *Seen) Core() map[string]rollout.Version { return nil }

// StartUp is how long the pods that there are took from being bound until they were Ready; false where none says.
func (s *Seen) StartUp() (rollout.Span, bool) { return rollout.Span{}, false }

// Drain is how long a pod is given to end.
func (s *Seen) Drain() rollout.Span { return rollout.Span{} }

// ErrConflict means that the workload has changed since it was read. Nothing was written.
var ErrConflict = errors.New("the workload has changed in the meantime")

// Client reads and writes workloads.
type Client struct {
	Reader client.Reader // not from a cache
	Writer client.Writer
	Now    func() time.Time
}

// Read returns a workload as it is now. One that does not exist is no error.
func (c *Client) Read(ctx context.Context, ref Ref) (*Seen, error) { return nil, errors.ErrUnsupported }

// Write writes the held fields, and the template where the patch names one, in one request which fails with ErrConflict if the
// workload is not the one that was seen. Seen is not valid afterwards.
func (c *Client) Write(ctx context.Context, seen *Seen, p rollout.Patch) error {
	return errors.ErrUnsupported
}
