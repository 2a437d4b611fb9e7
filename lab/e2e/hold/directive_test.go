package hold

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/lab/network"
)

// directive is what a line of a file does. What it returns stands before what is seen once everything has settled.
type directive struct {
	settles bool
	f       func(t *testing.T, p *player, d *datadriven.TestData) string
}

func directives() map[string]directive {
	all := map[string]directive{
		"deploy":           {true, deploy},
		"canary":           {true, canary},
		"hold":             {true, hold},
		"rest":             {true, rest},
		"abort":            {true, abort},
		"promote":          {true, promote},
		"remember":         {false, remember},
		"release":          {true, release},
		"template":         {true, newTemplate},
		"pause":            {true, paused(true)},
		"resume":           {true, paused(false)},
		"scale":            {true, scale},
		"patch":            {true, patchInput},
		"apply":            {true, apply},
		"kubectl":          {true, kubectl},
		"undo":             {true, undo},
		"says":             {false, kubectl},
		"delete-pod":       {true, deletePod},
		"scale-replicaset": {true, scaleReplicaSet},
		"stop":             {false, stop},
		"start":            {true, start},
		"status":           {false, status},
		"fields":           {false, fields},
		"statefulset":      {true, workloadOf("statefulset")},
		"daemonset":        {true, workloadOf("daemonset")},
	}
	maps.Copy(all, serviceDirectives())
	return all
}

// argument reads a whole number, or leaves what stands.
func argument(t *testing.T, d *datadriven.TestData, key string, into *int) {
	t.Helper()
	if d.HasArg(key) {
		d.ScanArgs(t, key, into)
	}
}

func text(t *testing.T, d *datadriven.TestData, key, otherwise string) string {
	t.Helper()
	if d.HasArg(key) {
		d.ScanArgs(t, key, &otherwise)
	}
	return otherwise
}

func deploy(t *testing.T, p *player, d *datadriven.TestData) string {
	t.Helper()
	p.start(t, d)
	p.watch.begin() // the last scenario's pods are not this one's dead
	return ""
}

// start applies a fresh Deployment and waits until its pods are available.
func (p *player) start(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	p.fresh(t)
	p.kind, p.replicas, p.own, p.gpus = "deployment", 8, 0, 1
	argument(t, d, "replicas", &p.replicas)
	argument(t, d, "min-ready", &p.own)
	p.bystander = d.HasArg("bystander")
	_, err := p.c.Cluster().Run(t.Context(), "apply", "-f", p.manifest(t, "v1", d.Input))
	require.NoError(t, err)
	p.settle(t)
}

func workloadOf(kind string) func(*testing.T, *player, *datadriven.TestData) string {
	return func(t *testing.T, p *player, d *datadriven.TestData) string {
		t.Helper()
		p.fresh(t)
		p.kind, p.replicas, p.own, p.gpus, p.bystander = kind, 8, 0, 1, false
		_, err := p.c.Cluster().Run(t.Context(), "apply", "-f", p.manifest(t, "v1", d.Input))
		require.NoError(t, err)
		p.settle(t)
		p.watch.begin()
		return ""
	}
}

func hold(t *testing.T, p *player, d *datadriven.TestData) string {
	t.Helper()
	argument(t, d, "surge", &p.surge)
	argument(t, d, "unavailable", &p.out)
	spec := p.fields(false, held)
	if d.HasArg("template") { // not by apply: the template would be ours from then on
		spec["template"] = p.template(text(t, d, "template", ""))
		p.merge(t, manager, spec)
		return ""
	}
	p.assert(t, spec)
	return ""
}

// canary is deploy, pause, template, hold and rest: a fresh Deployment in mid-hold. What died on the way there is left out.
func canary(t *testing.T, p *player, d *datadriven.TestData) string {
	t.Helper()
	to := text(t, d, "version", "v2")
	p.start(t, d)
	p.merge(t, "a-person", map[string]any{"paused": true})
	p.merge(t, "a-person", map[string]any{"template": p.template(to)})
	hold(t, p, d)
	p.settle(t)
	if d.HasArg("rest") {
		p.assert(t, p.fields(true, held))
		p.settle(t)
	}
	p.watch.begin()
	return ""
}

func rest(t *testing.T, p *player, _ *datadriven.TestData) string {
	t.Helper()
	p.assert(t, p.fields(true, held))
	return ""
}

// abort goes back in one patch.
func abort(t *testing.T, p *player, d *datadriven.TestData) string {
	t.Helper()
	argument(t, d, "surge", &p.surge)
	argument(t, d, "unavailable", &p.out)
	spec := p.fields(false, p.own)
	spec["template"] = p.template(text(t, d, "version", "v1"))
	p.merge(t, manager, spec)
	return ""
}

