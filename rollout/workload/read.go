package workload

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/rollout"
)

// revisionAnnotation is where the Deployment controller counts a ReplicaSet's revision.
const revisionAnnotation = "deployment.kubernetes.io/revision"

// Read returns a workload as it is now. One that does not exist is no error.
//
// The workload is read before its ReplicaSets and they before their pods, so that where a controller says that it has seen a
// generation, what it did about it is seen as well.
func (c *Client) Read(ctx context.Context, ref Ref) (*Seen, error) {
	if ref.Kind == "" {
		ref.Kind = rollout.Deployment
	}
	if ref.Kind != rollout.Deployment && ref.Kind != rollout.StatefulSet && ref.Kind != rollout.DaemonSet {
		return nil, fmt.Errorf("cannot read %s: not a kind that is rolled out", ref)
	}
	s := &Seen{Ref: ref}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind(string(ref.Kind)))
	switch err := c.Reader.Get(ctx, ref.NamespacedName, u); {
	case apierrors.IsNotFound(err) || err == nil && u.GetDeletionTimestamp() != nil:
		return s, nil
	case err != nil:
		return nil, fmt.Errorf("cannot read %s: %w", ref, err)
	}
	selector, err := selectorOf(u)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", ref, err)
	}
	owned, err := c.owned(ctx, u, ref.Kind, selector)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", ref, err)
	}
	var pods corev1.PodList
	if err := c.Reader.List(ctx, &pods, client.InNamespace(ref.Namespace), client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return nil, fmt.Errorf("cannot read the pods of %s: %w", ref, err)
	}
	s.now = c.Now()
	if err := s.fill(u, owned, pods.Items); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", ref, err)
	}
	return s, nil
}

func selectorOf(u *unstructured.Unstructured) (labels.Selector, error) {
	raw, _, _ := unstructured.NestedMap(u.Object, "spec", "selector")
	var s metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &s); err != nil {
		return nil, fmt.Errorf("spec.selector: %w", err)
	}
	selector, err := metav1.LabelSelectorAsSelector(&s)
	if err != nil {
		return nil, fmt.Errorf("spec.selector: %w", err)
	}
	return selector, nil
}

// owned returns the ReplicaSets or ControllerRevisions that a workload controls.
func (c *Client) owned(ctx context.Context, u *unstructured.Unstructured, kind rollout.Kind, selector labels.Selector) ([]unstructured.Unstructured, error) {
	what := "ControllerRevision"
	if kind == rollout.Deployment {
		what = "ReplicaSet"
	}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind(what + "List"))
	if err := c.Reader.List(ctx, list, client.InNamespace(u.GetNamespace()), client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return nil, fmt.Errorf("its %ss: %w", what, err)
	}
	var out []unstructured.Unstructured
	for i := range list.Items {
		if controlledBy(&list.Items[i], u.GetUID()) {
			out = append(out, list.Items[i])
		}
	}
	return out, nil
}

func controlledBy(o metav1.Object, uid types.UID) bool {
	ref := metav1.GetControllerOfNoCopy(o)
	return ref != nil && ref.UID == uid
}

// fill makes of the objects what rollout sees.
func (s *Seen) fill(u *unstructured.Unstructured, owned []unstructured.Unstructured, pods []corev1.Pod) error {
	spec, _, _ := unstructured.NestedMap(u.Object, "spec")
	raw, _, _ := unstructured.NestedMap(spec, "template")
	template, err := typed(raw)
	if err != nil {
		return err
	}
	s.Object, s.Template = u, template
	s.Selector, _, _ = unstructured.NestedStringMap(spec, "selector", "matchLabels")
	s.Workload = &rollout.Workload{
		UID: string(u.GetUID()), Template: identify(raw), Fields: readFields(spec, s.Kind), Writers: writers(u.GetManagedFields(), s.Kind),
		Replicas: number(spec, 1, "replicas"),
		Synced:   number(u.Object, 0, "status", "observedGeneration") >= int(u.GetGeneration()),
	}
	if s.Kind == rollout.DaemonSet {
		s.Workload.Replicas = number(u.Object, 0, "status", "desiredNumberScheduled")
	}
	s.Versions = map[string]Version{}
	held := holders(s.Kind, owned)
	for _, h := range held {
		s.add(h)
	}
	if _, ok := s.Versions[s.Workload.Template]; !ok {
		s.Versions[s.Workload.Template] = Version{ID: s.Workload.Template, Template: template, raw: raw, annotations: u.GetAnnotations()}
	}
	s.count(u, held, pods)
	return nil
}

// holder is a ReplicaSet or a ControllerRevision.
type holder struct {
	Version

	uid      types.UID
	name     string
	replicas int // a ReplicaSet's spec.replicas
}

