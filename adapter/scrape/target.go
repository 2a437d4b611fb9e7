package scrape

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"headroom.dev/headroom/adapter/metric"
)

// Target is one address to scrape, and how.
type Target struct {
	// ID names the target in the Sink; unique within a Manager.
	ID string
	// Incarnation tells apart two targets that bear the same ID one after the other: the pod's UID.
	Incarnation string
	// URL is the whole address, parameters included.
	URL string
	// Pod is the pod behind the URL, under which Manager.Status finds the target. Several targets may be one pod's.
	Pod metric.Object
	// Labels are added to every sample: namespace, pod, node.
	Labels labels.Labels
	// HonorLabels lets exposed labels win over Labels, for exporters that speak about other pods. Only for trusted targets.
	HonorLabels bool
	// Relabel is what Prometheus calls metric_relabel_configs. It cannot change the namespace, pod and node that Labels
	// say, unless HonorLabels: whoever may write a PodMonitor could else forge other pods' metrics.
	Relabel []*relabel.Config
	Auth    Auth
	TLS     TLS
	// RefuseRedirects makes a redirect an error. Redirects that leave the host are one in any case, and for a target with
	// credentials (Auth or a client certificate) those that leave scheme, host and port.
	RefuseRedirects bool
	// Timeout, BodyLimit and SampleLimit make the Manager's stricter for this target; zero means the Manager's.
	Timeout     time.Duration
	BodyLimit   int64
	SampleLimit int
}

// Auth is what the Authorization header says: nothing, Username and Password, or Scheme with one kind of credentials.
type Auth struct {
	Username, Password string // basic authentication; none if Username is empty
	Scheme             string // before the credentials; "Bearer"
	Credentials        string // a token
	CredentialsFile    string // holds a token; read again at most 10 s after it was read, and after an HTTP 401
}

// TLS is how an https target is authenticated, in PEM. The zero value trusts the system's roots.
type TLS struct {
	CA                 string // trusted instead of the system's roots
	Cert, Key          string // the client's, both or none
	ServerName         string // expected in the target's certificate instead of the URL's host
	InsecureSkipVerify bool
}

// source says whether both are one and the same process behind one address, so that series of t may go on as those of o.
func (t Target) source(o Target) bool {
	return t.ID == o.ID && t.Incarnation == o.Incarnation && t.URL == o.URL && t.Pod == o.Pod
}

func (t Target) equal(o Target) bool {
	return t.source(o) && labels.Equal(t.Labels, o.Labels) && t.HonorLabels == o.HonorLabels &&
		slices.EqualFunc(t.Relabel, o.Relabel, equalRelabel) && t.Auth == o.Auth && t.TLS == o.TLS &&
		t.RefuseRedirects == o.RefuseRedirects &&
		t.Timeout == o.Timeout && t.BodyLimit == o.BodyLimit && t.SampleLimit == o.SampleLimit
}

// public is the target without secrets.
func (t Target) public() Target {
	t.Auth, t.TLS = Auth{}, TLS{}
	return t
}

// within returns the target with limits and timeout no laxer than the Manager's.
func (t Target) within(o Options) Target {
	t.Timeout = stricter(t.Timeout, o.Timeout)
	t.BodyLimit = stricter(t.BodyLimit, o.BodyLimit)
	t.SampleLimit = stricter(t.SampleLimit, o.SampleLimit)
	return t
}

func stricter[T int | int64 | time.Duration](own, most T) T {
	if own <= 0 {
		return most
	}
	return min(own, most)
}

// equalRelabel compares by what is written: a compiled expression cannot be compared.
func equalRelabel(a, b *relabel.Config) bool {
	return slices.Equal(a.SourceLabels, b.SourceLabels) && a.Separator == b.Separator && a.Regex.String() == b.Regex.String() &&
		a.Modulus == b.Modulus && a.TargetLabel == b.TargetLabel && a.Replacement == b.Replacement && a.Action == b.Action &&
		a.NameValidationScheme == b.NameValidationScheme
}

// checkRelabel returns copies that relabel.ProcessBuilder can run without a panic.
func checkRelabel(configs []*relabel.Config) ([]*relabel.Config, error) {
	checked := make([]*relabel.Config, len(configs))
	for i, c := range configs {
		clone := *c
		err := clone.Validate(model.UTF8Validation) // which sets what is unset, hence the copy
		if err == nil && clone.Regex.Regexp == nil {
			err = errors.New("it has no regular expression")
		}
		if err != nil {
			return nil, fmt.Errorf("metric relabelling %d: %w", i, err)
		}
		checked[i] = &clone
	}
	return checked, nil
}
