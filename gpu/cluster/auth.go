package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/singleflight"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

const (
	// allowedFor and deniedFor are how long a decision stands: a scraper asks once a minute, and one that has just been
	// given its rights is served with its next scrape.
	allowedFor = time.Minute
	deniedFor  = 10 * time.Second
	// maxDecisions bounds the decisions that are kept, 100 KB in all.
	maxDecisions = 1024
	// maxToken bounds a token; a service account's has about 1 KB.
	maxToken = 16 << 10
	// patience bounds the two reviews together; Prometheus gives a scrape 10 s.
	patience = 5 * time.Second
	// reviewQPS and reviewBurst bound what strangers with made-up tokens can make the API server do.
	reviewQPS, reviewBurst = 10, 20
)

// Reasons of Authorize that no API server gave.
const (
	noToken     = "the request has no bearer token"
	notAccepted = "the API server does not accept the bearer token"
	notAllowed  = "the user may not get this path"
)

// Authenticator asks the API server who may read a path, as the metrics of Kubernetes' own components do: with a TokenReview
// and a SubjectAccessReview for the verb get and the path as a non-resource URL. It is safe for concurrent use.
//
// A decision stands for a minute when it allows and for 10 s when it does not; those who ask for the same at the same time
// share one. An error is never kept. Tokens are kept as hashes alone.
type Authenticator struct {
	client rest.Interface
	log    *slog.Logger
	now    func() time.Time
	flight singleflight.Group

	mu        sync.Mutex
	decisions map[question]decision
}

// question is the SHA-256 of a token and a path.
type question [sha256.Size]byte

type decision struct {
	allowed bool
	reason  string
	until   time.Time
}

// NewAuthenticator returns an Authenticator; of the options it takes Config and Log. It errs as New does.
func NewAuthenticator(o Options) (*Authenticator, error) {
	client, err := newClient(o.Config, reviewQPS, reviewBurst)
	if err != nil {
		return nil, fmt.Errorf("cannot authenticate requests: %w", err)
	}
	return &Authenticator{client: client, log: logger(o.Log), now: time.Now, decisions: map[question]decision{}}, nil
}

// Authorize reports whether the bearer of the token may get the path, and why not. It errs when the API server cannot be
// asked, has not answered both reviews within 5 s, or will not say; then nothing is allowed.
func (a *Authenticator) Authorize(ctx context.Context, token, path string) (allowed bool, reason string, err error) {
	switch {
	case token == "":
		return false, noToken, nil
	case len(token) > maxToken:
		return false, notAccepted, nil
	}
	q := ask(token, path)
	if d, ok := a.known(q); ok {
		return d.allowed, d.reason, nil
	}
	answer := a.flight.DoChan(string(q[:]), func() (any, error) {
		if d, ok := a.known(q); ok { // decided since the look above
			return d, nil
		}
		// The review is everybody's who waits for it, so it outlives the request that began it.
		// klog is kept from printing tokens, as it does with every request from verbosity 8 on.
		shared, cancel := context.WithTimeout(klog.NewContext(context.WithoutCancel(ctx), logr.Discard()), patience)
		defer cancel()
		d, err := a.review(shared, token, path)
		if err == nil {
			a.keep(q, &d)
		}
		return d, err
	})
	select {
	case <-ctx.Done():
		return false, "", fmt.Errorf("cannot authorize the request: %w", ctx.Err())
	case r := <-answer:
		if r.Err != nil {
			return false, "", fmt.Errorf("cannot authorize the request: %w", r.Err)
		}
		d := r.Val.(decision)
		return d.allowed, d.reason, nil
	}
}

// ask hashes the token and the path, and the token's length so that no other two are the same.
func ask(token, path string) question {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(token)+len(path)), uint64(len(token)))
	return sha256.Sum256(append(append(b, token...), path...))
}

func (a *Authenticator) known(q question) (decision, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d, ok := a.decisions[q]
	return d, ok && a.now().Before(d.until)
}

