package agent

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"headroom.dev/headroom/gpu"
)

// Handler serves /metrics, if asked for /metrics/dcgm, /gpus (the same and the reasons for what is missing, as
// api/gpus.List), /healthz and /readyz. The latter two answer 200 "ok", or 503 and a line per problem. guard, if any, is put
// before the others.
func (a *Agent) Handler(guard func(http.Handler) http.Handler) http.Handler {
	if guard == nil {
		guard = func(h http.Handler) http.Handler { return h }
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", guard(a.serveMetrics(a.devices, a.cfg.Gatherer)))
	if a.cfg.DCGM {
		mux.Handle("GET /metrics/dcgm", guard(a.serveMetrics(a.dcgm, prometheus.NewRegistry())))
	}
	mux.Handle("GET /gpus", guard(http.HandlerFunc(a.serveGPUs)))
	mux.Handle("GET /healthz", probe(a.unhealthy))
	mux.Handle("GET /readyz", probe(a.unready))
	return mux
}

// serveMetrics serves families of devices, and what else there is, in the text format, compressed for who asks for that.
func (a *Agent) serveMetrics(families []family, besides prometheus.Gatherer) http.Handler {
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	buffers := sync.Pool{New: func() any { return new(bytes.Buffer) }}
	zips := sync.Pool{New: func() any { zip, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed); return zip }} // errs on no level that there is
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		buffer, _ := buffers.Get().(*bytes.Buffer)
		defer buffers.Put(buffer)
		buffer.Reset()
		buffer.Write(a.expose(buffer.AvailableBuffer(), families, time.Now()))
		gathered, err := besides.Gather()
		if err != nil { // one bad series does not hide the others
			a.cfg.Log.Error("cannot gather all metrics", "error", err)
		}
		encoder := expfmt.NewEncoder(buffer, format)
		for _, f := range gathered {
			if err := encoder.Encode(f); err != nil {
				a.cfg.Log.Error("cannot write a metric", "name", f.GetName(), "error", err)
			}
		}
		w.Header().Set("Content-Type", string(format))
		w.Header().Set("Vary", "Accept-Encoding")
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Length", strconv.Itoa(buffer.Len()))
			_, _ = w.Write(buffer.Bytes()) // a scraper that has gone needs no answer
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		zip, _ := zips.Get().(*gzip.Writer)
		defer zips.Put(zip)
		zip.Reset(w)
		_, _ = zip.Write(buffer.Bytes())
		_ = zip.Close()
	})
}

func probe(check func(now time.Time) []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		problems := check(time.Now())
		if len(problems) > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		} else {
			problems = []string{"ok"}
		}
		_, _ = io.WriteString(w, strings.Join(problems, "\n")+"\n") // a prober that has gone needs no answer
	})
}

// unhealthy says why this process should be replaced. A loop that has not ended its first tick has its time from Run's
// start; until then the kubelet's own initial delay applies.
func (a *Agent) unhealthy(now time.Time) []string {
	var problems []string
	limit := healthTicks * a.cfg.Interval
	stopped := func(what string, finished time.Time) {
		if age := now.Sub(finished); age > limit {
			problems = append(problems, fmt.Sprintf("%s: last tick ended %s ago, at most %s", what, age.Round(time.Millisecond), limit))
		}
	}
	if o := a.reading.Load(); o != nil {
		stopped("GPUs", o.finished)
		if errors.Is(o.err, gpu.ErrRestartNeeded) {
			problems = append(problems, "GPUs: "+o.err.Error())
		}
	}
	if o := a.holders.Load(); o != nil {
		stopped("owners of the GPUs", o.finished)
	}
	return problems
}

// unready says what keeps this agent from serving every pod's values now.
func (a *Agent) unready(now time.Time) []string {
	var problems []string
	if o := a.reading.Load(); o == nil || o.err == nil || a.cfg.Absent == nil || !a.cfg.Absent() {
		problems = append(problems, notCurrent(a, "GPUs", o, now)...)
	}
	problems = append(problems, notCurrent(a, "owners of the GPUs", a.holders.Load(), now)...)
	return problems
}

// notCurrent is empty if the outcome has a value that may be served and, for lack of one, the driver is not wedged.
func notCurrent[T any](a *Agent, what string, o *outcome[T], now time.Time) []string {
	var overdue *gpu.OverdueError
	switch {
	case o == nil:
		return []string{what + ": first tick has not ended"}
	case o.paused():
		return []string{what + ": " + o.err.Error()}
	case errors.As(o.err, &overdue): // at once: the values go stale in a few ticks, and the name helps now
		return []string{what + ": " + o.err.Error()}
	case a.fresh(o.at, now):
		return nil
	case o.err != nil:
		return []string{what + ": " + o.err.Error()}
	default:
		return []string{fmt.Sprintf("%s: last known %s ago, at most %s", what, now.Sub(o.at).Round(time.Millisecond), a.stale())}
	}
}
