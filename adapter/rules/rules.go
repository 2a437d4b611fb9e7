// Package rules turns metric rules, each a PromQL expression with one result per Kubernetes object or per series of an
// external metric, into immutable snapshots of values that carry the time of the data behind them.
//
// Compile checks rules one by one: a bad one costs only itself. Evaluator runs the good ones again and again, in this
// process over a storage.Queryable or on a Prometheus-compatible server. Snapshot answers for one object, or for the series
// of an external metric, with values or with the reason why there is none. Nothing here reads a clock of its own or does I/O.
//
// # Which rule speaks
//
// Several rules may define one metric for one resource. They are asked in order, users' rules before built-in ones and else
// as given to Compile, and for each object the first that has a value young enough wins. A user's rule with the Name of a
// built-in one replaces it, even while it is broken: what a person replaced does not come back by a typing error. Where no
// rule has a value, the reason is that of the first that found live series of the object, else of the first that found ended
// ones, else that a rule is broken, and only then that there is no sample.
//
// # How old a value is
//
// While an expression reads its series, the evaluator notes for every selector the newest sample of each series. A value's
// Time is the oldest of these newest samples over the series behind its object, so one device that was scraped 12 s ago makes
// an average 12 s old. For a selector with an offset, age counts from the moment that it looks at.
//
// The series behind a result are those that agree with it in the labels that lead through the expression unharmed. For
// objects these are the labels that name the object; for external metrics the namespace, and up to three labels that a
// by clause or Target.Labels names. Where the expression can carry samples from one value of such a label to another
// (label_replace or label_join into it, vector matching that leaves it out, count_values; scalar for all labels), that label
// does not count, and where none is left every series that was read stands behind every result: then one dead exporter
// withholds all its values, which is the price of never serving one as younger than it is.
//
// A value older than its rule's MaxAge when it is looked up is withheld, whatever the age of the snapshot. MaxAge is also
// how far back instant selectors look: a series without a sample in that time is out of their sight, and what remains of
// the object's series makes and dates the value.
//
// # When series end
//
// A series ends when a scrape succeeds and lacks it (a stale marker). To an instant selector it is gone at once. To a
// range selector its samples count until the last of them leaves the range: rate(x[10s]) goes on to yield falling
// values for up to 10 s. Therefore:
//   - an object whose series have all ended is withheld at once, though the expression still yields a value for it;
//   - of a selector that has live series for the object beside ended ones (a counter whose status code vanished in a
//     restart), only the live ones date the value;
//   - of a range selector that has ended series alone, while another selector has live ones, the newest ended sample
//     dates the value as well: it ages from there until the range is empty.
//
// A failed scrape ends nothing: its series age. A rate then falls, because it is not extrapolated over more than about
// one scrape interval; which is why rules for rates of requests set a MaxAge below 15 s.
//
// # Groups of pods
//
// A rule about services or deployments (named by the labels service and deployment), or an external one whose expression
// refers to one of these labels, sees every series of a pod once for each Service that selects the pod (for its Deployment)
// with that label set. Every embedded rule about anything but pods leaves out the series of pods that are over or unknown,
// and of those that are loading unless IncludeLoading. A series without a label pod passes as it is.
//
// Such a value describes many pods, and one pod whose scrapes fail must not withhold it: a series without a young enough
// sample drops out of the value and of its dating, for range selectors as for instant ones, shortly (a fifth of MaxAge, at
// most one second) before it would make the value too old to serve until the next snapshot. A rule about pods keeps such a
// series, because half of a pod's counters say something false about it.
//
// # Rules on a server
//
// A rule with the source Prometheus is one query per interval for all its objects, which brings the values together with
// the sample times of its selectors. Its series are what the server has, with the labels that they have there. The server
// decides how far back instant selectors look, and a failed scrape ends series there; beyond that MaxAge holds as above. The
// one thing that a server does not tell is when an ended series that a range still covers had its last sample: beside
// live series it does not date the value.
//
// # Faults
//
// A rule that fails keeps its last values until they are too old, and its Status has the error. A tick waits for a short
// budget only: what is not ready by then goes on in the background and joins a later snapshot. From one start to the next a
// rule waits ten times as long as it takes, so that one costs at most about a tenth of a core, however heavy it is.
package rules

import (
	"time"

	"headroom.dev/headroom/adapter/metric"
)

// Origin says who made a rule.
type Origin string

