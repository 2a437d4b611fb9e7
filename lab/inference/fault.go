package inference

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"
)

// hugeBytes is how much a huge /metrics sends before the true samples.
const hugeBytes = 10 << 20

const textExposition = "text/plain; version=0.0.4; charset=utf-8"

// serveMetrics serves the server's metrics, or the fault that the spec asks for.
func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request) {
	spec := s.engine.state().spec
	honest := s.metrics.handler(spec.MetricNames)
	if delay, ok := spec.Fault.delay(); ok {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		s.stall(w, r, timer.C, honest)
		return
	}
	switch spec.Fault {
	case FaultHang:
		s.stall(w, r, nil, honest)
	case FaultGarbage:
		w.Header().Set("Content-Type", textExposition)
		written(w.Write(bytes.Repeat([]byte("http_requests_total{code=\"200 \x00\xff\xfe<html>}} NaN NaN\n"), 20)))
	case FaultHuge:
		w.Header().Set("Content-Type", textExposition)
		r.Header.Del("Accept") // the rest must be text too
		written(writeHuge(w))
		honest.ServeHTTP(w, r)
	case FaultError500:
		http.Error(w, "simulated fault", http.StatusInternalServerError)
	default:
		honest.ServeHTTP(w, r)
	}
}

// stall answers when until fires. A client that goes, or the drain, which a fault must not hold up, ends it before.
func (s *Server) stall(w http.ResponseWriter, r *http.Request, until <-chan time.Time, then http.Handler) {
	select {
	case <-until:
		then.ServeHTTP(w, r)
		return
	case <-r.Context().Done():
	case <-s.stopping:
	}
	// Returning would answer 200 with no metrics at all, which is well-formed and a lie.
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable) // HTTP/2 or a test's recorder: neither can be cut off
		return
	}
	if err := conn.Close(); err != nil {
		slog.Debug("cannot cut off a stalled scrape", "error", err)
	}
}

// writeHuge writes hugeBytes of distinct well-formed samples.
func writeHuge(w io.Writer) (int, error) {
	out := bufio.NewWriterSize(w, 64<<10)
	total := 0
	for i := 0; total < hugeBytes; i++ {
		n, err := fmt.Fprintf(out, "simulated_huge{series=\"%08d\"} 1\n", i)
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, out.Flush()
}

func written(_ int, err error) {
	if err != nil {
		slog.Debug("scraper went before its answer", "error", err)
	}
}
