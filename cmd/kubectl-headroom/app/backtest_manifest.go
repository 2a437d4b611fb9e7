package app

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/api/v1alpha1"
)

// manifests are what the files of -f describe.
type manifests struct {
	hpa    *autoscalingv2.HorizontalPodAutoscaler
	policy *v1alpha1.ScalePolicy
	// where each is from, for errors.
	hpaFrom, policyFrom string
	passed              []string // documents of other kinds
}

// empty are the kinds of documents that are read; others of a file are passed over.
func (m *manifests) empty() bool { return m.hpa == nil && m.policy == nil }

// readManifests decodes strictly: a field that the API server would drop is an error here. Its errors name the file, the
// document and the field.
func readManifests(paths []string) (*manifests, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{autoscalingv2.AddToScheme, v1alpha1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("cannot prepare to read manifests: %w", err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	m := &manifests{}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("-f: %w", err)
		}
		if err := m.read(decoder, path, b); err != nil {
			return nil, fmt.Errorf("-f: %w", err)
		}
	}
	if len(paths) > 0 && m.empty() {
		return nil, fmt.Errorf("-f: %s: there is neither a HorizontalPodAutoscaler nor a ScalePolicy%s", strings.Join(paths, ", "), m.others())
	}
	return m, nil
}

func (m *manifests) others() string {
	if len(m.passed) == 0 {
		return ""
	}
	return ", only " + strings.Join(m.passed, ", ")
}

// read takes the documents of a file.
func (m *manifests) read(decoder runtime.Decoder, path string, b []byte) error {
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(b)))
	for i := 1; ; i++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		where := fmt.Sprintf("%s, document %d", path, i)
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		if blank(document) {
			continue
		}
		if err := m.decode(decoder, where, document); err != nil {
			return err
		}
	}
}

// blank is for documents that are comments alone.
func blank(document []byte) bool {
	for line := range bytes.Lines(document) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && !bytes.Equal(line, []byte("---")) {
			return false
		}
	}
	return true
}

func (m *manifests) decode(decoder runtime.Decoder, where string, document []byte) error {
	var meta metav1.TypeMeta
	if err := yaml.Unmarshal(document, &meta); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	kind := meta.GroupVersionKind()
	ours := kind.Group == v1alpha1.Group && kind.Kind == v1alpha1.KindScalePolicy
	switch {
	case kind.Kind == "" || kind.Version == "":
		return fmt.Errorf("%s: has no apiVersion or no kind", where)
	case kind.Group == autoscalingv2.GroupName && kind.Kind == "HorizontalPodAutoscaler" && kind.Version != "v2":
		return fmt.Errorf("%s: apiVersion: is %s, must be autoscaling/v2", where, meta.APIVersion)
	case ours && kind.Version != v1alpha1.Version:
		return fmt.Errorf("%s: apiVersion: is %s, must be %s", where, meta.APIVersion, v1alpha1.GroupVersion())
	case !ours && kind.Group != autoscalingv2.GroupName && meta.APIVersion != "v1", meta.APIVersion == "v1" && kind.Kind != "List":
		m.passed = append(m.passed, kind.Kind)
		return nil
	}
	object, _, err := decoder.Decode(document, nil, nil)
	if err != nil {
		return fmt.Errorf("%s: %s", where, strings.TrimPrefix(err.Error(), "strict decoding error: "))
	}
	switch x := object.(type) {
	case *corev1.List:
		for i := range x.Items {
			if err := m.decode(decoder, fmt.Sprintf("%s, items[%d]", where, i), x.Items[i].Raw); err != nil {
				return err
			}
		}
	case *autoscalingv2.HorizontalPodAutoscaler:
		if m.hpa != nil {
			return fmt.Errorf("%s: a second HorizontalPodAutoscaler, %s, beside %s (%s): one can be tried at a time", where, x.Name, m.hpa.Name, m.hpaFrom)
		}
		m.hpa, m.hpaFrom = x, where
	case *v1alpha1.ScalePolicy:
		if m.policy != nil {
			return fmt.Errorf("%s: a second ScalePolicy, %s, beside %s (%s): one can be tried at a time", where, x.Name, m.policy.Name, m.policyFrom)
		}
		m.policy, m.policyFrom = x, where
	default:
		m.passed = append(m.passed, kind.Kind)
	}
	return nil
}