// Users' rules are asked before built-in ones.
const (
	UserDefined Origin = "MetricRule"
	BuiltIn     Origin = "built-in"
)

// Source says where a rule's series are.
type Source string

const (
	// Embedded rules run in this process, over what it scraped.
	Embedded Source = "Embedded"
	// Prometheus rules run on a server that speaks Prometheus' HTTP API.
	Prometheus Source = "Prometheus"
)

// DefaultRemoteMaxAge is MaxAge's default for Prometheus rules. Servers scrape every 15 to 30 s as a rule; with less than
// two of these intervals values would come and go.
const DefaultRemoteMaxAge = time.Minute

// Rule defines one metric for one kind of object, or as an external metric.
type Rule struct {
	Name   string // unique within its Origin, for people: "vllm.requests-per-second.pods"
	Origin Origin // "" stands for UserDefined
	Metric string // as users write it in an HPA: "requests_per_second"
	Target Target
	// Expr is PromQL. Each result must carry the labels that name the object, and no object may have two results.
	Expr string
	Unit string // for people: "1/s", "ms", "percent"
	// MaxAge is how old a value may be, and how far back instant selectors look. 0 stands for metric.DefaultMaxAge, for
	// Prometheus rules for DefaultRemoteMaxAge.
	MaxAge time.Duration
	Source Source // "" stands for Embedded
	// IncludeLoading lets pods that are still loading take part: in what is served of pods, and in the groups of pods that
	// embedded rules about anything else describe.
	IncludeLoading bool
	// Namespaces limits the objects that get values, and where an external metric is served; nil for all, empty for none.
	Namespaces []string
	Fallback   *Fallback // nil for none
}

// Target says what a rule's results describe.
type Target struct {
	// Resource is metric.Pods, metric.Services, …, or any other plural resource with its group; or metric.External.
	Resource string
	// NameLabel is the label whose value names the object. Defaults: pod, service, deployment, namespace and node for the
	// resources pods, services, deployments.apps, namespaces and nodes. Other resources must state it.
	NameLabel string
	// NamespaceLabel is the label whose value is the namespace; "namespace" where it is empty. Root-scoped objects have none.
	NamespaceLabel string
	// RootScoped objects live in no namespace. Namespaces and nodes always do not.
	RootScoped bool
	// External serves the results as an external metric, too, with the one label NameLabel=name.
	External bool
	// Labels are the labels of an external metric's series; nil for all that the results have.
	Labels []string
}

// Fallback is what a rule serves where no rule of its metric has had a value for an object for some time. Either Value or
// HoldFor is set.
type Fallback struct {
	// After is how long there must have been no value: since the last one, or, for objects that never had one, since the metric
	// was first evaluated.
	After   time.Duration
	Value   *float64      // the number to serve
	HoldFor time.Duration // how long to go on serving the last value
}

const (
	nameLabel       = "__name__"
	namespaceLabel  = "namespace"
	podLabel        = "pod"
	serviceLabel    = "service"
	deploymentLabel = "deployment"
	nodeLabel       = "node"
	nodes           = "nodes"
)

// withDefaults fills in what the rule leaves open.
func (r Rule) withDefaults() Rule {
	if r.Origin == "" {
		r.Origin = UserDefined
	}
	if r.Source == "" {
		r.Source = Embedded
	}
	if r.MaxAge == 0 {
		r.MaxAge = metric.DefaultMaxAge
		if r.Source == Prometheus {
			r.MaxAge = DefaultRemoteMaxAge
		}
	}
	t := &r.Target
	t.RootScoped = t.RootScoped || t.Resource == metric.Namespaces || t.Resource == nodes
	if t.NameLabel == "" {
		t.NameLabel = defaultNameLabel(t.Resource)
	}
	if t.NamespaceLabel == "" && !t.RootScoped {
		t.NamespaceLabel = namespaceLabel
	}
	return r
}

func defaultNameLabel(resource string) string {
	switch resource {
	case metric.Pods:
		return podLabel
	case metric.Services:
		return serviceLabel
	case metric.Deployments:
		return deploymentLabel
	case metric.Namespaces:
		return namespaceLabel
	case nodes:
		return nodeLabel
	}
	return ""
}

// objectLabels returns the labels that name an object; none for external metrics.
func (t *Target) objectLabels() []string {
	switch {
	case t.Resource == metric.External:
		return nil
	case t.RootScoped:
		return []string{t.NameLabel}
	}
	return []string{t.NamespaceLabel, t.NameLabel}
}
