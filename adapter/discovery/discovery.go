// Package discovery finds what to scrape, and knows what the cluster says about the pods that series speak of.
//
// A pod is scraped because of its annotations, which the ecosystem agreed on,
//
//	prometheus.io/scrape: "true"      scrape this pod; anything else but "false" is a mistake and said so
//	prometheus.io/port:   "8000"      may be left out when the pod's containers declare exactly one port
//	prometheus.io/path:   "/metrics"  the default; may bear a query
//	prometheus.io/scheme: "http"      the default, or "https": encrypted, but not verified, as there is no CA to name
//
// or because a PodMonitor or ServiceMonitor of the Prometheus operator selects it, where those kinds are installed.
// Monitors mean what the operator's own configuration makes of them (its relabelings are built here, and Prometheus'
// relabelling runs over the same __meta_kubernetes_… labels), with these differences:
//
//   - A monitor's interval is not honoured, as everything is scraped once a second; nor is what is about Prometheus' own
//     storage and wire: honorTimestamps, trackTimestampsStaleness, the limits on targets and labels, native histograms,
//     scrapeProtocols, enableHttp2. Pods that have ended or terminate are left out even where filterRunning is false.
//   - Selectors are Kubernetes' selectors, not the regular expressions that the operator makes of them.
//   - The pods behind a Service are found by the Service's own selector and ports, not by its EndpointSlices. A Service
//     without selector has none.
//   - A URL of a pod is scraped once, however many monitors, Services and annotations lead to it: sums over the pod's
//     series would count it twice. ServiceMonitors go before PodMonitors and those before annotations, names decide the rest.
//   - Relabelings may change port, path, scheme and parameters, but never lead away from the pod's own address; and
//     namespace, pod and node always are the pod's own.
//   - What would need more than that (scrape classes, OAuth 2.0, proxies, files in Prometheus' container, metadata that is
//     not read here) is a mistake with a text, and nothing is scraped for it.
//
// Pods and monitors of one namespace have no say about another: only where the namespace is trusted do its pods' exposed
// labels win over the scraped pod's own, and do its monitors select pods of other namespaces. A monitor's credentials come
// from Secrets and ConfigMaps of its own namespace alone.
//
// A pod that terminates, is over or has no address has no target, so that its values vanish with the watch event that
// says so and not by growing old.
package discovery

import (
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"headroom.dev/headroom/adapter/metric"
)

// Target is one URL to scrape.
type Target struct {
	// ID is "namespace/pod URL": unique at any time, and the same for as long as the pod is scraped there.
	ID string
	// Incarnation is the UID of the pod: it tells apart pods that bear the same name one after the other.
	Incarnation string
	// URL bears the parameters of the scrape; its host is the pod's IP address.
	URL string
	Pod metric.Object
	// Labels are the target's: namespace, pod and node, which are the pod's own whatever a monitor says, and, from
	// monitors, instance, job, endpoint, container, service and what their relabelings add.
	Labels labels.Labels
	// HonorLabels lets exposed labels win over Labels, for exporters that speak about other pods.
	HonorLabels bool
	// Settings is never nil, and shared with other targets: not to be changed.
	Settings *Settings
}

// Settings say how to scrape.
type Settings struct {
	Timeout         time.Duration // 0: as the scraper likes; it need not wait as long as a monitor says
	SampleLimit     int           // of one scrape; 0: as the scraper likes
	BodyLimit       int64         // uncompressed bytes of one scrape; 0: as the scraper likes
	Auth            Auth
	TLS             TLS
	RefuseRedirects bool
	// Relabel applies to every sample (metric_relabel_configs). It must not change namespace, pod and node unless
	// HonorLabels is set.
	Relabel []*relabel.Config
}

// Auth is what the Authorization header says: nothing, or Username and Password, or Scheme and Credentials.
type Auth struct {
	Username    string
	Password    Secret
	Scheme      string // "Bearer"
	Credentials Secret
}

// TLS says how an https target is authenticated, in PEM.
type TLS struct {
	CA                 string // trusted instead of the system's roots
	Cert               string // the client's
	Key                Secret // belongs to Cert
	ServerName         string // expected in the target's certificate instead of the URL's host
	InsecureSkipVerify bool
}

// Secret is a text that no log shows.
type Secret string

// String implements fmt.Stringer.
func (Secret) String() string { return "<secret>" }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return `"<secret>"` }

// Equal says whether both are scraped the same way with the same outcome.
func (t Target) Equal(o Target) bool {
	return t.ID == o.ID && t.Incarnation == o.Incarnation && t.URL == o.URL && t.Pod == o.Pod && t.HonorLabels == o.HonorLabels &&
		labels.Equal(t.Labels, o.Labels) && t.Settings.equal(o.Settings)
}

func (s *Settings) equal(o *Settings) bool {
	return s == o || s.Timeout == o.Timeout && s.SampleLimit == o.SampleLimit && s.BodyLimit == o.BodyLimit &&
		s.Auth == o.Auth && s.TLS == o.TLS && s.RefuseRedirects == o.RefuseRedirects &&
		slices.EqualFunc(s.Relabel, o.Relabel, equalRelabeling)
}

func equalRelabeling(a, b *relabel.Config) bool {
	return a == b || a.Action == b.Action && a.Separator == b.Separator && a.Regex.String() == b.Regex.String() &&
		a.Modulus == b.Modulus && a.TargetLabel == b.TargetLabel && a.Replacement == b.Replacement &&
		slices.Equal(a.SourceLabels, b.SourceLabels)
}

// Sink takes the targets. Its methods are called one at a time, in the order of the events, and must not call back.
type Sink interface {
	// Add starts to scrape the target, or changes the one that has its ID.
	Add(t Target)
	// Remove ends the target.
	Remove(id string)
}
