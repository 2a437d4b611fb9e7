package autoscaler

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/workload"
)

var chat = workload.Ref{NamespacedName: types.NamespacedName{Namespace: "prod", Name: "chat"}, Kind: rollout.Deployment}

// server is a fake API server that fills in and refuses as the real one does (SetDefaults_HorizontalPodAutoscalerBehavior and
// ValidateHorizontalPodAutoscaler of 1.37); lab/e2e asks the real one.
type server struct {
	client.WithWatch

	drops  bool // has no HPAConfigurableTolerance
	broken int  // the write, counted from 1, after which it is as if this process had died; 0 for none
	writes int
	dry    int
}

var errDied = errors.New("the process has died")

func newServer(tb testing.TB, objects ...client.Object) *server {
	tb.Helper()
	known := runtime.NewScheme() // without autoscaling/v2, so that fields which the Go types do not have are kept
	require.NoError(tb, v1alpha1.AddToScheme(known))
	s := &server{}
	for _, o := range objects {
		if u, ok := o.(*unstructured.Unstructured); ok {
			fill(specOf(u))
		}
	}
	base := fake.NewClientBuilder().WithScheme(known).WithObjects(objects...).Build()
	s.WithWatch = interceptor.NewClient(base, interceptor.Funcs{Update: s.update})
	return s
}

func (s *server) client() *Client { return &Client{Reader: s, Writer: s} }

func (s *server) update(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return c.Update(ctx, o, opts...)
	}
	spec := specOf(u)
	if s.drops {
		behavior, _ := spec[fieldBehavior].(map[string]any)
		for _, direction := range []string{"scaleUp", "scaleDown"} {
			if rules, ok := behavior[direction].(map[string]any); ok {
				delete(rules, "tolerance")
			}
		}
	}
	fill(spec)
	if most, _ := spec["maxReplicas"].(int64); least(pick(spec)) > most {
		return apierrors.NewInvalid(u.GroupVersionKind().GroupKind(), u.GetName(), nil)
	}
	var options client.UpdateOptions
	if options.ApplyOptions(opts); len(options.DryRun) > 0 {
		s.dry++
		return nil
	}
	if err := c.Update(ctx, u, opts...); err != nil {
		return err
	}
	if s.writes++; s.writes == s.broken {
		return errDied
	}
	return nil
}

// fill does what the API server does with what is left out.
func fill(spec map[string]any) {
	if _, ok := spec[fieldMin]; !ok {
		spec[fieldMin] = int64(1)
	}
	behavior, ok := spec[fieldBehavior].(map[string]any)
	if !ok {
		return
	}
	policy := func(kind string, value int64) any {
		return map[string]any{"type": kind, "value": value, "periodSeconds": int64(15)}
	}
	absent := func(m map[string]any, name string, value any) {
		if _, ok := m[name]; !ok {
			m[name] = value
		}
	}
	up, down := inner(behavior, "scaleUp"), inner(behavior, "scaleDown")
	absent(up, "stabilizationWindowSeconds", int64(0))
	absent(up, "selectPolicy", "Max")
	absent(up, "policies", []any{policy("Pods", 4), policy("Percent", 100)})
	absent(down, "selectPolicy", "Max")
	absent(down, "policies", []any{policy("Percent", 100)})
}

// hpa reads an HPA's manifest: its spec, for chat unless it says otherwise.
func hpa(tb testing.TB, name, spec string) *unstructured.Unstructured {
	tb.Helper()
	raw, err := yaml.YAMLToJSON([]byte(spec))
	require.NoError(tb, err)
	u := &unstructured.Unstructured{Object: map[string]any{}}
	var fields map[string]any
	require.NoError(tb, json.Unmarshal(raw, &fields))
	u.Object["spec"] = fields
	u.SetGroupVersionKind(autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"))
	u.SetNamespace("prod")
	u.SetName(name)
	if _, ok := fields["scaleTargetRef"]; !ok {
		fields["scaleTargetRef"] = map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"}
	}
	if _, ok := fields["metrics"]; !ok {
		fields["metrics"] = []any{drifting()}
	}
	return u
}

// drifting is a metric that counts surge pods for wanted ones.
func drifting() map[string]any {
	return map[string]any{"type": "External", "external": map[string]any{
		"metric": map[string]any{"name": "queue"}, "target": map[string]any{"type": "AverageValue", "averageValue": "10"},
	}}
}

func owned(u *unstructured.Unstructured, version, kind, name string) *unstructured.Unstructured {
	u.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: version, Kind: kind, Name: name, UID: "uid", Controller: new(true)}})
	return u
}

// get returns an HPA as it is.
func (s *server) get(tb testing.TB, name string) *unstructured.Unstructured {
	tb.Helper()
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"))
	require.NoError(tb, s.Get(tb.Context(), client.ObjectKey{Namespace: "prod", Name: name}, u))
	return u
}

// change edits the HPA "h" as somebody else does; it says whether the API server took it.
func (s *server) change(tb testing.TB, edit func(u *unstructured.Unstructured)) bool {
	tb.Helper()
	u := s.get(tb, "h")
	edit(u)
	broken := s.broken
	s.broken = 0
	err := s.Update(tb.Context(), u)
	s.broken = broken
	s.writes--
	if apierrors.IsInvalid(err) {
		s.writes++
		return false
	}
	require.NoError(tb, err)
	return true
}

// ours are the annotations of an HPA that are ours.
func ours(u *unstructured.Unstructured) []string {
	var list []string
	for name := range u.GetAnnotations() {
		if name == Annotation || name == v1alpha1.AnnotationRolloutFloor {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}
