package scaler

import (
	"slices"
	"strings"
	"time"

	"headroom.dev/headroom/scaler/forecast"
)

// Knowledge is what was learnt of a service.
type Knowledge struct {
	Capacity []LearntCapacity
	StartUp  LearntStartUp
	Forecast []forecast.Skill
}

// LearntCapacity is the demand that one replica of a version on a GPU model serves within the SLO.
type LearntCapacity struct {
	Version, GPU string
	PerReplica   Estimate
}

// LearntStartUp is how long pods take from their creation until they serve, and the medians of its parts.
type LearntStartUp struct {
	Source                        Source
	P50, P90                      time.Duration
	Scheduling, Starting, Loading time.Duration
	Samples                       int
}

// Knowledge is what was learnt so far; capacities in the order of their versions and GPUs.
func (s *Service) Knowledge() Knowledge {
	k := Knowledge{Forecast: s.model.Skill()}
	for kind := range s.restored {
		if s.capacity[kind] == nil {
			k.Capacity = append(k.Capacity, LearntCapacity{kind.version, kind.gpu, s.restored[kind]})
		}
	}
	for kind := range s.capacity {
		if e := s.of(kind); e.Source != Unknown {
			k.Capacity = append(k.Capacity, LearntCapacity{kind.version, kind.gpu, e})
		}
	}
	slices.SortFunc(k.Capacity, func(a, b LearntCapacity) int {
		return strings.Compare(a.Version+"\x00"+a.GPU, b.Version+"\x00"+b.GPU)
	})
	e := s.startUp()
	u := &s.startUps
	k.StartUp = LearntStartUp{
		Source: e.Source, P50: u.p50, P90: u.p90, Samples: e.Samples,
		Scheduling: u.quantile(0.5, func(st start) time.Duration { return st.scheduling }),
		Starting:   u.quantile(0.5, func(st start) time.Duration { return st.starting }),
		Loading:    u.quantile(0.5, func(st start) time.Duration { return st.loading }),
	}
	if e.Source == Stated {
		k.StartUp.P50, k.StartUp.P90 = s.config.Policy.StartUp, s.config.Policy.StartUp
	}
	return k
}

// Restore takes over what a former process had learnt: it holds until this one knows better.
func (s *Service) Restore(k Knowledge) {
	for _, c := range k.Capacity {
		if c.PerReplica.Value > 0 {
			s.restored[kindOf{c.Version, c.GPU}] = c.PerReplica
		}
	}
	s.startUps.restore(k.StartUp)
}
