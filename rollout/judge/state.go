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

// MarshalJSON writes everything that Restore needs: about 10 kB for each latency and 100 bytes for each pod and histogram bucket.
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
	contrasts := map[Kind]int{Errors: 1, Latency: len(targets()) + 1}[m.Kind]
	switch {
	case len(s.Contrasts) != 0 && len(s.Contrasts) != contrasts:
		return fmt.Errorf("%d contrasts, not %d", len(s.Contrasts), contrasts)
	case m.Kind == Latency && s.Bounds == nil && s.Contrasts != nil:
		return errors.New("no bounds")
	case !within(s.Requests, 0, maxCount*1e3) || s.Watched < 0 || s.MaxWorse < 0 || s.Breaches < 0 || s.Good < 0 || s.Stratum.Number < 0:
		return errors.New("a negative count")
	}
	if s.Bounds != nil {
		if err := (Value{Bounds: s.Bounds, Counts: make([]float64, len(s.Bounds)+1)}).check(Latency); err != nil {
			return err
		}
	}
	for _, last := range []map[string]Value{s.LastNew, s.LastOld} {
		for pod, v := range last {
			if err := v.check(m.Kind); err != nil {
				return fmt.Errorf("%s: %w", pod, err)
			}
		}
	}
	for _, v := range []Value{s.Stratum.New, s.Stratum.Old} {
		if m.Kind == Latency && len(v.Counts) == 0 && s.Contrasts == nil {
			continue
		}
		if m.Kind == Latency && !slices.Equal(v.Bounds, s.Bounds) {
			return errLayout
		}
		if err := v.check(m.Kind); err != nil {
			return err
		}
	}
	for i := range s.Contrasts {
		if err := s.Contrasts[i].check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *contrast) check() error {
	if n := len(c.Dispersion.Groups); n != 0 && n != maxGroups {
		return fmt.Errorf("%d groups of pods, not %d", n, maxGroups)
	}
	for s := range blockSizes {
		if c.Dispersion.Chi2[s] < 0 || c.Dispersion.Freedom[s] < 0 {
			return errors.New("a negative dispersion")
		}
	}
	for _, g := range append(c.Dispersion.Groups, c.Dispersion.Arms) {
		if g.Looks < 0 || slices.Min(g.Variance[:]) < 0 {
			return errors.New("a negative variance")
		}
	}
	if c.Looks == 0 && c.Worse == nil && c.Likelihood == nil && c.Within == nil {
		return nil
	}
	g := newGrids()
	full := len(c.Likelihood) == len(g.full) && len(c.Within) == len(g.within) && len(c.WithinPlain) == len(g.within) &&
		len(c.Worse) == len(g.worse) && len(c.WorsePlain) == len(g.worse) && len(c.WorseLow) == len(g.worse)
	switch {
	case c.Looks < 1 || !full:
		return fmt.Errorf("%d looks with %d, %d and %d points of evidence", c.Looks, len(c.Likelihood), len(c.Worse), len(c.Within))
	case !within(c.Unstarted, 0, 1) || c.Marked < 0 || c.Information < 0:
		return errors.New("a negative sum")
	}
	return nil
}
