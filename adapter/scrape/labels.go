package scrape

import (
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

// merger puts a target's labels on what it exposes, by Prometheus' rules.
type merger struct {
	target  labels.Labels
	honor   bool
	relabel []*relabel.Config
	builder *labels.Builder
}

func newMerger(target labels.Labels, honor bool, configs []*relabel.Config) *merger {
	return &merger{target: target, honor: honor, relabel: configs, builder: labels.NewBuilder(labels.EmptyLabels())}
}

// labels returns the labels to keep the series under; ok is false if relabelling drops it.
func (m *merger) labels(exposed labels.Labels) (ls labels.Labels, ok bool) {
	m.merge(exposed)
	if len(m.relabel) == 0 {
		return m.builder.Labels(), true
	}
	if !relabel.ProcessBuilder(m.builder, m.relabel...) {
		return labels.EmptyLabels(), false
	}
	if !m.honor {
		for _, name := range [...]string{"namespace", "node", "pod"} {
			if own := m.target.Get(name); own != "" {
				m.builder.Set(name, own)
			}
		}
	}
	return m.builder.Labels(), true
}

func (m *merger) merge(exposed labels.Labels) {
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
}
