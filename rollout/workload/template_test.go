package workload

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/randfill"
)

// templates makes random templates, whose fields are set or not.
func templates(seed uint64) *randfill.Filler {
	r := rand.New(rand.NewPCG(seed, 1))
	return randfill.New().RandSource(source{r}).NilChance(0.6).NumElements(0, 2).MaxDepth(12).Funcs(
		func(q *resource.Quantity, _ randfill.Continue) {
			*q = resource.MustParse([]string{"0", "1", "1000m", "1Gi", "1024Mi", "1073741824", "0.5", "500m"}[r.IntN(8)])
		},
		func(x *intstr.IntOrString, _ randfill.Continue) {
			*x = []intstr.IntOrString{intstr.FromInt32(0), intstr.FromInt32(8000), intstr.FromString("http")}[r.IntN(3)]
		},
		func(x *metav1.Time, _ randfill.Continue) { *x = metav1.Time{} },
		func(x *metav1.FieldsV1, _ randfill.Continue) { *x = metav1.FieldsV1{} },
		func(x *string, _ randfill.Continue) { *x = []string{"", "a", "b"}[r.IntN(3)] },
		func(x *int32, _ randfill.Continue) { *x = r.Int32N(3) },
		func(x *int64, _ randfill.Continue) { *x = r.Int64N(3) },
	)
}

// source is a source for randfill.
type source struct{ *rand.Rand }

func (s source) Int63() int64 { return s.Int64() }
func (s source) Seed(int64)   {}

// served is what the API server serves of a template.
func served(t require.TestingT, template *corev1.PodTemplateSpec) map[string]any {
	raw, err := json.Marshal(template)
	require.NoError(t, err)
	var out map[string]any
	require.NoError(t, utiljson.Unmarshal(raw, &out))
	return out
}

// copyOf is a deep copy without what is aliased, as after a round trip through the API server.
func copyOf(t require.TestingT, template *corev1.PodTemplateSpec) *corev1.PodTemplateSpec {
	out, err := typed(served(t, template))
	require.NoError(t, err)
	return out
}

// same is the Deployment controller's EqualIgnoreHash (pkg/controller/deployment/util of Kubernetes 1.37).
func same(a, b *corev1.PodTemplateSpec) bool {
	a, b = a.DeepCopy(), b.DeepCopy()
	delete(a.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	delete(b.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	return equality.Semantic.DeepEqual(a, b)
}

// TestIDByController compares pairs of templates, few fields apart, with the Deployment controller's own rule.
func TestIDByController(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	fill := templates(seed)
	r := rand.New(rand.NewPCG(seed, 2))
	equal := 0
	const rounds = 1000
	for range rounds {
		var a corev1.PodTemplateSpec
		fill.Fill(&a)
		b := copyOf(t, &a)
		mutate(reflect.ValueOf(b).Elem(), r, fill)
		a, b = *copyOf(t, &a), copyOf(t, b)
		if same(&a, b) {
			equal++
		}
		if got := identify(served(t, &a)) == identify(served(t, b)); got != same(&a, b) {
			x, _ := json.Marshal(a)
			y, _ := json.Marshal(b)
			t.Fatalf("seed %d: same template %v, same ID %v\n%s\n%s", seed, same(&a, b), got, x, y)
		}
	}
	t.Logf("%d of %d pairs are the same template", equal, rounds)
	assert.Greater(t, equal, rounds/50)
	assert.Less(t, equal, rounds*9/10)
}

// mutate changes one thing, or nothing that counts, somewhere below a value.
func mutate(v reflect.Value, r *rand.Rand, fill *randfill.Filler) {
	for range 20 {
		below := inside(v, r)
		if !below.IsValid() || !below.CanSet() {
			break
		}
		v = below
	}
	if v.CanSet() && v.Kind() != reflect.Interface {
		v.Set(reflect.Zero(v.Type()))
		if r.IntN(2) == 0 {
			fill.Fill(v.Addr().Interface())
		}
	}
}

// inside is a value inside another, invalid where there is none, or where it is enough.
func inside(v reflect.Value, r *rand.Rand) reflect.Value {
	switch kind := v.Kind(); {
	case kind == reflect.Pointer && !v.IsNil() && r.IntN(4) > 0:
		return v.Elem()
	case kind == reflect.Struct && v.Type() != reflect.TypeFor[resource.Quantity]() && v.NumField() > 0:
		return v.Field(r.IntN(v.NumField()))
	case kind == reflect.Slice && v.Len() > 0 && r.IntN(4) > 0:
		return v.Index(r.IntN(v.Len()))
	}
	return reflect.Value{}
}

// TestIDOfHolders: a template has the same ID in its workload, ReplicaSet and ControllerRevision, decoded, defaulted or not, and in
// any order of fields.
func TestIDOfHolders(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	fill := templates(seed)
	for range 200 {
		var a corev1.PodTemplateSpec
		fill.Fill(&a)
		raw := served(t, &a)
		want := identify(raw)
		require.Len(t, want, idLength)

		require.Equal(t, want, identify(served(t, copyOf(t, &a))), "seed %d: decoded and encoded again", seed)
		set := runtime.DeepCopyJSON(raw)
		require.NoError(t, unstructured.SetNestedField(set, "7f9b8c6d4", "metadata", "labels", appsv1.DefaultDeploymentUniqueLabelKey))
		require.Equal(t, want, identify(set), "seed %d: ReplicaSet", seed)

		// As the StatefulSet's and the DaemonSet's controllers make a ControllerRevision's data: through encoding/json, whose
		// numbers are floats, and with what older servers served of empty fields.
		var loose map[string]any
		text, err := json.Marshal(raw)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &loose))
		loose[patchKey] = "replace"
		if meta, ok := loose["metadata"].(map[string]any); ok {
			meta["creationTimestamp"] = nil
		}
		text, err = json.Marshal(map[string]any{"apiVersion": "apps/v1", "kind": "ControllerRevision", "data": map[string]any{"spec": map[string]any{"template": loose}}, "revision": 1})
		require.NoError(t, err)
		var revision map[string]any
		require.NoError(t, utiljson.Unmarshal(text, &revision))
		require.Equal(t, want, identify(revisionTemplate(revision)), "seed %d: ControllerRevision", seed)

		raw["metadata"] = child(raw, "metadata")
		raw["newer"] = map[string]any{"field": true}
		require.NotEqual(t, want, identify(raw), "what a newer API server knows counts")
	}
}

