package discovery

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	corev1 "k8s.io/api/core/v1"
)

// objectID names a Secret or ConfigMap.
type objectID struct {
	kind      string // "secret" or "configmap"
	namespace string
	name      string
}

func (id objectID) String() string { return id.kind + " " + id.namespace + "/" + id.name }

// content is what became of reading a Secret or ConfigMap.
type content struct {
	data map[string]string
	err  error
}

// reference is one key of a Secret or ConfigMap in the monitor's own namespace; there is no way to name another.
type reference struct {
	object objectID
	key    string
	field  string // of the endpoint, "basicAuth.username"
	to     func(s *Settings, value string)
}

// credentials are what an endpoint's settings take from Secrets and ConfigMaps.
type credentials []reference

// errPending says that an object will be read in a moment.
var errPending = errors.New("has not been read yet")

// authenticate notes the references; resolve follows them.
func (s endpointSpec) authenticate(m *monitor, e *endpoint) *MonitorError {
	http := s.http
	bearer := http.BearerTokenSecret //nolint:staticcheck // deprecated, and still in manifests that we are given
	if bearer != nil && bearer.Name == "" {
		bearer, http.BearerTokenSecret = nil, nil //nolint:staticcheck // an empty reference is none, as in the operator
	}
	if err := http.Validate(); err != nil {
		return m.wrong(s.field, "not valid: %w", err)
	}
	add := func(field string, selector monitoringv1.SecretOrConfigMap, to func(*Settings, string)) {
		r := reference{field: field, to: to}
		switch {
		case selector.Secret != nil:
			r.object, r.key = objectID{"secret", m.namespace, selector.Secret.Name}, selector.Secret.Key
		case selector.ConfigMap != nil:
			r.object, r.key = objectID{"configmap", m.namespace, selector.ConfigMap.Name}, selector.ConfigMap.Key
		default:
			return
		}
		e.credentials = append(e.credentials, r)
	}
	secret := func(s *corev1.SecretKeySelector) monitoringv1.SecretOrConfigMap {
		if s == nil || s.Name == "" {
			return monitoringv1.SecretOrConfigMap{}
		}
		return monitoringv1.SecretOrConfigMap{Secret: s}
	}
	add("bearerTokenSecret", secret(bearer), func(s *Settings, v string) {
		s.Auth.Scheme, s.Auth.Credentials = "Bearer", Secret(strings.TrimSpace(v))
	})
	if a := http.Authorization; a != nil {
		scheme := strings.TrimSpace(a.Type)
		if scheme == "" {
			scheme = "Bearer"
		}
		add("authorization", secret(a.Credentials), func(s *Settings, v string) { s.Auth.Scheme, s.Auth.Credentials = scheme, Secret(strings.TrimSpace(v)) })
	}
	if b := http.BasicAuth; b != nil {
		add("basicAuth.username", secret(&b.Username), func(s *Settings, v string) { s.Auth.Username = v })
		add("basicAuth.password", secret(&b.Password), func(s *Settings, v string) { s.Auth.Password = Secret(v) })
	}
	t := s.tls
	if t == nil {
		return nil
	}
	if err := t.Validate(); err != nil {
		return m.wrong(s.field+".tlsConfig", "not valid: %w", err)
	}
	add("tlsConfig.ca", t.CA, func(s *Settings, v string) { s.TLS.CA = v })
	add("tlsConfig.cert", t.Cert, func(s *Settings, v string) { s.TLS.Cert = v })
	add("tlsConfig.keySecret", secret(t.KeySecret), func(s *Settings, v string) { s.TLS.Key = Secret(v) })
	if t.ServerName != nil {
		e.settings.TLS.ServerName = *t.ServerName
	}
	e.settings.TLS.InsecureSkipVerify = t.InsecureSkipVerify != nil && *t.InsecureSkipVerify
	return nil
}

// resolve reads what the endpoints refer to.
func (m *monitor) resolve(objects map[objectID]content) {
	for _, e := range m.endpoints {
		if e.invalid == nil {
			e.resolved, e.unresolved = e.resolve(m, objects)
		}
	}
}

func (e *endpoint) resolve(m *monitor, objects map[objectID]content) (*Settings, *MonitorError) {
	settings := e.settings
	for _, r := range e.credentials {
		value, err := r.read(objects)
		if err != nil {
			return nil, m.wrong(e.field+"."+r.field, "%w", err)
		}
		r.to(&settings, value)
	}
	if err := settings.TLS.check(); err != nil {
		return nil, m.wrong(e.field+".tlsConfig", "not valid: %w", err)
	}
	return &settings, nil
}

func (r reference) read(objects map[objectID]content) (string, error) {
	c, ok := objects[r.object]
	switch {
	case !ok:
		return "", fmt.Errorf("%s %w", r.object, errPending)
	case c.err != nil:
		return "", c.err
	}
	value, ok := c.data[r.key]
	if !ok {
		return "", fmt.Errorf("%s has no key %q", r.object, r.key)
	}
	return value, nil
}

func (t TLS) check() error {
	if t.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(t.CA)) {
		return errors.New("ca holds no certificate in PEM")
	}
	if t.Cert == "" && t.Key == "" {
		return nil
	}
	if _, err := tls.X509KeyPair([]byte(t.Cert), []byte(t.Key)); err != nil {
		return fmt.Errorf("cert and keySecret: %w", err)
	}
	return nil
}
