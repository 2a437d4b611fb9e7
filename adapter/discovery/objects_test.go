package discovery

import (
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// readObjects reads the documents of a YAML text.
func readObjects(t *testing.T, text string) []runtime.Object {
	t.Helper()
	var out []runtime.Object
	for doc := range strings.SplitSeq(text, "---\n") {
		var head struct{ Kind string }
		require.NoError(t, yaml.Unmarshal([]byte(doc), &head))
		o, ok := map[string]runtime.Object{
			"Pod": &corev1.Pod{}, "Service": &corev1.Service{}, "Secret": &corev1.Secret{}, "ConfigMap": &corev1.ConfigMap{},
			"PodMonitor": &monitoringv1.PodMonitor{}, "ServiceMonitor": &monitoringv1.ServiceMonitor{},
		}[head.Kind]
		require.True(t, ok, "kind %q", head.Kind)
		require.NoError(t, yaml.UnmarshalStrict([]byte(doc), o), doc)
		out = append(out, o)
	}
	return out
}

func compileObject(t *testing.T, o runtime.Object) *monitor {
	t.Helper()
	switch m := o.(type) {
	case *monitoringv1.PodMonitor:
		return compilePodMonitor(m)
	case *monitoringv1.ServiceMonitor:
		return compileServiceMonitor(m)
	default:
		t.Fatalf("%T is no monitor", o)
		return nil
	}
}