// TestIDOfEmpty tells what is empty by default from what an empty value means something else in.
func TestIDOfEmpty(t *testing.T) {
	base := `{"metadata":{"labels":{"name":"chat"}},"spec":{"containers":[{"name":"server","image":"chat:v1"}]}}`
	id := func(text string) string {
		var m map[string]any
		require.NoError(t, utiljson.Unmarshal([]byte(text), &m))
		return identify(m)
	}
	for _, same := range []string{
		`{"metadata":{"creationTimestamp":null,"labels":{"name":"chat","pod-template-hash":"x","controller-revision-hash":"y"},"annotations":{}},"spec":{"containers":[{"image":"chat:v1","name":"server","resources":{},"env":[],"stdin":false}],"hostname":"","volumes":null}}`,
	} {
		assert.Equal(t, id(base), id(same), same)
	}
	for _, other := range []string{
		`{"metadata":{"labels":{"name":"chat"}},"spec":{"containers":[{"name":"server","image":"chat:v1"}],"securityContext":{}}}`,
		`{"metadata":{"labels":{"name":"chat"}},"spec":{"containers":[{"name":"server","image":"chat:v1"}],"terminationGracePeriodSeconds":0}}`,
		`{"metadata":{"labels":{"name":"chat","x":""}},"spec":{"containers":[{"name":"server","image":"chat:v1"}]}}`,
	} {
		assert.NotEqual(t, id(base), id(other), other)
	}
	quantity := func(q string) string {
		return id(`{"spec":{"containers":[{"name":"server","resources":{"limits":{"memory":` + q + `}}}]}}`)
	}
	for _, same := range []string{`"1024Mi"`, `"1073741824"`, `1073741824`} {
		assert.Equal(t, quantity(`"1Gi"`), quantity(same), same)
	}
	assert.NotEqual(t, quantity(`"1Gi"`), quantity(`"1G"`))
}

// FuzzControllerRevision reads data that anybody may have written into a ControllerRevision.
func FuzzControllerRevision(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"data":null}`, `{"data":{"spec":{"template":[]}}}`, `{"data":{"spec":7}}`,
		`{"revision":3,"data":{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"x","resources":{"limits":{"cpu":"1e3"}}}]}}}}}`,
		`{"revision":1e300,"data":{"spec":{"template":{"metadata":{"labels":7},"spec":{"containers":{"a":[null]}}}}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var object map[string]any
		if utiljson.Unmarshal(raw, &object) != nil || object == nil {
			return
		}
		for _, h := range holders("StatefulSet", []unstructured.Unstructured{{Object: object}}) {
			if len(h.ID) != idLength || h.Template == nil || h.raw == nil {
				t.Fatalf("%s: %+v", raw, h)
			}
			if again := identify(clean(h.raw)); again != h.ID {
				t.Fatalf("%s: ID %s, and %s of what would be written", raw, h.ID, again)
			}
			h.Describe()
			if h.Name() == "" {
				t.Fatalf("%s: no name", raw)
			}
		}
	})
}

// BenchmarkIdentify is what each template costs at each look: one has a dozen ReplicaSets.
func BenchmarkIdentify(b *testing.B) {
	var a corev1.PodTemplateSpec
	templates(1).Fill(&a)
	raw := served(b, &a)
	for b.Loop() {
		identify(raw)
	}
}

// FuzzWriters reads fields of managedFields.
func FuzzWriters(f *testing.F) {
	f.Add([]byte(`{"f:spec":{"f:paused":{}}}`))
	f.Add([]byte(`{"f:spec":7}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		entry := metav1.ManagedFieldsEntry{Manager: "x", FieldsV1: &metav1.FieldsV1{}}
		entry.FieldsV1.SetRawBytes(bytes.Clone(raw))
		for name, who := range writers([]metav1.ManagedFieldsEntry{entry}, "Deployment") {
			if who != "x" && who != unknownWriter {
				t.Fatalf("%s by %q", name, who)
			}
		}
	})
}
