package sources

import (
	"context"
	"errors"
	"sync"
	"time"

	"headroom.dev/headroom/recommender"
)

// Named is a source and what people call it.
type Named struct {
	Name   string // "metrics.k8s.io"
	Source Source
}

// Joined asks several sources. It is safe for concurrent use.
type Joined struct {
	sources []Named
	timeout time.Duration
	first   map[recommender.Resource]int // the source that comes before all others

	mu   sync.Mutex
	errs map[string]error
}

// Join makes one source of several, the preferred ones first: of a resource of a container the first that has it is taken.
func Join(sources ...Named) *Joined {
	return &Joined{sources: sources, timeout: sourceTimeout, errs: map[string]error{}, first: map[recommender.Resource]int{}}
}

// Prefer lets a source come before all others for some resources, and returns j. It is to be called before j is used.
func (j *Joined) Prefer(name string, resources ...recommender.Resource) *Joined {
	for i := range j.sources {
		if j.sources[i].Name == name {
			for _, r := range resources {
				j.first[r] = i
			}
		}
	}
	return j
}

// sourceTimeout is how long one source may take for Samples: one that hangs holds the others up no longer.
const sourceTimeout = 30 * time.Second

// SourceError is why a source failed.
type SourceError struct {
	Source string
	Err    error
}

func (e *SourceError) Error() string { return e.Source + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *SourceError) Unwrap() error { return e.Err }

// Samples implements Source. Sources are asked at the same time. What is wrong with some of them is in Errors; it is an error
// only where none has answered.
func (j *Joined) Samples(ctx context.Context, namespace string) ([]recommender.Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, j.timeout)
	defer cancel()
	answers := make([][]recommender.Sample, len(j.sources))
	errs := make([]error, len(j.sources))
	var wait sync.WaitGroup
	for i := range j.sources {
		wait.Go(func() { answers[i], errs[i] = j.sources[i].Source.Samples(ctx, namespace) })
	}
	wait.Wait()
	var failed []error
	for i, err := range errs {
		j.note(j.sources[i].Name, err)
		if _, some := errors.AsType[*PartialError](err); err != nil && !some {
			failed = append(failed, &SourceError{Source: j.sources[i].Name, Err: err})
		}
	}
	if len(failed) > 0 && len(failed) == len(j.sources) {
		return nil, errors.Join(failed...)
	}
	return preferred(answers, j.first), nil
}

// preferred takes of each container's resource the samples of the source that is to come first for it, else of the first that has any.
func preferred(answers [][]recommender.Sample, first map[recommender.Resource]int) []recommender.Sample {
	type key struct {
		id recommender.ContainerID
		r  recommender.Resource
	}
	by := map[key]int{}
	for i, samples := range answers {
		for j := range samples {
			k := key{samples[j].Container, samples[j].Resource}
			if _, ok := by[k]; !ok {
				by[k] = i
			} else if f, ok := first[k.r]; ok && f == i {
				by[k] = i
			}
		}
	}
	var out []recommender.Sample
	for i, samples := range answers {
		for _, s := range samples {
			if by[key{s.Container, s.Resource}] == i {
				out = append(out, s)
			}
		}
	}
	return out
}

// Past implements Source: of the sources that know the past, the first that has any of the resource.
func (j *Joined) Past(ctx context.Context, of recommender.Past, yield func([]recommender.Sample) error) error {
	var errs []error
	knows := false
	for _, s := range j.sources {
		some := false
		err := s.Source.Past(ctx, of, func(samples []recommender.Sample) error {
			some = some || len(samples) > 0
			return yield(samples)
		})
		if errors.Is(err, ErrNoHistory) {
			continue
		}
		knows = true
		if err != nil {
			err = &SourceError{Source: s.Name, Err: err}
		}
		if some || ctx.Err() != nil {
			return err
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if !knows {
		return ErrNoHistory
	}
	return errors.Join(errs...)
}

// Errors returns why sources failed when they were asked for samples last, those that did not left out.
func (j *Joined) Errors() []*SourceError {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []*SourceError
	for _, s := range j.sources {
		if err := j.errs[s.Name]; err != nil {
			list = append(list, &SourceError{Source: s.Name, Err: err})
		}
	}
	return list
}

func (j *Joined) note(name string, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.errs[name] = err
}
