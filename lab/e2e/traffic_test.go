package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"headroom.dev/headroom/rollout/route"
	"headroom.dev/headroom/rollout/traffic"
)

const trafficObjects = `
apiVersion: v1
kind: Service
metadata: {name: chat}
spec: {selector: {app: service}, ports: [{name: http, port: 80, targetPort: 8000}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: chat}
spec:
  parentRefs: [{name: gw}]
  rules:
  - {name: other, matches: [{path: {value: /other}}], backendRefs: [{name: other, port: 80}]}
  - {name: api, timeouts: {request: 10m}, backendRefs: [{name: chat, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: chat}
spec: {hosts: [chat], http: [{route: [{destination: {host: chat}}]}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: chat}
spec: {rules: [{host: chat.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: chat, port: {name: http}}}}]}}]}
`

// moved is a service of two versions, with one of each kind of object that its traffic goes by.
type moved struct {
	*testing.T

	api          client.Client
	namespace    string
	blue, green  string // pod-template-hashes
	target       traffic.Target
	now          time.Time
	manifestPath string
}

func newMoved(t *testing.T) *moved {
	t.Helper()
	m := &moved{T: t, namespace: shared.namespace(t), now: time.Now()}
	_, err := shared.kubectl(t, "apply", "-f", "testdata/traffic.yaml")
	require.NoError(t, err)
	_, err = shared.kubectl(t, "wait", "--for=condition=Established", "--timeout=20s", "-f", "testdata/traffic.yaml")
	require.NoError(t, err)
	m.manifestPath = filepath.Join(t.TempDir(), "objects.yaml")
	require.NoError(t, os.WriteFile(m.manifestPath, []byte(trafficObjects), 0o600))
	m.apply("gitops", m.manifestPath)
	var both []*appsv1.Deployment // two Deployments stand for two versions of one: what counts is on the pods
	for _, name := range []string{"blue", "green"} {
		both = append(both, inference(name, "{startup: 0s}", 0))
	}
	shared.deploy(t, m.namespace, both...)
	m.blue = shared.ready(t, m.namespace, "name=blue", 1)[0].Labels[traffic.HashLabel]
	m.green = shared.ready(t, m.namespace, "name=green", 1)[0].Labels[traffic.HashLabel]
	log.SetLogger(logr.Discard()) // or controller-runtime complains that nobody has
	m.api, err = client.New(shared.Config, client.Options{})
	require.NoError(t, err)
	m.target = traffic.Target{Client: m.api, Namespace: m.namespace, Service: "chat", Now: func() time.Time { return m.now }}
	return m
}

// apply is a server-side apply by somebody.
func (m *moved) apply(manager, path string, flags ...string) string {
	m.Helper()
	out, err := shared.kubectl(m.T, append([]string{"apply", "--server-side", "--field-manager", manager, "-n", m.namespace, "-f", path}, flags...)...)
	require.NoError(m, err)
	return out
}

func (m *moved) object(apiVersion, kind, name string) *unstructured.Unstructured {
	m.Helper()
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.FromAPIVersionAndKind(apiVersion, kind))
	require.NoError(m, m.api.Get(m.Context(), client.ObjectKey{Namespace: m.namespace, Name: name}, u))
	return u
}

// spec is an object's spec to the byte.
func (m *moved) spec(apiVersion, kind string) string {
	m.Helper()
	raw, err := json.Marshal(m.object(apiVersion, kind, "chat").Object["spec"])
	require.NoError(m, err)
	return string(raw)
}

// set waits for endpoints, and repeats.
func (m *moved) set(r route.Router, s route.Split) {
	m.Helper()
	eventually(m.T, 10*time.Second, func(t require.TestingT) { require.NoError(t, r.Set(m.Context(), s)) })
}

// restore passes the time that helpers are kept for.
func (m *moved) restore(r route.Router) {
	m.Helper()
	eventually(m.T, 10*time.Second, func(t require.TestingT) {
		m.now = m.now.Add(time.Minute)
		require.NoError(t, r.Restore(m.Context()))
	})
	var helpers corev1.ServiceList
	require.NoError(m, m.api.List(m.Context(), &helpers, client.InNamespace(m.namespace), client.HasLabels{traffic.ServiceLabel}))
	for i := range helpers.Items {
		assert.NotNil(m, helpers.Items[i].DeletionTimestamp)
	}
}

// conflict wants an error that names who wrote.
func (m *moved) conflict(err error, manager, field string) {
	m.Helper()
	var conflict *route.ConflictError
	require.ErrorAs(m, err, &conflict)
	assert.Equal(m, manager, conflict.Manager, "%v", err)
	assert.Contains(m, conflict.Field, field)
	m.Log(err)
}

