package traffic

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"headroom.dev/headroom/rollout/route"
)

func replaceAll(s, from, to string) string { return strings.ReplaceAll(s, from, to) }

func (c *fakeCluster) pod(name string) metav1.ObjectMeta {
	var pod corev1.Pod
	require.NoError(c.t, c.inner.Get(c.t.Context(), client.ObjectKey{Namespace: ns, Name: name}, &pod))
	return pod.ObjectMeta
}

// TestRefusals: what cannot be done is said by object and field, and nothing is written.
func TestRefusals(t *testing.T) {
	split := route.Split{Stable: "old", Canary: "new", Share: 0.1}
	f := func(name string, kind error, message string, router func(Target) route.Router, s route.Split, objects ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			c := newFakeCluster(t, objects...)
			c.pods("old", 1, true)
			c.pods("new", 1, true)
			r := router(c.target())
			err := r.Set(t.Context(), s)
			require.ErrorIs(t, err, kind)
			require.EqualError(t, err, message)
			assert.Zero(t, c.writes, "nothing half done")
			require.NoError(t, r.Restore(t.Context()))
			assert.Zero(t, c.writes)
		})
	}
	http := func(t Target) route.Router { return HTTPRoute(t, RulesOptions{Name: "chat"}) }
	istio := func(t Target) route.Router { return VirtualService(t, RulesOptions{Name: "chat"}) }
	nginx := func(t Target) route.Router { return NewIngress(t, "chat", "") }
	const ofRoute, ofIngress = "cannot move traffic by HTTPRoute demo/chat: ", "cannot move traffic by Ingress demo/chat: "
	f("no route", route.ErrNotFound, ofRoute+"HTTPRoute.gateway.networking.k8s.io demo/chat: not found", http, split, chatService)
	f("no service", route.ErrNotFound, ofRoute+"Service demo/chat: not found", http, split, chatRoute)
	f("no backend", route.ErrNotFound, ofRoute+"HTTPRoute demo/chat: no rule sends requests to Service chat: not found", http, split,
		chatService, replaceAll(chatRoute, "name: chat, port", "name: chats, port"))
	f("no rules", route.ErrInvalid, ofRoute+"invalid spec.rules of HTTPRoute demo/chat: no list of rules", http, split,
		chatService, "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: chat}, spec: {rules: 7}}")
	f("no http in a VirtualService", route.ErrInvalid, "cannot move traffic by VirtualService demo/chat: invalid spec.http of VirtualService demo/chat: no list of rules",
		istio, split, chatService, "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: chat}, spec: {tcp: []}}")
	f("no pods", route.ErrInvalid, ofRoute+"invalid spec.selector of Service demo/chat: it selects no pods", http, split,
		replaceAll(chatService, "selector: {app: chat}", "selector: {}"), chatRoute)
	f("an external name", route.ErrUnsupported, ofRoute+"not supported: spec.type of Service demo/chat is ExternalName, which has no pods", http, split,
		replaceAll(chatService, "LoadBalancer", "ExternalName"), chatRoute)
	f("the helper's name is taken", route.ErrInvalid, ofRoute+"invalid: Service demo/chat-new exists and belongs to someone else; it is what the Service of version new would be called",
		http, split, chatService, chatRoute, replaceAll(otherService, "name: other}", "name: chat-new}"))
	f("an invalid split", route.ErrInvalid, ofRoute+"invalid split: stable and canary are both old", http, route.Split{Stable: "old", Canary: "old"}, chatService, chatRoute)
	f("ingress without the service", route.ErrNotFound, ofIngress+"Ingress demo/chat: no backend in spec.rules or spec.defaultBackend is Service chat: not found",
		nginx, split, chatService, replaceAll(chatIngress, "service: {name: chat,", "service: {name: chats,"))
	f("ingress that is a canary", route.ErrInvalid, ofIngress+"invalid: annotation nginx.ingress.kubernetes.io/canary of Ingress demo/chat: it is a canary itself",
		nginx, split, chatService, replaceAll(chatIngress, "cert-manager.io/issuer: main", `nginx.ingress.kubernetes.io/canary: "true"`))
	f("a default backend", route.ErrUnsupported, ofIngress+"not supported: spec.rules of Ingress demo/chat: ingress-nginx has no canaries of a default backend",
		nginx, split, chatService, "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: chat}, spec: {defaultBackend: {service: {name: chat, port: {number: 80}}}}}")
	f("the canary ingress' name is taken", route.ErrInvalid, ofIngress+"invalid: Ingress demo/chat-chat-canary exists and belongs to someone else; it is what the canary's Ingress would be called",
		nginx, split, chatService, chatIngress, replaceAll(chatIngress, "name: chat, uid", "name: chat-chat-canary, uid"))
	with := func(m ...route.Match) route.Split { s := split; s.Matches = m; return s }
	f("a cookie's value", route.ErrUnsupported, ofIngress+`not supported: ingress-nginx goes by a cookie only if its value is always, not "yes"`,
		nginx, with(route.Match{Cookie: "a", Value: "yes"}), chatService, chatIngress)
	f("two headers", route.ErrUnsupported, ofIngress+`not supported: ingress-nginx goes by one header and one cookie, not by header b: y as well`,
		nginx, with(route.Match{Header: "a", Value: "x"}, route.Match{Header: "b", Value: "y"}), chatService, chatIngress)
	f("switch without the service", route.ErrNotFound, "cannot switch Service demo/chat: Service demo/chat: not found",
		func(t Target) route.Router { return NewSelector(t) }, route.Split{Stable: "old"})
}

