package kube

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// chains is an API server that has the objects of a scenario, and counts what it is asked.
type chains struct {
	client.Reader
	client.SubResourceReader
	objects map[string]*metav1.PartialObjectMetadata // by kind/name
	denied  map[string]bool
	scaled  map[string]bool
	asked   []string
}

func (c *chains) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	name := object.GetObjectKind().GroupVersionKind().Kind + "/" + key.Name
	c.asked = append(c.asked, name)
	resource := schema.GroupResource{Resource: strings.ToLower(object.GetObjectKind().GroupVersionKind().Kind)}
	switch found := c.objects[name]; {
	case c.denied[name]:
		return apierrors.NewForbidden(resource, key.Name, nil)
	case found == nil:
		return apierrors.NewNotFound(resource, key.Name)
	default:
		found.DeepCopyInto(object.(*metav1.PartialObjectMetadata))
	}
	return nil
}

// scales reads scale subresources.
type scales struct{ *chains }

func (s scales) Get(_ context.Context, object, _ client.Object, _ ...client.SubResourceGetOption) error {
	u := object.(*unstructured.Unstructured)
	if !s.scaled[u.GetKind()+"/"+u.GetName()] {
		return apierrors.NewNotFound(schema.GroupResource{}, u.GetName())
	}
	return nil
}

// groups are the API versions of the kinds in scenarios.
var groups = map[string]string{
	"Deployment": "apps/v1", "ReplicaSet": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1", "Job": "batch/v1", "CronJob": "batch/v1",
	"LeaderWorkerSet": "leaderworkerset.x-k8s.io/v1", "Pod": "v1", "Node": "v1",
}

func apiVersionOf(kind string) string {
	if v, ok := groups[kind]; ok {
		return v
	}
	return "example.com/v1"
}

// TestOwners has one scenario a block. A line of the input is an object and its controller,
//
//	ReplicaSet/web-v1 < Deployment/web
//
// with "denied" behind it if the controller may not read the object, "scaled" if it has a scale subresource, "other" if the object
// of that name is not the one that is meant. The first line is the pod, with hash=… for its label pod-template-hash. The output is
// the workload, what the API server was asked, and whether to look again.
func TestOwners(t *testing.T) {
	datadriven.RunTest(t, "testdata/owners", func(t *testing.T, d *datadriven.TestData) string {
		c := &chains{objects: map[string]*metav1.PartialObjectMetadata{}, denied: map[string]bool{}, scaled: map[string]bool{}}
		var pod *corev1.Pod
		for line := range strings.SplitSeq(strings.TrimSpace(d.Input), "\n") {
			words := strings.Fields(line)
			kind, name, _ := strings.Cut(words[0], "/")
			m := metav1.ObjectMeta{Namespace: "prod", Name: name, UID: types.UID(words[0])}
			for i, word := range words[1:] {
				switch {
				case word == "<":
					k, n, _ := strings.Cut(words[i+2], "/")
					m.OwnerReferences = []metav1.OwnerReference{{APIVersion: apiVersionOf(k), Kind: k, Name: n, UID: types.UID(words[i+2]), Controller: new(true)}}
				case word == "denied":
					c.denied[words[0]] = true
				case word == "scaled":
					c.scaled[words[0]] = true
				case word == "other":
					m.UID = "other"
				case strings.HasPrefix(word, "hash="):
					m.Labels = map[string]string{templateHash: word[len("hash="):]}
				}
			}
			if pod == nil {
				pod = &corev1.Pod{ObjectMeta: m}
				if kind == "Pod" {
					continue
				}
			}
			c.objects[words[0]] = &metav1.PartialObjectMetadata{ObjectMeta: m}
		}
		if controllerOf(pod) == nil {
			return "no workload\n"
		}
		o := owners{reader: c, scales: scales{c}}
		got := o.climb(t.Context(), pod, noon)
		out := fmt.Sprintf("%s %s uid=%s\nasked: %s\n", got.top.apiVersion, got.top.id, got.top.uid, strings.Join(c.asked, " "))
		if !got.again.IsZero() {
			out += fmt.Sprintf("again in %s\n", got.again.Sub(noon))
		}
		return out
	})
}

// TestOwnersAreAskedOnce reads a chain once, however many pods and passes there are.
func TestOwnersAreAskedOnce(t *testing.T) {
	w := newWorld(t, deployment("web"), &appsv1.ReplicaSet{ObjectMeta: named("ReplicaSet", "web-v1", owner("apps/v1", "Deployment", "web"))},
		podOf("web", "web-v1-a"), podOf("web", "web-v1-b"), recommendationFor("rec", "Deployment", "web"))
	w.passes(3)
	require.Equal(t, 1, w.reads["web"], "the Deployment")
	require.Zero(t, w.reads["web-v1"], "the ReplicaSet is named by the pod's hash")
	require.EqualValues(t, 2, *w.rr("rec").Status.Replicas)
}

func notThere(name string) error { return apierrors.NewNotFound(schema.GroupResource{}, name) }
