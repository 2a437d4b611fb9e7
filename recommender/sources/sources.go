package sources

import (
	"context"
	"errors"
	"math"
	"sync/atomic"

	"headroom.dev/headroom/recommender"
)

// Source is where usage comes from. Implementations are safe for concurrent use.
type Source interface {
	// Samples returns the newest reading of each container of a namespace, of all namespaces for "".
	Samples(ctx context.Context, namespace string) ([]recommender.Sample, error)
	// Past calls yield with what was, oldest first, a bounded number of samples at a time; yield's error ends it. ErrNoHistory
	// if the source knows no past; a *GapError if parts of it could not be had, and the rest was yielded.
	Past(ctx context.Context, of recommender.Past, yield func([]recommender.Sample) error) error
}

// ErrNoHistory is returned by Past of sources that know the present alone.
var ErrNoHistory = errors.New("the source has no history")

// Dropped counts readings that were left out since the source was made.
type Dropped struct {
	NotANumber uint64 // NaN and infinities
	Negative   uint64
	Unreadable uint64 // without a container's name, or with a quantity or a time that cannot be parsed
}

// counts is Dropped while it is counted.
type counts struct{ notANumber, negative, unreadable atomic.Uint64 }

// Dropped returns what was left out so far.
func (c *counts) Dropped() Dropped {
	return Dropped{NotANumber: c.notANumber.Load(), Negative: c.negative.Load(), Unreadable: c.unreadable.Load()}
}

// usable says whether a value can be one of use, and counts it if not.
func (c *counts) usable(v float64) bool {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		c.notANumber.Add(1)
	case v < 0:
		c.negative.Add(1)
	default:
		return true
	}
	return false
}

// named says whether a reading can be told to be someone's, and counts it if not.
func (c *counts) named(id recommender.ContainerID) bool {
	if id.Namespace == "" || id.Pod == "" {
		c.unreadable.Add(1)
		return false
	}
	return true
}
