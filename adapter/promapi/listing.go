package promapi

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/util/annotations"
)

// series lists the label sets of the series that match any of the request's selectors.
func (s *Server) series(r *http.Request) (answer, error) {
	if len(r.Form["match[]"]) == 0 {
		return answer{}, &apiError{badData, errors.New("no match[] parameter provided")}
	}
	limit, err := limitOf(r)
	if err != nil {
		return answer{}, err
	}
	var found []labels.Labels
	if err := s.each(r, func(ls labels.Labels) { found = append(found, ls) }); err != nil {
		return answer{}, err
	}
	slices.SortFunc(found, labels.Compare)
	found = slices.CompactFunc(found, labels.Equal)
	found, truncated := cut(found, limit)
	data, err := s.newEncoder().labelSets(found)
	return listed(data, truncated, err)
}

// labelNames lists the names of the labels of these series, or of all.
func (s *Server) labelNames(r *http.Request) (answer, error) {
	return s.distinct(r, func(ls labels.Labels, add func(string)) {
		ls.Range(func(l labels.Label) { add(l.Name) })
	})
}

// labelValues lists the values of one label of these series, or of all.
func (s *Server) labelValues(r *http.Request) (answer, error) {
	name := r.PathValue("name")
	if strings.HasPrefix(name, "U__") {
		name = model.UnescapeName(name, model.ValueEncodingEscaping)
	}
	if !model.UTF8Validation.IsValidLabelName(name) {
		return answer{}, &apiError{badData, fmt.Errorf("invalid label name: %q", name)}
	}
	return s.distinct(r, func(ls labels.Labels, add func(string)) {
		if v := ls.Get(name); v != "" {
			add(v)
		}
	})
}

// distinct lists once what take adds for the request's series.
func (s *Server) distinct(r *http.Request, take func(ls labels.Labels, add func(string))) (answer, error) {
	limit, err := limitOf(r)
	if err != nil {
		return answer{}, err
	}
	found := map[string]struct{}{}
	if err := s.each(r, func(ls labels.Labels) { take(ls, func(v string) { found[v] = struct{}{} }) }); err != nil {
		return answer{}, err
	}
	list, truncated := cut(slices.Sorted(maps.Keys(found)), limit)
	data, err := s.newEncoder().names(list)
	return listed(data, truncated, err)
}

func listed(data []byte, truncated bool, err error) (answer, error) {
	var notes annotations.Annotations
	if truncated {
		notes.Add(errTruncated)
	}
	return answer{data: data, notes: notes}, err
}

// each calls visit for every series with a sample in the request's time range that matches one of its selectors; of all
// series where it has none. A series that matches two is visited twice.
func (s *Server) each(r *http.Request, visit func(labels.Labels)) error {
	mint, maxt, err := rangeOf(r)
	if err != nil {
		return err
	}
	sets, err := s.matchersOf(r)
	if err != nil {
		return err
	}
	if len(sets) == 0 {
		sets = [][]*labels.Matcher{nil}
	}
	q, err := s.viewOf(r.Context()).Querier(mint, maxt)
	if err != nil {
		return &apiError{internal, err}
	}
	defer func() { _ = q.Close() }()
	for _, matchers := range sets {
		set := q.Select(r.Context(), false, nil, matchers...)
		for set.Next() {
			visit(set.At().Labels())
		}
		if err := set.Err(); err != nil {
			return err
		}
	}
	return nil
}

// metadata says what is known of metrics. A request for one namespace is told of those that it has series of.
func (s *Server) metadata(r *http.Request) (answer, error) {
	limit := -1
	if v := r.Form.Get("limit"); v != "" {
		var err error
		if limit, err = strconv.Atoi(v); err != nil {
			return answer{}, &apiError{badData, errors.New("limit must be a number")}
		}
	}
	if v := r.Form.Get("limit_per_metric"); v != "" { // there is one for each
		if _, err := strconv.Atoi(v); err != nil {
			return answer{}, &apiError{badData, errors.New("limit_per_metric must be a number")}
		}
	}
	known := map[string]metadata.Metadata{}
	if s.opts.Metadata != nil {
		known = s.opts.Metadata.Metadata()
	}
	visible, err := s.visibleFamilies(r)
	if err != nil {
		return answer{}, err
	}
	out := map[string][]metadata.Metadata{}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if limit >= 0 && len(out) >= limit {
			break
		}
		if only := r.Form.Get("metric"); (only == "" || only == name) && visible(name) {
			out[name] = []metadata.Metadata{known[name]}
		}
	}
	return encoded(out)
}

// visibleFamilies returns whether the request may know of a metric family.
func (s *Server) visibleFamilies(r *http.Request) (func(name string) bool, error) {
	if namespaceOf(r.Context()) == "" {
		return func(string) bool { return true }, nil
	}
	families := map[string]bool{}
	plain := *r
	plain.Form = nil // its "match[]" and times are not metadata's
	err := s.each(&plain, func(ls labels.Labels) {
		name := ls.Get(model.MetricNameLabel)
		families[name] = true
		for _, suffix := range []string{"_bucket", "_count", "_sum", "_total", "_created", "_info", "_gcount", "_gsum"} {
			if family, ok := strings.CutSuffix(name, suffix); ok {
				families[family] = true
			}
		}
	})
	return func(name string) bool { return families[name] }, err
}
