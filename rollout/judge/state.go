package judge

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// stateVersion changes when an older program would read a state wrongly.
const stateVersion = 1

type encoded struct {
	Version int   `json:"version"`
	Spec    Spec  `json:"spec"`
	State   state `json:"state"`
}

// MarshalJSON writes everything that Restore needs: with nine old pods 5 kB for errors and 26 kB for a latency, besides what was last
// read of each pod where counters are given.
func (j *Judge) MarshalJSON() ([]byte, error) {
	return json.Marshal(encoded{Version: stateVersion, Spec: j.spec, State: j.state})
}

// Restore reads a judge back. A state that no judge can have written is refused.
func Restore(raw []byte) (*Judge, error) {
	var e encoded
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, fmt.Errorf("cannot read the judge's state: %w", err)
	}
	if e.Version != stateVersion {
		return nil, fmt.Errorf("cannot read the judge's state: version %d, this program knows %d", e.Version, stateVersion)
	}
	j, err := New(e.Spec)
	if err != nil {
		return nil, fmt.Errorf("cannot read the judge's state: %w", err)
	}
	if len(e.State.Metrics) != len(j.spec.Metrics) {
		return nil, fmt.Errorf("cannot read the judge's state: %d metrics, the spec has %d", len(e.State.Metrics), len(j.spec.Metrics))
	}
	if e.State.Looks < 0 {
		return nil, errors.New("cannot read the judge's state: a negative number of looks")
	}
	for i, m := range j.spec.Metrics {
		if err := e.State.Metrics[i].check(m); err != nil {
			return nil, fmt.Errorf("cannot read the judge's state of %s: %w", m.Name, err)
		}
	}
	j.state = e.State
	return j, nil
}

func (s *series) check(m Metric) error {
	if min(s.Requests, s.MaxWorse, float64(s.Watched), float64(s.Breaches), float64(s.Good), float64(s.Stratum.Number)) < 0 {
		return errors.New("a negative count")
	}
	for _, last := range []map[string]Value{s.LastNew, s.LastOld} {
		for pod, v := range last {
			if err := v.check(m.Kind); err != nil {
				return fmt.Errorf("%s: %w", pod, err)
			}
		}
	}
	if err := s.checkSums(m); err != nil {
		return err
	}
	if want := map[Kind]int{Errors: 1, Latency: len(targets()) + 1}[m.Kind]; len(s.Contrasts) != 0 && len(s.Contrasts) != want {
		return fmt.Errorf("%d contrasts, not %d", len(s.Contrasts), want)
	}
	for i := range s.Contrasts {
		if err := s.Contrasts[i].check(newGrids()); err != nil {
			return err
		}
	}
	return nil
}

// checkSums checks the stratum, and that a latency's histograms have the bounds that are judged.
func (s *series) checkSums(m Metric) error {
	if m.Kind == Latency {
		if s.Bounds != nil {
			if err := (Value{Bounds: s.Bounds, Counts: make([]float64, len(s.Bounds)+1)}).checkHistogram(); err != nil {
				return err
			}
		}
		if s.Contrasts == nil && s.Stratum.Number == 0 {
			return nil
		}
		if s.Bounds == nil || !slices.Equal(s.Stratum.New.Bounds, s.Bounds) || !slices.Equal(s.Stratum.Old.Bounds, s.Bounds) {
			return errLayout
		}
	}
	return errors.Join(s.Stratum.New.check(m.Kind), s.Stratum.Old.check(m.Kind))
}

func (c *contrast) check(g *grids) error {
	if err := c.Dispersion.check(); err != nil {
		return err
	}
	lengths := []int{len(c.Likelihood), len(c.Worse), len(c.WorsePlain), len(c.WorseLow), len(c.Within), len(c.WithinPlain)}
	if c.Looks == 0 && slices.Max(lengths) == 0 {
		return nil
	}
	if c.Looks < 1 || !slices.Equal(lengths, []int{len(g.full), len(g.worse), len(g.worse), len(g.worse), len(g.within), len(g.within)}) {
		return fmt.Errorf("%d looks with %v points of evidence", c.Looks, lengths)
	}
	if !within(c.Unstarted, 0, 1) || c.Marked < 0 || c.Information < 0 {
		return errors.New("a negative sum")
	}
	return nil
}

func (d *dispersion) check() error {
	if n := len(d.Groups); n != 0 && n != maxGroups {
		return fmt.Errorf("%d groups of pods, not %d", n, maxGroups)
	}
	if slices.Min(d.Chi2[:]) < 0 || slices.Min(d.Freedom[:]) < 0 {
		return errors.New("a negative dispersion")
	}
	for _, g := range slices.Concat(d.Groups, []scales{d.Arms}) {
		if g.Looks < 0 || g.SumOf < 0 || slices.Min(g.Variance[:]) < 0 {
			return errors.New("a negative variance")
		}
	}
	return nil
}
