package capacity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
)

const (
	requestName = "ProvisioningRequest"
	bufferName  = "CapacityBuffer"
	// labelSource numbers the source, in spec.sources, that placeholder pods are for.
	labelSource = "headroom.dev/rollout-source"
)

func deploymentKind() schema.GroupVersionKind {
	return appsv1.SchemeGroupVersion.WithKind("Deployment")
}

func podTemplateKind() schema.GroupVersionKind {
	return corev1.SchemeGroupVersion.WithKind("PodTemplate")
}

// asked is what is asked of a source.
type asked struct {
	index    int // in spec.sources
	source   *v1alpha1.ProvisionSource
	replicas int
}

func (a asked) field() string { return fmt.Sprintf("spec.sources[%d].provision", a.index) }

// asks finds the sources that uses are of, by kind and name in their order.
func asks(spec *v1alpha1.RolloutPolicySpec, uses []rollout.Use) ([]asked, error) {
	var out []asked
	free := 0
	taken := map[int]bool{}
	for _, u := range uses {
		if u.Replicas < 1 {
			continue
		}
		i := indexOf(spec, u.Source, taken)
		switch {
		case u.Source.Kind == rollout.Free && i >= 0:
			free += u.Replicas // pods that run already are a source of Free as well, of a name that no policy has
		case u.Source.Kind != rollout.Provision:
			continue
		case i < 0:
			return nil, fmt.Errorf("spec.sources: there is no source Provision %q any more", u.Source.Name)
		}
		taken[i] = true
		if u.Source.Kind == rollout.Provision {
			s := sourcesOf(spec)[i].Provision
			if s == nil {
				return nil, fmt.Errorf("spec.sources[%d].provision is missing: nobody says how nodes are asked for", i)
			}
			out = append(out, asked{i, s, u.Replicas})
		}
	}
	if len(out) > 0 {
		out[0].replicas += free
	}
	return out, nil
}

func indexOf(spec *v1alpha1.RolloutPolicySpec, s rollout.Source, taken map[int]bool) int {
	for i, t := range sourcesOf(spec) {
		if t.Kind == string(s.Kind) && t.Name == s.Name && !taken[i] {
			return i
		}
	}
	return -1
}

// wanted are the objects that ask for the nodes of uses, each after those it refers to.
func (c *Client) wanted(ctx context.Context, p *v1alpha1.RolloutPolicy, n Need, uses []rollout.Use) (wants, error) {
	all, err := asks(&p.Spec, uses)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	if n.Template == nil {
		return nil, errors.New("cannot ask for nodes: no pod template")
	}
	class, err := c.priorityOf(ctx, &n.Template.Spec)
	if err != nil {
		return nil, err
	}
	var out wants
	for _, a := range all {
		m := maker{c: c, p: p, n: n, a: a}
		var more wants
		switch s := a.source; {
		case s.ProvisioningRequest != nil:
			more, err = m.request(s.ProvisioningRequest)
		case s.CapacityBuffer != nil:
			more, err = m.buffer(s.CapacityBuffer)
		case s.Placeholder != nil:
			if _, err = c.placeholderPriority(ctx, s.Placeholder, class); err == nil {
				more, err = m.placeholders(s.Placeholder)
			}
		default:
			err = errors.New("none of provisioningRequest, capacityBuffer and placeholder is set")
		}
		if err != nil {
			return nil, fmt.Errorf("%s.%w", a.field(), err)
		}
		for _, w := range more {
			if out.find(w.object.GroupVersionKind().GroupKind(), w.object.GetName()) == nil { // sources may share a PodTemplate
				out = append(out, w)
			}
		}
	}
	return out, nil
}

// maker makes the objects for one source.
type maker struct {
	c *Client
	p *v1alpha1.RolloutPolicy
	n Need
	a asked
}

// name is one that only what it is made of can have.
func (m *maker) name(of ...any) (string, error) {
	const most = 40 // of the policy's own: Deployments put more behind it in the names of pods
	text, err := json.Marshal(append([]any{m.p.UID}, of...))
	if err != nil {
		return "", fmt.Errorf("cannot name an object: %w", err)
	}
	sum := sha256.Sum256(text)
	return "headroom-" + m.p.Name[:min(len(m.p.Name), most)] + "-" + hex.EncodeToString(sum[:5]), nil
}

