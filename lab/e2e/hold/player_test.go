package hold

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/lab/kubelet"
	"headroom.dev/headroom/lab/kubelet/devices"
)

const (
	name    = "chat"             // of every workload
	manager = "headroom-rollout" // the field manager of whoever holds
	gate    = corev1.PodConditionType("headroom.dev/judged")
	port    = 8000
)

// player plays one file.
type player struct {
	c          *cluster
	file       string
	group      string
	namespace  string
	kind       string
	watch      *watch
	marks      int
	remembered string // resourceVersion
	replicas   int
	own        int // the user's minReadySeconds
	surge      int
	out        int // maxUnavailable
	bystander  bool
	gpus       int
}

func (c *cluster) newPlayer(t *testing.T, file, group string) *player {
	t.Helper()
	created, err := c.Client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: file + "-"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	p := &player{c: c, file: file, group: group, namespace: created.Name, kind: "deployment"}
	p.watch = newWatch(t.Context(), t, c.Client, p.namespace)
	return p
}

// leave frees the group's GPUs.
func (p *player) leave(t *testing.T) {
	t.Helper()
	p.fresh(t)
	ctx, cancel := detached(t)
	defer cancel()
	assert.NoError(t, p.c.Client.CoreV1().Namespaces().Delete(ctx, p.namespace, metav1.DeleteOptions{})) // nobody waits for that
}

// fresh removes what the last scenario of the file has left.
func (p *player) fresh(t *testing.T) {
	t.Helper()
	ctx, cancel := detached(t)
	defer cancel()
	_, err := p.c.Cluster().Run(ctx, "delete", "deployment,statefulset,daemonset,hpa,pdb,service", "--all", "-n", p.namespace, "--wait=true", "--cascade=foreground", "--timeout=60s")
	require.NoError(t, err)
	deadline := time.Now().Add(settleDeadline)
	for {
		list, err := p.c.Client.CoreV1().Pods(p.namespace).List(ctx, metav1.ListOptions{})
		require.NoError(t, err)
		if len(list.Items) == 0 {
			return
		}
		require.True(t, time.Now().Before(deadline), "%d pods are left", len(list.Items))
		time.Sleep(pollEvery)
	}
}

// broken tells whether a version's pods never become Ready.
func broken(version string) bool { return strings.HasSuffix(version, "broken") }

// template is a version's pod template.
func (p *player) template(version string) map[string]any {
	annotations := map[string]any{"prometheus.io/scrape": "true", "prometheus.io/port": strconv.Itoa(port)}
	if !p.bystander {
		annotations[kubelet.SimulateAnnotation] = fmt.Sprintf("{startup: 1s, version: %s, faultHealth: %t}", version, broken(version))
	}
	spec := map[string]any{
		"terminationGracePeriodSeconds": 1,
		"nodeSelector":                  map[string]any{groupLabel: p.group},
		"containers": []any{map[string]any{
			"name": "server", "image": "registry.example/chat:" + version,
			"ports":          []any{map[string]any{"name": "http", "containerPort": port}},
			"resources":      map[string]any{"limits": map[string]any{devices.Resource: p.gpus}},
			"readinessProbe": map[string]any{"periodSeconds": 1, "httpGet": map[string]any{"path": "/health", "port": "http"}},
		}},
	}
	if strings.HasSuffix(version, "gated") {
		spec["readinessGates"] = []any{map[string]any{"conditionType": gate}}
	}
	return map[string]any{
		"metadata": map[string]any{"labels": map[string]any{"name": name, "version": version}, "annotations": annotations},
		"spec":     spec,
	}
}

// manifest is what the user keeps in Git; more is merged into its spec.
func (p *player) manifest(t *testing.T, version, more string) string {
	t.Helper()
	spec := map[string]any{"selector": map[string]any{"matchLabels": map[string]any{"name": name}}, "template": p.template(version)}
	kinds := map[string]string{"deployment": "Deployment", "statefulset": "StatefulSet", "daemonset": "DaemonSet"}
	if p.kind != "daemonset" {
		spec["replicas"] = p.replicas
	}
	if p.own > 0 {
		spec["minReadySeconds"] = p.own
	}
	if p.kind == "statefulset" {
		spec["serviceName"], spec["podManagementPolicy"] = name, "Parallel"
	}
	var extra map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(more), &extra))
	maps.Copy(spec, extra)
	raw, err := yaml.Marshal(map[string]any{
		"apiVersion": "apps/v1", "kind": kinds[p.kind], "metadata": map[string]any{"name": name, "namespace": p.namespace}, "spec": spec,
	})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "manifest.yaml")
	require.NoError(t, os.WriteFile(path, raw, 0o600))
	return path
}

