package direct

import (
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// objects are all objects that the plans with one list of object labels know, under one membership.
type objects struct {
	ran    uint64
	labels []string // as in Options.ObjectLabels
	*table[[]string]
	buf []byte // reused

	partsAt uint64 // version that parts stands for
	// parts has, by object that lacks labels, all those that agree with it in the ones that it has.
	parts map[int32][]int32
}

func (e *Evaluator) objectsOf(key string, names []string) *objects {
	o, ok := e.objects[key]
	if !ok {
		o = &objects{labels: names, table: newTable[[]string](e)}
		e.objects[key] = o
	}
	return o
}

// sync brings the objects of a node's rows up to date.
func (o *objects) sync(a *assignment, in *rows, labelsOf func(row int) labels.Labels) {
	var ls labels.Labels
	o.assign(a, in, func(row int) ([]byte, bool) {
		ls = labelsOf(row)
		o.buf = o.buf[:0]
		for _, name := range o.labels {
			o.buf = append(append(o.buf, ls.Get(name)...), 0xff)
		}
		return o.buf, true
	}, func(int) []string {
		values := make([]string, len(o.labels))
		for i, name := range o.labels {
			values[i] = strings.Clone(ls.Get(name)) // not the whole label set
		}
		return values
	})
}

// partsOf returns the objects that agree with an object in the labels that it has; nil for one that has them all.
func (o *objects) partsOf(id int32) []int32 {
	if !slices.Contains(o.values[id], "") {
		return nil
	}
	if o.partsAt != o.version {
		o.partsAt = o.version
		o.part()
	}
	return o.parts[id]
}

// part renews parts: for each set of labels that some object lacks, it looks up what each object is without them.
func (o *objects) part() {
	o.parts = map[int32][]int32{}
	var lacks [][]bool
	for id, stamp := range o.stamp {
		if stamp == 0 || !slices.Contains(o.values[id], "") {
			continue
		}
		lack := make([]bool, len(o.labels))
		for i, v := range o.values[id] {
			lack[i] = v == ""
		}
		if !slices.ContainsFunc(lacks, func(l []bool) bool { return slices.Equal(l, lack) }) {
			lacks = append(lacks, lack)
		}
	}
	for _, lack := range lacks {
		for id, stamp := range o.stamp {
			if stamp == 0 {
				continue
			}
			o.buf = o.buf[:0]
			for i, v := range o.values[id] {
				if !lack[i] {
					o.buf = append(o.buf, v...)
				}
				o.buf = append(o.buf, 0xff)
			}
			if whole, ok := o.ids[string(o.buf)]; ok {
				o.parts[whole] = append(o.parts[whole], int32(id))
			}
		}
	}
}

// dating is what one selector found of each object.
type dating struct {
	vector // ran and err alone count
	in     node
	series *series
	*objects
	object assignment
	found  []Seen // by object; one that is not in there was not found
	count  int    // series with samples
}

func (n *dating) refresh(e *Evaluator) error {
	if err := e.update(n.in); err != nil {
		return err
	}
	n.objects.ran = e.run
	n.objects.sync(&n.object, n.in.vec().rows, n.in.labelsOf)
	n.found = resize(n.found, len(n.objects.stamp))
	for id := range n.found {
		n.found[id] = Seen{None, Never}
	}
	n.count = 0
	s := n.series
	if v, ok := n.in.(*view); ok {
		for row, place := range v.place {
			if place != noID && v.young[place] {
				n.note(row, s.ends[place], s.newest[place]+s.offset)
			}
		}
		return nil
	}
	for row, ends := range s.ends {
		n.note(row, ends, s.newest[row]+s.offset)
	}
	return nil
}

// note takes in one series: how it ends, and its newest sample.
func (n *dating) note(row int, ends uint8, newest int64) {
	if ends == unseen {
		return
	}
	n.count++
	f := &n.found[n.object.id[row]]
	if ends == live {
		f.Live = min(f.Live, newest)
	} else {
		f.Ended = max(f.Ended, newest)
	}
}

func (n *dating) labelsOf(int) labels.Labels { return labels.EmptyLabels() }

func (n *dating) close() { n.objects.drop(&n.object) }

// pipe is one plan under one membership.
type pipe struct {
	ran     uint64
	ms      *members
	root    node
	datings []*dating
	objects *objects

	seen   []uint64 // by row of root: its stamp
	sets   []labels.Labels
	object assignment
	found  []bool // by object: it has a result
	out    Output // reused
}

type pipeKey struct {
	plan       *Plan
	membership string
}

func (e *Evaluator) newPipe(p *Plan, ms *members) *pipe {
	key := p.objectsKey
	if ms != nil {
		key = ms.id + "\xff" + key
	}
	out := &pipe{ms: ms, root: e.node(p.root, ms), objects: e.objectsOf(key, p.opts.ObjectLabels)}
	for _, leaf := range p.leaves {
		in := e.node(leaf, ms)
		dated := "dating\xff" + key + "\xff" + leaf.key
		n, ok := e.nodes[dated]
		if !ok {
			n = &dating{in: in, series: seriesOf(in), objects: out.objects}
			e.nodes[dated] = n
		}
		out.datings = append(out.datings, n.(*dating)) //nolint:forcetypeassert // the key says what it is
	}
	return out
}

func seriesOf(n node) *series {
	if v, ok := n.(*view); ok {
		return v.series
	}
	return n.(*series) //nolint:forcetypeassert // a leaf is one or the other
}

func (p *pipe) evaluate(e *Evaluator) (*Output, error) {
	p.ran, p.objects.ran = e.run, e.run
	p.out = Output{Results: p.out.Results[:0], Missing: p.out.Missing[:0]}
	for _, d := range p.datings {
		if err := e.update(d); err != nil {
			return nil, err
		}
		p.out.Series += d.count
	}
	if err := e.update(p.root); err != nil {
		return nil, err
	}
	p.sync()
	p.found = resize(p.found, len(p.objects.stamp))
	clear(p.found)
	v := p.root.vec()
	for row, has := range v.has {
		if has {
			id := p.object.id[row]
			p.found[id] = true
			p.out.Results = append(p.out.Results, Result{
				Labels: p.sets[row], Object: p.objects.values[id], Value: v.val[row], Seen: p.behind(id),
			})
		}
	}
	p.explain()
	return &p.out, nil
}

// sync brings the labels and objects of the results up to date.
func (p *pipe) sync() {
	rows := p.root.vec().rows
	if p.object.version != rows.version || len(p.seen) != len(rows.stamp) {
		p.seen, p.sets = resize(p.seen, len(rows.stamp)), resize(p.sets, len(rows.stamp))
		for row, stamp := range rows.stamp {
			if p.seen[row] == stamp {
				continue
			}
			p.seen[row], p.sets[row] = stamp, labels.EmptyLabels()
			if stamp != 0 {
				p.sets[row] = p.root.labelsOf(row)
			}
		}
	}
	p.objects.sync(&p.object, rows, func(row int) labels.Labels { return p.sets[row] })
}

// behind sums up what the selectors found of an object.
func (p *pipe) behind(id int32) Seen {
	parts := p.objects.partsOf(id)
	out := Seen{None, Never}
	isLive := false
	for _, d := range p.datings {
		f := d.of(id, parts)
		out.Ended = max(out.Ended, f.Ended)
		switch {
		case f.Live != None:
			out.Live, isLive = min(out.Live, f.Live), true
		case f.Ended != Never && !d.series.instant:
			out.Live = min(out.Live, f.Ended)
		}
	}
	if !isLive {
		out.Live = None
	}
	return out
}

// of returns what the selector found of an object, or of its parts where it has some.
func (n *dating) of(id int32, parts []int32) Seen {
	out := Seen{None, Never}
	if parts == nil && int(id) < len(n.found) {
		out = n.found[id]
	}
	for _, part := range parts {
		if int(part) < len(n.found) {
			out.Live, out.Ended = min(out.Live, n.found[part].Live), max(out.Ended, n.found[part].Ended)
		}
	}
	return out
}

// explain adds the objects that have samples but no result.
func (p *pipe) explain() {
	if len(p.objects.labels) == 0 {
		return
	}
	for id, stamp := range p.objects.stamp {
		if stamp == 0 || p.found[id] || slices.Contains(p.objects.values[id], "") {
			continue
		}
		if seen := p.behind(int32(id)); seen != (Seen{None, Never}) {
			p.out.Missing = append(p.out.Missing, Object{p.objects.values[id], seen})
		}
	}
}

func (p *pipe) close() { p.objects.drop(&p.object) }
