package workload

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/rollout"
)

// decode reads YAML documents.
func decode(t *testing.T, text string) []unstructured.Unstructured {
	t.Helper()
	var out []unstructured.Unstructured
	for doc := range strings.SplitSeq(text, "\n---\n") {
		raw, err := yaml.YAMLToJSON([]byte(doc))
		require.NoError(t, err)
		var u unstructured.Unstructured
		require.NoError(t, u.UnmarshalJSON(raw), doc)
		out = append(out, u)
	}
	return out
}

// seenOf is what is seen of objects: a workload first, then what it and others own.
func seenOf(t *testing.T, objects []unstructured.Unstructured, now time.Time) *Seen {
	t.Helper()
	u := &objects[0]
	s := &Seen{Ref: Ref{Kind: rollout.Kind(u.GetKind())}, now: now}
	s.Namespace, s.Name = u.GetNamespace(), u.GetName()
	var owned []unstructured.Unstructured
	var pods []corev1.Pod
	for i := range objects[1:] {
		o := &objects[1+i]
		switch {
		case o.GetKind() == "Pod":
			var p corev1.Pod
			require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &p))
			pods = append(pods, p)
		case controlledBy(o, u.GetUID()):
			owned = append(owned, *o)
		}
	}
	require.NoError(t, s.fill(u, owned, pods))
	return s
}

// TestObjects reads the objects of testdata. The commands:
//
//	read [now=HH:MM:SS]   the input is a workload, then its ReplicaSets or ControllerRevisions and pods, as YAML documents; they
//	                      replace those read before, or, with more, are added to them. It prints what was seen of them, with
//	                      v1, v2 … for IDs in the order of revisions.
//	write template=v1     the input is the Fields as YAML; it prints the spec without what has not changed
//	blocking              names the pods that Unblock would delete
//
// A pod may be written short: "pod NAME OWNER HASH [key=value …]" with node=, age= (since its creation), ready= (for how long),
// unready=, unschedulable=MESSAGE, waiting=REASON, restarts=N, exit=CODE, run= (began so long ago), phase=, deleted.
func TestObjects(t *testing.T) {
	datadriven.Walk(t, "testdata/objects", func(t *testing.T, path string) {
		p := &reader{now: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "read":
				return p.read(t, d)
			case "write":
				return p.write(t, d)
			case "blocking":
				var names []string
				for _, pod := range p.seen.blocking() {
					names = append(names, pod.Name)
				}
				slices.Sort(names)
				return strings.Join(names, " ") + "\n"
			}
			t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
			return ""
		})
	})
}

type reader struct {
	objects []unstructured.Unstructured
	now     time.Time
	seen    *Seen
	names   map[string]string
}

func (p *reader) read(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	if !d.HasArg("more") {
		p.objects = nil
	}
	var long []string
	for doc := range strings.SplitSeq(d.Input, "\n---\n") {
		if !strings.HasPrefix(doc, "pod ") {
			long = append(long, doc)
			continue
		}
		if len(long) > 0 {
			p.objects = append(p.objects, decode(t, strings.Join(long, "\n---\n"))...)
			long = nil
		}
		for line := range strings.Lines(doc) {
			p.objects = append(p.objects, p.pod(t, strings.Fields(line)))
		}
	}
	if len(long) > 0 {
		p.objects = append(p.objects, decode(t, strings.Join(long, "\n---\n"))...)
	}
	p.seen = seenOf(t, p.objects, p.now)
	ids := slices.SortedFunc(maps.Keys(p.seen.Versions), func(a, b string) int {
		v, w := p.seen.Versions[a], p.seen.Versions[b]
		if v.Revision == 0 || w.Revision == 0 {
			return int(w.Revision - v.Revision) // what is new comes last
		}
		return int(v.Revision - w.Revision)
	})
	p.names = map[string]string{}
	for i, id := range ids {
		p.names[id] = fmt.Sprintf("v%d", i+1)
	}
	w := p.seen.Workload
	var b strings.Builder
	fmt.Fprintf(&b, "%d replicas of %s, synced %v, fields %s\n", w.Replicas, p.names[w.Template], w.Synced, encode(t, w.Fields))
	for _, field := range slices.Sorted(maps.Keys(w.Writers)) {
		fmt.Fprintf(&b, "  %s by %s\n", field, w.Writers[field])
	}
	for _, id := range ids {
		v := p.seen.Versions[id]
		fmt.Fprintf(&b, "%s: %s, %d pods, %s\n", p.names[id], strings.ReplaceAll(v.Name(), id, "ID"), len(v.Pods), encode(t, v.Counts))
		if said := v.Describe(); d.HasArg("describe") {
			fmt.Fprintf(&b, "  %v model %q reason %q\n", said.Images, said.Model, said.Reason)
		}
	}
	if took, ok := p.seen.StartUp(); ok {
		fmt.Fprintf(&b, "start-up %s, %s at p90\n", took.P50, took.P90)
	}
	fmt.Fprintf(&b, "drain %s\n", p.seen.Drain().P90)
	if p.seen.Serial() {
		b.WriteString("one pod at a time\n")
	}
	return b.String()
}