func (m *maker) object(gvk schema.GroupVersionKind, name string, body map[string]any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: body}
	u.SetGroupVersionKind(gvk)
	u.SetNamespace(m.p.Namespace)
	u.SetName(name)
	u.SetLabels(map[string]string{LabelPolicy: string(m.p.UID)})
	u.SetOwnerReferences([]metav1.OwnerReference{{
		APIVersion: v1alpha1.GroupVersion().String(), Kind: v1alpha1.KindRolloutPolicy, Name: m.p.Name, UID: m.p.UID, Controller: new(true),
	}})
	return u
}

// template is the PodTemplate that a request or a buffer refers to.
func (m *maker) template() (want, error) {
	t, err := toMap(shadow(m.n))
	if err != nil {
		return want{}, err
	}
	name, err := m.name(t)
	if err != nil {
		return want{}, err
	}
	return want{object: m.object(podTemplateKind(), name, map[string]any{"template": t})}, nil
}

func (m *maker) request(s *v1alpha1.ProvisioningRequestSource) (wants, error) {
	gvk, err := m.c.provisioningRequest()
	if err != nil {
		return nil, fmt.Errorf("provisioningRequest: %w", err)
	}
	t, err := m.template()
	if err != nil {
		return nil, err
	}
	class := s.ClassName
	if class == "" {
		class = "best-effort-atomic-scale-up.autoscaling.x-k8s.io"
	}
	name, err := m.name(m.a.index, t.object.GetName(), class, s.Parameters, m.a.replicas)
	if err != nil {
		return nil, err
	}
	spec := map[string]any{
		"provisioningClassName": class,
		"podSets":               []any{map[string]any{"count": int64(m.a.replicas), "podTemplateRef": map[string]any{"name": t.object.GetName()}}},
	}
	if len(s.Parameters) > 0 {
		parameters := map[string]any{}
		for key, value := range s.Parameters {
			parameters[key] = value
		}
		spec["parameters"] = parameters
	}
	return wants{t, {m.object(gvk, name, map[string]any{"spec": spec}), stateOfRequest}}, nil
}

func (m *maker) buffer(s *v1alpha1.CapacityBufferSource) (wants, error) {
	gvk, err := m.c.capacityBuffer()
	if err != nil {
		return nil, fmt.Errorf("capacityBuffer: %w", err)
	}
	t, err := m.template()
	if err != nil {
		return nil, err
	}
	name, err := m.name(m.a.index, bufferName)
	if err != nil {
		return nil, err
	}
	spec := map[string]any{"podTemplateRef": map[string]any{"name": t.object.GetName()}, "replicas": int64(m.a.replicas)}
	if s.ProvisioningStrategy != "" {
		spec["provisioningStrategy"] = s.ProvisioningStrategy
	}
	return wants{t, {m.object(gvk, name, map[string]any{"spec": spec}), m.stateOfBuffer}}, nil
}

func (m *maker) placeholders(s *v1alpha1.PlaceholderSource) (wants, error) {
	name, err := m.name(m.a.index, "placeholder")
	if err != nil {
		return nil, err
	}
	pod := map[string]string{LabelPolicy: string(m.p.UID), labelSource: strconv.Itoa(m.a.index)}
	spec, err := toMap(appsv1.DeploymentSpec{
		Replicas: new(int32(m.a.replicas)), Selector: &metav1.LabelSelector{MatchLabels: pod},
		Strategy:             appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}, // a surge would ask for nodes of its own
		RevisionHistoryLimit: new(int32(0)),
		Template:             placeholder(m.n, s, pod),
	})
	if err != nil {
		return nil, err
	}
	return wants{{m.object(deploymentKind(), name, map[string]any{"spec": spec}), m.stateOfPlaceholders(pod)}}, nil
}

// toMap is an object without what is empty in it only because its type has no other way to say so.
func toMap[T any](object T) (map[string]any, error) {
	out, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&object)
	if err != nil {
		return nil, fmt.Errorf("cannot write %T: %w", object, err)
	}
	return prune(out), nil
}

func prune(m map[string]any) map[string]any {
	for key, value := range m {
		switch v := value.(type) {
		case nil:
			delete(m, key)
		case map[string]any:
			prune(v)
			if key == "creationTimestamp" || key == "status" {
				delete(m, key)
			}
		case []any:
			for _, item := range v {
				if i, ok := item.(map[string]any); ok {
					prune(i)
				}
			}
		}
	}
	return m
}
