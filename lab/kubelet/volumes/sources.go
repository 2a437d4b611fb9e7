package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/lab/kubelet/podenv"
)

// defaultTokenSeconds is a token's lifetime where the pod names none: the API's own default.
const defaultTokenSeconds = 3600

func (s *Set) configMap(ctx context.Context, namespace, name string, items []corev1.KeyToPath, optional *bool, mode fs.FileMode) (map[string]file, error) {
	cm, err := s.config.Client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && isTrue(optional) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	data := maps.Clone(cm.BinaryData)
	if data == nil {
		data = map[string][]byte{}
	}
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	return pick(data, items, isTrue(optional), mode, "ConfigMap "+name)
}

func (s *Set) secret(ctx context.Context, namespace, name string, items []corev1.KeyToPath, optional *bool, mode fs.FileMode) (map[string]file, error) {
	secret, err := s.config.Client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && isTrue(optional) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return pick(secret.Data, items, isTrue(optional), mode, "Secret "+name)
}

// pick returns all keys as files, or the items alone where there are any.
func pick(data map[string][]byte, items []corev1.KeyToPath, optional bool, mode fs.FileMode, from string) (map[string]file, error) {
	files := map[string]file{}
	for key, content := range data {
		if len(items) == 0 {
			files[key] = file{content, mode}
		}
	}
	for _, item := range items {
		content, ok := data[item.Key]
		if !ok && optional {
			continue
		}
		if !ok {
			return nil, fmt.Errorf("%s has no key %q", from, item.Key)
		}
		files[item.Path] = file{content, itemMode(item.Mode, mode)}
	}
	return files, nil
}

func downward(pod *corev1.Pod, items []corev1.DownwardAPIVolumeFile, mode fs.FileMode) (map[string]file, error) {
	files := map[string]file{}
	for _, item := range items {
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = podenv.Field(pod, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			value, err = podenv.Resource(pod, &corev1.Container{}, item.ResourceFieldRef)
		}
		if err != nil {
			return nil, err
		}
		files[item.Path] = file{[]byte(value), itemMode(item.Mode, mode)}
	}
	return files, nil
}

func (s *Set) projected(ctx context.Context, pod *corev1.Pod, p *corev1.ProjectedVolumeSource) (map[string]file, error) {
	files := map[string]file{}
	mode := mode(p.DefaultMode)
	for _, source := range p.Sources {
		var part map[string]file
		var err error
		switch {
		case source.ServiceAccountToken != nil:
			var text string
			text, err = s.token(ctx, pod, source.ServiceAccountToken)
			part = map[string]file{source.ServiceAccountToken.Path: {[]byte(text), mode}}
		case source.ConfigMap != nil:
			c := source.ConfigMap
			part, err = s.configMap(ctx, pod.Namespace, c.Name, c.Items, c.Optional, mode)
		case source.Secret != nil:
			c := source.Secret
			part, err = s.secret(ctx, pod.Namespace, c.Name, c.Items, c.Optional, mode)
		case source.DownwardAPI != nil:
			part, err = downward(pod, source.DownwardAPI.Items, mode)
		default:
			err = errors.New("the lab does not support this projection")
		}
		if err != nil {
			return nil, err
		}
		maps.Copy(files, part)
	}
	return files, nil
}

type tokenKey struct {
	audience string
	seconds  int64
}

type token struct {
	text    string
	refresh time.Time
}

// token returns a service account token bound to the pod: the one at hand until 80 % of its life is over, as the kubelet
// does, then a new one.
func (s *Set) token(ctx context.Context, pod *corev1.Pod, p *corev1.ServiceAccountTokenProjection) (string, error) {
	key := tokenKey{audience: p.Audience, seconds: defaultTokenSeconds}
	if p.ExpirationSeconds != nil {
		key.seconds = *p.ExpirationSeconds
	}
	now := s.now()
	if t, ok := s.tokens[key]; ok && now.Before(t.refresh) {
		return t.text, nil
	}
	request := &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{
		ExpirationSeconds: &key.seconds,
		BoundObjectRef:    &authv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if key.audience != "" {
		request.Spec.Audiences = []string{key.audience}
	}
	account := pod.Spec.ServiceAccountName
	got, err := s.config.Client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("cannot get a token of service account %s: %w", account, err)
	}
	life := got.Status.ExpirationTimestamp.Sub(now)
	s.tokens[key] = token{text: got.Status.Token, refresh: now.Add(life * 8 / 10)}
	return got.Status.Token, nil
}

func itemMode(m *int32, otherwise fs.FileMode) fs.FileMode {
	if m == nil {
		return otherwise
	}
	return mode(m)
}

func isTrue(b *bool) bool { return b != nil && *b }
