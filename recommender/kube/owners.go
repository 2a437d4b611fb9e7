package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
)

const (
	// maxOwners bounds a chain of owners: the longest known, a LeaderWorkerSet's worker, has four.
	maxOwners = 8
	// ownerRetry is after what time a chain that could not be read to its end is tried again.
	ownerRetry = 10 * time.Minute
)

// errAnother is that an object has the name of an owner, and is another one.
var errAnother = errors.New("it is not the owner any more, but another object of its name")

// The kinds that the code must tell apart.
const (
	kindDeployment  = "Deployment"
	kindReplicaSet  = "ReplicaSet"
	kindStatefulSet = "StatefulSet"
	kindDaemonSet   = "DaemonSet"
	kindJob         = "Job"
	kindCronJob     = "CronJob"
	kindLWS         = "LeaderWorkerSet"
)

// workloadID names a workload. Versions of one group are the same object.
type workloadID struct {
	Namespace, Group, Kind, Name string
}

func (id workloadID) String() string { return id.Kind + " " + id.Name }

// idOf is what a reference means.
func idOf(namespace string, ref v1alpha1.TargetReference) workloadID {
	return workloadID{Namespace: namespace, Group: groupOf(ref.APIVersion), Kind: ref.Kind, Name: ref.Name}
}

func groupOf(apiVersion string) string {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return apiVersion
	}
	return gv.Group
}

// link is one object of a chain of owners.
type link struct {
	id         workloadID
	apiVersion string
	uid        types.UID
}

func (l *link) reference() v1alpha1.TargetReference {
	return v1alpha1.TargetReference{APIVersion: l.apiVersion, Kind: l.id.Kind, Name: l.id.Name}
}

// owned is where a chain leads.
type owned struct {
	top   link
	again time.Time // when to look again, because something could not be read; zero if all was read
	seen  uint64    // the pass that last needed it
}

// owners finds workloads. It asks the API server for the metadata of each owner once. It is not safe for concurrent use, but climb is.
type owners struct {
	reader client.Reader // not a cache, which would watch every kind that it is asked for
	scales client.SubResourceReader
	mapper meta.RESTMapper
	known  map[types.UID]*owned // by the UID of a pod's controller
}

// wellKnown says whether a kind is a workload without a question.
func wellKnown(id workloadID) bool {
	switch id.Group {
	case appsv1.GroupName:
		return id.Kind == kindDeployment || id.Kind == kindReplicaSet || id.Kind == kindStatefulSet || id.Kind == kindDaemonSet
	case "batch":
		return id.Kind == kindJob || id.Kind == kindCronJob
	case "":
		return id.Kind == "ReplicationController"
	case "leaderworkerset.x-k8s.io":
		return id.Kind == kindLWS
	}
	return false
}

// controllerOf returns a pod's controller; none for pods that are on their own, or a node's.
func controllerOf(pod *corev1.Pod) *metav1.OwnerReference {
	ref := metav1.GetControllerOfNoCopy(pod)
	if ref == nil || ref.Kind == "Node" && ref.APIVersion == "v1" {
		return nil
	}
	return ref
}

// climb follows owners from a pod's controller to the highest that is a workload: of a kind that is well known, or that can be
// scaled. Where none is, the highest that can be read is the workload, else the pod's controller.
func (o *owners) climb(ctx context.Context, pod *corev1.Pod, now time.Time) *owned {
	ref := *controllerOf(pod)
	first := linkOf(pod.Namespace, ref)
	if d, ok := deploymentOf(pod, &ref); ok {
		found, err := o.read(ctx, d)
		switch {
		case err == nil:
			d.uid = found.UID
			return o.climbFrom(ctx, d, found, now)
		case passing(err):
			return &owned{again: now}
		}
	}
	found, err := o.read(ctx, first)
	switch {
	case err == nil:
		return o.climbFrom(ctx, first, found, now)
	case gone(err):
		return &owned{top: first}
	case passing(err):
		return &owned{again: now}
	}
	return &owned{top: first, again: now.Add(ownerRetry)}
}

