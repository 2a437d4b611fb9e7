package traffic

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"
)

const ns = "demo"

// errCrash ends a process in the middle of what it does.
var errCrash = errors.New("crashed")

// fakeCluster is controller-runtime's client with what the cluster's controllers do after each write: EndpointSlices,
// generations, and a gateway that reports at once unless it is told to lag.
type fakeCluster struct {
	t     *testing.T
	inner client.WithWatch
	api   client.WithWatch
	now   time.Time

	lag     bool // the gateway does not look
	left    int  // writes until a crash; negative: none
	writes  int  // that were not dry runs
	checked func() error
	slices  map[string]*discoveryv1.EndpointSlice
}

func newFakeCluster(t *testing.T, objects ...string) *fakeCluster {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, clientgoscheme.AddToScheme(scheme))
	c := &fakeCluster{t: t, left: -1, slices: map[string]*discoveryv1.EndpointSlice{}, now: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)}
	c.inner = fake.NewClientBuilder().WithScheme(scheme).WithReturnManagedFields().Build()
	c.api = interceptor.NewClient(c.inner, interceptor.Funcs{
		Create: func(ctx context.Context, w client.WithWatch, o client.Object, options ...client.CreateOption) error {
			return c.write(func() error { return w.Create(ctx, o, options...) }, false) //nolint:contextcheck // controllers do not act for a request
		},
		Patch: func(ctx context.Context, w client.WithWatch, o client.Object, p client.Patch, options ...client.PatchOption) error {
			dry := (&client.PatchOptions{}).ApplyOptions(options).DryRun != nil
			return c.write(func() error { return w.Patch(ctx, o, p, options...) }, dry) //nolint:contextcheck // controllers do not act for a request
		},
		Apply: func(ctx context.Context, w client.WithWatch, o runtime.ApplyConfiguration, options ...client.ApplyOption) error {
			return c.write(func() error { return w.Apply(ctx, o, options...) }, false) //nolint:contextcheck // controllers do not act for a request
		},
		Delete: func(ctx context.Context, w client.WithWatch, o client.Object, options ...client.DeleteOption) error {
			return c.write(func() error { return w.Delete(ctx, o, options...) }, false) //nolint:contextcheck // controllers do not act for a request
		},
	})
	for _, text := range objects {
		c.create(text)
	}
	c.controllers()
	return c
}

func (c *fakeCluster) write(do func() error, dry bool) error {
	if dry {
		return do()
	}
	if c.left == 0 {
		return errCrash
	}
	c.left--
	c.writes++
	if err := do(); err != nil {
		return err
	}
	c.controllers()
	if c.checked != nil {
		if err := c.checked(); err != nil {
			c.t.Errorf("after write %d: %v", c.writes, err)
		}
	}
	return nil
}

func (c *fakeCluster) target() Target {
	return Target{Client: c.api, Namespace: ns, Service: "chat", Now: func() time.Time { return c.now }}
}

func (c *fakeCluster) create(text string) {
	c.t.Helper()
	u := &unstructured.Unstructured{}
	require.NoError(c.t, yaml.Unmarshal([]byte(text), &u.Object))
	u.SetNamespace(ns)
	require.NoError(c.t, c.inner.Create(c.t.Context(), u, client.FieldOwner("kubectl-create")))
}

// pods makes n pods of a version, Ready or not.
func (c *fakeCluster) pods(hash string, n int, ready bool) {
	c.t.Helper()
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	for i := range n {
		require.NoError(c.t, c.inner.Create(c.t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprintf("chat-%s-%d", hash, i), Labels: map[string]string{"app": "chat", HashLabel: hash}},
			Status:     corev1.PodStatus{PodIP: "10.0.0.1", Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}},
		}))
	}
	c.controllers()
}

func (c *fakeCluster) removePods(hash string) {
	c.t.Helper()
	require.NoError(c.t, c.inner.DeleteAllOf(c.t.Context(), &corev1.Pod{}, client.InNamespace(ns), client.MatchingLabels{HashLabel: hash}))
	c.controllers()
}