// holders decodes what holds templates, in the order in which a controller prefers them where two have the same: the oldest
// ReplicaSet, the newest ControllerRevision. One whose template cannot be decoded is left out: nothing can be said of its pods.
func holders(kind rollout.Kind, owned []unstructured.Unstructured) []holder {
	var out []holder
	for i := range owned {
		o := &owned[i]
		h := holder{uid: o.GetUID(), name: o.GetName()}
		h.Created, h.annotations = o.GetCreationTimestamp().Time, o.GetAnnotations()
		var raw map[string]any
		if kind == rollout.Deployment {
			raw, _, _ = unstructured.NestedMap(o.Object, "spec", "template")
			h.Hash = o.GetLabels()[appsv1.DefaultDeploymentUniqueLabelKey]
			h.Revision, _ = strconv.ParseInt(o.GetAnnotations()[revisionAnnotation], 10, 64)
			h.replicas = number(o.Object, 1, "spec", "replicas")
		} else {
			raw = revisionTemplate(o.Object)
			h.Hash = o.GetName()
			if kind == rollout.DaemonSet {
				h.Hash = o.GetLabels()[appsv1.ControllerRevisionHashLabelKey]
			}
			h.Revision = int64(number(o.Object, 0, "revision"))
		}
		template, err := typed(clean(raw))
		if raw == nil || err != nil {
			continue
		}
		h.ID, h.raw, h.Template = identify(raw), raw, template
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b holder) int {
		if kind == rollout.Deployment {
			return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.name, b.name))
		}
		return cmp.Or(cmp.Compare(b.Revision, a.Revision), cmp.Compare(a.name, b.name))
	})
	return out
}

// revisionTemplate is the pod template of a ControllerRevision; nil where its data are no such thing.
func revisionTemplate(revision map[string]any) map[string]any {
	raw, _, err := unstructured.NestedMap(revision, "data", "spec", "template")
	if err != nil {
		return nil
	}
	return raw
}

// add adds a version; of those with the same template the first one counts.
func (s *Seen) add(h holder) {
	v, ok := s.Versions[h.ID]
	if !ok {
		v = h.Version
	}
	v.Counts.Replicas += h.replicas
	s.Versions[h.ID] = v
}

// count shares the pods out to their versions.
func (s *Seen) count(u *unstructured.Unstructured, held []holder, pods []corev1.Pod) {
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	ended := map[string][]*corev1.Pod{}
	for i := range pods {
		p := &pods[i]
		id := versionOf(p, s.Kind, u.GetUID(), held)
		if id == "" || p.DeletionTimestamp != nil {
			continue
		}
		v, ok := s.Versions[id]
		if !ok {
			v = Version{ID: id, Hash: id, Template: &corev1.PodTemplateSpec{}}
		}
		if p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
			ended[id] = append(ended[id], p)
		} else {
			v.Pods = append(v.Pods, p)
		}
		s.Versions[id] = v
	}
	for id, v := range s.Versions {
		replicas := v.Counts.Replicas
		v.Counts = count(v.Pods, ended[id], s.Kind == rollout.Deployment, s.now)
		if s.Kind == rollout.Deployment {
			v.Counts.Replicas = replicas
		}
		s.Versions[id] = v
	}
	s.fillMissing(u, held)
}

// versionOf is the ID of a pod's version, "" where the workload does not control it.
func versionOf(p *corev1.Pod, kind rollout.Kind, uid types.UID, held []holder) string {
	ref := metav1.GetControllerOfNoCopy(p)
	if ref == nil {
		return ""
	}
	hash := p.Labels[appsv1.ControllerRevisionHashLabelKey]
	for _, h := range held {
		if kind == rollout.Deployment && ref.UID == h.uid || kind != rollout.Deployment && ref.UID == uid && hash == h.Hash {
			return h.ID
		}
	}
	if kind != rollout.Deployment && ref.UID == uid {
		return hash
	}
	return ""
}

// fillMissing counts the pods that a StatefulSet or a DaemonSet is to have and has not, in the version in which they will be made:
// like a ReplicaSet's spec.replicas, the number of a version's replicas does not change when a pod is evicted.
func (s *Seen) fillMissing(u *unstructured.Unstructured, held []holder) {
	add := func(id string, n int) {
		if v, ok := s.Versions[id]; ok && n > 0 {
			v.Counts.Replicas += n
			s.Versions[id] = v
		}
	}
	switch s.Kind {
	case rollout.Deployment:
	case rollout.DaemonSet:
		n := s.Workload.Replicas
		for _, v := range s.Versions {
			n -= v.Counts.Replicas
		}
		add(s.Workload.Template, n)
	case rollout.StatefulSet:
		current, _, _ := unstructured.NestedString(u.Object, "status", "currentRevision")
		old := s.Workload.Template
		for _, h := range held {
			if h.Hash == current {
				old = h.ID
			}
		}
		there := map[int]bool{}
		for _, v := range s.Versions {
			for _, p := range v.Pods {
				there[ordinal(p)] = true
			}
		}
		start := number(u.Object, 0, "spec", "ordinals", "start")
		for i := range s.Workload.Replicas {
			switch {
			case there[start+i]:
			case i < s.Workload.Fields.Partition:
				add(old, 1)
			default:
				add(s.Workload.Template, 1)
			}
		}
	}
}

// ordinal is a StatefulSet's pod's, -1 where its name has none.
func ordinal(p *corev1.Pod) int {
	n, err := strconv.Atoi(p.Name[strings.LastIndexByte(p.Name, '-')+1:])
	if err != nil {
		return -1
	}
	return n
}

func since(now, t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return max(0, now.Sub(t))
}
