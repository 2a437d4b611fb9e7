package v1alpha1_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/json"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/api/v1alpha1"
)

const manifest = "../../manifests/crds/headroom.dev_metricrules.yaml"

// definition is a CustomResourceDefinition as the API server applies it to objects.
type definition struct {
	crd        *apiextensions.CustomResourceDefinition
	structural *structuralschema.Structural
	schema     validation.SchemaValidator
	cel        *cel.Validator
}

// loadDefinition does what the API server does when the manifest is applied.
func loadDefinition(t *testing.T) *definition {
	t.Helper()
	data, err := os.ReadFile(manifest)
	require.NoError(t, err)
	var v1 apiextensionsv1.CustomResourceDefinition
	require.NoError(t, yaml.UnmarshalStrict(data, &v1))
	apiextensionsv1.SetDefaults_CustomResourceDefinition(&v1)
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&v1.Spec)
	v1.Status.StoredVersions = []string{v1alpha1.Version}
	d := &definition{crd: &apiextensions.CustomResourceDefinition{}}
	require.NoError(t, apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&v1, d.crd, nil))
	schema := d.crd.Spec.Validation
	if schema == nil {
		schema = d.crd.Spec.Versions[0].Schema
	}
	d.structural, err = structuralschema.NewStructural(schema.OpenAPIV3Schema)
	require.NoError(t, err)
	d.schema, _, err = validation.NewSchemaValidator(schema.OpenAPIV3Schema)
	require.NoError(t, err)
	d.cel = cel.NewValidator(d.structural, true, celconfig.PerCallLimit)
	return d
}

// admit does what the API server does when an object is created: it prunes and defaults it, and returns what is wrong.
func (d *definition) admit(t *testing.T, object map[string]any) []string {
	t.Helper()
	problems := []string{}
	for _, path := range pruning.PruneWithOptions(object, d.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		problems = append(problems, "unknown field: "+path)
	}
	defaulting.Default(object, d.structural)
	errs := validation.ValidateCustomResource(nil, object, d.schema)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, d.structural, object)...)
	if len(errs) == 0 { // as the API server: CEL may rely on the schema
		errs, _ = d.cel.Validate(t.Context(), nil, d.structural, object, nil, celconfig.RuntimeCELCostBudget)
	}
	for _, err := range errs {
		problems = append(problems, err.Error())
	}
	slices.Sort(problems)
	return problems
}

func TestTheDefinitionIsValid(t *testing.T) {
	d := loadDefinition(t)
	require.Empty(t, crdvalidation.ValidateCustomResourceDefinition(t.Context(), d.crd), "with it the costs of CEL")
	names := d.crd.Spec.Names
	require.Equal(t, v1alpha1.Group, d.crd.Spec.Group)
	require.Equal(t, v1alpha1.KindMetricRule, names.Kind)
	require.Equal(t, v1alpha1.ResourceMetricRules, names.Plural)
	require.Equal(t, apiextensions.ClusterScoped, d.crd.Spec.Scope)
	require.Equal(t, v1alpha1.Version, d.crd.Spec.Versions[0].Name)
}

// TestEveryFieldIsExplained: kubectl explain shows what stands here.
func TestEveryFieldIsExplained(t *testing.T) {
	var walk func(path string, s *structuralschema.Structural)
	walk = func(path string, s *structuralschema.Structural) {
		for name, p := range s.Properties {
			at := path + "." + name
			if at == ".metadata" || at == ".apiVersion" || at == ".kind" {
				continue
			}
			require.NotEmpty(t, p.Description, at)
			walk(at, &p)
		}
		if s.Items != nil {
			walk(path+"[]", s.Items)
		}
	}
	walk("", loadDefinition(t).structural)
}

