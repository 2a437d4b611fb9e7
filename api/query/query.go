// Package query is the wire form of query.headroom.dev/v1alpha1, with which the adapter tells people and programs how it
// came to its values: its rules, and for one metric what each object has and why not. The adapter serves it, kubectl
// headroom reads it.
//
// The group is aggregated into the Kubernetes API, so that clients need nothing but a kubeconfig and RBAC decides who reads
// what:
//
//	GET /apis/query.headroom.dev/v1alpha1/rules                                           RuleList
//	GET /apis/query.headroom.dev/v1alpha1/namespaces/NS/explanations/METRIC?resource=pods Explanation
//	    &name=NAME or &labelSelector=SELECTOR, &metricLabelSelector=SELECTOR for external metrics (resource=)
//	    …/explanations/METRIC outside of a namespace for root-scoped resources
//	GET|POST …/namespaces/NS/prometheus/api/v1/…  Prometheus' HTTP API over the series of one namespace
//	GET|POST …/prometheus/api/v1/…                the same over all series
//
// The last is also at /api/v1/… for clients that reach the adapter's Service directly, as Grafana does, under the same right.
//
// Who reads a namespace needs a Role with this rule, who reads everything the same in a ClusterRole:
//
//	apiGroups: [query.headroom.dev]
//	resources: [explanations, prometheus/v1] # the path …/prometheus/api/v1/query is the subresource v1 of an object "api"
//	verbs: [get, create]                     # create is POST, which Grafana prefers for Prometheus' API
//
// and in the ClusterRole, as it is of no namespace:
//
//	apiGroups: [query.headroom.dev], resources: [rules], verbs: [list]
package query

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Group and Version name the API.
const (
	Group      = "query.headroom.dev"
	Version    = "v1alpha1"
	APIVersion = Group + "/" + Version
)

// RuleList is every rule that the adapter has, in the order in which it asks them.
type RuleList struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"` // RuleList
	At         time.Time `json:"at"`
	Items      []Rule    `json:"items"`
}

// Rule is one rule and how its last evaluation went. Durations and ages are in seconds.
type Rule struct {
	Name      string     `json:"name"`
	Origin    string     `json:"origin"` // "built-in" or "MetricRule"
	Metric    string     `json:"metric"`
	Resource  string     `json:"resource,omitempty"` // "pods", "services", "deployments.apps"…; empty for external
	External  bool       `json:"external,omitempty"` // served as an external metric, too or alone
	Expr      string     `json:"expr"`
	Unit      string     `json:"unit,omitempty"`
	MaxAge    float64    `json:"maxAgeSeconds"`
	Source    string     `json:"source"`          // "Embedded" or "Prometheus"
	Error     string     `json:"error,omitempty"` // why it has no values, or stale ones: it does not compile, or its evaluation failed
	Objects   int        `json:"objects"`         // that have a value, or for external metrics series
	Series    int        `json:"series"`          // that the last evaluation read
	Duration  float64    `json:"evaluationSeconds"`
	Evaluated *time.Time `json:"evaluated,omitempty"` // when the values that are served were computed
	Notes     []string   `json:"notes,omitempty"`     // results that are served for nothing, and why
	Selectors []string   `json:"selectors,omitempty"` // of the series that the expression reads, as PromQL
}

// Explanation tells for one metric what each object has.
type Explanation struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"` // Explanation
	At         time.Time `json:"at"`
	Metric     string    `json:"metric"`
	Resource   string    `json:"resource,omitempty"`
	Namespace  string    `json:"namespace,omitempty"`
	Rules      []Rule    `json:"rules"`            // that define the metric for the resource, the first that has a value for an object wins
	Objects    []Object  `json:"objects"`          // by name; for external metrics one for each series
	Reason     string    `json:"reason,omitempty"` // why there are no objects
}

// Object is one object of an explanation.
type Object struct {
	Name    string            `json:"name,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"` // of an external series
	Value   *Value            `json:"value,omitempty"`
	Reason  string            `json:"reason,omitempty"`  // why it has no value, or is left out
	LeftOut bool              `json:"leftOut,omitempty"` // it has a value that the API does not serve: loading or terminating
	Rules   []Candidate       `json:"rules,omitempty"`   // what each rule says of the object, in their order
}

// Candidate is what one rule says of one object.
type Candidate struct {
	Rule   string `json:"rule"`
	Value  *Value `json:"value,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Value is a number with the true time of the data behind it.
type Value struct {
	Value    Number    `json:"value"`
	Time     time.Time `json:"time"`
	Age      float64   `json:"ageSeconds"`
	Window   float64   `json:"windowSeconds,omitempty"`
	Rule     string    `json:"rule,omitempty"`
	Fallback string    `json:"fallback,omitempty"` // "held" or "stated" where it is no young enough measurement
}

// Number is a float64 whose JSON is a number, or one of the strings "NaN", "+Inf" and "-Inf", which JSON has no numbers for.
type Number float64

// MarshalJSON implements json.Marshaler.
func (n Number) MarshalJSON() ([]byte, error) {
	if f := float64(n); math.IsNaN(f) || math.IsInf(f, 0) {
		return strconv.AppendQuote(nil, strconv.FormatFloat(f, 'g', -1, 64)), nil
	}
	return json.Marshal(float64(n))
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *Number) UnmarshalJSON(b []byte) error {
	text := string(b)
	if unquoted, err := strconv.Unquote(text); err == nil {
		text = unquoted
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return fmt.Errorf("cannot read the number %s: %w", b, err)
	}
	*n = Number(f)
	return nil
}
