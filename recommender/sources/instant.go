package sources

import (
	"context"

	"github.com/prometheus/prometheus/promql"

	"headroom.dev/headroom/recommender"
)

// instant asks for the newest reading of a resource.
func instant(
	ctx context.Context, r recommender.Resource, s scope, ask func(ctx context.Context, expr string) (promql.Vector, error), c *counts,
) ([]recommender.Sample, error) {
	var out []recommender.Sample
	taken := map[recommender.ContainerID]bool{}
	for _, f := range forms(r) {
		found := map[recommender.ContainerID]promql.Sample{}
		for _, expr := range f.exprs {
			v, err := ask(ctx, f.fill(expr, s))
			if err != nil {
				return out, err
			}
			for _, sample := range v {
				id := f.id(sample.Metric)
				if !c.named(id) || !usableSample(sample, c) || taken[id] {
					continue
				}
				if had, ok := found[id]; !ok || had.F < sample.F {
					found[id] = sample
				}
			}
		}
		if len(found) == 0 {
			continue
		}
		certain, err := certainties(ctx, &f, s, ask)
		if err != nil {
			return out, err
		}
		for id, sample := range found {
			taken[id] = true
			out = append(out, recommender.Sample{
				Container: id, Resource: r, At: fromMillis(sample.T), Value: sample.F, Certainty: f.certain(certain, id),
			})
		}
	}
	return out, nil
}

func usableSample(s promql.Sample, c *counts) bool {
	if s.H != nil {
		c.unreadable.Add(1)
		return false
	}
	return c.usable(s.F)
}

// certainties asks how sure each container's reading is.
func certainties(
	ctx context.Context, f *form, s scope, ask func(ctx context.Context, expr string) (promql.Vector, error),
) (map[recommender.ContainerID]float64, error) {
	if f.certainty == "" {
		return nil, nil
	}
	v, err := ask(ctx, f.fill(f.certainty, s))
	if err != nil {
		return nil, err
	}
	known := make(map[recommender.ContainerID]float64, len(v))
	for _, sample := range v {
		known[f.id(sample.Metric)] = sample.F
	}
	return known, nil
}

// certain is the certainty of a container's reading.
func (f *form) certain(known map[recommender.ContainerID]float64, id recommender.ContainerID) float64 {
	if f.certainty == "" {
		return 1
	}
	if v, ok := known[id]; ok && v > 0 && v <= 1 {
		return v
	}
	return unknownCertainty
}
