package discovery

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/common/model"
	promlabels "github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"headroom.dev/headroom/adapter/metric"
)

// ErrNotSelected says that nothing asks for the pod to be scraped.
var ErrNotSelected = fmt.Errorf("%w, and no PodMonitor or ServiceMonitor selects it", ErrNotAnnotated)

// annotated are the settings of targets that annotations name. They have no room for a CA: https encrypts and does not
// authenticate.
func annotated() *Settings { return &Settings{TLS: TLS{InsecureSkipVerify: true}} }

// service is a Service made ready for use.
type service struct {
	*corev1.Service
	selector labels.Selector // of pods; Nothing where it has none
}

func newService(s *corev1.Service) *service {
	if len(s.Spec.Selector) == 0 || s.Spec.Type == corev1.ServiceTypeExternalName {
		return &service{s, labels.Nothing()}
	}
	return &service{s, labels.ValidatedSetSelector(s.Spec.Selector)}
}

// surroundings are what decides over a pod's targets besides the pod.
type surroundings struct {
	trusted   map[string]bool // namespaces
	annotated *Settings
	services  []*service // that select the pod, by name
	monitors  []*monitor // that select in the pod's namespace, in order
}

// targets returns what of the pod is to be scraped, and why not what somebody asked for and is not.
func (s *surroundings) targets(pod *corev1.Pod) (targets []Target, reasons []error) {
	switch {
	case pod.DeletionTimestamp != nil:
		return nil, []error{ErrTerminating}
	case ended(pod):
		return nil, []error{ErrEnded}
	}
	f := finder{surroundings: s, pod: pod}
	for _, m := range s.monitors {
		f.monitor(m)
	}
	switch u, err := annotatedURL(pod); {
	case err == nil:
		f.add(Target{
			URL: u, Labels: f.labels(promlabels.NewBuilder(promlabels.EmptyLabels())), HonorLabels: s.trusted[pod.Namespace], Settings: s.annotated,
		})
	case !errors.Is(err, ErrNotAnnotated):
		f.reasons = append(f.reasons, err)
	case len(f.reasons) == 0:
		f.reasons = append(f.reasons, ErrNotSelected)
	}
	return f.found, f.reasons
}

// finder collects the targets of one pod.
type finder struct {
	*surroundings
	pod     *corev1.Pod
	meta    []promlabels.Label // of the pod, made when a monitor needs them
	builder *promlabels.Builder
	found   []Target
	reasons []error
}

func (f *finder) monitor(m *monitor) {
	if m.kind == monitoringv1.PodMonitorsKind {
		if m.selector.Matches(labels.Set(f.pod.Labels)) {
			f.selected(m, nil)
		}
		return
	}
	for _, s := range f.services {
		if m.selector.Matches(labels.Set(s.Labels)) {
			f.selected(m, s)
		}
	}
}

// selected goes through the endpoints of a monitor that selects the pod, itself or behind a Service.
func (f *finder) selected(m *monitor, s *service) {
	switch {
	case m.mistake != nil:
		f.reasons = append(f.reasons, m.mistake)
		return
	case m.namespace != f.pod.Namespace && !f.trusted[m.namespace]:
		f.reasons = append(f.reasons, m.foreign())
		return
	case f.pod.Status.PodIP == "":
		if !slices.Contains(f.reasons, ErrNoAddress) {
			f.reasons = append(f.reasons, ErrNoAddress)
		}
		return
	}
	var candidates []candidate
	if s == nil {
		candidates = podCandidates(f.pod)
	} else {
		candidates = serviceCandidates(f.pod, s.Service)
	}
	base := f.base(s)
	for _, e := range m.endpoints {
		if mistake := e.mistake(); mistake != nil {
			f.reasons = append(f.reasons, mistake)
			continue
		}
		f.endpoint(m, e, base, candidates)
	}
}

func (f *finder) base(s *service) promlabels.Labels {
	if f.meta == nil {
		f.meta = podMeta(f.pod)
		f.builder = promlabels.NewBuilder(promlabels.EmptyLabels())
	}
	all := slices.Clone(f.meta)
	if s != nil {
		all = append(all, serviceMeta(s.Service)...)
	}
	// Keys that become the same name: which one stays must not depend on a map's order.
	slices.SortFunc(all, func(a, b promlabels.Label) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.Value, b.Value)
	})
	all = slices.CompactFunc(all, func(a, b promlabels.Label) bool { return a.Name == b.Name })
	return promlabels.New(all...)
}

