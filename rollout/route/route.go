// Package route is the vocabulary of traffic between the two versions of a service: which share of the requests goes to
// which version, how a share becomes the whole numbers that routers take, and what a router may answer. It is pure;
// rollout/traffic carries it out, and whoever drives a rollout sees routers only through Router.
//
// A version is known by the pod-template-hash of its pods. A share is of requests, from 0 to 1; NaN means that it is not
// known, which is never the same as 0.
package route

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
)

// Split says how the requests of a service are divided.
type Split struct {
	// Stable and Canary are pod-template-hashes. Canary is empty where one version gets everything; then Share is 0.
	Stable string `json:"stable"`
	Canary string `json:"canary,omitempty"`
	// Share is the canary's part of the requests that no match claims, 0 to 1.
	Share float64 `json:"share"`
	// Matches send requests to the canary whatever Share says. A request that any of them fits is claimed.
	Matches []Match `json:"matches,omitempty"`
}

// Match fits requests that bear a header, or a cookie, of exactly this value.
type Match struct {
	Header string `json:"header,omitempty"` // one of Header and Cookie is set
	Cookie string `json:"cookie,omitempty"`
	Value  string `json:"value"`
}

// Router moves the traffic of one service. Its methods never wait: what takes time is a NotYet, and the call is repeated
// later. Every method can be repeated after a crash at any point and carries on from what the cluster's objects say.
type Router interface {
	// Set asks for a split. Nothing is written unless all of it is possible; a version that is to get requests must have
	// ready endpoints first (NotYetError until then). Nil means asked for, not in force: Read tells that.
	Set(ctx context.Context, s Split) error
	// Read returns the split in force. With a NotYetError the split is the one still in force, Share NaN where that is not known.
	// ErrNotSet: nothing was set, and requests go where the user's objects say.
	Read(ctx context.Context) (Split, error)
	// Restore puts the user's objects back as they were before the first Set and removes what Set has made. It leaves alone
	// what others wrote in the meantime. NotYetError: the traffic is back, but helpers are kept until routers have left them.
	Restore(ctx context.Context) error
}

var (
	// ErrNotSet means that no split of ours stands in the router's object.
	ErrNotSet = errors.New("no split is set")
	// ErrNotFound means that an object, or a part of it that is to be changed, does not exist.
	ErrNotFound = errors.New("not found")
	// ErrNotInstalled means that the API server does not know the router's kind.
	ErrNotInstalled = errors.New("the API is not installed")
	// ErrUnsupported means that this kind of router cannot do what is asked, now or later.
	ErrUnsupported = errors.New("not supported")
	// ErrAmbiguous means that several parts of an object could be meant.
	ErrAmbiguous = errors.New("ambiguous")
	// ErrInvalid means that an object, or the split, says something that cannot be meant.
	ErrInvalid = errors.New("invalid")
)

// NotYetError says that what was asked for is not in force, and may be later.
type NotYetError struct {
	Want, InForce Split
	Why           string // names the object
}

func (e *NotYetError) Error() string {
	if math.IsNaN(e.InForce.Share) {
		return fmt.Sprintf("%s is not in force yet: %s", e.Want, e.Why)
	}
	return fmt.Sprintf("%s is not in force yet, but %s: %s", e.Want, e.InForce, e.Why)
}

// ConflictError says that someone else has written what was ours.
type ConflictError struct {
	Object, Field string
	Manager       string // of the object's managedFields, or empty
}

func (e *ConflictError) Error() string {
	manager := "someone"
	if e.Manager != "" {
		manager = fmt.Sprintf("field manager %q", e.Manager)
	}
	return fmt.Sprintf("%s of %s was written by %s", e.Field, e.Object, manager)
}

// Equal reports whether two splits are the same to the last bit; a share that is not known equals none.
func (s Split) Equal(o Split) bool {
	return s.Stable == o.Stable && s.Canary == o.Canary && s.Share == o.Share && slices.Equal(s.Matches, o.Matches)
}

// Gets reports which of the versions are to get any requests.
func (s Split) Gets() (stable, canary bool) {
	return s.Canary == "" || s.Share < 1, s.Canary != "" && (s.Share > 0 || len(s.Matches) > 0)
}

// String is for messages: "11.1 % to 5d8c and 88.9 % to 7f9b".
func (s Split) String() string {
	if s.Canary == "" {
		return "all to " + s.Stable
	}
	var b strings.Builder
	if math.IsNaN(s.Share) {
		fmt.Fprintf(&b, "an unknown share to %s, the rest to %s", s.Canary, s.Stable)
	} else {
		fmt.Fprintf(&b, "%.4g %% to %s and %.4g %% to %s", s.Share*100, s.Canary, (1-s.Share)*100, s.Stable)
	}
	for _, m := range s.Matches {
		fmt.Fprintf(&b, ", %s", m)
	}
	return b.String()
}

func (m Match) String() string {
	if m.Cookie != "" {
		return fmt.Sprintf("cookie %s=%s", m.Cookie, m.Value)
	}
	return fmt.Sprintf("header %s: %s", m.Header, m.Value)
}

var (
	hash  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`) // what a label's value and a Service's name both take
	token = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")        // RFC 9110's token: names of headers and cookies
	plain = regexp.MustCompile(`^[ -~]{1,1000}$`)
)

// Validate returns an ErrInvalid that names the first field that cannot be meant.
func (s Split) Validate() error {
	switch {
	case !hash.MatchString(s.Stable):
		return fmt.Errorf("%w split: stable is %q, not a pod-template-hash", ErrInvalid, s.Stable)
	case s.Canary != "" && !hash.MatchString(s.Canary):
		return fmt.Errorf("%w split: canary is %q, not a pod-template-hash", ErrInvalid, s.Canary)
	case s.Canary == s.Stable:
		return fmt.Errorf("%w split: stable and canary are both %s", ErrInvalid, s.Stable)
	case math.IsNaN(s.Share) || s.Share < 0 || s.Share > 1:
		return fmt.Errorf("%w split: share is %v, not from 0 to 1", ErrInvalid, s.Share)
	case s.Canary == "" && (s.Share > 0 || len(s.Matches) > 0):
		return fmt.Errorf("%w split: a share or matches, and no canary to get them", ErrInvalid)
	}
	for i, m := range s.Matches {
		if problem := m.problem(); problem != "" {
			return fmt.Errorf("%w split: matches[%d] %s", ErrInvalid, i, problem)
		}
	}
	return nil
}

// problem says what is wrong with a match.
func (m Match) problem() string {
	name := m.Header + m.Cookie
	switch {
	case (m.Header == "") == (m.Cookie == ""):
		return "has to name either a header or a cookie"
	case len(name) > 256 || !token.MatchString(name):
		return fmt.Sprintf("has %q for a name, which no header or cookie has", name)
	case !plain.MatchString(m.Value) || m.Cookie != "" && strings.ContainsAny(m.Value, " ;,\"\\"):
		return fmt.Sprintf("has %q for a value, which cannot be matched", m.Value)
	}
	return ""
}