// TestValidation runs what users write past the API server's own validation:
//
//	create   the spec in YAML; prints what the adapter sees of it, or each complaint
func TestValidation(t *testing.T) {
	d := loadDefinition(t)
	datadriven.RunTest(t, "testdata/metricrule", func(t *testing.T, td *datadriven.TestData) string {
		t.Helper()
		object := map[string]any{
			"apiVersion": v1alpha1.GroupVersion().String(), "kind": v1alpha1.KindMetricRule,
			"metadata": map[string]any{"name": "rule"},
		}
		var spec map[string]any
		asJSON, err := yaml.YAMLToJSON([]byte(td.Input))
		require.NoError(t, err, td.Pos)
		require.NoError(t, json.Unmarshal(asJSON, &spec), td.Pos)
		object["spec"] = spec
		if problems := d.admit(t, object); len(problems) > 0 {
			return strings.Join(problems, "\n") + "\n"
		}
		// What passes the API server decodes, strictly, and survives a round trip.
		rule := decode(t, object)
		again, err := runtime.DefaultUnstructuredConverter.ToUnstructured(rule.DeepCopy())
		require.NoError(t, err)
		require.True(t, equality.Semantic.DeepEqual(rule, decode(t, again)), td.Pos)
		out, err := yaml.Marshal(again["spec"])
		require.NoError(t, err)
		return string(out)
	})
}

func decode(t *testing.T, object map[string]any) *v1alpha1.MetricRule {
	t.Helper()
	rule := &v1alpha1.MetricRule{}
	require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object, rule, true))
	return rule
}

func TestCodec(t *testing.T) {
	scheme := runtime.NewScheme()
	require.NoError(t, v1alpha1.AddToScheme(scheme))
	codecs := serializer.NewCodecFactory(scheme, serializer.EnableStrict)
	in := []byte(`
apiVersion: headroom.dev/v1alpha1
kind: MetricRule
metadata: {name: queue}
spec: {metric: queue_length, expr: sum(queue), external: {}}
`)
	object, kind, err := codecs.UniversalDeserializer().Decode(in, nil, nil)
	require.NoError(t, err)
	require.Equal(t, v1alpha1.GroupVersion().WithKind(v1alpha1.KindMetricRule), *kind)
	rule := object.(*v1alpha1.MetricRule)
	require.NotNil(t, rule.Spec.External)
	require.Nil(t, rule.Spec.External.Labels)
	out, err := runtime.Encode(codecs.LegacyCodec(v1alpha1.GroupVersion()), &v1alpha1.MetricRuleList{Items: []v1alpha1.MetricRule{*rule}})
	require.NoError(t, err)
	require.NotContains(t, string(out), `"status"`, "an unknown status is left out, not zero")
	list, err := runtime.Decode(codecs.UniversalDecoder(v1alpha1.GroupVersion()), out)
	require.NoError(t, err)
	require.Equal(t, "queue_length", list.(*v1alpha1.MetricRuleList).Items[0].Spec.Metric)

	_, _, err = codecs.UniversalDeserializer().Decode([]byte(strings.Replace(string(in), "metric:", "metrik:", 1)), nil, nil)
	require.ErrorContains(t, err, `unknown field "spec.metrik"`)
}

func TestTheExamplesPass(t *testing.T) {
	d := loadDefinition(t)
	data, err := os.ReadFile("../../manifests/example/metricrules.yaml")
	require.NoError(t, err)
	documents := strings.Split(string(data), "\n---\n")
	require.Len(t, documents, 3)
	for _, document := range documents {
		asJSON, err := yaml.YAMLToJSON([]byte(document))
		require.NoError(t, err)
		var object map[string]any
		require.NoError(t, json.Unmarshal(asJSON, &object))
		require.Empty(t, d.admit(t, object))
	}
}

// TestStatusPasses: the fullest status that the adapter writes is one that the API server takes.
func TestStatusPasses(t *testing.T) {
	now := metav1.Now()
	rule := &v1alpha1.MetricRule{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion().String(), Kind: v1alpha1.KindMetricRule},
		ObjectMeta: metav1.ObjectMeta{Name: "rule"},
		Spec:       v1alpha1.MetricRuleSpec{Metric: "m", Expr: "m", Object: &v1alpha1.ObjectTarget{Resource: "pods"}},
		Status: v1alpha1.MetricRuleStatus{
			ObservedGeneration: 3, ServedFor: "pods", Series: new(int64(0)), Objects: new(int64(0)), LastEvaluationTime: &now,
			LastEvaluationDuration: &metav1.Duration{Duration: 1234567}, // 1.234567ms
			Conditions: []metav1.Condition{{
				Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonInvalid,
				Message: "no", LastTransitionTime: now, ObservedGeneration: 3,
			}},
		},
	}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(rule)
	require.NoError(t, err)
	require.Empty(t, loadDefinition(t).admit(t, object))
	require.Contains(t, object["status"], "series", "zero is a number, too")
}
