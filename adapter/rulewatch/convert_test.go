package rulewatch

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/adapter/rules"
)

// TestRule converts what the API server may hold:
//
//	namespaces   NAME key=value,… each line; makes these the known ones
//	rule         the spec in YAML; prints the rule, or why there is none
func TestRule(t *testing.T) {
	var namespaces map[string]labels.Set
	datadriven.RunTest(t, "testdata/convert", func(t *testing.T, d *datadriven.TestData) string {
		t.Helper()
		if d.Cmd == "namespaces" {
			namespaces = map[string]labels.Set{}
			for line := range strings.Lines(d.Input) {
				name, set, _ := strings.Cut(strings.TrimSpace(line), " ")
				var err error
				namespaces[name], err = labels.ConvertSelectorToLabelsMap(set)
				require.NoError(t, err, d.Pos)
			}
			return ""
		}
		u := &unstructured.Unstructured{Object: map[string]any{}}
		var spec map[string]any
		require.NoError(t, yaml.Unmarshal([]byte(d.Input), &spec), d.Pos)
		u.Object["spec"] = spec
		u.SetName("vllm.requests-per-second.pods")
		o := parse(u)
		if o.err != nil {
			return o.err.Error() + "\n"
		}
		r, err := Rule(o.rule, namespaces)
		if err != nil {
			require.Equal(t, []string{}, r.Namespaces, "it serves nothing")
			require.Equal(t, o.name, r.Name)
			return err.Error() + "\n"
		}
		_, err = rules.Compile([]rules.Rule{r})
		return describe(r) + fmt.Sprintf("compile: %v\n", err)
	})
}

func TestTheExamplesCompile(t *testing.T) {
	data, err := os.ReadFile("../../manifests/example/metricrules.yaml")
	require.NoError(t, err)
	var list []rules.Rule
	for document := range strings.SplitSeq(string(data), "\n---\n") {
		u := &unstructured.Unstructured{}
		require.NoError(t, yaml.Unmarshal([]byte(document), &u.Object))
		o := parse(u)
		require.NoError(t, o.err)
		r, err := Rule(o.rule, nil)
		require.NoError(t, err)
		list = append(list, r)
	}
	set, err := rules.Compile(list)
	require.NoError(t, err)
	require.Len(t, set.Rules(), 3)
}

func describe(r rules.Rule) string {
	fallback := "none"
	if f := r.Fallback; f != nil {
		fallback = fmt.Sprintf("after %s, hold for %s", f.After, f.HoldFor)
		if f.Value != nil {
			fallback = fmt.Sprintf("after %s, %v", f.After, *f.Value)
		}
	}
	namespaces := "all"
	if r.Namespaces != nil {
		namespaces = fmt.Sprintf("%q", r.Namespaces)
	}
	return fmt.Sprintf("%s %s %s\ntarget: %+v\nexpr: %s\nunit %q, max age %s, source %q, loading %t, namespaces %s, fallback %s\n",
		r.Origin, r.Name, r.Metric, r.Target, r.Expr, r.Unit, r.MaxAge, r.Source, r.IncludeLoading, namespaces, fallback)
}
