package recommender

import (
	"errors"
	"time"
)

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