func (c *fakeCluster) get(kind kind, name string) *unstructured.Unstructured {
	c.t.Helper()
	u, err := Target{Client: c.inner, Namespace: ns}.get(c.t.Context(), kind, name)
	require.NoError(c.t, err)
	return u
}

// spec is an object's spec as YAML.
func (c *fakeCluster) spec(kind kind, name string) string {
	c.t.Helper()
	text, err := yaml.Marshal(c.get(kind, name).Object["spec"])
	require.NoError(c.t, err)
	return string(text)
}

// edit is someone else's write.
func (c *fakeCluster) edit(kind kind, name, manager string, change func(map[string]any)) {
	c.t.Helper()
	u := c.get(kind, name)
	change(u.Object)
	require.NoError(c.t, c.inner.Update(c.t.Context(), u, client.FieldOwner(manager)))
	c.controllers()
}

// helpers are the Services of versions.
func (c *fakeCluster) helpers() []string {
	c.t.Helper()
	var list corev1.ServiceList
	require.NoError(c.t, c.inner.List(c.t.Context(), &list, client.InNamespace(ns), client.HasLabels{ServiceLabel}))
	out := []string{}
	for i := range list.Items {
		out = append(out, list.Items[i].Name)
	}
	return out
}

// controllers do what the cluster's do.
func (c *fakeCluster) controllers() {
	c.t.Helper()
	ctx := c.t.Context()
	var services corev1.ServiceList
	require.NoError(c.t, c.inner.List(ctx, &services, client.InNamespace(ns)))
	for name := range c.slices {
		if !slices.ContainsFunc(services.Items, func(s corev1.Service) bool { return s.Name == name }) {
			c.replace(name, nil)
		}
	}
	for i := range services.Items {
		s := &services.Items[i]
		var pods corev1.PodList
		require.NoError(c.t, c.inner.List(ctx, &pods, client.InNamespace(ns), client.MatchingLabels(s.Spec.Selector)))
		slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
			Namespace: ns, Name: s.Name, Labels: map[string]string{discoveryv1.LabelServiceName: s.Name},
		}, AddressType: discoveryv1.AddressTypeIPv4}
		for j := range pods.Items {
			ready := isReady(&pods.Items[j])
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{pods.Items[j].Status.PodIP}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: pods.Items[j].Name},
			})
		}
		if !reflect.DeepEqual(c.slices[s.Name], slice) {
			c.replace(s.Name, slice)
		}
	}
	c.gateway()
}

// replace writes a Service's EndpointSlice anew, or takes it away.
func (c *fakeCluster) replace(name string, slice *discoveryv1.EndpointSlice) {
	c.t.Helper()
	if c.slices[name] != nil {
		require.NoError(c.t, c.inner.Delete(c.t.Context(), &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}))
		delete(c.slices, name)
	}
	if slice != nil {
		c.slices[name] = slice.DeepCopy()
		require.NoError(c.t, c.inner.Create(c.t.Context(), slice))
	}
}

// gateway counts generations and reports on routes.
func (c *fakeCluster) gateway() {
	c.t.Helper()
	for _, kind := range []kind{gateway("HTTPRoute").kind, gateway("GRPCRoute").kind} {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind[0].GroupVersion().WithKind(kind[0].Kind + "List"))
		if err := c.inner.List(c.t.Context(), list, client.InNamespace(ns)); err != nil {
			continue // no object of the kind was ever made
		}
		for i := range list.Items {
			u := &list.Items[i]
			text, err := yaml.Marshal(u.Object["spec"])
			require.NoError(c.t, err)
			seen, _, _ := unstructured.NestedString(u.Object, "status", "seen")
			if seen == string(text) {
				continue
			}
			if last, _, _ := unstructured.NestedString(u.Object, "status", "last"); last != string(text) {
				u.SetGeneration(u.GetGeneration() + 1)
			}
			status, _ := u.Object["status"].(map[string]any)
			if status == nil {
				status = map[string]any{}
			}
			status["last"] = string(text)
			if !c.lag {
				status["seen"], status["parents"] = string(text), []any{map[string]any{
					"parentRef": map[string]any{"name": "gw", "namespace": ns}, "controllerName": "example.com/gateway",
					"conditions": []any{reported("Accepted", "True", u.GetGeneration()), reported("ResolvedRefs", "True", u.GetGeneration())},
				}}
			}
			u.Object["status"] = status
			require.NoError(c.t, c.inner.Update(c.t.Context(), u, client.FieldOwner("gateway")))
		}
	}
}

