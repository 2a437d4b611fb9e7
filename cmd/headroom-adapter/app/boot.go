package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	certutil "k8s.io/client-go/util/cert"
)

const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 2 * time.Second
)

// waiting is the state before the API server answers, as probes see it.
type waiting struct {
	logger *slog.Logger
	on     atomic.Pointer[string] // what is waited for; nil before the first fault
}

// until repeats the step with growing pauses until it succeeds; it returns an error only when the context ends. A fault is
// logged when it is another than the one before.
func (w *waiting) until(ctx context.Context, what string, step func(context.Context) error) error {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		err := step(ctx)
		if err == nil {
			if before := w.on.Swap(nil); before != nil {
				w.logger.Info("no longer waiting", "for", what)
			}
			return nil
		}
		text := what + ": " + err.Error()
		if before := w.on.Swap(&text); before == nil || *before != text {
			w.logger.Warn("waiting", "for", what, "err", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("gave up waiting for %s: %w", what, err)
		case <-timer.C:
		}
	}
}

// ServeHTTP answers that the process lives and is not ready.
func (w *waiting) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/livez" || r.URL.Path == "/healthz" {
		_, _ = rw.Write([]byte("ok"))
		return
	}
	reason := "starting"
	if on := w.on.Load(); on != nil {
		reason = "waiting for " + *on
	}
	http.Error(rw, reason, http.StatusServiceUnavailable)
}

// serveProbes answers probes on the serving port while the real server cannot be built yet: it needs the API server for
// its authentication. A liveness probe would else kill an adapter that restarts while the API server is away. The
// function that it returns frees the port.
func serveProbes(ctx context.Context, address string, h http.Handler) (stop func(), err error) {
	certPEM, keyPEM, err := certutil.GenerateSelfSignedCertKey("localhost", nil, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot make a certificate for probes: %w", err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("cannot use the certificate for probes: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on --bind-address and --secure-port: %w", err)
	}
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // the API server's proxy refuses our certificate, as it should
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.ServeTLS(listener, "", "") // ends with Close; whatever else ends it fails the probes, as it should
	}()
	return func() {
		_ = srv.Close()
		<-done
	}, nil
}
