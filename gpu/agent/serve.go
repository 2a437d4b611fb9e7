package agent

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"headroom.dev/headroom/gpu"
)

// Handler serves /metrics, /healthz and /readyz. The latter two answer 200 "ok", or 503 and a line per problem.
func (a *Agent) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.cfg.Registry, promhttp.HandlerOpts{
		ErrorLog:      slog.NewLogLogger(a.cfg.Log.Handler(), slog.LevelError),
		ErrorHandling: promhttp.ContinueOnError, // one bad series does not hide the others
	}))
	mux.Handle("GET /healthz", probe(a.unhealthy))
	mux.Handle("GET /readyz", probe(a.unready))
	return mux
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
	if o := a.owners.Load(); o != nil {
		stopped("owners of the GPUs", o.finished)
	}
	return problems
}

// unready says what keeps this agent from serving every pod's values now.
func (a *Agent) unready(now time.Time) []string {
	var problems []string
	problems = append(problems, notCurrent(a, "GPUs", a.reading.Load(), now)...)
	problems = append(problems, notCurrent(a, "owners of the GPUs", a.owners.Load(), now)...)
	return problems
}

// notCurrent is empty if the outcome has a value that may be served and, for lack of one, the driver is not wedged.
func notCurrent[T any](a *Agent, what string, o *outcome[T], now time.Time) []string {
	var overdue *gpu.OverdueError
	switch {
	case o == nil:
		return []string{what + ": first tick has not ended"}
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
