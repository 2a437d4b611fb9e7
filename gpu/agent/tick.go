package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"headroom.dev/headroom/gpu"
)

// ticker reads the devices, tick by tick. It belongs to one loop.
type ticker struct {
	agent   *Agent
	reading *gpu.Reading
	log     journal
	owners  map[uint32]gpu.Owner // of the processes of this tick; the zero Owner for those that are no container's
	before  map[uint32]gpu.Owner // of the last tick's
	kinds   []kindCount
}

type kindCount struct {
	kind string
	n    int
}

func newTicker(a *Agent) *ticker {
	return &ticker{agent: a, reading: &gpu.Reading{}, log: newJournal(a.cfg.Log), owners: map[uint32]gpu.Owner{}, before: map[uint32]gpu.Owner{}}
}

// read makes one pass.
func (t *ticker) read(ctx context.Context) {
	a := t.agent
	began := time.Now()
	err := t.measure(ctx)
	if errors.Is(err, context.Canceled) {
		return // shutting down
	}
	if last := a.reading.Load(); err == nil && (last == nil || last.at.IsZero()) {
		a.cfg.Log.Info("reading GPUs", "devices", len(t.reading.Samples), "driver", t.reading.Driver)
	}
	if err == nil {
		t.resolve()
		now := time.Now()
		holders, known := a.current(now)
		a.mu.Lock()
		a.node.observe(now, t.reading, holders, known, t.owners, a.unseen())
		a.node.kinds = append(a.node.kinds[:0], t.kinds...)
		a.mu.Unlock()
		t.note()
	}
	publish(&a.reading, struct{}{}, err == nil, err)
	a.cfg.Meter.ticks.Observe(time.Since(began).Seconds())
	if errors.Is(err, errPaused) {
		return
	}
	t.log.note("GPUs", problem(err))
	if err != nil {
		a.cfg.Meter.failed("nvml")
	}
}

// measure fills t.reading, or gives the hardware back if it has to be left alone.
func (t *ticker) measure(ctx context.Context) error {
	a := t.agent
	reason := ""
	if a.cfg.Paused != nil {
		reason = a.cfg.Paused()
	}
	t.log.note("GPUs, paused", reason)
	if reason != "" {
		if err := a.cfg.Driver.Release(ctx); err != nil {
			return fmt.Errorf("cannot give NVML back (%s): %w", reason, err)
		}
		return fmt.Errorf("%w: %s", errPaused, reason)
	}
	err := a.cfg.Driver.Read(ctx, t.reading)
	if err != nil {
		t.reading = &gpu.Reading{} // an overdue call may still write to the old one
	}
	return err
}

// unseen says why processes cannot be told apart, if they cannot.
func (a *Agent) unseen() string {
	if a.cfg.Processes != nil {
		return ""
	}
	return a.cfg.Unseen
}

// resolve finds the owners of all processes of the reading.
func (t *ticker) resolve() {
	if t.agent.cfg.Processes == nil {
		return
	}
	t.owners, t.before = t.before, t.owners
	clear(t.owners)
	t.kinds = t.kinds[:0]
	for i := range t.reading.Samples {
		s := &t.reading.Samples[i]
		for j := range s.Processes {
			t.owner(s.Processes[j].PID)
		}
		for j := range s.ProcessRing {
			t.owner(s.ProcessRing[j].PID)
		}
	}
	t.agent.cfg.Processes.Sweep()
}

// owner resolves one process. One that has ended since the driver saw it is whose it was a tick ago.
func (t *ticker) owner(pid uint32) {
	if _, done := t.owners[pid]; done {
		return
	}
	owner, kind := t.agent.cfg.Processes.Container(pid)
	if kind == "gone" {
		owner = t.before[pid]
	}
	t.owners[pid] = owner
	for i := range t.kinds {
		if t.kinds[i].kind == kind {
			t.kinds[i].n++
			return
		}
	}
	t.kinds = append(t.kinds, kindCount{kind, 1})
}

// note logs what could not be read of each device.
func (t *ticker) note() {
	for i := range t.reading.Samples {
		s := &t.reading.Samples[i]
		name := s.Device.UUID
		if name == "" {
			name = "GPU " + index(&s.Device)
		}
		utilization := s.Utilization.Reason()
		if len(s.Ring) > 0 {
			utilization = ""
		}
		t.log.noteOf(subject{name, "utilization"}, utilization)
		t.log.noteOf(subject{name, "memory"}, s.Memory.Used.Reason())
		t.log.noteOf(subject{name, "processes"}, s.ProcessFail)
	}
}
