package scrape

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// samples are the wanted ones of one answer, in its order.
type samples struct {
	labels []labels.Labels
	values []float64
}

// exposition is one answer on its way to samples.
type exposition struct {
	body  []byte // terminated
	names nameFilter
	merge *merger
	limit int       // of wanted samples
	known []segment // the answer's layout, which then says what is wanted in the place of names; nil if it is not known
	trace *tracer   // takes the layout down; nil if nobody asks
	out   samples

	last  []byte // the part of body in the last good entry
	index int    // of the sample at hand
}

// terminate ends the last line as the parser would, but here, so that the offsets of its slices hold in one array.
func terminate(body []byte, contentType string) []byte {
	if n := len(body); n > 0 && body[n-1] != '\n' && !strings.HasPrefix(contentType, "application/openmetrics-text") {
		return append(body, '\n')
	}
	return body
}

// parse reads everything. Any fault, in a wanted line or not, fails the whole.
func (e *exposition) parse(contentType string) error {
	p, err := newParser(e.body, contentType)
	if err != nil {
		return err
	}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return &scrapeError{outcomeParse, fmt.Sprintf("line %d: %s", lineAfter(e.body, e.last), shorten(err.Error()))}
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
				return err
			}
		default: // native histograms are in no text format
		}
	}
}

// series takes the sample at which the parser stands.
func (e *exposition) series(p textparse.Parser) error {
	series, _, value := p.Series()
	e.last = series
	ls, wanted, err := e.wanted(p, series)
	if err != nil {
		return err
	}
	e.index++
	if e.trace != nil {
		e.trace.sample(e.body, offset(e.body, series)+len(series), wanted)
	}
	if !wanted {
		return nil
	}
	if len(e.out.values) == e.limit {
		return &scrapeError{outcomeTooLarge, fmt.Sprintf("the answer has more than the limit of %d samples", e.limit)}
	}
	e.out.labels = append(e.out.labels, ls)
	e.out.values = append(e.out.values, value)
	return nil
}

// wanted returns the labels of the series at which the parser stands, if it is wanted.
func (e *exposition) wanted(p textparse.Parser, series []byte) (labels.Labels, bool, error) {
	if e.known != nil && !e.known[e.index].wanted || e.known == nil && !e.names.pass(series) {
		return labels.EmptyLabels(), false, nil
	}
	var exposed labels.Labels
	p.Labels(&exposed)
	if name, twice := exposed.HasDuplicateLabelNames(); twice {
		return labels.EmptyLabels(), false, &scrapeError{outcomeParse, fmt.Sprintf("label %.40q twice in one series", name)}
	}
	// Without relabelling the name is what is exposed.
	if e.known == nil && !e.names.all && !e.names.wants(exposed.Get(model.MetricNameLabel)) {
		return labels.EmptyLabels(), false, nil
	}
	ls, kept := e.merge.labels(exposed)
	return ls, kept && (e.known != nil || e.names.wants(ls.Get(model.MetricNameLabel))), nil
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
	all   bool // let all names pass: relabelling can make any of them a wanted one
	last  []byte
	ok    bool
}

// pass says whether the series may be wanted by the bytes of its name; {"quoted names"} pass unseen.
func (f *nameFilter) pass(series []byte) bool {
	if f.all {
		return true
	}
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