// promote takes what was judged; with if-remembered, only if the Deployment is still as it was.
func promote(t *testing.T, p *player, d *datadriven.TestData) string {
	t.Helper()
	argument(t, d, "surge", &p.surge)
	argument(t, d, "unavailable", &p.out)
	if !d.HasArg("if-remembered") {
		p.assert(t, p.fields(false, p.own))
		return ""
	}
	raw, err := json.Marshal(map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": name, "resourceVersion": p.remembered}, "spec": p.fields(false, p.own),
	})
	require.NoError(t, err)
	if err := p.tryPatch(t, types.ApplyPatchType, raw, metav1.PatchOptions{FieldManager: manager, Force: new(true)}); err != nil {
		return p.plain(err.Error()) + "\n"
	}
	return ""
}

// remember keeps the version of the object that the judge has seen.
func remember(t *testing.T, p *player, _ *datadriven.TestData) string {
	t.Helper()
	d, err := p.c.Client.AppsV1().Deployments(p.namespace).Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	p.remembered = d.ResourceVersion
	return ""
}

// release gives the fields up by applying none of them: as they are; with applied, after applying the user's values; with patched,
// after a merge patch with the user's values, whose manager is another one to the API server, as its operation is another.
func release(t *testing.T, p *player, d *datadriven.TestData) string {
	t.Helper()
	spec := p.fields(false, p.own)
	spec["strategy"] = map[string]any{"type": "RollingUpdate", "rollingUpdate": map[string]any{"maxSurge": "25%", "maxUnavailable": "25%"}}
	switch {
	case d.HasArg("applied"):
		p.assert(t, spec)
	case d.HasArg("patched"):
		p.merge(t, manager, spec)
	}
	p.assert(t, nil)
	return ""
}

func newTemplate(t *testing.T, p *player, d *datadriven.TestData) string {
	t.Helper()
	p.merge(t, "a-person", map[string]any{"template": p.template(d.CmdArgs[0].Key)})
	return ""
}

func paused(yes bool) func(*testing.T, *player, *datadriven.TestData) string {
	return func(t *testing.T, p *player, _ *datadriven.TestData) string {
		t.Helper()
		p.merge(t, "a-person", map[string]any{"paused": yes})
		return ""
	}
}

// scale goes through sizes, and says what stands between.
func scale(t *testing.T, p *player, d *datadriven.TestData) string {
	t.Helper()
	said := ""
	sizes := slices.DeleteFunc(slices.Clone(d.CmdArgs), func(a datadriven.CmdArg) bool { return a.Key == racing })
	for i, a := range sizes {
		n, err := strconv.Atoi(a.Key)
		require.NoError(t, err)
		p.merge(t, "an-autoscaler", map[string]any{"replicas": n})
		p.replicas = n
		if i+1 < len(sizes) {
			said += fmt.Sprintf("at %d: %s\n", n, p.settle(t))
		}
	}
	return said
}

func patchInput(t *testing.T, p *player, d *datadriven.TestData) string {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(d.Input))
	require.NoError(t, err)
	if err := p.tryPatch(t, types.MergePatchType, raw, metav1.PatchOptions{FieldManager: "a-person"}); err != nil {
		return p.plain(err.Error()) + "\n"
	}
	return ""
}

// apply re-applies the user's manifest.
func apply(t *testing.T, p *player, d *datadriven.TestData) string {
	t.Helper()
	args := []string{"apply", "-f", p.manifest(t, text(t, d, "version", "v2"), d.Input)}
	if d.HasArg("server-side") {
		args = append(args, "--server-side", "--field-manager=kubectl-client-side-apply")
	}
	if d.HasArg("as") {
		args[len(args)-1] = "--field-manager=" + text(t, d, "as", "")
	}
	if d.HasArg("force") {
		args = append(args, "--force-conflicts")
	}
	out, err := p.c.Cluster().Run(t.Context(), args...)
	return p.plain(said(out, err)) + "\n"
}

// said is what kubectl printed.
func said(out string, err error) string {
	if err == nil {
		return strings.TrimSpace(out)
	}
	_, stderr, _ := strings.Cut(err.Error(), "\n")
	return strings.TrimSpace(strings.TrimSpace(out) + "\n" + strings.TrimSpace(stderr))
}

// plain leaves out what differs from run to run.
func (p *player) plain(text string) string {
	text = strings.ReplaceAll(text, p.namespace, "NAMESPACE")
	text = regexp.MustCompile(name+`-[0-9a-f]{7,10}(-[a-z0-9]{5})?`).ReplaceAllString(text, name+"-HASH")
	text = regexp.MustCompile(`/tmp/[^ ":]*`).ReplaceAllString(text, "FILE")
	text = regexp.MustCompile(`\n\s*\n`).ReplaceAllString(text, "\n")
	return strings.TrimSpace(text)
}

