package rules

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"headroom.dev/headroom/adapter/metric"
)

// maxNotes bounds Status.Notes.
const maxNotes = 5

// result is what one evaluation of one rule gave. It never changes once it is made.
type result struct {
	at         time.Time // what it was evaluated for
	entries    []entry   // by object
	objects    int       // with a value
	series     int       // that were read
	unlabelled int       // results without the labels that name an object
	nameless   bool      // all results are such
	notes      []string
}

// entry is one object's value, or why it has none.
type entry struct {
	object  objectKey
	value   float64
	time    int64             // ms, of the data behind it; never where that is unknown, then there is a problem
	labels  map[string]string // of the external metric's series, where it is one
	problem string            // why there is no value; empty where there is one
	ended   bool              // all series behind it have ended
}

// objectKey names an object, or a series of an external metric by the text of its labels. The namespace is empty for
// what is root-scoped, or served in all namespaces.
type objectKey struct{ namespace, name string }

func (k objectKey) compare(o objectKey) int {
	return cmp.Or(cmp.Compare(k.namespace, o.namespace), cmp.Compare(k.name, o.name))
}

// row is one element of an expression's result, or, without a value, an object that series were found of.
type row struct {
	key       objectKey
	labels    labels.Labels
	value     float64
	histogram bool
	missing   bool  // there is no value
	time      int64 // ms; never where no series is known to stand behind it
	live      bool
}

// maker makes a result of rows.
type maker struct {
	c      *Compiled
	former *result // to share labels with; may be nil
	limit  int
	rows   []row
	res    *result

	unlabelled []labels.Labels // results without the labels that name an object
}

func newMaker(c *Compiled, former *result, at time.Time, limit int) *maker {
	return &maker{c: c, former: former, limit: limit, res: &result{at: at}}
}

// expect makes room for rows.
func (m *maker) expect(n int) { m.rows = make([]row, 0, n) }

// add takes a row in, whose key is filled in here.
func (m *maker) add(r row) {
	t := &m.c.Rule.Target
	switch {
	case t.Resource == metric.External:
		m.addExternal(r)
		return
	case t.RootScoped:
		r.key.name = r.labels.Get(t.NameLabel)
	default:
		r.key = objectKey{r.labels.Get(t.NamespaceLabel), r.labels.Get(t.NameLabel)}
	}
	m.addObject(r)
}

// addObject takes in a row whose key is known.
func (m *maker) addObject(r row) {
	if r.key.name == "" || r.key.namespace == "" && !m.c.Rule.Target.RootScoped {
		if !r.missing {
			m.unlabelled = append(m.unlabelled, r.labels)
		}
		return
	}
	if m.c.covered(r.key) && (!r.missing || len(m.rows) < m.limit) { // those without a result come last
		m.rows = append(m.rows, r)
	}
}

func (m *maker) addExternal(r row) {
	r.key = objectKey{r.labels.Get(m.c.Rule.Target.NamespaceLabel), m.shown(r.labels).String()}
	if m.c.covered(r.key) || r.key.namespace == "" {
		m.rows = append(m.rows, r)
	}
}

// shown returns the labels of an external metric's series.
func (m *maker) shown(ls labels.Labels) labels.Labels {
	b := labels.NewBuilder(ls).Del(nameLabel)
	if list := m.c.Rule.Target.Labels; list != nil {
		b.Keep(list...)
	}
	return b.Labels()
}

func (m *maker) note(format string, args ...any) {
	if len(m.res.notes) < maxNotes {
		m.res.notes = append(m.res.notes, fmt.Sprintf(format, args...))
	}
}

