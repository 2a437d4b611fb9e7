package promapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"headroom.dev/headroom/adapter/bound"
)

var errTruncated = errors.New("results truncated due to limit")

// query answers with the value of an expression at one moment.
func (s *Server) query(r *http.Request) (answer, error) {
	at := s.opts.Clock()
	if v := r.Form.Get("time"); v != "" {
		t, err := parseTime(v)
		if err != nil {
			return answer{}, bad("time", fmt.Errorf("invalid time value for 'time': %w", err))
		}
		at = t
	}
	return s.run(r, 0, func(ctx context.Context, opts promql.QueryOpts, expr string) (promql.Query, error) {
		return s.engine.NewInstantQuery(ctx, s.viewOf(ctx), opts, expr, at)
	})
}

// queryRange answers with the values of an expression at many moments.
func (s *Server) queryRange(r *http.Request) (answer, error) {
	start, err := parseTime(r.Form.Get("start"))
	if err != nil {
		return answer{}, bad("start", err)
	}
	end, err := parseTime(r.Form.Get("end"))
	if err != nil {
		return answer{}, bad("end", err)
	}
	if end.Before(start) {
		return answer{}, bad("end", errors.New("end timestamp must not be before start time"))
	}
	step, err := parseDuration(r.Form.Get("step"))
	switch {
	case err != nil:
		return answer{}, bad("step", err)
	case step <= 0:
		return answer{}, bad("step", errors.New("zero or negative query resolution step widths are not accepted. Try a positive integer"))
	case step < time.Millisecond: // the engine would divide by zero milliseconds
		return answer{}, bad("step", errors.New("the step is less than a millisecond"))
	case (end.UnixMilli()-start.UnixMilli())/step.Milliseconds() > maxPoints:
		return answer{}, &apiError{badData, errors.New(
			"exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)")}
	}
	return s.run(r, end.Sub(start), func(ctx context.Context, opts promql.QueryOpts, expr string) (promql.Query, error) {
		return s.engine.NewRangeQuery(ctx, s.viewOf(ctx), opts, expr, start, end, step)
	})
}

// run evaluates the request's expression over span and encodes what it gives.
func (s *Server) run(
	r *http.Request, span time.Duration, prepare func(ctx context.Context, opts promql.QueryOpts, expr string) (promql.Query, error),
) (answer, error) {
	ctx, text := r.Context(), r.Form.Get("query")
	limit, err := limitOf(r)
	if err != nil {
		return answer{}, err
	}
	if v := r.Form.Get("timeout"); v != "" {
		d, err := parseDuration(v)
		if err == nil && d <= 0 {
			err = fmt.Errorf("timeout must be positive, got %s", d)
		}
		if err != nil {
			return answer{}, bad("timeout", err)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	var lookback time.Duration
	if v := r.Form.Get("lookback_delta"); v != "" {
		if lookback, err = parseDuration(v); err != nil {
			return answer{}, &apiError{badData, fmt.Errorf("error parsing lookback delta duration: %w", err)}
		}
	}
	if _, err := bound.Parse(text, span); err != nil {
		return answer{}, bad("query", err)
	}
	query, err := prepare(ctx, promql.NewPrometheusQueryOpts(false, lookback, nil), text)
	if err != nil {
		return answer{}, bad("query", err)
	}
	defer query.Close()
	res := query.Exec(ctx)
	if res.Err != nil {
		return answer{}, res.Err
	}
	value, truncated := truncate(res.Value, limit)
	notes := res.Warnings
	if truncated {
		notes.Add(errTruncated)
	}
	data, err := s.newEncoder().result(value)
	return answer{data: data, notes: notes, query: text}, err
}

// truncate cuts vectors and matrices to limit entries.
func truncate(value parser.Value, limit int) (cutValue parser.Value, truncated bool) {
	switch v := value.(type) {
	case promql.Vector:
		v, truncated = cut(v, limit)
		return v, truncated
	case promql.Matrix:
		v, truncated = cut(v, limit)
		return v, truncated
	}
	return value, false
}

// formatQuery answers with the expression as PromQL's printer writes it.
func (s *Server) formatQuery(r *http.Request) (answer, error) {
	expr, err := bound.Parse(r.Form.Get("query"), 0)
	if err != nil {
		return answer{}, bad("query", err)
	}
	return encoded(expr.Pretty(0))
}

// queryExemplars checks its parameters and finds nothing: the scraper reads no exemplars.
func (s *Server) queryExemplars(r *http.Request) (answer, error) {
	if _, _, err := rangeOf(r); err != nil {
		return answer{}, err
	}
	if _, err := bound.Parse(r.Form.Get("query"), 0); err != nil {
		return answer{}, &apiError{badData, err}
	}
	return encoded([]struct{}{})
}