func (o *owners) climbFrom(ctx context.Context, at link, found *metav1.PartialObjectMetadata, now time.Time) *owned {
	out := &owned{top: at}
	certain := wellKnown(at.id) // a workload has been found
	for range maxOwners {
		next := metav1.GetControllerOfNoCopy(found)
		if next == nil {
			return out
		}
		at = linkOf(at.id.Namespace, *next)
		var err error
		found, err = o.read(ctx, at)
		scalable := !wellKnown(at.id) && at.id.Kind != "Pod" && o.scalable(ctx, at)
		switch {
		case err != nil && gone(err):
			return out
		case wellKnown(at.id) && err == nil, scalable:
			out.top, certain = at, true
		case !certain && err == nil && at.id.Kind != "Pod":
			out.top = at
		}
		if err != nil {
			return out.unread(err, scalable, now)
		}
	}
	return out
}

// unread ends a chain at an owner that cannot be read.
func (o *owned) unread(err error, scalable bool, now time.Time) *owned {
	if passing(err) && !scalable {
		return &owned{again: now}
	}
	o.again = now.Add(ownerRetry)
	return o
}

func linkOf(namespace string, ref metav1.OwnerReference) link {
	return link{
		id:         workloadID{Namespace: namespace, Group: groupOf(ref.APIVersion), Kind: ref.Kind, Name: ref.Name},
		apiVersion: ref.APIVersion, uid: ref.UID,
	}
}

// deploymentOf names the Deployment of a pod without a look at the ReplicaSet between, whose name is the Deployment's and the
// hash that the pod bears as a label.
func deploymentOf(pod *corev1.Pod, ref *metav1.OwnerReference) (link, bool) {
	hash := pod.Labels[templateHash]
	name, ok := strings.CutSuffix(ref.Name, "-"+hash)
	if !ok || hash == "" || ref.Kind != kindReplicaSet || groupOf(ref.APIVersion) != appsv1.GroupName {
		return link{}, false
	}
	return link{id: workloadID{pod.Namespace, appsv1.GroupName, kindDeployment, name}, apiVersion: ref.APIVersion}, true
}

// gone says whether an owner is not there any more, however often one asks.
func gone(err error) bool {
	return apierrors.IsNotFound(err) || errors.Is(err, errAnother)
}

// passing says whether an error is of the API server's state rather than of the owner: the chain is not known then, and the pod
// belongs to no workload, lest it is counted to a wrong one.
func passing(err error) bool {
	return !gone(err) && !apierrors.IsForbidden(err) && !meta.IsNoMatchError(err) && !apierrors.IsMethodNotSupported(err)
}

// read returns the metadata of an owner.
func (o *owners) read(ctx context.Context, l link) (*metav1.PartialObjectMetadata, error) {
	found := &metav1.PartialObjectMetadata{}
	found.SetGroupVersionKind(schema.FromAPIVersionAndKind(l.apiVersion, l.id.Kind))
	if err := o.reader.Get(ctx, client.ObjectKey{Namespace: l.id.Namespace, Name: l.id.Name}, found); err != nil {
		return nil, err
	}
	if l.uid != "" && found.UID != l.uid {
		return nil, fmt.Errorf("%s: %w", l.id, errAnother)
	}
	return found, nil
}

// scalable says whether an object has a scale subresource.
func (o *owners) scalable(ctx context.Context, l link) bool {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(schema.FromAPIVersionAndKind(l.apiVersion, l.id.Kind))
	object.SetNamespace(l.id.Namespace)
	object.SetName(l.id.Name)
	return o.scales.Get(ctx, object, &autoscalingv1.Scale{}) == nil
}

// exists returns the metadata of what a reference names, nil if there is none, and whether its kind is known. Errors are the API
// server's.
func (o *owners) exists(ctx context.Context, namespace string, ref v1alpha1.TargetReference) (found *metav1.PartialObjectMetadata, kind bool, err error) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return nil, false, nil //nolint:nilerr // a version that cannot be parsed is one that the cluster does not have
	}
	if _, err := o.mapper.RESTMapping(schema.GroupKind{Group: gv.Group, Kind: ref.Kind}, gv.Version); err != nil {
		if meta.IsNoMatchError(err) {
			return nil, false, nil
		}
		return nil, false, fmt.Errorf("cannot find the resource of %s %s: %w", ref.APIVersion, ref.Kind, err)
	}
	found, err = o.read(ctx, link{id: idOf(namespace, ref), apiVersion: ref.APIVersion})
	switch {
	case apierrors.IsNotFound(err):
		return nil, true, nil
	case err != nil:
		return nil, true, fmt.Errorf("cannot read %s %s: %w", ref.Kind, ref.Name, err)
	}
	return found, true, nil
}
