package rollout

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
)

// heard collects the events of a controller.
type heard struct {
	mu     sync.Mutex
	events []string
}

// listened runs a controller for the service, and collects its events.
func (s *service) listened() *heard {
	s.t.Helper()
	h, c := &heard{}, newController(s.t, s.setup())
	run(s.t, always(c))
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	s.t.Cleanup(cancel)
	go func() {
		for {
			select {
			case e := <-c.events:
				h.mu.Lock()
				h.events = append(h.events, e)
				h.mu.Unlock()
			case <-ctx.Done():
				return
			}
		}
	}()
	return h
}

// says waits until an event has all of the words.
func (h *heard) says(t *testing.T, words ...string) {
	t.Helper()
	eventually(t, func(t require.TestingT) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, e := range h.events {
			has := true
			for _, w := range words {
				has = has && strings.Contains(e, w)
			}
			if has {
				return
			}
		}
		require.Fail(t, "no such event", "%q in %q", words, h.events)
	})
}

// held is a service of four whose canary has settled: four old pods and a new one, which waits for a person.
func held(t *testing.T) (*service, *heard, *watched) {
	t.Helper()
	s := deploy(t, 4, nil)
	s.plane.demand = 30
	h := s.listened()
	s.policy(gated)
	s.inForce()
	w := s.watch()
	s.update(version{name: "v2"})
	s.settled()
	h.says(t, "WaitsForPerson") // what was written has been seen in force: what differs from then on is somebody else's
	return s, h, w
}

// apply is kubectl apply of the owner's manifest, with a version's template. It returns what kubectl says.
func (s *service) apply(version version, flags ...string) (string, error) {
	s.t.Helper()
	manifest := map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": name, "namespace": s.namespace},
		"spec": map[string]any{
			"minReadySeconds": 0,
			"strategy":        map[string]any{"type": "RollingUpdate", "rollingUpdate": map[string]any{"maxSurge": "25%", "maxUnavailable": "25%"}},
			"selector":        map[string]any{"matchLabels": map[string]any{"app": name}}, "template": s.template(version),
		},
	}
	raw, err := yaml.Marshal(manifest)
	require.NoError(s.t, err)
	path := filepath.Join(s.t.TempDir(), "manifest.yaml")
	require.NoError(s.t, os.WriteFile(path, raw, 0o600))
	out, err := shared.Cluster().Run(s.t.Context(), append([]string{"apply", "-f", path}, flags...)...)
	return fmt.Sprint(out), err
}

// scale writes spec.replicas.
func (s *service) scale(n int) {
	s.t.Helper()
	o := s.object(rollout.Deployment)
	require.NoError(s.t, s.api.Patch(s.t.Context(), o, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, n))))
}

// promoted passes the step by hand, and waits for the end of the update.
func (s *service) promoted(id, version string, n int) {
	s.t.Helper()
	s.command(id, "Promote")
	s.completed(version)
	s.serves(version, n)
}

// A manifest that is applied again in mid-update, at rest, costs no pod and promotes nothing: the fields are put back, and the writer
// is named. The original one, with the old template, ends the update.
func TestRolloutManifestIsAppliedAgain(t *testing.T) {
	s, h, w := held(t)
	out, err := s.apply(version{name: "v2"}, "--server-side", "--field-manager=gitops")
	require.Error(t, err, out)
	require.Contains(t, err.Error(), "conflict")
	_, err = s.apply(version{name: "v2"}, "--server-side", "--field-manager=gitops", "--force-conflicts")
	require.NoError(t, err)
	h.says(t, "ForeignWrite", "maxUnavailable: 25% instead of 0", "gitops")
	s.settled()
	w.check(t, 4, map[string]int{"v2": 2}) // the manifest's maxSurge may have added one
	_, err = s.apply(version{name: "v1"}, "--server-side", "--field-manager=gitops", "--force-conflicts")
	require.NoError(t, err)
	h.says(t, "Undone", "gitops")
	s.serves("v1", 4)
	w.check(t, 4, map[string]int{"v2": 2})
	s.remove()
	s.traceless()
}

