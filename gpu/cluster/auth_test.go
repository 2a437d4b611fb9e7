package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	tokensPath = "/apis/authentication.k8s.io/v1/tokenreviews"
	accessPath = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
)

// clock is a time that a test moves.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

// reviewer is an API server that knows the token "good", of a user who may get /metrics, and its Authenticator.
func reviewer(t *testing.T) (*apiServer, *Authenticator, *clock) {
	t.Helper()
	s := newAPIServer(t)
	s.review = func(path string, body map[string]any) (map[string]any, int) {
		spec := body["spec"].(map[string]any)
		if path == tokensPath {
			assert.Equal(t, []any{"TokenReview", "authentication.k8s.io/v1"}, []any{body["kind"], body["apiVersion"]})
			if !strings.HasPrefix(spec["token"].(string), "good") {
				return map[string]any{"error": "[invalid bearer token, expired]"}, 0
			}
			return map[string]any{"authenticated": true, "user": map[string]any{
				"username": "prometheus", "uid": "7", "groups": []string{"g"}, "extra": map[string]any{"scopes.k8s.io/x": []string{"a"}},
			}}, 0
		}
		assert.Equal(t, []any{"SubjectAccessReview", "authorization.k8s.io/v1"}, []any{body["kind"], body["apiVersion"]})
		assert.Equal(t, []any{"prometheus", "7", []any{"g"}, map[string]any{"scopes.k8s.io/x": []any{"a"}}},
			[]any{spec["user"], spec["uid"], spec["groups"], spec["extra"]})
		attributes := spec["nonResourceAttributes"].(map[string]any)
		assert.Equal(t, "get", attributes["verb"])
		switch attributes["path"] {
		case "/metrics":
			return map[string]any{"allowed": true, "reason": "RBAC"}, 0
		case "/both":
			return map[string]any{"allowed": true, "denied": true}, 0
		case "/why":
			return map[string]any{"allowed": false, "reason": "no rule"}, 0
		}
		return map[string]any{"allowed": false, "evaluationError": "a role is missing"}, 0
	}
	a, err := NewAuthenticator(Options{Config: s.config()})
	require.NoError(t, err)
	c := &clock{}
	a.now = c.now
	return s, a, c
}

func TestAuthorize(t *testing.T) {
	s, a, _ := reviewer(t)
	f := func(token, path, want string) {
		t.Helper()
		allowed, reason, err := a.Authorize(t.Context(), token, path)
		got := fmt.Sprintf("%t %s", allowed, reason)
		if err != nil {
			assert.False(t, allowed)
			got = err.Error()
		}
		assert.Equal(t, want, got)
	}
	f("good", "/metrics", "true ")
	f("good", "/other", "false the user may not get this path")
	f("good", "/why", "false the user may not get this path: no rule")
	f("good", "/both", `cannot authorize the request: the access of "prometheus" is both allowed and denied`)
	f("bad", "/metrics", "false the API server does not accept the bearer token")
	f("", "/metrics", "false the request has no bearer token")

	asked := s.count(tokensPath)
	f(strings.Repeat("g", maxToken+1), "/metrics", "false the API server does not accept the bearer token")
	assert.Equal(t, asked, s.count(tokensPath), "nobody has such a token")
}

func TestDecisionsAreKept(t *testing.T) {
	s, a, c := reviewer(t)
	f := func(token string, allowed bool, reviews int) {
		t.Helper()
		got, _, err := a.Authorize(t.Context(), token, "/metrics")
		require.NoError(t, err)
		assert.Equal(t, allowed, got)
		assert.Equal(t, reviews, s.count(tokensPath))
	}
	f("good", true, 1)
	f("good", true, 1)
	f("bad", false, 2)
	f("bad", false, 2)
	f("good!", true, 3)
	assert.Equal(t, 2, s.count(accessPath))
	c.advance(deniedFor - 1)
	f("bad", false, 3)
	c.advance(1)
	f("bad", false, 4)
	f("good", true, 4)
	c.advance(allowedFor - deniedFor - 1)
	f("good", true, 4)
	c.advance(1)
	f("good", true, 5)

	_, _, err := a.Authorize(t.Context(), "good", "/why") // the path belongs to the question
	require.NoError(t, err)
	assert.Equal(t, 6, s.count(tokensPath))
	assert.NotEqual(t, ask("ab", "/c"), ask("a", "b/c"))
}