// kubectl runs a line of input.
func kubectl(t *testing.T, p *player, d *datadriven.TestData) string {
	t.Helper()
	out := ""
	for _, line := range lines(d.Input) {
		text, err := p.c.Cluster().Run(t.Context(), append([]string{"-n", p.namespace}, strings.Fields(line)...)...)
		out += p.plain(said(text, err)) + "\n"
	}
	return out
}

// undo is what people do when they see something go wrong.
func undo(t *testing.T, p *player, _ *datadriven.TestData) string {
	t.Helper()
	_, err := p.c.Cluster().Run(t.Context(), "-n", p.namespace, "rollout", "undo", p.kind+"/"+name)
	require.NoError(t, err)
	return ""
}

// pods are those of a version that are not terminating.
func (p *player) pods(t *testing.T, of string) []corev1.Pod {
	t.Helper()
	list, err := p.c.Client.CoreV1().Pods(p.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "name=" + name})
	require.NoError(t, err)
	var out []corev1.Pod
	for i := range list.Items {
		if list.Items[i].DeletionTimestamp == nil && (of == "" || version(list.Items[i].Labels) == of) {
			out = append(out, list.Items[i])
		}
	}
	return out
}

// deletePod deletes a Ready pod of a version, as a drain or a crash of a node would.
func deletePod(t *testing.T, p *player, d *datadriven.TestData) string {
	t.Helper()
	for _, pod := range p.pods(t, d.CmdArgs[0].Key) {
		if network.Ready(&pod) {
			require.NoError(t, p.c.Client.CoreV1().Pods(p.namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}))
			return ""
		}
	}
	d.Fatalf(t, "no pod is Ready")
	return ""
}

func (p *player) replicaSet(t *testing.T, of string) appsv1.ReplicaSet {
	t.Helper()
	list, err := p.c.Client.AppsV1().ReplicaSets(p.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "version=" + of})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	return list.Items[0]
}

// scaleReplicaSet writes a ReplicaSet's scale, past its Deployment.
func scaleReplicaSet(t *testing.T, p *player, d *datadriven.TestData) string {
	t.Helper()
	n, err := strconv.Atoi(d.CmdArgs[1].Key)
	require.NoError(t, err)
	rs := p.replicaSet(t, d.CmdArgs[0].Key)
	_, err = p.c.Client.AppsV1().ReplicaSets(p.namespace).UpdateScale(t.Context(), rs.Name, &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Name: rs.Name, Namespace: p.namespace}, Spec: autoscalingv1.ScaleSpec{Replicas: int32(n)},
	}, metav1.UpdateOptions{})
	require.NoError(t, err)
	return ""
}

func stop(t *testing.T, p *player, d *datadriven.TestData) string {
	t.Helper()
	if d.HasArg("at-first-death") {
		deadline := time.Now().Add(settleDeadline)
		for {
			if text, _ := p.watch.account(); strings.HasPrefix(text, "died") {
				break
			}
			require.True(t, time.Now().Before(deadline), "nobody died")
			time.Sleep(time.Millisecond)
		}
	}
	require.NoError(t, p.c.StopComponent(d.CmdArgs[0].Key))
	return ""
}

func start(t *testing.T, p *player, d *datadriven.TestData) string {
	t.Helper()
	require.NoError(t, p.c.StartComponent(t.Context(), d.CmdArgs[0].Key))
	return ""
}

// fields prints the held fields, and who owns minReadySeconds.
func fields(t *testing.T, p *player, _ *datadriven.TestData) string {
	t.Helper()
	d, err := p.c.Client.AppsV1().Deployments(p.namespace).Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	var owners []string
	for _, m := range d.ManagedFields {
		var tree struct {
			Spec map[string]json.RawMessage `json:"f:spec"`
		}
		require.NoError(t, json.Unmarshal(m.FieldsV1.GetRawBytes(), &tree))
		if _, ok := tree.Spec["f:minReadySeconds"]; ok {
			owners = append(owners, fmt.Sprintf("%s (%s)", m.Manager, m.Operation))
		}
	}
	r := d.Spec.Strategy.RollingUpdate
	return fmt.Sprintf("paused %t, minReadySeconds %d, progressDeadlineSeconds %d, maxSurge %s, maxUnavailable %s; minReadySeconds is owned by: %s\n",
		d.Spec.Paused, d.Spec.MinReadySeconds, *d.Spec.ProgressDeadlineSeconds, r.MaxSurge, r.MaxUnavailable, strings.Join(owners, ", "))
}
