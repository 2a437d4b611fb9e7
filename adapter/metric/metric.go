// Package metric is the vocabulary of the metric plane: which object a value describes, the value with the time and
// window it really comes from, and the reasons why there is none.
//
// It imports the standard library alone, so that the store, the rules, the scraper and the API server can share it
// without knowing each other. Absence and age are data here: a reader gets either a Value that is young enough or an
// *AbsentError that says why not, never a zero that stands in for "unknown".
package metric

import (
	"fmt"
	"time"
)

// DefaultMaxAge is how old the oldest sample behind a value may be before the value is withheld, where the rule
// says nothing else. 15 s is the HPA controller's default sync period: one decision never sees the last one's data twice.
const DefaultMaxAge = 15 * time.Second

// Object names the Kubernetes object that a value describes.
type Object struct {
	Resource  string // plural resource, with its group where it has one: "pods", "deployments.apps"
	Namespace string // empty for root-scoped objects
	Name      string
}

// String returns "resource namespace/name", or "resource name" for root-scoped objects.
func (o Object) String() string {
	if o.Namespace == "" {
		return o.Resource + " " + o.Name
	}
	return o.Resource + " " + o.Namespace + "/" + o.Name
}

// Pods, Services, Deployments and Namespaces are resources as Object and Descriptor spell them.
const (
	Pods        = "pods"
	Services    = "services"
	Deployments = "deployments.apps"
	Namespaces  = "namespaces"
)

// External stands in place of a resource for metrics of external.metrics.k8s.io, which describe no object.
const External = ""

// Descriptor says which metric is served for which kind of object, or as an external metric.
type Descriptor struct {
	Name       string // as users write it in an HPA, "requests_per_second"
	Resource   string // as in Object, or External
	Namespaced bool   // whether the objects live in namespaces; true for external metrics, which are asked for in one
	Unit       string // for people: "1/s", "ms", "percent"
}

// Fallback says what stands in for a value that is missing. Rules serve none unless they are told to.
type Fallback string

// The kinds of fallback.
const (
	NoFallback   Fallback = ""       // the value is measured
	HeldFallback Fallback = "held"   // the last measured value, served longer than its maximum age
	SetFallback  Fallback = "stated" // a number that the rule states
)

// Value is one number for one object.
type Value struct {
	Value float64
	// Time is the time of the oldest of the newest samples of the series behind the value: the honest age of the
	// whole, not the time of its evaluation.
	Time time.Time
	// Window is the range that the expression looks back over; zero for an instantaneous value.
	Window time.Duration
	// Rule names the rule that gave the value.
	Rule string
	// Fallback marks a value that is not a young enough measurement. Time then stays that of the last measurement; where
	// there never was one it is the time since which the fallback is in force.
	Fallback Fallback
	// IncludeLoading says that the rule wants the value served for pods that are still loading, too.
	IncludeLoading bool
}

// Candidate is what one rule says of one object: a value, or the *AbsentError or other error that stands in its place.
type Candidate struct {
	Rule  string
	Value Value
	Err   error
}

// Series is one value of an external metric.
type Series struct {
	Labels map[string]string // never nil, without __name__; shared, not to be changed
	Value
}

// Age returns how old the value is at now.
func (v Value) Age(now time.Time) time.Duration { return now.Sub(v.Time) }

// AbsentError says why an object has no value now. Its text reaches people in the HPA's condition.
type AbsentError struct {
	Metric string
	Object Object
	Reason string // "no sample yet", "scraped 42s ago, at most 15s: connection refused", …
}

func (e *AbsentError) Error() string {
	return fmt.Sprintf("no %s of %s: %s", e.Metric, e.Object, e.Reason)
}

// UnknownError is returned for a metric that no rule defines for that kind of object.
type UnknownError struct {
	Metric   string
	Resource string
}

func (e *UnknownError) Error() string {
	if e.Resource == External {
		return fmt.Sprintf("no rule defines %s as an external metric", e.Metric)
	}
	return fmt.Sprintf("no rule defines %s for %s", e.Metric, e.Resource)
}

// AmbiguousError is returned for a request of an external metric whose selector means values that do not belong together,
// such as the same requests once per Service and once per Deployment: the HPA would add them up.
type AmbiguousError struct {
	Metric string
	Reason string // what is mixed and how to ask for one of it
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%s is ambiguous: %s", e.Metric, e.Reason)
}