// A third template replaces the one that is rolled out, or waits for it, as told.
func TestRolloutTemplateChangesUnderWay(t *testing.T) {
	s, h, w := held(t)
	s.update(version{name: "v3"})
	h.says(t, "Restarted", "a-person")
	ctx := t.Context()
	eventually(t, func(t require.TestingT) { require.Equal(t, map[string]int{"v1": 4, "v3": 1}, s.counts(ctx, t)) })
	s.settled()
	w.check(t, 4, map[string]int{"v2": 1, "v3": 1})
	s.edit(`{"spec":{"onNewTemplate":"Queue"}}`)
	s.update(version{name: "v4"})
	h.says(t, "Queued", "a-person")
	w.check(t, 4, map[string]int{"v3": 1, "v4": 0})
	s.command("1", "Promote")
	h.says(t, "Completed")
	eventually(t, func(t require.TestingT) { require.Equal(t, map[string]int{"v3": 4, "v4": 1}, s.counts(ctx, t)) })
	s.settled()
	w.check(t, 3, map[string]int{"v4": 1}) // what demand needs, while v3 was finished
	s.promoted("2", "v4", 4)
	s.remove()
	s.traceless()
}

// A deep scale-down, and one to nothing, after which Kubernetes would promote the new version, end the update.
func TestRolloutIsScaledDownUnderWay(t *testing.T) {
	for _, to := range []int{1, 0} {
		s, h, w := held(t)
		s.scale(to)
		h.says(t, "ScaledDown", fmt.Sprintf("from 4 to %d replicas", to))
		s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
			require.Equal(t, "Resting", p.Status.Phase, "%s", told(p))
		})
		s.scale(4)
		s.serves("v1", 4)
		if to > 0 {
			w.check(t, 1, map[string]int{"v2": 1})
		}
		s.remove()
		s.traceless()
		s.leave()
	}
}

// An HPA that acts in mid-update is followed up and down, and its minimum is its owner's in the end. One that wants more than fits
// gets what there is: the new version gives its GPU back.
func TestRolloutAutoscalerActsUnderWay(t *testing.T) {
	s, h, w := held(t)
	hpa := s.scaled()
	limits := func(low, high int32) {
		t.Helper()
		eventually(t, func(t require.TestingT) {
			require.NoError(t, s.api.Get(s.t.Context(), client.ObjectKeyFromObject(hpa), hpa))
			hpa.Spec.MinReplicas, hpa.Spec.MaxReplicas = new(low), high
			require.NoError(t, s.api.Update(s.t.Context(), hpa))
		})
	}
	ctx := t.Context()
	limits(6, 8)
	h.says(t, "Scaled", "from 4 to 6 replicas")
	eventually(t, func(t require.TestingT) { require.Equal(t, map[string]int{"v1": 6, "v2": 1}, s.counts(ctx, t)) })
	limits(1, 4)
	h.says(t, "Scaled", "from 6 to 4 replicas")
	eventually(t, func(t require.TestingT) { require.Equal(t, map[string]int{"v1": 4, "v2": 1}, s.counts(ctx, t)) })
	w.check(t, 4, map[string]int{"v2": 1})
	limits(10, 12)
	h.says(t, "LiveLoad")
	s.serves("v1", 8)
	w.check(t, 4, map[string]int{"v2": 1})
	limits(1, 4)
	s.serves("v1", 4)
	require.NoError(t, s.api.Delete(ctx, &v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}))
	eventually(t, func(t require.TestingT) {
		var p v1alpha1.RolloutPolicy
		require.Error(t, s.api.Get(ctx, key(s.namespace, name), &p))
		var left autoscalingv2.HorizontalPodAutoscaler
		require.NoError(t, s.api.Get(ctx, client.ObjectKeyFromObject(hpa), &left))
		require.Equal(t, int32(1), *left.Spec.MinReplicas)
	})
	s.traceless()
	require.Equal(t, s.wrote, s.spec())
}

// The API server is gone for a while in mid-update: whoever writes then fails, and all goes on afterwards.
func TestRolloutWithoutAPIServer(t *testing.T) {
	heavy(t)
	s, _, w := held(t)
	require.NoError(t, shared.StopComponent("kube-apiserver"))
	require.NoError(t, shared.StartComponent(t.Context(), "kube-apiserver"))
	s.settled()
	w.check(t, 4, map[string]int{"v2": 1})
	s.command("1", "Promote")
	require.NoError(t, shared.StopComponent("kube-apiserver"))
	require.NoError(t, shared.StartComponent(t.Context(), "kube-apiserver"))
	s.completed("v2")
	s.serves("v2", 4)
	w.check(t, 3, nil) // demand needs three
	s.remove()
	s.traceless()
}