// report is what a gateway says of a route.
func (m *moved) report(accepted string) {
	m.Helper()
	u := m.object("gateway.networking.k8s.io/v1", "HTTPRoute", "chat")
	condition := func(kind, status string) map[string]any {
		return map[string]any{"type": kind, "status": status, "reason": "Test", "observedGeneration": u.GetGeneration()}
	}
	require.NoError(m, unstructured.SetNestedSlice(u.Object, []any{map[string]any{
		"parentRef": map[string]any{"name": "gw"}, "conditions": []any{condition("Accepted", accepted), condition("ResolvedRefs", "True")},
	}}, "status", "parents"))
	require.NoError(m, m.api.Status().Update(m.Context(), u, client.FieldOwner("gateway")))
}

// TestTraffic moves a service's traffic by each kind of object on a real API server, while others write as well.
func TestTraffic(t *testing.T) {
	t.Parallel()
	m := newMoved(t)
	split := route.Split{Stable: m.blue, Canary: m.green, Share: 0.1, Matches: []route.Match{{Header: "x-canary", Value: "yes"}}}
	m.byRoute(split)
	m.byManifest(split)
	m.byHelper(split)
	m.byOthers(split)
	m.bySelector()
}

// byRoute is a rollout without disturbance, but for a gateway that takes its time.
func (m *moved) byRoute(split route.Split) {
	m.Helper()
	ctx, r := m.Context(), traffic.HTTPRoute(m.target, traffic.RulesOptions{Name: "chat", Rule: "api"})
	before := m.spec("gateway.networking.k8s.io/v1", "HTTPRoute")
	m.set(r, split)
	_, err := r.Read(ctx)
	var not *route.NotYetError
	require.ErrorAs(m, err, &not)
	m.report("False")
	_, err = r.Read(ctx)
	require.ErrorAs(m, err, &not)
	require.ErrorContains(m, err, "Accepted is False")
	m.report("True")
	s, err := r.Read(ctx)
	require.NoError(m, err)
	assert.True(m, s.Equal(split), "%v", s)
	version := m.object("gateway.networking.k8s.io/v1", "HTTPRoute", "chat").GetResourceVersion()
	helper := m.object("v1", "Service", "chat-"+m.green).GetResourceVersion()
	require.NoError(m, r.Set(ctx, split))
	assert.Equal(m, []string{version, helper}, []string{
		m.object("gateway.networking.k8s.io/v1", "HTTPRoute", "chat").GetResourceVersion(), m.object("v1", "Service", "chat-"+m.green).GetResourceVersion(),
	}, "asked again, nothing changes")
	m.set(r, route.Split{Stable: m.blue, Canary: m.green, Share: 1})
	m.set(r, route.Split{Stable: m.green})
	require.ErrorAs(m, r.Restore(ctx), &not)
	m.report("True")
	m.restore(r)
	assert.Equal(m, before, m.spec("gateway.networking.k8s.io/v1", "HTTPRoute"), "byte for byte")

	// What the API server refuses is refused before anything is made.
	u := m.object("gateway.networking.k8s.io/v1", "HTTPRoute", "chat")
	full := u.DeepCopy()
	rules, _, err := unstructured.NestedSlice(full.Object, "spec", "rules")
	require.NoError(m, err)
	require.NoError(m, unstructured.SetNestedSlice(full.Object, append(rules, rules[0], rules[0]), "spec", "rules")) // of four
	require.NoError(m, m.api.Update(ctx, full, client.FieldOwner("a-person")))
	require.ErrorContains(m, r.Set(ctx, split), "Too many: 5: must have at most 4 items")
	require.Error(m, m.api.Get(ctx, client.ObjectKey{Namespace: m.namespace, Name: "chat-" + m.blue}, &corev1.Service{}))
	m.apply("gitops", m.manifestPath, "--force-conflicts")
}