func reported(kind, status string, generation int64) map[string]any {
	return map[string]any{"type": kind, "status": status, "reason": "Test", "message": "", "observedGeneration": generation}
}

// answered checks what no moment may lack: whatever gets requests by these rules has ready endpoints.
func (c *fakeCluster) answered(d dialect, name string) func() error {
	return func() error {
		u := c.get(d.kind, name)
		rules, _, err := unstructured.NestedSlice(u.Object, d.rules...)
		if err != nil {
			return err
		}
		p := &plan{dialect: d, object: name}
		t := c.target()
		t.Client = c.inner
		for i := range rules {
			_, refs, err := p.refsOf(rules, i)
			if err != nil {
				return err
			}
			for _, value := range refs {
				ref, _ := value.(map[string]any)
				service := text(ref, "name", "")
				if destination, ok := ref["destination"].(map[string]any); ok {
					service, _, _ = strings.Cut(text(destination, "host", ""), ".")
				}
				if ref["weight"] == int64(0) || service == "other" {
					continue
				}
				ready, err := t.receiving(c.t.Context(), service)
				if err != nil {
					return err
				}
				if ready.total() == 0 {
					return fmt.Errorf("%s sends requests to %s, which has no ready endpoint", p.field(i, ""), service)
				}
			}
		}
		return nil
	}
}

const chatService = `
apiVersion: v1
kind: Service
metadata: {name: chat, uid: 0b0c2a48-7f5a-4a51-9a5d-6f1f6f6d5a11, labels: {team: a}}
spec:
  type: LoadBalancer
  selector: {app: chat}
  sessionAffinity: ClientIP
  ports: [{name: http, port: 80, targetPort: 8000, nodePort: 30080, appProtocol: http}]
`

const chatRoute = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: chat, annotations: {note: mine}}
spec:
  parentRefs: [{name: gw}]
  rules:
  - name: health
    matches: [{path: {type: Exact, value: /health}}]
    backendRefs: [{name: other, port: 80}]
  - name: api
    matches: [{path: {type: PathPrefix, value: /v1}}, {path: {type: PathPrefix, value: /v2}, headers: [{type: Exact, name: team, value: a}]}]
    timeouts: {request: 10m}
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: x, value: y}]}}]
    backendRefs: [{name: chat, port: 80, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: other, port: 80}}}]}]
`

const chatVirtualService = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: chat}
spec:
  hosts: [chat, chat.example.com]
  gateways: [mesh, gw]
  http:
  - name: default
    match: [{uri: {prefix: /v1}}]
    timeout: 600s
    route: [{destination: {host: chat.demo.svc.cluster.local, port: {number: 80}}, headers: {response: {add: {x: y}}}}]
  - route: [{destination: {host: other}}]
`

const chatIngress = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: chat, uid: 5a0c2a48-7f5a-4a51-9a5d-6f1f6f6d5a12, annotations: {cert-manager.io/issuer: main}}
spec:
  ingressClassName: nginx
  tls: [{hosts: [chat.example.com], secretName: chat}]
  rules:
  - host: chat.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: chat, port: {name: http}}}},
                   {path: /other, pathType: Prefix, backend: {service: {name: other, port: {number: 80}}}}]}
`

const otherService = `
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {selector: {app: other}, ports: [{port: 80}]}
`
