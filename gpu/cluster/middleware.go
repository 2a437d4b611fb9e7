package cluster

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
)

// sayAgain is how often it is logged at most that requests cannot be authorized; strangers may send any number of them.
const sayAgain = time.Minute

// Middleware hands next the requests whose bearer token authorize allows to get the request's path. The others are answered
// in plain text: 401 without a token, 403 with the reason, and 503 where authorize errs, which is logged once a minute. next
// has to be a handler that only reads: the method is not looked at.
func Middleware(next http.Handler, authorize func(ctx context.Context, token, path string) (bool, string, error), log *slog.Logger) http.Handler {
	failures := &failureLog{log: logger(log)}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := bearer(r)
		if token == "" {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, noToken, http.StatusUnauthorized)
			return
		}
		allowed, reason, err := authorize(r.Context(), token, r.URL.Path)
		switch {
		case err != nil:
			if r.Context().Err() == nil { // a client that has gone is no failure
				failures.say(r.URL.Path, err, time.Now())
			}
			http.Error(w, "the API server cannot be asked who may read this", http.StatusServiceUnavailable)
		case !allowed:
			http.Error(w, reason, http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// bearer returns the token of the Authorization header, "" where there is none.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

type failureLog struct {
	log *slog.Logger

	mu   sync.Mutex
	said time.Time
}

func (f *failureLog) say(path string, err error, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.said) < sayAgain {
		return
	}
	f.said = now
	f.log.Warn("cannot authorize requests", "path", path, "err", err)
}