// keep keeps a decision from now on. For want of room it drops the one that would end first, which is a denial where
// strangers try many tokens.
func (a *Authenticator) keep(q question, d *decision) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	d.until = now.Add(deniedFor)
	if d.allowed {
		d.until = now.Add(allowedFor)
	}
	if len(a.decisions) >= maxDecisions {
		var first question
		var end time.Time
		for other, o := range a.decisions {
			if !now.Before(o.until) {
				delete(a.decisions, other)
			} else if end.IsZero() || o.until.Before(end) {
				first, end = other, o.until
			}
		}
		if len(a.decisions) >= maxDecisions {
			delete(a.decisions, first)
		}
	}
	a.decisions[q] = *d
}

// The reviews have of authentication.k8s.io/v1 and authorization.k8s.io/v1 what is asked and answered here.

type tokenReview struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Spec       tokenReviewSpec   `json:"spec"`
	Status     tokenReviewStatus `json:"status,omitzero"`
}

type tokenReviewSpec struct {
	Token string `json:"token"`
}

type tokenReviewStatus struct {
	Authenticated bool   `json:"authenticated"`
	User          user   `json:"user"`
	Error         string `json:"error"`
}

type user struct {
	Username string              `json:"username"`
	UID      string              `json:"uid"`
	Groups   []string            `json:"groups"`
	Extra    map[string][]string `json:"extra"`
}

type accessReview struct {
	APIVersion string             `json:"apiVersion"`
	Kind       string             `json:"kind"`
	Spec       accessReviewSpec   `json:"spec"`
	Status     accessReviewStatus `json:"status,omitzero"`
}

type accessReviewSpec struct {
	User        string              `json:"user"`
	UID         string              `json:"uid,omitempty"`
	Groups      []string            `json:"groups,omitempty"`
	Extra       map[string][]string `json:"extra,omitempty"`
	NonResource nonResource         `json:"nonResourceAttributes"`
}

type nonResource struct {
	Path string `json:"path"`
	Verb string `json:"verb"`
}

type accessReviewStatus struct {
	Allowed bool   `json:"allowed"`
	Denied  bool   `json:"denied"`
	Reason  string `json:"reason"`
}

// review asks the API server.
func (a *Authenticator) review(ctx context.Context, token, path string) (decision, error) {
	tokens := tokenReview{APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview", Spec: tokenReviewSpec{Token: token}}
	if err := a.create(ctx, "/apis/authentication.k8s.io/v1/tokenreviews", &tokens); err != nil {
		return decision{}, fmt.Errorf("cannot review the token: %w", err)
	}
	if !tokens.Status.Authenticated { // an invalid token comes with an error, too
		a.log.Debug("token not accepted", "path", path, "err", tokens.Status.Error)
		return decision{reason: notAccepted}, nil
	}
	u := tokens.Status.User
	access := accessReview{APIVersion: "authorization.k8s.io/v1", Kind: "SubjectAccessReview", Spec: accessReviewSpec{
		User: u.Username, UID: u.UID, Groups: u.Groups, Extra: u.Extra, NonResource: nonResource{Path: path, Verb: "get"},
	}}
	if err := a.create(ctx, "/apis/authorization.k8s.io/v1/subjectaccessreviews", &access); err != nil {
		return decision{}, fmt.Errorf("cannot review the access of %q: %w", u.Username, err)
	}
	switch s := access.Status; {
	case s.Allowed && s.Denied:
		return decision{}, fmt.Errorf("the access of %q is both allowed and denied", u.Username)
	case s.Allowed:
		return decision{allowed: true}, nil
	case s.Reason != "":
		return decision{reason: notAllowed + ": " + s.Reason}, nil
	}
	return decision{reason: notAllowed}, nil
}

// create creates a review and reads its status back into it.
func (a *Authenticator) create(ctx context.Context, path string, review any) error {
	body, err := json.Marshal(review)
	if err != nil {
		return err
	}
	answer, err := a.client.Post().AbsPath(path).Body(body).Do(ctx).Raw()
	if err != nil {
		return err
	}
	if len(answer) == 0 {
		return errors.New("the answer is empty")
	}
	return json.Unmarshal(answer, review)
}
