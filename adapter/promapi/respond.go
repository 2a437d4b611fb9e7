package promapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"

	jsoniter "github.com/json-iterator/go"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/annotations"
)

const (
	// engineVersion is the Prometheus release whose API and PromQL this is; clients choose features by it. A test holds it
	// to go.mod, where release 3.16.0 is called v0.316.0.
	engineVersion = "3.16.0"

	// maxBody bounds a form: the longest expression, escaped, with room for selectors.
	maxBody = 1 << 20

	// maxNotes bounds the warnings, and the infos, of one answer; Prometheus' number.
	maxNotes = 10

	// statusClientClosed is what nginx and Prometheus report for a client that went away.
	statusClientClosed = 499
)

// endpoint answers one kind of request, whose form is parsed.
type endpoint func(r *http.Request) (answer, error)

// answer is what a request found, encoded while the engine still owned it.
type answer struct {
	data  []byte // JSON
	notes annotations.Annotations
	query string // that the notes are about
}

// apiError is an error with the place that Prometheus gives it.
type apiError struct {
	kind errorKind
	err  error
}

func (e *apiError) Error() string { return e.err.Error() }
func (e *apiError) Unwrap() error { return e.err }

// errorKind is Prometheus' errorType.
type errorKind string

const (
	badData   errorKind = "bad_data"
	execution errorKind = "execution"
	canceled  errorKind = "canceled"
	timeout   errorKind = "timeout"
	internal  errorKind = "internal"
)

func (k errorKind) status() int {
	switch k {
	case badData:
		return http.StatusBadRequest
	case execution:
		return http.StatusUnprocessableEntity
	case canceled:
		return statusClientClosed
	case timeout:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// bad says that the request's parameter is wrong.
func bad(parameter string, err error) error {
	return &apiError{badData, fmt.Errorf("invalid parameter %q: %w", parameter, err)}
}

// kindOf finds the place of an error that has none yet.
func kindOf(err error) errorKind {
	other := execution
	if stored, ok := errors.AsType[promql.ErrStorage](err); ok { // which does not unwrap
		err, other = stored.Err, internal
	}
	if known, ok := errors.AsType[*apiError](err); ok {
		return known.kind
	}
	if errors.Is(err, errTooManySeries) {
		return execution
	}
	if _, ok := errors.AsType[promql.ErrQueryCanceled](err); ok || errors.Is(err, context.Canceled) {
		return canceled
	}
	if _, ok := errors.AsType[promql.ErrQueryTimeout](err); ok || errors.Is(err, context.DeadlineExceeded) {
		return timeout
	}
	return other
}

// respond writes what an endpoint says.
func (s *Server) respond(serve endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		found, err := parsed(w, r, serve)
		w.Header().Set("Content-Type", "application/json")
		rest := jsoniter.NewStream(jsoniter.ConfigCompatibleWithStandardLibrary, w, 512)
		if err != nil {
			kind := kindOf(err)
			w.WriteHeader(kind.status())
			rest.WriteRaw(`{"status":"error","errorType":"` + string(kind) + `","error":`)
			rest.WriteStringWithHTMLEscaped(err.Error())
		} else {
			_, _ = io.WriteString(w, `{"status":"success","data":`)
			_, _ = w.Write(found.data)
			warnings, infos := found.notes.AsStrings(found.query, maxNotes, maxNotes)
			writeStrings(rest, "warnings", warnings)
			writeStrings(rest, "infos", infos)
		}
		rest.WriteObjectEnd()
		_ = rest.Flush() // who would be told that the client went away?
	}
}

// parsed serves the request with its form parsed, and makes an error of a panic: the engine catches its own only while
// it evaluates.
func parsed(w http.ResponseWriter, r *http.Request, serve endpoint) (found answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			if e, ok := p.(runtime.Error); ok {
				err = &apiError{internal, fmt.Errorf("panic: %w", e)}
			} else {
				err = &apiError{internal, fmt.Errorf("panic: %v", p)}
			}
		}
	}()
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		return answer{}, &apiError{badData, fmt.Errorf("error parsing form values: %w", err)}
	}
	return serve(r)
}

func writeStrings(stream *jsoniter.Stream, name string, list []string) {
	if len(list) == 0 {
		return
	}
	stream.WriteMore()
	stream.WriteObjectField(name)
	stream.WriteVal(list)
}

// always is the endpoint that answers the same to every request.
func always(data any) endpoint {
	return func(*http.Request) (answer, error) { return encoded(data) }
}

func buildInfo(version string) map[string]string {
	return map[string]string{
		"version": engineVersion, "revision": version, "branch": "headroom", "buildUser": "", "buildDate": "",
		"goVersion": runtime.Version(),
	}
}