func TestErrorsAreNotKept(t *testing.T) {
	s, a, _ := reviewer(t)
	for i, path := range []string{tokensPath, accessPath} {
		for _, code := range []int{http.StatusForbidden, http.StatusNotFound, http.StatusInternalServerError} {
			s.with(false, func() { s.faults[path] = code })
			allowed, _, err := a.Authorize(t.Context(), "good", "/metrics")
			require.ErrorContains(t, err, "cannot authorize the request: cannot review the "+[]string{"token: ", `access of "prometheus": `}[i])
			assert.False(t, allowed)
		}
		s.with(false, func() { delete(s.faults, path) })
	}
	s.stop()
	allowed, _, err := a.Authorize(t.Context(), "good", "/metrics")
	require.ErrorContains(t, err, "cannot review the token: ")
	assert.False(t, allowed)
	s.start()
	allowed, _, err = a.Authorize(t.Context(), "good", "/metrics")
	require.NoError(t, err)
	assert.True(t, allowed)
}

func TestStrangeAnswers(t *testing.T) {
	for _, body := range []string{"", "no JSON", "[]", `{"status":{"authenticated":"yes"}}`} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, body)
		}))
		s := &apiServer{addr: strings.TrimPrefix(server.URL, "http://")}
		a, err := NewAuthenticator(Options{Config: s.config()})
		require.NoError(t, err)
		allowed, _, err := a.Authorize(t.Context(), "good", "/metrics")
		require.Error(t, err, body)
		assert.False(t, allowed)
		server.Close()
	}
}

// TestOneReview lets many ask at once; the one who began it goes away meanwhile.
func TestOneReview(t *testing.T) {
	s, a, _ := reviewer(t)
	release, review := make(chan struct{}), s.review
	s.review = func(path string, body map[string]any) (map[string]any, int) {
		<-release
		return review(path, body)
	}
	first, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, _, err := a.Authorize(first, "good", "/metrics")
		left <- err
	}()
	eventually(t, func() bool { return s.count(tokensPath) == 1 })
	var wg sync.WaitGroup
	var allowed atomic.Int64
	for range 20 {
		wg.Go(func() {
			if ok, _, err := a.Authorize(t.Context(), "good", "/metrics"); ok && err == nil {
				allowed.Add(1)
			}
		})
	}
	leave()
	require.ErrorIs(t, <-left, context.Canceled)
	close(release)
	wg.Wait()
	assert.Equal(t, int64(20), allowed.Load())
	assert.Equal(t, 1, s.count(tokensPath))
	assert.Equal(t, 1, s.count(accessPath))
}

// TestDecisionsAreBounded tries more tokens than are kept; who is allowed stays.
func TestDecisionsAreBounded(t *testing.T) {
	_, a, c := reviewer(t)
	good := ask("good", "/metrics")
	a.keep(good, &decision{allowed: true})
	for i := range 3 * maxDecisions {
		c.advance(time.Microsecond)
		a.keep(ask(strconv.Itoa(i), "/metrics"), &decision{})
	}
	assert.Len(t, a.decisions, maxDecisions)
	d, ok := a.known(good)
	assert.True(t, ok && d.allowed)
	_, ok = a.known(ask("0", "/metrics"))
	assert.False(t, ok, "the oldest went first")
	c.advance(deniedFor)
	a.keep(ask("new", "/metrics"), &decision{})
	assert.Len(t, a.decisions, 2, "what is over is dropped")
}

func TestMiddleware(t *testing.T) {
	var log safeBuffer
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics") })
	h := Middleware(next, func(_ context.Context, token, path string) (bool, string, error) {
		assert.Equal(t, "/metrics", path)
		switch token {
		case "good":
			return true, "", nil
		case "away":
			return true, "", errors.New("secret address") // an error allows nothing
		}
		return false, "no rule", nil
	}, slog.New(slog.NewTextHandler(&log, nil)))
	f := func(authorization string, code int, body string) {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics?x=y", http.NoBody)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		assert.Equal(t, code, w.Code, authorization)
		assert.Equal(t, body, strings.TrimSuffix(w.Body.String(), "\n"))
		assert.Equal(t, code == http.StatusUnauthorized, w.Header().Get("WWW-Authenticate") == "Bearer")
		if code != http.StatusOK {
			assert.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"))
		}
	}
	f("Bearer good", http.StatusOK, "metrics")
	f("bearer  good ", http.StatusOK, "metrics")
	f("Bearer bad", http.StatusForbidden, "no rule")
	f("Bearer good good", http.StatusForbidden, "no rule")
	for _, none := range []string{"", "Bearer", "Bearer ", "Basic good", "good"} {
		f(none, http.StatusUnauthorized, noToken)
	}
	for range 3 {
		f("Bearer away", http.StatusServiceUnavailable, "the API server cannot be asked who may read this")
	}
	assert.Equal(t, 1, log.count("secret address"), "once a minute")
	Middleware(next, func(context.Context, string, string) (bool, string, error) { return false, "", nil }, nil)
}
