package vpa

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"headroom.dev/headroom/recommender/histogram"
)

// Version is of the checkpoints that can be read and written.
const Version = "v3"

// The ways in which a checkpoint cannot be loaded. Such a one should not be overwritten.
var (
	ErrVersion = errors.New("unsupported version of a VPA checkpoint")
	ErrCorrupt = errors.New("corrupt VPA checkpoint")
)

// Checkpoint is an Aggregate in the form in which the VPA keeps it: its JSON is the status of a VerticalPodAutoscalerCheckpoint.
type Checkpoint struct {
	Updated     time.Time
	Version     string
	First, Last time.Time // CPU samples; zero for none
	Samples     int
	CPU, Memory histogram.Checkpoint
}

// Checkpoint returns the aggregate's checkpoint, without the peaks of the current memory intervals of the containers that feed it:
// after a restart they would count twice. Of nil it makes a checkpoint with them.
func (a *Aggregate) Checkpoint(now time.Time, instances iter.Seq[*Instance]) Checkpoint {
	c := Checkpoint{Updated: now, Version: Version, First: a.First(), Last: a.Last(), Samples: a.samples, CPU: a.cpu.Checkpoint()}
	if instances == nil {
		c.Memory = a.memory.Checkpoint()
		return c
	}
	// The library saves what it merged into a fresh aggregate, which rounds a loaded reference time. Of CPU that is all it does.
	c.CPU.Reference = c.CPU.Reference.Round(a.model.config.CPU.HalfLife)
	kept := histogram.New(a.model.memory)
	_ = kept.Merge(&a.memory) // of the same shape
	for i := range instances {
		if i.windowEnd != 0 && now.Before(date(i.windowEnd)) {
			kept.Subtract(float64(i.peak()), memoryWeight, i.windowEnd)
		}
	}
	c.Memory = kept.Checkpoint()
	return c
}

// Load makes an aggregate of a checkpoint, all of it or, with an error that wraps ErrVersion or ErrCorrupt, none.
func (m *Model) Load(c *Checkpoint) (*Aggregate, error) {
	if c.Version != Version {
		return nil, fmt.Errorf("cannot load: %w: it is of version %q, not %q", ErrVersion, c.Version, Version)
	}
	a := m.NewAggregate()
	for _, t := range []struct {
		from time.Time
		to   *int64
	}{{c.First, &a.first}, {c.Last, &a.last}} {
		if t.from.IsZero() {
			continue
		}
		ns, ok := nanoseconds(t.from)
		if !ok {
			return nil, fmt.Errorf("cannot load: %w: a sample at %v", ErrCorrupt, t.from)
		}
		*t.to = ns
	}
	if c.Samples < 0 || a.last < a.first || (a.first == 0) != (a.last == 0) {
		return nil, fmt.Errorf("cannot load: %w: %d samples from %v to %v", ErrCorrupt, c.Samples, c.First, c.Last)
	}
	a.samples = c.Samples
	var err error
	if a.cpu, err = histogram.Load(m.cpu, c.CPU); err != nil {
		return nil, fmt.Errorf("cannot load: %w: CPU: %w", ErrCorrupt, err)
	}
	if a.memory, err = histogram.Load(m.memory, c.Memory); err != nil {
		return nil, fmt.Errorf("cannot load: %w: memory: %w", ErrCorrupt, err)
	}
	return a, nil
}

// AppendJSON appends the status of a VerticalPodAutoscalerCheckpoint.
func (c *Checkpoint) AppendJSON(b []byte) []byte {
	b = append(b, `{"lastUpdateTime":`...)
	b = histogram.AppendTime(b, c.Updated)
	b = append(b, `,"version":`...)
	b = strconv.AppendQuote(b, c.Version)
	b = append(b, `,"cpuHistogram":`...)
	b = c.CPU.AppendJSON(b)
	b = append(b, `,"memoryHistogram":`...)
	b = c.Memory.AppendJSON(b)
	b = append(b, `,"firstSampleStart":`...)
	b = histogram.AppendTime(b, c.First)
	b = append(b, `,"lastSampleStart":`...)
	b = histogram.AppendTime(b, c.Last)
	b = append(b, `,"totalSamplesCount":`...)
	b = strconv.AppendInt(b, int64(c.Samples), 10)
	return append(b, '}')
}

// ParseCheckpoint reads the status of a VerticalPodAutoscalerCheckpoint. Errors wrap ErrCorrupt; whether the version is one that
// Load takes is not looked at.
func ParseCheckpoint(b []byte) (*Checkpoint, error) {
	var wire struct {
		Updated time.Time            `json:"lastUpdateTime"`
		Version string               `json:"version"`
		CPU     histogram.Checkpoint `json:"cpuHistogram"`
		Memory  histogram.Checkpoint `json:"memoryHistogram"`
		First   time.Time            `json:"firstSampleStart"`
		Last    time.Time            `json:"lastSampleStart"`
		Samples int                  `json:"totalSamplesCount"`
	}
	if err := json.Unmarshal(b, &wire); err != nil {
		return nil, fmt.Errorf("cannot read: %w: %w", ErrCorrupt, err)
	}
	return &Checkpoint{
		Updated: wire.Updated, Version: wire.Version, First: wire.First, Last: wire.Last, Samples: wire.Samples,
		CPU: wire.CPU, Memory: wire.Memory,
	}, nil
}
