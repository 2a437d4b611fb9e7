package podenv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

// Objects gives the ConfigMaps and Secrets that containers refer to.
type Objects interface {
	corev1client.ConfigMapsGetter
	corev1client.SecretsGetter
}

// Environment returns a container's variables: base (what the kubelet itself sets), then envFrom, then env, later ones
// over earlier ones. $(NAME) in a value sees the variables before it. Errors: a reference that is missing and not
// optional, a source that the lab does not support.
func Environment(ctx context.Context, objects Objects, pod *corev1.Pod, c *corev1.Container, base map[string]string) (map[string]string, error) {
	env := maps.Clone(base)
	if env == nil {
		env = map[string]string{}
	}
	for i := range c.EnvFrom {
		data, err := bulk(ctx, objects, pod.Namespace, &c.EnvFrom[i])
		if err != nil {
			return nil, fmt.Errorf("cannot read envFrom of container %s: %w", c.Name, err)
		}
		for key, value := range data {
			env[c.EnvFrom[i].Prefix+key] = value
		}
	}
	for i := range c.Env {
		v := &c.Env[i]
		if v.ValueFrom == nil {
			env[v.Name] = Expand(v.Value, env)
			continue
		}
		value, present, err := reference(ctx, objects, pod, c, v.ValueFrom)
		if err != nil {
			return nil, fmt.Errorf("cannot set variable %s of container %s: %w", v.Name, c.Name, err)
		}
		if present {
			env[v.Name] = value
		}
	}
	return env, nil
}

// List returns the variables as NAME=value, sorted by name.
func List(env map[string]string) []string {
	out := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out
}

// reference returns a valueFrom's value; present is false for an optional reference to nothing.
func reference(ctx context.Context, objects Objects, pod *corev1.Pod, c *corev1.Container, from *corev1.EnvVarSource) (value string, present bool, err error) {
	switch {
	case from.FieldRef != nil:
		value, err = Field(pod, from.FieldRef.FieldPath)
		return value, err == nil, err
	case from.ResourceFieldRef != nil:
		value, err = Resource(pod, c, from.ResourceFieldRef)
		return value, err == nil, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		data, err := configMap(ctx, objects, pod.Namespace, ref.Name, ref.Optional)
		return key(data, err, "ConfigMap", ref.Name, ref.Key, ref.Optional)
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		data, err := secret(ctx, objects, pod.Namespace, ref.Name, ref.Optional)
		return key(data, err, "Secret", ref.Name, ref.Key, ref.Optional)
	}
	return "", false, errors.New("the lab does not support this valueFrom")
}

func key(data map[string]string, err error, kind, name, k string, optional *bool) (value string, present bool, _ error) {
	if err != nil {
		return "", false, err
	}
	value, present = data[k]
	if !present && !isTrue(optional) {
		return "", false, fmt.Errorf("%s %s has no key %q", kind, name, k)
	}
	return value, present, nil
}

func bulk(ctx context.Context, objects Objects, namespace string, from *corev1.EnvFromSource) (map[string]string, error) {
	switch {
	case from.ConfigMapRef != nil:
		return configMap(ctx, objects, namespace, from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
	case from.SecretRef != nil:
		return secret(ctx, objects, namespace, from.SecretRef.Name, from.SecretRef.Optional)
	}
	return nil, errors.New("the lab does not support this envFrom")
}

func configMap(ctx context.Context, objects Objects, namespace, name string, optional *bool) (map[string]string, error) {
	cm, err := objects.ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && isTrue(optional) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return cm.Data, nil
}

func secret(ctx context.Context, objects Objects, namespace, name string, optional *bool) (map[string]string, error) {
	s, err := objects.Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && isTrue(optional) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	data := make(map[string]string, len(s.Data))
	for k, v := range s.Data {
		data[k] = string(v)
	}
	return data, nil
}

func isTrue(b *bool) bool { return b != nil && *b }
