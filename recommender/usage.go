package recommender

import (
	"errors"
	"iter"
	"time"
)

// Usage is what is known of one container and one resource.
type Usage struct {
	resource Resource
	policy   Policy
}

// NewUsage makes an empty Usage.
func NewUsage(r Resource, p Policy) *Usage { return &Usage{resource: r, policy: p} }

// Resource returns what the usage is of.
func (u *Usage) Resource() Resource { return u.resource }

// SetPolicy changes the policy. If what it says of risk has changed, what was learnt is learnt anew from the hours kept.
func (u *Usage) SetPolicy(p Policy) { u.policy = p }

// Add takes a sample, of any replica. Samples need not be in order within an hour; what is older than the hour before the newest
// sample's, not a number, negative or infinite is refused, and so is what is more than ten minutes after now.
func (u *Usage) Add(at time.Time, value, certainty float64, now time.Time) bool { return false }

// AddStartup takes a sample of a replica that is not ready yet: it counts to Startup alone.
func (u *Usage) AddStartup(at time.Time, value float64) bool { return false }

// AddOOM takes a kill for want of memory at a limit (bytes; the request where there is no limit).
func (u *Usage) AddOOM(at time.Time, limit float64) {}

// NewVersion says that a new version of the workload runs from now on: what was before counts only as far as the hours after
// it do not contradict it.
func (u *Usage) NewVersion(at time.Time) {}

// Hours yields what is kept, oldest first.
func (u *Usage) Hours() iter.Seq[Hour] { return func(func(Hour) bool) {} }

// Replay says what the hours since a time would have been like at a request.
func (u *Usage) Replay(request float64, since time.Time) Replay { return Replay{} }

// Estimate recommends. The Usage is not changed.
func Estimate(u *Usage, now time.Time) Recommendation {
	return Recommendation{Reason: ReasonNoHistory, Startup: unknown()}
}

// Key is what a workload's usage is kept by.
type Key struct {
	Container string
	Class     string // of nodes, where a DaemonSet's differ; else ""
	Resource  Resource
}

// Checkpoint is all that is known of a workload, for keeping.
type Checkpoint struct {
	At     time.Time
	Usages map[Key]*Usage
}

// The ways in which a checkpoint cannot be read.
var (
	ErrCorrupt = errors.New("the checkpoint is corrupt")
	ErrNewer   = errors.New("the checkpoint is of a newer version")
)

// Encode writes a checkpoint.
func (c *Checkpoint) Encode() ([]byte, error) { return nil, errors.ErrUnsupported }

// DecodeCheckpoint reads what Encode wrote. Errors are ErrCorrupt or ErrNewer: such a checkpoint must not be overwritten.
func DecodeCheckpoint(b []byte, policy func(Key) Policy) (*Checkpoint, error) {
	return nil, errors.ErrUnsupported
}
