package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/workload"
)

// workloads reads and writes in a namespace of its own.
type workloads struct {
	*testing.T

	namespace string
	client    *workload.Client
}

func newWorkloads(t *testing.T) *workloads {
	t.Helper()
	log.SetLogger(logr.Discard()) // or controller-runtime complains that nobody has
	api, err := client.New(shared.Config, client.Options{})
	require.NoError(t, err)
	return &workloads{t, shared.namespace(t), &workload.Client{Reader: api, Writer: api, Now: time.Now}}
}

// apply is kubectl apply of a workload called name.
func (w *workloads) apply(kind, name, spec, version, simulate string) {
	w.Helper()
	manifest := fmt.Sprintf(`apiVersion: apps/v1
kind: %s
metadata: {name: %s}
spec:
  selector: {matchLabels: {name: %s}}
  template:
    metadata:
      labels: {name: %s}
      annotations: {headroom.dev/simulate: "{startup: 0s%s}", headroom.dev/change-reason: as %s}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: server
        image: registry.example/chat:%s
        command: [vllm, serve, org/chat-%s]
        ports: [{name: http, containerPort: 8000}]
        readinessProbe: {periodSeconds: 1, httpGet: {path: /health, port: http}}
        volumeMounts: [{name: cache, mountPath: /cache}]
      volumes: [{name: cache, emptyDir: {}}]
`, kind, name, name, name, simulate, version, version, version)
	for line := range strings.Lines(spec) {
		manifest += "  " + line
	}
	path := filepath.Join(w.TempDir(), "workload.yaml")
	require.NoError(w, os.WriteFile(path, []byte(manifest), 0o600))
	_, err := shared.kubectl(w.T, "apply", "-n", w.namespace, "-f", path)
	require.NoError(w, err)
}

func (w *workloads) read(kind, name string) *workload.Seen {
	w.Helper()
	s, err := w.client.Read(w.Context(), workload.Ref{NamespacedName: types.NamespacedName{Namespace: w.namespace, Name: name}, Kind: rollout.Kind(kind)})
	require.NoError(w, err)
	require.NotNil(w, s.Object)
	return s
}

func (w *workloads) write(kind, name string, p rollout.Patch) {
	w.Helper()
	eventually(w.T, 10*time.Second, func(t require.TestingT) { // the controllers write its status
		require.NoError(t, w.client.Write(w.Context(), w.read(kind, name), p))
	})
}

// specOf is an object's spec to the byte.
func specOf(t *testing.T, s *workload.Seen) string {
	t.Helper()
	raw, err := json.Marshal(s.Object.(*unstructured.Unstructured).Object["spec"])
	require.NoError(t, err)
	return string(raw)
}

