package promapi

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"headroom.dev/headroom/adapter/bound"
)

const (
	// maxTime bounds the times that a query may name, in seconds from 1970 both ways: about 70,000 years. Sums of such
	// times with the durations that PromQL can spell do not overflow.
	maxTime = 1 << 41

	// maxPoints is Prometheus' limit of points per series of a range.
	maxPoints = 11_000
)

// parseTime reads seconds since 1970 with a fraction, or RFC 3339, to the millisecond.
func parseTime(s string) (time.Time, error) {
	var t time.Time
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		if math.IsNaN(f) || math.Abs(f) > maxTime {
			return time.Time{}, fmt.Errorf("cannot parse %q to a valid timestamp", s)
		}
		sec, frac := math.Modf(f)
		t = time.Unix(int64(sec), int64(math.Round(frac*1000))*int64(time.Millisecond)).UTC()
	} else if t, err = time.Parse(time.RFC3339Nano, s); err != nil {
		return time.Time{}, fmt.Errorf("cannot parse %q to a valid timestamp", s)
	}
	return t, nil
}

// parseDuration reads seconds with a fraction, or a duration as PromQL writes it.
func parseDuration(s string) (time.Duration, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		ns := f * float64(time.Second)
		if math.IsNaN(ns) || ns >= math.MaxInt64 || ns < math.MinInt64 {
			return 0, fmt.Errorf("cannot parse %q to a valid duration. It overflows int64", s)
		}
		return time.Duration(ns), nil
	}
	d, err := model.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("cannot parse %q to a valid duration", s)
	}
	return time.Duration(d), nil
}

// limitOf returns how many entries the request wants at most; 0 stands for all.
func limitOf(r *http.Request) (int, error) {
	v := r.Form.Get("limit")
	if v == "" {
		return 0, nil
	}
	limit, err := strconv.Atoi(v)
	if err == nil && limit < 0 {
		err = errors.New("limit must be non-negative")
	}
	if err != nil {
		return 0, bad("limit", err)
	}
	return limit, nil
}

// cut returns the first limit entries, and whether there were more.
func cut[S ~[]E, E any](list S, limit int) (S, bool) {
	if limit == 0 || len(list) <= limit {
		return list, false
	}
	return list[:limit], true
}

// rangeOf returns the range that a listing looks at, in milliseconds; all of time where the request does not say.
func rangeOf(r *http.Request) (mint, maxt int64, err error) {
	mint, maxt = math.MinInt64, math.MaxInt64
	for _, limit := range []struct {
		name string
		ms   *int64
	}{{"start", &mint}, {"end", &maxt}} {
		v := r.Form.Get(limit.name)
		if v == "" || beyondTime(v) {
			continue
		}
		t, err := parseTime(v)
		if err != nil {
			return 0, 0, bad(limit.name, fmt.Errorf("invalid time value for '%s': %w", limit.name, err))
		}
		*limit.ms = t.UnixMilli()
	}
	return mint, maxt, nil
}

// beyondTime recognises Prometheus' own bounds of time, in the two forms in which clients send them for "no bound".
func beyondTime(s string) bool {
	f, err := strconv.ParseFloat(s, 64)
	return err == nil && math.Abs(f) > maxTime || s == "-292273086-05-16T16:47:06Z" || s == "292277025-08-18T07:12:54.999999999Z"
}

// matchersOf returns the selectors that the request names.
func (s *Server) matchersOf(r *http.Request) ([][]*labels.Matcher, error) {
	given := r.Form["match[]"]
	for _, m := range given {
		if err := bound.Text(m); err != nil {
			return nil, bad("match[]", err)
		}
	}
	sets, err := s.parser.ParseMetricSelectors(given)
	if err != nil {
		return nil, bad("match[]", err)
	}
	for _, set := range sets {
		if !slices.ContainsFunc(set, func(m *labels.Matcher) bool { return !m.Matches("") }) {
			return nil, bad("match[]", errors.New("match[] must contain at least one non-empty matcher"))
		}
	}
	return sets, nil
}
