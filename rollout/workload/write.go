package workload

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/rollout"
)

// Write writes the held fields, and the template where the patch names one, in one request which fails with ErrConflict if the
// workload is not the one that was seen. Seen is not valid afterwards.
func (c *Client) Write(ctx context.Context, seen *Seen, p rollout.Patch) error {
	u, err := seen.patched(p)
	if err != nil {
		return err
	}
	switch err := c.Writer.Update(ctx, u, client.FieldOwner(Manager)); {
	case apierrors.IsConflict(err) || apierrors.IsNotFound(err):
		return fmt.Errorf("cannot write %s: %w", seen.Ref, ErrConflict)
	case err != nil:
		return fmt.Errorf("cannot write %s: %w", seen.Ref, err)
	}
	return nil
}

// patched is the object as the patch would have it.
func (s *Seen) patched(p rollout.Patch) (*unstructured.Unstructured, error) {
	seen, ok := s.Object.(*unstructured.Unstructured)
	if !ok || seen == nil {
		return nil, fmt.Errorf("cannot write %s: it does not exist", s.Ref)
	}
	u := seen.DeepCopy()
	spec, ok := u.Object["spec"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("cannot write %s: it has no spec", s.Ref)
	}
	if err := writeFields(spec, s.Kind, p.Fields); err != nil {
		return nil, fmt.Errorf("cannot write %s: %w", s.Ref, err)
	}
	if p.Template != "" && p.Template != s.Workload.Template {
		v := s.Versions[p.Template]
		if v.raw == nil && v.Template != nil { // one that the caller remembers
			raw, err := runtime.DefaultUnstructuredConverter.ToUnstructured(v.Template)
			if err != nil {
				return nil, fmt.Errorf("cannot write %s: template %s: %w", s.Ref, p.Template, err)
			}
			v.raw = raw
		}
		if v.raw == nil {
			return nil, fmt.Errorf("cannot write %s: no ReplicaSet or ControllerRevision has template %s any more", s.Ref, p.Template)
		}
		spec["template"] = clean(v.raw)
	}
	return u, nil
}

// Unblock deletes the pods that keep a StatefulSet from being updated: with podManagementPolicy OrderedReady (the default) its
// controller waits for every pod to be Ready before it replaces any, also for one that never will be because its template is the
// broken one (kubernetes/kubernetes#67250). They are pods that are not Ready, not of the present template, and at or above the
// partition: the controller would delete them itself under podManagementPolicy Parallel. It returns the names of what it
// deleted. It is to be called at each look while an update goes forward or back; workloads of other kinds need it not.
func (c *Client) Unblock(ctx context.Context, seen *Seen) ([]string, error) {
	var names []string
	for _, p := range seen.blocking() {
		err := c.Writer.Delete(ctx, p, client.Preconditions{UID: &p.UID, ResourceVersion: &p.ResourceVersion})
		switch {
		case apierrors.IsConflict(err) || apierrors.IsNotFound(err): // it has changed: looked at again next time
		case err != nil:
			return names, fmt.Errorf("cannot delete pod %q, which %s waits for: %w", p.Name, seen.Ref, err)
		default:
			names = append(names, p.Name)
		}
	}
	return names, nil
}

// Yield deletes the Ready pod of the highest ordinal that has a template, and returns its name: "" where there is none.
func (c *Client) Yield(ctx context.Context, seen *Seen, template string) (string, error) {
	var last *corev1.Pod
	for _, p := range seen.Versions[template].Pods {
		if look(p, seen.now).ready && (last == nil || ordinal(p) > ordinal(last)) {
			last = p
		}
	}
	if last == nil {
		return "", nil
	}
	err := c.Writer.Delete(ctx, last, client.Preconditions{UID: &last.UID, ResourceVersion: &last.ResourceVersion})
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		return "", fmt.Errorf("cannot delete pod %q, whose GPU others of %s wait for: %w", last.Name, seen.Ref, err)
	}
	return last.Name, nil
}

func (s *Seen) blocking() []*corev1.Pod {
	u, ok := s.Object.(*unstructured.Unstructured)
	if !ok || u == nil || s.Kind != rollout.StatefulSet || !s.Workload.Synced || s.Workload.Fields.OnDelete || s.Workload.Fields.Recreate {
		return nil
	}
	if policy, _, _ := unstructured.NestedString(u.Object, "spec", "podManagementPolicy"); policy == string(appsv1.ParallelPodManagement) {
		return nil
	}
	start := number(u.Object, 0, "spec", "ordinals", "start")
	var out []*corev1.Pod
	for id, v := range s.Versions {
		for _, p := range v.Pods {
			at := ordinal(p) - start
			if id != s.Workload.Template && at >= max(0, s.Workload.Fields.Partition) && at < s.Workload.Replicas && !look(p, s.now).ready {
				out = append(out, p)
			}
		}
	}
	return out
}