// TestWorkloadFields lets a hold take and give back the fields of workloads as people write them, byte for byte.
func TestWorkloadFields(t *testing.T) {
	t.Parallel()
	w := newWorkloads(t)
	nobody := "replicas: 0\n"
	for i, c := range []struct {
		kind, spec string
		read, held rollout.Fields
	}{
		{"Deployment", nobody, rollout.Fields{ProgressDeadline: 600, Surge: "25%", Unavailable: "25%"}, hold("1", "0")},
		{"Deployment", nobody + "minReadySeconds: 10\nprogressDeadlineSeconds: 300\npaused: true\nstrategy: {rollingUpdate: {maxSurge: 2}}", rollout.Fields{Paused: true, MinReadySeconds: 10, ProgressDeadline: 300, Surge: "2", Unavailable: "25%"}, hold("3", "2")},
		{"Deployment", nobody + "strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 100%, maxUnavailable: 0}}", rollout.Fields{ProgressDeadline: 600, Surge: "100%", Unavailable: "0"}, rollout.Fields{ProgressDeadline: rollout.NoDeadline, Recreate: true}},
		{"Deployment", nobody + "strategy: {type: Recreate}", rollout.Fields{ProgressDeadline: 600, Recreate: true}, hold("1", "1")},
		{"StatefulSet", nobody + "serviceName: x", rollout.Fields{}, rollout.Fields{Partition: 2147483647}},
		{"StatefulSet", nobody + "serviceName: x\nupdateStrategy: {type: RollingUpdate}", rollout.Fields{Partition: -1}, rollout.Fields{Partition: 3}},
		{"StatefulSet", nobody + "serviceName: x\nupdateStrategy: {rollingUpdate: {partition: 2, maxUnavailable: 50%}}", rollout.Fields{Partition: 2}, rollout.Fields{Partition: 0}},
		{"StatefulSet", nobody + "serviceName: x\nupdateStrategy: {type: OnDelete}", rollout.Fields{OnDelete: true, Partition: -1}, rollout.Fields{Partition: 1}},
		{"DaemonSet", "", rollout.Fields{Surge: "0", Unavailable: "1"}, rollout.Fields{Surge: "0", Unavailable: "1", OnDelete: true}},
		{"DaemonSet", "updateStrategy: {rollingUpdate: {maxSurge: 10%, maxUnavailable: 0}}", rollout.Fields{Surge: "10%", Unavailable: "0"}, rollout.Fields{Surge: "0", Unavailable: "2"}},
		{"DaemonSet", "updateStrategy: {type: OnDelete}", rollout.Fields{OnDelete: true}, rollout.Fields{Surge: "0", Unavailable: "1"}},
	} {
		name := fmt.Sprintf("w%d", i)
		w.apply(c.kind, name, c.spec, "v1", "")
		seen := w.read(c.kind, name)
		require.Equal(t, c.read, seen.Workload.Fields, "%s %s", c.kind, c.spec)
		assert.Equal(t, "kubectl-client-side-apply", seen.Workload.Writers["template"])
		before := specOf(t, seen)

		w.write(c.kind, name, rollout.Patch{Fields: c.held})
		held := w.read(c.kind, name)
		require.Equal(t, c.held, held.Workload.Fields, "%s %s", c.kind, c.spec)
		assert.NotEqual(t, before, specOf(t, held))
		assert.Equal(t, seen.Workload.Template, held.Workload.Template)
		for field, writer := range held.Workload.Writers {
			if field != "template" && changed(c.read, c.held, field) && writer != "unknown" {
				t.Errorf("%s %s: %s is said to be written by %s", c.kind, c.spec, field, writer)
			}
		}
		require.ErrorIs(t, w.client.Write(t.Context(), seen, rollout.Patch{Fields: c.read}), workload.ErrConflict)

		w.write(c.kind, name, rollout.Patch{Fields: c.read})
		assert.Equal(t, before, specOf(t, w.read(c.kind, name)), "%s %s", c.kind, c.spec)
	}
	gone, err := w.client.Read(t.Context(), workload.Ref{NamespacedName: types.NamespacedName{Namespace: w.namespace, Name: "none"}, Kind: rollout.Deployment})
	require.NoError(t, err)
	assert.Nil(t, gone.Workload)
}

func hold(surge, unavailable string) rollout.Fields {
	return rollout.Fields{MinReadySeconds: rollout.HoldSeconds, ProgressDeadline: rollout.NoDeadline, Surge: surge, Unavailable: unavailable}
}

// changed says whether a field, by its JSON name, is another.
func changed(a, b rollout.Fields, field string) bool {
	of := func(f rollout.Fields) any {
		raw, _ := json.Marshal(f) // a struct of plain values
		var m map[string]any
		_ = json.Unmarshal(raw, &m) // what was just encoded
		return m[field]
	}
	return of(a) != of(b)
}

// TestWorkloadRollout takes a Deployment and a StatefulSet through a whole rollout by rollout.Next, and back from a version that
// never is Ready, and looks at the versions on the way.
func TestWorkloadRollout(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"Deployment", "StatefulSet", "DaemonSet"} {
		t.Run(kind, func(t *testing.T) { t.Parallel(); rollOut(t, kind) })
	}
}

