package scrape

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// exposition is one answer on its way to samples.
type exposition struct {
	body  []byte
	last  []byte // the part of body in the last good entry
	names nameFilter
	merge *merger
	limit int
	out   []Sample
}

// parse reads one exposition and returns the wanted samples with the target's labels merged in. Any fault, in a wanted
// line or not, fails the whole.
func parse(body []byte, contentType string, wants func(string) bool, merge *merger, limit int) ([]Sample, error) {
	if n := len(body); n > 0 && body[n-1] != '\n' && !strings.HasPrefix(contentType, "application/openmetrics-text") {
		body = append(body, '\n') // as the parser would, but kept here so that line can count on one array
	}
	p, err := newParser(body, contentType)
	if err != nil {
		return nil, err
	}
	e := &exposition{body: body, names: nameFilter{wants: wants}, merge: merge, limit: limit}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return e.out, nil
		}
		if err != nil {
			return nil, &scrapeError{outcomeParse, fmt.Sprintf("line %d: %s", lineAfter(e.body, e.last), shorten(err.Error()))}
		}
		switch entry {
		case textparse.EntryHelp:
			e.last, _ = p.Help()
		case textparse.EntryType:
			e.last, _ = p.Type()
		case textparse.EntryUnit:
			e.last, _ = p.Unit()
		case textparse.EntryComment:
			e.last = p.Comment()
		case textparse.EntrySeries:
			if err := e.series(p); err != nil {
				return nil, err
			}
		default: // native histograms are in no text format
		}
	}
}

// series takes the sample at which the parser stands.
func (e *exposition) series(p textparse.Parser) error {
	series, _, value := p.Series()
	e.last = series
	if !e.names.pass(series) {
		return nil
	}
	var exposed labels.Labels
	p.Labels(&exposed)
	if name, twice := exposed.HasDuplicateLabelNames(); twice {
		return &scrapeError{outcomeParse, fmt.Sprintf("label %.40q twice in one series", name)}
	}
	if !e.names.wants(exposed.Get(model.MetricNameLabel)) {
		return nil
	}
	if len(e.out) == e.limit {
		return &scrapeError{outcomeTooLarge, fmt.Sprintf("the answer has more than the limit of %d samples", e.limit)}
	}
	e.out = append(e.out, Sample{Labels: e.merge.labels(exposed), Value: value})
	return nil
}

func newParser(body []byte, contentType string) (textparse.Parser, error) {
	if contentType == "" {
		contentType = "text/plain" // as Prometheus did for ten years; small hand-written exporters forget the header
	}
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil || (kind != "text/plain" && kind != "application/openmetrics-text") {
		return nil, &scrapeError{outcomeParse, fmt.Sprintf("content type %.60q is no metrics format", contentType)}
	}
	p, err := textparse.New(body, contentType, labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		return nil, &scrapeError{outcomeParse, shorten(err.Error())}
	}
	return p, nil
}

// nameFilter asks once per run of equal names, which is once per family in an orderly exposition.
type nameFilter struct {
	wants func(string) bool
	last  []byte
	ok    bool
}

// pass says whether the series may be wanted by the bytes of its name; {"quoted names"} pass unseen.
func (f *nameFilter) pass(series []byte) bool {
	name := series
	if i := bytes.IndexAny(series, "{ \t"); i >= 0 {
		name = series[:i]
	}
	if len(name) == 0 {
		return true
	}
	if f.last == nil || !bytes.Equal(name, f.last) {
		f.last, f.ok = name, f.wants(string(name))
	}
	return f.ok
}

// lineAfter returns the number of the first line that is not empty after the one in which part begins; part is a slice of body or nil.
func lineAfter(body, part []byte) int {
	at := 0
	if part != nil && cap(part) <= cap(body) {
		at = min(cap(body)-cap(part), len(body)) // slices of one array end at the same place, so capacities give the offset
		if end := bytes.IndexByte(body[at:], '\n'); end >= 0 {
			at += end + 1
		}
	}
	for at < len(body) && body[at] == '\n' {
		at++
	}
	return 1 + bytes.Count(body[:at], []byte{'\n'})
}

// merger puts a target's labels on what it exposes, by Prometheus' rules.
type merger struct {
	target  labels.Labels
	honor   bool
	builder *labels.Builder
}

func newMerger(target labels.Labels, honor bool) *merger {
	return &merger{target: target, honor: honor, builder: labels.NewBuilder(labels.EmptyLabels())}
}

func (m *merger) labels(exposed labels.Labels) labels.Labels {
	m.builder.Reset(exposed)
	var clashes []labels.Label
	m.target.Range(func(l labels.Label) {
		if m.honor && exposed.Has(l.Name) {
			return // even when empty: so an exporter says that a series belongs to no pod
		}
		if old := exposed.Get(l.Name); old != "" {
			clashes = append(clashes, labels.Label{Name: l.Name, Value: old})
		}
		m.builder.Set(l.Name, l.Value)
	})
	// The shortest first, as in Prometheus: an exposed exported_x then makes way for x, and not the other way round.
	slices.SortStableFunc(clashes, func(a, b labels.Label) int { return len(a.Name) - len(b.Name) })
	for _, l := range clashes {
		name := model.ExportedLabelPrefix + l.Name
		for m.builder.Get(name) != "" {
			name = model.ExportedLabelPrefix + name
		}
		m.builder.Set(name, l.Value)
	}
	return m.builder.Labels()
}