func encode(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	require.NoError(t, err)
	return string(raw)
}

func (p *reader) write(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	patch := rollout.Patch{Fields: p.seen.Workload.Fields}
	require.NoError(t, yaml.Unmarshal([]byte(d.Input), &patch.Fields))
	name := ""
	d.MaybeScanArgs(t, "template", &name)
	for id, n := range p.names {
		if n == name {
			patch.Template = id
		}
	}
	if name != "" && patch.Template == "" {
		patch.Template = name
	}
	u, err := p.seen.patched(patch)
	if err != nil {
		return err.Error() + "\n"
	}
	spec := u.Object["spec"].(map[string]any)
	again := readFields(spec, p.seen.Kind)
	require.Equal(t, patch.Fields, again, "what is read after a write")
	before := p.seen.Object.(*unstructured.Unstructured).Object["spec"].(map[string]any)
	for key, value := range before {
		if encode(t, value) == encode(t, spec[key]) {
			delete(spec, key)
		}
	}
	raw, err := yaml.Marshal(spec)
	require.NoError(t, err)
	return string(raw)
}

// pod makes a pod of a line.
func (p *reader) pod(t *testing.T, words []string) unstructured.Unstructured {
	t.Helper()
	at := func(text string) any {
		d, err := time.ParseDuration(text)
		require.NoError(t, err, "%v", words)
		return p.now.Add(-d).Format(time.RFC3339)
	}
	args := map[string]string{"age": "1h"}
	for _, w := range words[4:] {
		key, value, _ := strings.Cut(w, "=")
		args[key] = value
	}
	meta := map[string]any{
		"name": words[1], "namespace": "x", "uid": words[1], "creationTimestamp": at(args["age"]), "labels": map[string]any{"controller-revision-hash": words[3], "pod-template-hash": words[3]},
		"ownerReferences": []any{map[string]any{"uid": words[2], "controller": true, "apiVersion": "apps/v1", "kind": "X", "name": "x"}},
	}
	if _, ok := args["deleted"]; ok {
		meta["deletionTimestamp"] = at("1s")
	}
	spec, status := map[string]any{}, map[string]any{"phase": orElse(args["phase"], "Running")}
	var conditions []any
	condition := func(kind, status, since, message string) {
		conditions = append(conditions, map[string]any{"type": kind, "status": status, "lastTransitionTime": at(since), "message": message, "reason": ""})
	}
	if node, ok := args["node"]; ok {
		spec["nodeName"] = node
		condition("PodScheduled", "True", orElse(args["bound"], args["age"]), "")
	} else if why, ok := args["unschedulable"]; ok {
		condition("PodScheduled", "False", args["age"], strings.ReplaceAll(why, "_", " "))
	}
	if since, ok := args["ready"]; ok {
		condition("Ready", "True", since, "")
	} else if since, ok := args["unready"]; ok {
		condition("Ready", "False", since, "containers with unready status: [server]")
	}
	status["conditions"] = conditions
	container := map[string]any{"name": "server", "image": "", "imageID": "", "ready": args["ready"] != "", "restartCount": int64(0)}
	if n, ok := args["restarts"]; ok {
		require.NoError(t, yaml.Unmarshal([]byte(n), new(int)))
		container["restartCount"] = json.Number(n)
	}
	if code, ok := args["exit"]; ok {
		container["lastState"] = map[string]any{"terminated": map[string]any{"exitCode": json.Number(code), "startedAt": at(orElse(args["began"], "30s")), "finishedAt": at(orElse(args["ended"], "20s")), "reason": "Error"}}
	}
	if reason, ok := args["waiting"]; ok {
		container["state"] = map[string]any{"waiting": map[string]any{"reason": reason}}
	} else if since, ok := args["run"]; ok {
		container["state"] = map[string]any{"running": map[string]any{"startedAt": at(since)}}
	}
	status["containerStatuses"] = []any{container}
	raw, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status})
	require.NoError(t, err)
	var u unstructured.Unstructured
	require.NoError(t, u.UnmarshalJSON(raw))
	return u
}