// patch patches the workload; it must succeed.
func (p *player) patch(t *testing.T, kind types.PatchType, raw []byte, o metav1.PatchOptions) {
	t.Helper()
	require.NoError(t, p.tryPatch(t, kind, raw, o), string(raw))
}

func (p *player) tryPatch(t *testing.T, kind types.PatchType, raw []byte, o metav1.PatchOptions) error {
	t.Helper()
	var err error
	api := p.c.Client.AppsV1()
	switch p.kind {
	case "statefulset":
		_, err = api.StatefulSets(p.namespace).Patch(t.Context(), name, kind, raw, o)
	case "daemonset":
		_, err = api.DaemonSets(p.namespace).Patch(t.Context(), name, kind, raw, o)
	default:
		_, err = api.Deployments(p.namespace).Patch(t.Context(), name, kind, raw, o)
	}
	return err
}

// merge is a merge patch of the spec by a field manager.
func (p *player) merge(t *testing.T, by string, spec map[string]any) {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"spec": spec})
	require.NoError(t, err)
	p.patch(t, types.MergePatchType, raw, metav1.PatchOptions{FieldManager: by})
}

// assert is a server-side apply of the hold's fields, which takes them from whoever has them.
func (p *player) assert(t *testing.T, spec map[string]any) {
	t.Helper()
	object := map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": name}}
	if spec != nil {
		object["spec"] = spec
	}
	raw, err := json.Marshal(object)
	require.NoError(t, err)
	p.patch(t, types.ApplyPatchType, raw, metav1.PatchOptions{FieldManager: manager, Force: new(true)})
}

// fields are the hold's fields.
func (p *player) fields(paused bool, minReady int) map[string]any {
	deadline := 1<<31 - 1 // none; and it must exceed minReadySeconds
	if minReady < brief {
		deadline = 600
	}
	return map[string]any{
		"paused": paused, "minReadySeconds": minReady, "progressDeadlineSeconds": deadline,
		"strategy": map[string]any{"type": "RollingUpdate", "rollingUpdate": map[string]any{"maxSurge": p.surge, "maxUnavailable": p.out}},
	}
}

// play does one directive, and settles where the directive changes something.
func (p *player) play(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	do, ok := directives()[d.Cmd]
	if !ok {
		d.Fatalf(t, "unknown directive %q", d.Cmd)
	}
	began := time.Now()
	if d.Cmd != "stop" && d.Cmd != "start" { // these go on with what another has begun
		p.watch.begin()
	}
	said := do.f(t, p, d)
	saw, last := said, time.Duration(0)
	if do.settles {
		s := p.settle(t)
		var account string
		account, last = p.watch.account()
		saw += s.String() + "\n" + account + "\n"
		said += p.promised(d, s) + "\n"
		if !d.HasArg(racing) {
			said += atLeast(account, d.Expected) + "\n"
		}
	}
	p.c.report.add(row{file: p.file, did: command(d), saw: saw, last: last, took: time.Since(began)})
	t.Logf("%s\n%s(%s, the last death after %s)", command(d), saw, time.Since(began).Round(pollEvery), last.Round(pollEvery))
	return said
}

// atLeast takes "at least N Ready" for what it says: a file's lower number stands. How deep a dip is depends on how quickly pods come
// up, and the numbers in the files are what the strategy guarantees, or the least that was seen. To measure one anew, delete it.
func atLeast(account, expected string) string {
	bound := regexp.MustCompile(`at least (\d+) Ready`)
	file, seen := bound.FindStringSubmatch(expected), bound.FindStringSubmatch(account)
	if file == nil || seen == nil {
		return account
	}
	want, _ := strconv.Atoi(file[1]) // digits
	have, _ := strconv.Atoi(seen[1])
	if have < want {
		return account
	}
	return strings.Replace(account, seen[0], file[0], 1)
}

// racing marks a directive whose outcome two controllers race for: only what holds whoever wins is compared.
const racing = "racing"

// promised is what stands, or of a race what holds in any case.
func (p *player) promised(d *datadriven.TestData, s standing) string {
	if !d.HasArg(racing) {
		return s.String()
	}
	ready := 0
	for _, v := range s.versions {
		ready += v.ready
	}
	switch {
	case s.pending > 0: // whose GPU it is
		return fmt.Sprintf("%d Ready, %d Pending", ready, s.pending)
	case s.unavailable:
		return fmt.Sprintf("at least %d of spec.replicas Ready, %d available, Available=False", min(ready, p.replicas), s.available)
	}
	return s.String()
}

// command is a directive as it stands in the file.
func command(d *datadriven.TestData) string {
	parts := []string{d.Cmd}
	for _, a := range d.CmdArgs {
		parts = append(parts, a.String())
	}
	text := strings.Join(parts, " ")
	if d.Input != "" {
		text += ": " + strings.Join(strings.Fields(d.Input), " ")
	}
	return text
}