func rollOut(t *testing.T, kind string) {
	t.Helper()
	w := newWorkloads(t)
	spec := map[string]string{"Deployment": "replicas: 2\nstrategy: {type: Recreate}", "StatefulSet": "replicas: 2\nserviceName: x\n", "DaemonSet": ""}[kind]
	w.apply(kind, "chat", spec, "v1", "")
	d := &driven{workloads: w, kind: kind}
	d.until(func(s *workload.Seen) bool {
		return d.state.Phase == rollout.Resting && s.Core()[s.Workload.Template].Ready == s.Workload.Replicas && s.Workload.Replicas > 1
	})
	first := d.seen
	v1 := first.Versions[first.Workload.Template]
	assert.Equal(t, "org/chat-v1", v1.Describe().Model)
	assert.Equal(t, "as v1", v1.Describe().Reason)
	assert.Equal(t, map[string]string{"server": "registry.example/chat:v1"}, v1.Describe().Images)
	assert.Equal(t, int64(1), v1.Revision)
	assert.True(t, strings.HasPrefix(v1.Name(), "revision 1 ("), v1.Name())
	took, known := first.StartUp()
	assert.True(t, known)
	assert.Less(t, took.P90, time.Minute)
	assert.Equal(t, time.Second, first.Drain().P90)
	original, held := d.state.Original, specOf(t, first)

	// A version that never is Ready: back to the first, to the byte.
	w.apply(kind, "chat", spec, "v2", ", faultHealth: true")
	d.until(func(s *workload.Seen) bool {
		return d.state.Phase == rollout.Moving && s.Workload.Template == d.state.To && s.Core()[d.state.To].Loading > 0
	})
	v2 := d.seen.Versions[d.state.To]
	assert.NotEqual(t, v1.ID, v2.ID)
	assert.Equal(t, "as v2", v2.Describe().Reason)
	d.command = rollout.Command{ID: "1", Kind: rollout.Abort, By: "a person"}
	d.until(func(s *workload.Seen) bool {
		return d.state.Phase == rollout.Resting && s.Core()[v1.ID].Ready == s.Workload.Replicas
	})
	assert.Equal(t, v1.ID, d.seen.Workload.Template)
	assert.Equal(t, held, specOf(t, d.seen))
	// Only a StatefulSet waits for its broken pods for ever (kubernetes/kubernetes#67250).
	assert.Equal(t, kind == "StatefulSet", len(d.unblocked) > 0, "%v", d.unblocked)

	// A good one, and the policy goes.
	w.apply(kind, "chat", spec, "v3", "")
	d.until(func(s *workload.Seen) bool {
		return d.state.Phase == rollout.Resting && d.state.From == s.Workload.Template && s.Workload.Template != v1.ID
	})
	assert.Equal(t, v1.ID, d.state.Previous)
	d.release = true
	d.until(func(*workload.Seen) bool { return d.state.Phase == rollout.Released })
	assert.Equal(t, original, d.seen.Workload.Fields)
	w.apply(kind, "fresh", spec, "v3", "")
	assert.Equal(t, strings.ReplaceAll(specOf(t, w.read(kind, "fresh")), `"fresh"`, `"chat"`), specOf(t, d.seen), "what the owner wrote, to the byte")
}

// driven is a rollout that Next takes on.
type driven struct {
	*workloads

	kind    string
	state   rollout.State
	stable  string
	command rollout.Command
	release bool
	seen    *workload.Seen
	// unblocked are the pods that were deleted.
	unblocked []string
}

// until takes the rollout on until something is seen.
func (d *driven) until(reached func(*workload.Seen) bool) {
	d.Helper()
	eventually(d.T, 90*time.Second, func(t require.TestingT) {
		d.seen = d.read(d.kind, "chat")
		d.once(t)
		require.True(t, reached(d.seen), "%s: %s %s; %+v", d.state.Phase, d.state.Reason, d.state.Message, d.seen.Core())
	})
}

func (d *driven) once(t require.TestingT) {
	names, err := d.client.Unblock(d.Context(), d.seen)
	require.NoError(t, err)
	d.unblocked = append(d.unblocked, names...)
	r := rollout.Request{
		Now:     time.Now(),
		Service: rollout.Service{Kind: rollout.Kind(d.kind), Replicas: d.seen.Workload.Replicas, GPUs: 1, Capacity: 10, StartUp: rollout.Span{P50: time.Second, P90: time.Second}},
		Demand:  rollout.Forecast{Points: []rollout.Point{{Value: 1}}},
		Sources: []rollout.Source{{Kind: rollout.Free, Replicas: 1}, {Kind: rollout.Spare}},
	}
	state, actions := rollout.Next(d.state, r, rollout.Observation{
		Workload: d.seen.Workload, Versions: d.seen.Core(), Stable: d.stable, Command: d.command, Release: d.release,
	})
	d.state = state
	for _, a := range actions {
		switch a := a.(type) {
		case rollout.Patch:
			require.NoError(t, d.client.Write(d.Context(), d.seen, a))
		case rollout.Finish:
			d.stable = a.Stable
		case rollout.Clean:
			d.stable = ""
		}
	}
}