func (f *finder) endpoint(m *monitor, e *endpoint, base promlabels.Labels, candidates []candidate) {
	chosen, kept := false, false
	for _, c := range candidates {
		f.builder.Reset(base)
		for _, l := range c.labels {
			f.builder.Set(l.Name, l.Value)
		}
		for _, l := range e.labels {
			f.builder.Set(l.Name, l.Value)
		}
		f.builder.Set(model.AddressLabel, c.address)
		if !relabel.ProcessBuilder(f.builder, e.own...) {
			continue
		}
		chosen = true
		if !relabel.ProcessBuilder(f.builder, e.user...) {
			continue
		}
		kept = true
		u, err := targetURL(f.builder, e.params, f.pod.Status.PodIP)
		if err != nil {
			f.reasons = append(f.reasons, m.wrong(e.field+".relabelings", "%w", err))
			continue
		}
		if f.builder.Get(model.InstanceLabel) == "" {
			f.builder.Set(model.InstanceLabel, f.builder.Get(model.AddressLabel))
		}
		f.add(Target{
			URL: u, Labels: f.labels(f.builder), HonorLabels: e.honorLabels && f.trusted[f.pod.Namespace], Settings: e.resolved,
		})
	}
	switch {
	case !chosen && e.port == "":
		f.reasons = append(f.reasons, m.wrong(e.field, "the pod has no port"))
	case !chosen:
		f.reasons = append(f.reasons, m.wrong(e.field, "the pod has no port %s", e.port))
	case !kept:
		f.reasons = append(f.reasons, m.wrong(e.field+".relabelings", "the pod is dropped"))
	}
}

// labels takes what relabelling has left, and puts the pod's own names over it.
func (f *finder) labels(b *promlabels.Builder) promlabels.Labels {
	b.Range(func(l promlabels.Label) {
		if reserved(l.Name) {
			b.Del(l.Name)
		}
	})
	b.Set("namespace", f.pod.Namespace)
	b.Set("pod", f.pod.Name)
	b.Set("node", f.pod.Spec.NodeName)
	return b.Labels()
}

// add takes the target unless its URL is there already: what found it first decides how, and either may honour labels.
func (f *finder) add(t Target) {
	t.ID = f.pod.Namespace + "/" + f.pod.Name + " " + t.URL
	t.Incarnation = string(f.pod.UID)
	t.Pod = metric.Object{Resource: metric.Pods, Namespace: f.pod.Namespace, Name: f.pod.Name}
	for i := range f.found {
		if f.found[i].URL == t.URL {
			f.found[i].HonorLabels = f.found[i].HonorLabels || t.HonorLabels
			return
		}
	}
	f.found = append(f.found, t)
}

// targetURL reads the URL from the labels, as Prometheus does. It takes no address but the pod's.
func targetURL(b *promlabels.Builder, params url.Values, podIP string) (string, error) {
	scheme := b.Get(model.SchemeLabel)
	if scheme != "http" && scheme != "https" {
		return "", fmt.Errorf("the scheme %.40q is neither http nor https", scheme)
	}
	address := b.Get(model.AddressLabel)
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]"), ""
	}
	if host != podIP {
		return "", fmt.Errorf("the address %.80q is not the pod's", address)
	}
	u := url.URL{Scheme: scheme, Host: host, Path: b.Get(model.MetricsPathLabel)}
	switch n, err := strconv.ParseUint(port, 10, 16); {
	case port == "" && strings.Contains(host, ":"):
		u.Host = "[" + host + "]"
	case port == "":
	case err != nil || n == 0:
		return "", fmt.Errorf("the port %.40q is not a number from 1 to 65535", port)
	default:
		u.Host = net.JoinHostPort(host, port)
	}
	query := url.Values{}
	for name, values := range params {
		query[name] = slices.Clone(values)
	}
	b.Range(func(l promlabels.Label) {
		if name, ok := strings.CutPrefix(l.Name, model.ParamLabelPrefix); ok {
			if len(query[name]) > 0 {
				query[name][0] = l.Value
			} else {
				query[name] = []string{l.Value}
			}
		}
	})
	u.RawQuery = query.Encode()
	return u.String(), nil
}
