package capacity

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
)

// world is a cluster with one service, played by controller-runtime's fake client.
type world struct {
	t       *testing.T
	api     client.WithWatch
	mapper  *meta.DefaultRESTMapper
	unfit   map[string]map[string]int64
	policy  *v1alpha1.RolloutPolicy
	service corev1.PodTemplateSpec
	client  *Client
	writes  []string

	left   int // writes until one fails; negative: none
	failed error
}

func newWorld(t *testing.T) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, clientgoscheme.AddToScheme(scheme))
	w := &world{t: t, mapper: meta.NewDefaultRESTMapper(nil), left: -1}
	for gvk := range scheme.AllKnownTypes() {
		w.mapper.Add(gvk, meta.RESTScopeNamespace)
	}
	inner := fake.NewClientBuilder().WithScheme(scheme).WithRESTMapper(w.mapper).WithReturnManagedFields().Build()
	w.api = interceptor.NewClient(inner, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
			return w.write("create", o, func() error { return c.Create(ctx, o, options...) })
		},
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, options ...client.ApplyOption) error {
			named, ok := o.(interface {
				GetKind() string
				GetName() string
			})
			if !ok {
				return fmt.Errorf("%T has no name", o)
			}
			return w.note("apply "+named.GetKind(), func() error { return c.Apply(ctx, o, options...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.DeleteOption) error {
			return w.write("delete", o, func() error { return c.Delete(ctx, o, options...) })
		},
	})
	w.policy = &v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "chat", UID: "5d1c"}}
	w.policy.Spec.TargetRef = v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "chat"}
	w.restart()
	return w
}

// restart begins with a Client that knows nothing.
func (w *world) restart() {
	w.client = &Client{Client: w.api, Now: func() time.Time { return time.Unix(0, 0) }, Unfit: func(context.Context) (map[string]map[string]int64, error) { return w.unfit, nil }}
}

func (w *world) write(verb string, o client.Object, do func() error) error {
	return w.note(verb+" "+o.GetObjectKind().GroupVersionKind().Kind, do)
}

func (w *world) note(what string, do func() error) error {
	if w.left == 0 && w.failed != nil {
		return w.failed
	}
	w.left--
	if err := do(); err != nil {
		return err
	}
	w.writes = append(w.writes, what)
	return nil
}

func (w *world) create(o client.Object) {
	w.t.Helper()
	require.NoError(w.t, w.api.Create(w.t.Context(), o))
	w.writes = nil
}

func (w *world) install(kind, version string) {
	w.mapper.Add(schema.GroupVersionKind{Group: autoscalingGroup, Version: version, Kind: kind}, meta.RESTScopeNamespace)
}

// args are words of a line: a=b and flags.
type args map[string]string

func parseArgs(words []string) args {
	out := args{}
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		out[key] = value
	}
	return out
}

func (a args) resources() corev1.ResourceList {
	out := corev1.ResourceList{}
	for key, name := range map[string]corev1.ResourceName{"gpu": "nvidia.com/gpu", "mig": "nvidia.com/mig-1g.10gb", "rdma": "rdma/hca", "cpu": "cpu"} {
		if value, ok := a[key]; ok {
			out[name] = resource.MustParse(value)
		}
	}
	return out
}

func pairs(text string) map[string]string {
	out := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		if key, value, ok := strings.Cut(pair, ":"); ok {
			out[key] = value
		}
	}
	return out
}

// line makes one object.
func (w *world) line(text string) {
	words := strings.Fields(text)
	a := parseArgs(words[2:])
	switch words[0] {
	case "node":
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: words[1], Labels: pairs(a["labels"])}}
		n.Labels[corev1.LabelHostname] = words[1]
		n.Status.Allocatable = a.resources()
		n.Status.Allocatable["pods"] = resource.MustParse("110")
		if key, effect, ok := strings.Cut(a["taint"], ":"); ok {
			n.Spec.Taints = []corev1.Taint{{Key: key, Effect: corev1.TaintEffect(effect)}}
		}
		if units, ok := a["unfit"]; ok {
			number, err := strconv.ParseInt(units, 10, 64)
			require.NoError(w.t, err)
			w.unfit = map[string]map[string]int64{words[1]: {"nvidia.com/gpu": number}}
		}
		w.create(n)
	case "class":
		value, err := strconv.ParseInt(a["value"], 10, 32)
		require.NoError(w.t, err)
		k := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: words[1]}, Value: int32(value)}
		if _, ok := a["never"]; ok {
			k.PreemptionPolicy = new(corev1.PreemptNever)
		}
		_, k.GlobalDefault = a["default"]
		w.create(k)
	case "pod":
		w.create(w.pod(words[1], a))
	case "namespace":
		w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: words[1]}})
	case "crd":
		w.install(words[1], words[2])
	default:
		w.t.Fatalf("unknown object %q", words[0])
	}
}