func TestNotInstalled(t *testing.T) {
	c := newFakeCluster(t, chatService)
	target := c.target()
	target.Client = interceptor.NewClient(c.inner, interceptor.Funcs{
		Get: func(ctx context.Context, w client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
			gvk := o.GetObjectKind().GroupVersionKind()
			if gvk.Group == "" {
				return w.Get(ctx, key, o, options...)
			}
			return fmt.Errorf("failed to get API group resources: %w", &meta.NoKindMatchError{GroupKind: gvk.GroupKind(), SearchedVersions: []string{gvk.Version}})
		},
	})
	for _, r := range []route.Router{GRPCRoute(target, RulesOptions{Name: "chat"}), VirtualService(target, RulesOptions{Name: "chat"})} {
		require.ErrorIs(t, r.Set(t.Context(), route.Split{Stable: "old"}), route.ErrNotInstalled)
		_, err := r.Read(t.Context())
		require.ErrorContains(t, err, "the API is not installed (CustomResourceDefinition)")
		require.NoError(t, r.Restore(t.Context()), "without the API there is nothing to restore")
	}
}

func TestHelper(t *testing.T) {
	c := newFakeCluster(t, chatService)
	u, err := helperOf(c.get(services(), "chat"), "5d8c")
	require.NoError(t, err)
	text, err := json.Marshal(u.Object)
	require.NoError(t, err)
	assert.JSONEq(t, `{"apiVersion": "v1", "kind": "Service",
		"metadata": {"name": "chat-5d8c", "namespace": "demo", "labels": {"headroom.dev/traffic-of": "chat"}, "ownerReferences": [{"apiVersion": "v1",
			"kind": "Service", "name": "chat", "uid": "0b0c2a48-7f5a-4a51-9a5d-6f1f6f6d5a11", "controller": true, "blockOwnerDeletion": true}]},
		"spec": {"selector": {"app": "chat", "pod-template-hash": "5d8c"}, "sessionAffinity": "ClientIP",
			"ports": [{"name": "http", "port": 80, "targetPort": 8000, "appProtocol": "http"}]}}`, string(text))
	assert.Equal(t, strings.Repeat("a", 52)+"-0123456789", helper(strings.Repeat("a", 63), "0123456789"))
}

func TestWriter(t *testing.T) {
	at := func(second int64) *metav1.Time { return new(metav1.Unix(second, 0)) }
	entry := func(manager string, at *metav1.Time, fields string) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{Manager: manager, Time: at, FieldsV1: metav1.NewFieldsV1(fields)}
	}
	const rules = `{"f:spec":{".":{},"f:rules":{}}}`
	assert.Equal(t, "b", writer([]metav1.ManagedFieldsEntry{
		entry("a", at(1), rules), entry("b", at(3), `{"f:spec":{"f:rules":{"k:{}":{}}}}`), entry("c", at(2), `{"f:spec":{}}`),
		entry(Manager, at(9), rules), entry("d", at(8), `{"f:spec":{"f:hostnames":{}}}`), entry("e", at(9), "nonsense"),
	}, "spec", "rules"))
	assert.Empty(t, writer(nil, "spec"))
	assert.Equal(t, "kubectl", quoted(`conflict with "kubectl" using v1`))
	assert.Empty(t, quoted(`conflict with nobody`))
}

// FuzzForeignObjects reads what others wrote: an object's annotation, managedFields, selector, status and rules.
func FuzzForeignObjects(f *testing.F) {
	f.Add(`{"metadata":{"annotations":{"headroom.dev/traffic":"{\"chat\":{\"wanted\":{\"stable\":\"old\"},\"weights\":[{}]}}"}},"spec":{"rules":[{"backendRefs":[{"name":"chat-old"}]}]}}`)
	f.Add(`{"metadata":{"managedFields":[{"manager":"a","fieldsV1":{"f:spec":{}}}]},"spec":{"parentRefs":[{"name":"gw"}]},"status":{"parents":[{"parentRef":{"name":"gw"},"conditions":[{"type":"Accepted"}]}]}}`)
	f.Add(`{"spec":{"selector":{"pod-template-hash":7},"http":[{}],"rules":[{"http":{"paths":[{"backend":{"service":{"name":"chat"}}}]}}]},"status":{"observedGeneration":"7","conditions":[{}]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		object := map[string]any{}
		if json.Unmarshal([]byte(text), &object) != nil || object == nil {
			return
		}
		u := &unstructured.Unstructured{Object: object}
		target := Target{Namespace: ns, Service: "chat", Now: func() time.Time { return time.Time{} }}
		split := route.Split{Stable: "old", Canary: "new", Share: 0.5}
		for _, r := range []*Rules{HTTPRoute(target, RulesOptions{}), VirtualService(target, RulesOptions{})} {
			_ = r.rewrite(u.DeepCopy(), split)
			_ = r.follows(u, nil)
		}
		_, _ = NewIngress(target, "chat", "").rewrite(u.DeepCopy(), split)
		_ = target.pin(u.DeepCopy(), servicePool(), "old", split)
		_ = target.unpin(u.DeepCopy(), servicePool())
		_ = conflict(u, "spec", "rules")
	})
}
