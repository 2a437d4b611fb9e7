package app

import (
	"fmt"
	"io"
	"os"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/api/v1alpha1"
)

// trial is what the file of -f would change: a workload's template, a policy, or both.
type trial struct {
	path     string
	template *corev1.PodTemplateSpec
	replicas *int32
	policy   *v1alpha1.RolloutPolicy
	passed   []string // what the file holds besides
}

// readTrial takes from a file what is about the target: KIND/NAME, or with no kind what has the name.
func readTrial(path string, stdin io.Reader, kind, name string) (*trial, error) {
	if path == "" {
		return &trial{}, nil
	}
	var b []byte
	var err error
	if path == "-" {
		b, err = io.ReadAll(stdin)
	} else {
		b, err = os.ReadFile(path) //nolint:gosec // the user names it
	}
	if err != nil {
		return nil, fmt.Errorf("-f: %w", err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("cannot prepare to read manifests: %w", err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var objects []found
	t := &trial{path: path}
	err = documents(path, b, func(where string, document []byte) error {
		more, err := decodeTrial(decoder, where, document, t)
		objects = append(objects, more...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("-f: %w", err)
	}
	if err := t.choose(objects, kind, name); err != nil {
		return nil, fmt.Errorf("-f: %w", err)
	}
	return t, nil
}

// found is a document that may be about the target.
type found struct {
	where, kind, name string
	template          *corev1.PodTemplateSpec
	replicas          *int32
	policy            *v1alpha1.RolloutPolicy
}

// decodeTrial decodes strictly: a field that the API server would drop is an error here.
func decodeTrial(decoder runtime.Decoder, where string, document []byte, t *trial) ([]found, error) {
	var meta metav1.TypeMeta
	if err := yaml.Unmarshal(document, &meta); err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	switch meta.Kind {
	case "":
		return nil, fmt.Errorf("%s: has no kind", where)
	case "Deployment", "StatefulSet", "DaemonSet", v1alpha1.KindRolloutPolicy, "List":
	default:
		t.passed = append(t.passed, meta.Kind)
		return nil, nil
	}
	object, _, err := decoder.Decode(document, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %s", where, strings.TrimPrefix(err.Error(), "strict decoding error: "))
	}
	switch x := object.(type) {
	case *corev1.List:
		var all []found
		for i := range x.Items {
			more, err := decodeTrial(decoder, fmt.Sprintf("%s, items[%d]", where, i), x.Items[i].Raw, t)
			if err != nil {
				return nil, err
			}
			all = append(all, more...)
		}
		return all, nil
	case *appsv1.Deployment:
		return []found{{where: where, kind: meta.Kind, name: x.Name, template: &x.Spec.Template, replicas: x.Spec.Replicas}}, nil
	case *appsv1.StatefulSet:
		return []found{{where: where, kind: meta.Kind, name: x.Name, template: &x.Spec.Template, replicas: x.Spec.Replicas}}, nil
	case *appsv1.DaemonSet:
		return []found{{where: where, kind: meta.Kind, name: x.Name, template: &x.Spec.Template}}, nil
	case *v1alpha1.RolloutPolicy:
		return []found{{where: where, kind: meta.Kind, name: x.Name, policy: x}}, nil
	}
	return nil, nil
}

// choose takes the objects that are about the target. Without a kind, a policy of the name says which workload is meant.
func (t *trial) choose(objects []found, kind, name string) error {
	var where string
	for _, o := range objects {
		p := o.policy
		if p == nil || kind == "" && p.Name != name || kind != "" && (p.Spec.TargetRef.Kind != kind || p.Spec.TargetRef.Name != name) {
			continue
		}
		if t.policy != nil {
			return fmt.Errorf("%s: a second RolloutPolicy, %s, for it beside that of %s", o.where, p.Name, where)
		}
		t.policy, where = p, o.where
	}
	if kind == "" && t.policy != nil {
		kind, name = t.policy.Spec.TargetRef.Kind, t.policy.Spec.TargetRef.Name
	}
	t.take(objects, kind, name)
	if t.template == nil && t.policy == nil {
		return fmt.Errorf("%s: there is neither %s nor a RolloutPolicy for it%s", t.path, described(kind, name), t.others(objects))
	}
	return nil
}

// take takes the workload's template.
func (t *trial) take(objects []found, kind, name string) {
	for _, o := range objects {
		if o.template != nil && o.name == name && (kind == "" || o.kind == kind) {
			t.template, t.replicas = o.template, o.replicas
		}
	}
}

func described(kind, name string) string {
	if kind == "" {
		return fmt.Sprintf("a workload %q", name)
	}
	return kind + "/" + name
}

func (t *trial) others(objects []found) string {
	list := t.passed
	for _, o := range objects {
		list = append(list, o.kind+"/"+o.name)
	}
	if len(list) == 0 {
		return ""
	}
	return ", only " + strings.Join(list, ", ")
}
