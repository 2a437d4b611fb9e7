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
	"k8s.io/apimachinery/pkg/runtime/schema"
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
		b, err := os.ReadFile(path) //nolint:gosec // the user names it
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
	return documents(path, b, func(where string, document []byte) error { return m.decode(decoder, where, document) })
}

// documents calls each with every document of a YAML file that is not blank, and where it stands.
func documents(path string, b []byte, each func(where string, document []byte) error) error {
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(b)))
	for i := 1; ; i++ {
		document, err := reader.Read()
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
		if err := each(where, document); err != nil {
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
	wanted, err := wants(&meta)
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	if !wanted {
		m.passed = append(m.passed, meta.Kind)
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
	}
	return nil
}

// wants says whether a document is one to read. Of the kinds that are, a version that is not known is an error.
func wants(meta *metav1.TypeMeta) (bool, error) {
	kind := meta.GroupVersionKind()
	version := ""
	switch (schema.GroupKind{Group: kind.Group, Kind: kind.Kind}) {
	case schema.GroupKind{Group: autoscalingv2.GroupName, Kind: "HorizontalPodAutoscaler"}:
		version = autoscalingv2.SchemeGroupVersion.Version
	case schema.GroupKind{Group: v1alpha1.Group, Kind: v1alpha1.KindScalePolicy}:
		version = v1alpha1.Version
	case schema.GroupKind{Kind: "List"}:
		version = corev1.SchemeGroupVersion.Version
	}
	switch {
	case kind.Kind == "" || kind.Version == "":
		return false, errors.New("has no apiVersion or no kind")
	case version == "":
		return false, nil
	case kind.Version != version:
		return false, fmt.Errorf("apiVersion: is %s, must be %s", meta.APIVersion, schema.GroupVersion{Group: kind.Group, Version: version})
	}
	return true, nil
}
