package discovery

import (
	"cmp"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/common/model"
	promlabels "github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// MonitorError is a mistake in a monitor, or what it asks for and is not supported. Nothing is scraped for the endpoint
// that it is about.
type MonitorError struct {
	Monitor string // "PodMonitor demo/chat"
	Field   string // "podMetricsEndpoints[0]", "" for the whole
	Err     error  // "oauth2 is not supported"
}

func (e *MonitorError) Error() string {
	if e.Field == "" {
		return e.Monitor + ": " + e.Err.Error()
	}
	return e.Monitor + ": " + e.Field + ": " + e.Err.Error()
}

func (e *MonitorError) Unwrap() error { return e.Err }

// monitorID names a monitor.
type monitorID struct {
	kind      string // monitoringv1.PodMonitorsKind or monitoringv1.ServiceMonitorsKind
	namespace string
	name      string
}

func (id monitorID) String() string { return id.kind + " " + id.namespace + "/" + id.name }

// compare orders ServiceMonitors before PodMonitors, as they say more: the Service.
func (id monitorID) compare(o monitorID) int {
	return cmp.Or(-cmp.Compare(id.kind, o.kind), cmp.Compare(id.namespace, o.namespace), cmp.Compare(id.name, o.name))
}

// monitor is a PodMonitor or ServiceMonitor made ready for use.
type monitor struct {
	monitorID
	any        bool     // selects in every namespace
	namespaces []string // or in these
	selector   labels.Selector
	endpoints  []*endpoint
	// mistake is of the whole; endpoints have their own.
	mistake error
}

// endpoint is one way in which a monitor's pods are scraped.
type endpoint struct {
	field string // "podMetricsEndpoints[0]"
	// labels are the target's before relabelling: job, __scheme__, __metrics_path__, __param_….
	labels []promlabels.Label
	params url.Values
	// own are the relabelings that the operator adds, its choice of the port among them; then the user's follow.
	own, user   []*relabel.Config
	port        string // what the port must be, for people
	honorLabels bool
	credentials credentials
	settings    Settings // without what the credentials refer to
	resolved    *Settings
	// invalid or, until the credentials can be read, unresolved say why resolved is nil.
	invalid, unresolved *MonitorError
}

func (e *endpoint) mistake() error {
	switch {
	case e.invalid != nil:
		return e.invalid
	case e.unresolved != nil:
		return e.unresolved
	}
	return nil
}

func (m *monitor) inNamespace(namespace string) bool {
	return m.any || slices.Contains(m.namespaces, namespace)
}

// mistakes returns all that a person should hear of.
func (m *monitor) mistakes() []error {
	if m.mistake != nil {
		return []error{m.mistake}
	}
	var out []error
	for _, e := range m.endpoints {
		if mistake := e.mistake(); mistake != nil {
			out = append(out, mistake)
		}
	}
	return out
}

func (m *monitor) wrong(field, format string, args ...any) *MonitorError {
	return &MonitorError{Monitor: m.String(), Field: field, Err: fmt.Errorf(format, args...)}
}

func (m *monitor) foreign() error {
	return m.wrong("namespaceSelector", "pods of other namespaces are left to monitors in trusted namespaces")
}

// compilePodMonitor follows generatePodMonitorConfig of the operator's pkg/prometheus/promcfg.go.
func compilePodMonitor(p *monitoringv1.PodMonitor) *monitor {
	m := newMonitor(monitoringv1.PodMonitorsKind, p.ObjectMeta, p.Spec.NamespaceSelector, p.Spec.Selector, p.Spec.ScrapeClassName)
	for i := range p.Spec.PodMetricsEndpoints {
		ep := &p.Spec.PodMetricsEndpoints[i]
		spec := endpointSpec{
			field: "podMetricsEndpoints[" + strconv.Itoa(i) + "]", job: "podMonitor/" + p.Namespace + "/" + p.Name + "/" + strconv.Itoa(i),
			path: ep.Path, scheme: ep.Scheme, params: ep.Params, timeout: ep.ScrapeTimeout, honorLabels: ep.HonorLabels,
			sampleLimit: p.Spec.SampleLimit, bodyLimit: p.Spec.BodySizeLimit,
			relabelings: ep.RelabelConfigs, metricRelabelings: ep.MetricRelabelConfigs,
			http: ep.HTTPConfigWithoutTLS, proxy: ep.ProxyConfig, tls: ep.TLSConfig,
		}
		spec.own, spec.port = podRelabelings(p, ep)
		m.endpoints = append(m.endpoints, spec.compile(m))
	}
	return m
}

// compileServiceMonitor follows generateServiceMonitorConfig of the operator's pkg/prometheus/promcfg.go.
func compileServiceMonitor(s *monitoringv1.ServiceMonitor) *monitor {
	m := newMonitor(monitoringv1.ServiceMonitorsKind, s.ObjectMeta, s.Spec.NamespaceSelector, s.Spec.Selector, s.Spec.ScrapeClassName)
	for i := range s.Spec.Endpoints {
		ep := &s.Spec.Endpoints[i]
		spec := endpointSpec{
			field: "endpoints[" + strconv.Itoa(i) + "]", job: "serviceMonitor/" + s.Namespace + "/" + s.Name + "/" + strconv.Itoa(i),
			path: ep.Path, scheme: ep.Scheme, params: ep.Params, timeout: ep.ScrapeTimeout, honorLabels: ep.HonorLabels,
			sampleLimit: s.Spec.SampleLimit, bodyLimit: s.Spec.BodySizeLimit,
			relabelings: ep.RelabelConfigs, metricRelabelings: ep.MetricRelabelConfigs,
			http: ep.HTTPConfigWithoutTLS, proxy: ep.ProxyConfig,
		}
		if ep.BearerTokenFile != "" { //nolint:staticcheck // deprecated, and still in manifests that we are given
			spec.unsupported = "bearerTokenFile"
		}
		if t := ep.TLSConfig; t != nil {
			spec.tls = &t.SafeTLSConfig
			if t.CAFile != "" || t.CertFile != "" || t.KeyFile != "" {
				spec.unsupported = "tlsConfig with a file of Prometheus' container"
			}
		}
		spec.own, spec.port = serviceRelabelings(s, ep)
		m.endpoints = append(m.endpoints, spec.compile(m))
	}
	return m
}

func newMonitor(kind string, o metav1.ObjectMeta, namespaces monitoringv1.NamespaceSelector, selector metav1.LabelSelector, class *string) *monitor {
	m := &monitor{
		monitorID: monitorID{kind: kind, namespace: o.Namespace, name: o.Name},
		any:       namespaces.Any, namespaces: namespaces.MatchNames,
	}
	if len(m.namespaces) == 0 {
		m.namespaces = []string{o.Namespace}
	}
	var err error
	if m.selector, err = metav1.LabelSelectorAsSelector(&selector); err != nil {
		m.selector, m.mistake = labels.Nothing(), m.wrong("selector", "not valid: %w", err)
	}
	if class != nil && *class != "" {
		m.mistake = m.wrong("scrapeClass", "not supported")
	}
	return m
}

// endpointSpec is what the endpoints of both kinds have in common.
type endpointSpec struct {
	field, job        string
	path              string
	scheme            *monitoringv1.Scheme
	params            map[string][]string
	timeout           monitoringv1.Duration
	honorLabels       bool
	sampleLimit       *int64
	bodyLimit         *monitoringv1.ByteSize
	relabelings       []monitoringv1.RelabelConfig
	metricRelabelings []monitoringv1.RelabelConfig
	http              monitoringv1.HTTPConfigWithoutTLS
	proxy             monitoringv1.ProxyConfig
	tls               *monitoringv1.SafeTLSConfig
	own               []monitoringv1.RelabelConfig
	port              string
	unsupported       string
}

func (s endpointSpec) compile(m *monitor) *endpoint {
	e := &endpoint{field: s.field, port: s.port, params: s.params, honorLabels: s.honorLabels, labels: []promlabels.Label{
		{Name: model.JobLabel, Value: s.job},
		{Name: model.SchemeLabel, Value: cmp.Or(s.scheme.String(), "http")},
		{Name: model.MetricsPathLabel, Value: cmp.Or(s.path, "/metrics")},
	}}
	for name, values := range s.params {
		if len(values) > 0 {
			e.labels = append(e.labels, promlabels.Label{Name: model.ParamLabelPrefix + name, Value: values[0]})
		}
	}
	e.settings.RefuseRedirects = s.http.FollowRedirects != nil && !*s.http.FollowRedirects
	for _, step := range []func(*monitor, *endpoint) *MonitorError{s.supported, s.relabel, s.limits, s.authenticate} {
		if mistake := step(m, e); mistake != nil {
			e.invalid = mistake
			return e
		}
	}
	return e
}

func (s endpointSpec) supported(m *monitor, _ *endpoint) *MonitorError {
	unsupported := s.unsupported
	switch {
	case s.http.OAuth2 != nil:
		unsupported = "oauth2"
	case s.proxy.ProxyURL != nil && *s.proxy.ProxyURL != "":
		unsupported = "proxyUrl"
	case s.proxy.ProxyFromEnvironment != nil && *s.proxy.ProxyFromEnvironment:
		unsupported = "proxyFromEnvironment"
	case s.tls != nil && s.tls.MaxVersion != nil:
		unsupported = "tlsConfig.maxVersion"
	case s.tls != nil && s.tls.MinVersion != nil && *s.tls.MinVersion != monitoringv1.TLSVersion12:
		unsupported = "tlsConfig.minVersion other than " + string(monitoringv1.TLSVersion12)
	}
	if unsupported == "" {
		return nil
	}
	return m.wrong(s.field, "%s is not supported", unsupported)
}

func (s endpointSpec) relabel(m *monitor, e *endpoint) *MonitorError {
	for _, list := range []struct {
		field string
		from  []monitoringv1.RelabelConfig
		to    *[]*relabel.Config
	}{
		{"port", s.own, &e.own},
		{"relabelings", s.relabelings, &e.user},
		{"metricRelabelings", s.metricRelabelings, &e.settings.Relabel},
	} {
		for i := range list.from {
			config, err := relabelConfig(&list.from[i])
			if err != nil {
				field := s.field + "." + list.field
				if list.field != "port" {
					field += "[" + strconv.Itoa(i) + "]"
				}
				return m.wrong(field, "not valid: %w", err)
			}
			*list.to = append(*list.to, config)
		}
	}
	return nil
}

func (s endpointSpec) limits(m *monitor, e *endpoint) *MonitorError {
	if s.timeout != "" {
		timeout, err := model.ParseDuration(string(s.timeout))
		if err != nil {
			return m.wrong(s.field+".scrapeTimeout", "not valid: %w", err)
		}
		e.settings.Timeout = time.Duration(timeout)
	}
	if s.sampleLimit != nil {
		e.settings.SampleLimit = int(min(*s.sampleLimit, math.MaxInt32))
	}
	if !s.bodyLimit.IsEmpty() {
		limit, err := parseBytes(string(*s.bodyLimit))
		if err != nil {
			return m.wrong("bodySizeLimit", "not valid: %w", err)
		}
		e.settings.BodyLimit = limit
	}
	return nil
}

// parseBytes reads "10MB" and "10MiB", which are the same to Prometheus: 10·2²⁰.
func parseBytes(s string) (int64, error) {
	number := strings.TrimSuffix(s, "B")
	number = strings.TrimSuffix(number, "i")
	factor := 1.0
	if at := strings.LastIndexAny(number, "KMGTPE"); at >= 0 && at == len(number)-1 {
		factor = math.Pow(1024, float64(1+strings.IndexByte("KMGTPE", number[at])))
		number = number[:at]
	}
	n, err := strconv.ParseFloat(number, 64)
	if bytes := n * factor; err == nil && bytes >= 0 && bytes < math.MaxInt64 {
		return int64(bytes), nil
	}
	return 0, fmt.Errorf("%.40q is not a number of bytes such as 10MB", s)
}