func (w *world) pod(name string, a args) *corev1.Pod {
	namespace, name, _ := strings.Cut(name, "/")
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(namespace + name), Labels: pairs(a["labels"])},
		Spec:       corev1.PodSpec{NodeName: a["node"], Containers: []corev1.Container{{Name: "c", Image: "x", Resources: corev1.ResourceRequirements{Requests: a.resources()}}}},
	}
	if kind, owner, ok := strings.Cut(a["owner"], "/"); ok {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: owner, UID: "o", Controller: new(true)}}
	}
	number := func(key string) (int64, bool) {
		text, ok := a[key]
		if !ok {
			return 0, false
		}
		n, err := strconv.ParseInt(text, 10, 64)
		require.NoError(w.t, err)
		return n, true
	}
	if n, ok := number("priority"); ok {
		p.Spec.Priority = new(int32(n))
	}
	if n, ok := number("grace"); ok {
		p.Spec.TerminationGracePeriodSeconds = &n
	}
	if _, ok := a["gated"]; ok {
		p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "wait"}}
	}
	p.Status.Phase = corev1.PodPhase(a["phase"])
	return p
}

func (w *world) need(most int) Need {
	return Need{Namespace: "prod", Template: &w.service, Labels: map[string]string{hashLabel: "new"}, Most: most}
}

func (w *world) look(most int) string {
	r, err := w.client.Look(w.t.Context(), &w.policy.Spec, w.need(most))
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d %q, %d free\n", r.GPUs, r.Resource, r.Free)
	for i, s := range r.Sources {
		fmt.Fprintf(&b, "%s%s: %d", s.Kind, strings.TrimSuffix(" "+s.Name, " "), s.Replicas)
		if s.Delay != 0 {
			fmt.Fprintf(&b, " after %s", s.Delay)
		}
		b.WriteString("\n")
		if r.Messages[i] != "" {
			b.WriteString("  " + r.Messages[i] + "\n")
		}
	}
	return b.String()
}

// uses are lines: Kind replicas name.
func parseUses(t *testing.T, text string) []rollout.Use {
	t.Helper()
	var out []rollout.Use
	for line := range strings.Lines(text) {
		words := strings.SplitN(strings.TrimSpace(line), " ", 3)
		n, err := strconv.Atoi(words[1])
		require.NoError(t, err)
		u := rollout.Use{Source: rollout.Source{Kind: rollout.SourceKind(words[0])}, Replicas: n}
		if len(words) > 2 {
			u.Source.Name = words[2]
		}
		out = append(out, u)
	}
	return out
}

func (w *world) ensure(uses []rollout.Use) string {
	w.writes = nil
	message, err := w.client.Ensure(w.t.Context(), w.policy, w.need(9), uses)
	out := strings.Join(w.writes, "\n")
	if out != "" {
		out += "\n"
	}
	if err != nil {
		return out + "error: " + err.Error() + "\n"
	}
	if message != "" {
		return out + "waits: " + message + "\n"
	}
	return out + "waits for nothing\n"
}

// all are the objects of the policy.
func (w *world) all() objects {
	w.t.Helper()
	found, err := w.client.objects(w.t.Context(), w.policy)
	require.NoError(w.t, err)
	return found
}

func (w *world) show() string {
	var out []string
	for _, o := range w.all() {
		body := map[string]any{"kind": o.GetKind(), "apiVersion": o.GetAPIVersion(), "name": o.GetName()}
		for _, field := range []string{"spec", "template"} {
			if o.Object[field] != nil {
				body[field] = o.Object[field]
			}
		}
		text, err := yaml.Marshal(body)
		require.NoError(w.t, err)
		out = append(out, string(text))
	}
	if len(out) == 0 {
		return "nothing\n"
	}
	return strings.Join(out, "---\n")
}

// condition sets one on the only object of a kind.
func (w *world) condition(kind string, a args, message string) {
	w.t.Helper()
	for _, o := range w.all() {
		if o.GetKind() != kind {
			continue
		}
		list, _, err := unstructured.NestedSlice(o.Object, "status", "conditions")
		require.NoError(w.t, err)
		for _, name := range slices.Sorted(maps.Keys(a)) {
			list = append(list, map[string]any{"type": name, "status": a[name], "reason": "Because", "message": message, "lastTransitionTime": "2026-11-29T00:00:00Z"})
		}
		require.NoError(w.t, unstructured.SetNestedSlice(o.Object, list, "status", "conditions"))
		require.NoError(w.t, w.api.Update(w.t.Context(), o))
	}
}

// TestScenarios plays what testdata/scenarios tell.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		t.Helper()
		w := newWorld(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			w.t = t
			switch d.Cmd {
			case "cluster":
				for line := range strings.Lines(d.Input) {
					w.line(strings.TrimSpace(line))
				}
				return "ok\n"
			case "service":
				w.service = corev1.PodTemplateSpec{}
				require.NoError(t, yaml.UnmarshalStrict([]byte(d.Input), &w.service))
				return "ok\n"
			case "sources":
				w.policy.Spec.Sources = nil
				require.NoError(t, yaml.UnmarshalStrict([]byte(d.Input), &w.policy.Spec.Sources))
				return "ok\n"
			case "look":
				most := 9
				d.MaybeScanArgs(t, "most", &most)
				return w.look(most)
			case "ensure":
				return w.ensure(parseUses(t, d.Input))
			case "objects":
				return w.show()
			case "condition":
				words := strings.Fields(d.Input)
				w.condition(words[0], parseArgs(words[1:2]), strings.Join(words[2:], " "))
				return "ok\n"
			}
			t.Fatalf("unknown command %q", d.Cmd)
			return ""
		})
	})
}
