package sources

import (
	"context"
	"sync"
	"time"

	"headroom.dev/headroom/recommender"
)

// Fresh leaves out of a source's samples those that it returned before: servers tell the last reading until they have a newer
// one. It belongs to one reader; several would take each other's. It remembers a time for each container and resource, some
// 150 bytes, until an hour after the last reading.
func Fresh(s Source) Source { return &fresh{Source: s, last: map[reading]time.Time{}} }

type fresh struct {
	Source
	mu     sync.Mutex
	last   map[reading]time.Time
	newest time.Time
	swept  time.Time
}

type reading struct {
	id       recommender.ContainerID
	resource recommender.Resource
}

// forget is when a reading is too old to come again.
const forget = time.Hour

// Samples implements Source.
func (f *fresh) Samples(ctx context.Context, namespace string) ([]recommender.Sample, error) {
	samples, err := f.Source.Samples(ctx, namespace)
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := samples[:0]
	for _, s := range samples {
		key := reading{s.Container, s.Resource}
		if last, ok := f.last[key]; ok && !s.At.After(last) {
			continue
		}
		f.last[key] = s.At
		if s.At.After(f.newest) {
			f.newest = s.At
		}
		kept = append(kept, s)
	}
	if f.newest.Sub(f.swept) > forget {
		f.swept = f.newest
		for key, last := range f.last {
			if f.newest.Sub(last) > forget {
				delete(f.last, key)
			}
		}
	}
	return kept, err
}