// byManifest applies the user's manifest again in the middle of it.
func (m *moved) byManifest(split route.Split) {
	m.Helper()
	ctx, r := m.Context(), traffic.HTTPRoute(m.target, traffic.RulesOptions{Name: "chat", Rule: "api"})
	before := m.spec("gateway.networking.k8s.io/v1", "HTTPRoute")
	m.set(r, split)
	_, err := shared.kubectl(m.T, "apply", "--server-side", "--field-manager", "gitops", "-n", m.namespace, "-f", m.manifestPath)
	require.ErrorContains(m, err, `conflict with "headroom-rollout"`)
	m.apply("gitops", m.manifestPath, "--force-conflicts")
	m.conflict(r.Set(ctx, split), "gitops", "spec.rules")
	_, err = r.Read(ctx)
	m.conflict(err, "gitops", "spec.rules")
	require.Error(m, r.Restore(ctx)) // the gateway has not looked
	m.report("True")
	m.restore(r)
	assert.Equal(m, before, m.spec("gateway.networking.k8s.io/v1", "HTTPRoute"))
}

// byHelper lets someone write to the Service of a version.
func (m *moved) byHelper(split route.Split) {
	m.Helper()
	r := traffic.VirtualService(m.target, traffic.RulesOptions{Name: "chat"})
	before := m.spec("networking.istio.io/v1", "VirtualService")
	m.set(r, split)
	m.now = m.now.Add(time.Minute)
	s, err := r.Read(m.Context())
	require.NoError(m, err)
	assert.True(m, s.Equal(split), "%v", s)
	path := filepath.Join(m.TempDir(), "helper.yaml")
	require.NoError(m, os.WriteFile(path, []byte("{apiVersion: v1, kind: Service, metadata: {name: chat-"+m.green+"}, spec: {selector: {app: service}}}"), 0o600))
	m.apply("meddler", path, "--force-conflicts")
	m.conflict(r.Set(m.Context(), split), "meddler", "spec.selector")
	m.restore(r)
	assert.Equal(m, before, m.spec("networking.istio.io/v1", "VirtualService"), "byte for byte")
}

// byOthers is ingress-nginx, with someone who turns the canary's weight.
func (m *moved) byOthers(split route.Split) {
	m.Helper()
	ctx, r := m.Context(), traffic.NewIngress(m.target, "chat", "")
	before := m.spec("networking.k8s.io/v1", "Ingress")
	m.set(r, split)
	m.now = m.now.Add(time.Minute)
	s, err := r.Read(ctx)
	require.NoError(m, err)
	assert.True(m, s.Equal(split), "%v", s)
	out, err := shared.kubectl(m.T, "annotate", "-n", m.namespace, "--overwrite", "--field-manager", "meddler", "ingress", "chat-chat-canary", "nginx.ingress.kubernetes.io/canary-weight=99")
	require.NoError(m, err, out)
	_, err = r.Read(ctx)
	m.conflict(err, "meddler", "canary-weight")
	split.Share = 0.2
	m.conflict(r.Set(ctx, split), "meddler", "canary-weight")
	m.restore(r)
	assert.Equal(m, before, m.spec("networking.k8s.io/v1", "Ingress"), "byte for byte")
}

// bySelector switches, and reads where requests really go.
func (m *moved) bySelector() {
	m.Helper()
	ctx, r := m.Context(), traffic.NewSelector(m.target)
	before := m.spec("v1", "Service")
	replicas := traffic.NewReplicas(m.target, m.blue, m.green)
	in := func(want route.Split, r route.Router) {
		m.Helper()
		eventually(m.T, 10*time.Second, func(t require.TestingT) {
			s, err := r.Read(ctx)
			require.NoError(t, err)
			require.True(t, s.Equal(want), "%v", s)
		})
	}
	both := route.Split{Stable: m.blue, Canary: m.green, Share: 0.5}
	in(both, replicas)
	for _, share := range []float64{0, 1, 0, 1} {
		want := route.Split{Stable: m.blue, Canary: m.green, Share: share}
		require.NoError(m, r.Set(ctx, want))
		in(want, r)
		in(want, replicas)
	}
	_, err := shared.kubectl(m.T, "apply", "--server-side", "--field-manager", "gitops", "-n", m.namespace, "-f", m.manifestPath)
	require.ErrorContains(m, err, `conflict with "headroom-rollout"`)
	m.apply("gitops", m.manifestPath, "--force-conflicts")
	m.conflict(r.Set(ctx, route.Split{Stable: m.blue, Canary: m.green, Share: 1}), "gitops", "spec.selector")
	m.restore(r)
	assert.Equal(m, before, m.spec("v1", "Service"), "byte for byte")
	in(both, replicas)
	service := m.object("v1", "Service", "chat")
	assert.Empty(m, service.GetAnnotations())
	assert.NotContains(m, m.spec("v1", "Service"), traffic.HashLabel)
	_, err = shared.Client.CoreV1().Services(m.namespace).Get(ctx, "chat-"+m.blue, metav1.GetOptions{})
	require.Error(m, err)
}