// result makes entries of the rows.
func (m *maker) result() (*result, error) {
	if len(m.rows) > m.limit {
		return nil, fmt.Errorf("the expression describes %d objects, at most %d; aggregate, or select fewer series", len(m.rows), m.limit)
	}
	m.res.unlabelled = len(m.unlabelled)
	m.res.nameless = len(m.unlabelled) > 0 && !slices.ContainsFunc(m.rows, func(r row) bool { return !r.missing })
	slices.SortFunc(m.unlabelled, labels.Compare)
	for _, ls := range m.unlabelled[:min(len(m.unlabelled), maxNotes)] {
		m.note("result %s has no %s", ls, m.c.naming())
	}
	byObject := func(a, b row) int { return cmp.Or(a.key.compare(b.key), labels.Compare(a.labels, b.labels)) }
	if !slices.IsSortedFunc(m.rows, byObject) {
		slices.SortFunc(m.rows, byObject)
	}
	m.res.entries = make([]entry, 0, len(m.rows))
	for i := 0; i < len(m.rows); {
		same := i + 1
		for same < len(m.rows) && m.rows[same].key == m.rows[i].key {
			same++
		}
		e := m.entry(m.rows[i:same])
		if m.c.Rule.Target.Resource == metric.External || m.c.Rule.Target.External {
			e.labels = m.labels(&m.rows[i])
		}
		m.res.entries = append(m.res.entries, e)
		i = same
	}
	return m.res, nil
}

// entry makes one of all rows of one object.
func (m *maker) entry(rows []row) entry {
	r := &rows[0]
	e := entry{object: r.key, value: r.value, time: r.time, ended: !r.live && r.time != never}
	window := m.c.Window
	switch {
	case len(rows) > 1:
		e.time, e.ended = never, false
		e.problem = fmt.Sprintf("%d results for one %s, like %s and %s; %s",
			len(rows), m.c.kind(), r.labels, rows[1].labels, m.c.advice())
		m.note("%s/%s: %s", r.key.namespace, r.key.name, e.problem)
	case r.time == never && m.c.Rule.Source == Prometheus: // a range still has what no selector sees now
		e.ended = true
	case r.time == never:
		e.problem = "no series is known to stand behind the result"
	case r.missing:
		e.problem = m.missing()
	case e.ended:
	case r.histogram:
		e.problem = "the result is a histogram, not a number"
	case math.IsNaN(r.value) && window > 0:
		e.problem = fmt.Sprintf("NaN: no observations in %s", window)
	case math.IsNaN(r.value):
		e.problem = "NaN"
	case math.IsInf(r.value, 0):
		e.problem = "the result is infinite"
	default:
		m.res.objects++
	}
	return e
}

// missing says why an object that series were found of has no result.
func (m *maker) missing() string {
	switch {
	case m.res.nameless:
		return m.c.unlabelled()
	case m.c.Window > 0:
		return fmt.Sprintf("the expression gives no result for it; a rate needs two samples in %s", m.c.Window)
	}
	return "the expression gives no result for it"
}

// labels returns what an external metric shows of a row, if it can that which the former result has.
func (m *maker) labels(r *row) map[string]string {
	if former := m.former.find(r.key); former != nil && former.labels != nil {
		return former.labels
	}
	t := &m.c.Rule.Target
	if t.Resource != metric.External {
		return map[string]string{t.NameLabel: r.key.name}
	}
	return m.shown(r.labels).Map()
}

// find returns the entry of an object, nil where there is none.
func (r *result) find(key objectKey) *entry {
	if r == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(r.entries, key, func(e entry, k objectKey) int { return e.object.compare(k) })
	if !ok {
		return nil
	}
	return &r.entries[i]
}

// within returns the entries of a namespace.
func (r *result) within(namespace string) []entry {
	if r == nil {
		return nil
	}
	from, _ := slices.BinarySearchFunc(r.entries, namespace, func(e entry, ns string) int { return cmp.Compare(e.object.namespace, ns) })
	to := from
	for to < len(r.entries) && r.entries[to].object.namespace == namespace {
		to++
	}
	return r.entries[from:to]
}

// kind is what one result describes.
func (c *Compiled) kind() string {
	if c.Rule.Target.Resource == metric.External {
		return "external series"
	}
	return "object"
}

// advice says how results become one for each.
func (c *Compiled) advice() string {
	list := c.Rule.Target.objectLabels()
	if t := &c.Rule.Target; t.Resource == metric.External {
		list = append([]string{t.NamespaceLabel}, t.Labels...)
	}
	return fmt.Sprintf("aggregate by (%s)", strings.Join(list, ", "))
}

// naming says which labels name an object: "labels namespace and pod".
func (c *Compiled) naming() string {
	list := c.Rule.Target.objectLabels()
	if len(list) == 1 {
		return "label " + list[0]
	}
	return "labels " + strings.Join(list, " and ")
}

func (c *Compiled) unlabelled() string {
	return fmt.Sprintf("the rule gives results without %s; %s", c.naming(), c.advice())
}
