package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Entry is one child in the registry's file. Start tells it from a later process with the same id: the kernel's start
// time in clock ticks since boot (field 22 of /proc/PID/stat).
type Entry struct {
	PID   int    `json:"pid"`
	Name  string `json:"name"`
	Start uint64 `json:"start"`
}

// Registry is the file in which a lab's running children stand, so that whatever a crash leaves behind can be found.
type Registry struct {
	path string

	mu      sync.Mutex
	entries map[int]Entry
}

// NewRegistry makes an empty registry kept at path. Call Reap first for a path that a former lab used.
func NewRegistry(path string) *Registry {
	return &Registry{path: path, entries: map[int]Entry{}}
}

// Entries returns the running children, for status pages.
func (r *Registry) Entries() []Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list()
}

func (r *Registry) list() []Entry {
	out := make([]Entry, 0, len(r.entries))
	for _, e := range r.entries {
		out = append(out, e)
	}
	return out
}

func (r *Registry) add(pid int, name string) error {
	start, err := startTime(pid)
	if errors.Is(err, errZombie) {
		return nil // ended at once, and not waited for yet: there is nothing to find later, and its log says why
	}
	if err != nil {
		return fmt.Errorf("cannot read the start time of %s: %w", name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries[pid] = Entry{PID: pid, Name: name, Start: start}
	return r.save()
}

func (r *Registry) remove(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.entries, pid)
	_ = r.save() // a stale entry is harmless: Reap compares start times
}

func (r *Registry) save() error {
	raw, err := json.Marshal(r.list())
	if err != nil {
		return fmt.Errorf("cannot encode the process registry: %w", err)
	}
	tmp := r.path + ".tmp"
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return fmt.Errorf("cannot write the process registry: %w", err)
	}
	return os.Rename(tmp, r.path)
}

// Read returns the children in a registry file that still run. A missing file is an empty registry.
func Read(path string) ([]Entry, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the process registry: %w", err)
	}
	var all, alive []Entry
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("cannot read the process registry %s: %w", path, err)
	}
	for _, e := range all {
		if Alive(e) {
			alive = append(alive, e)
		}
	}
	return alive, nil
}

// Reap kills every child of a former lab that still runs, each with its group, waits until they are gone, and returns
// them. A process that merely got a recycled id is left alone.
func Reap(path string, deadline time.Duration) ([]Entry, error) {
	left, err := Read(path)
	if err != nil {
		return nil, err
	}
	for _, e := range left {
		if err := signalGroup(e.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return nil, fmt.Errorf("cannot kill %s (pid %d) of a former lab: %w", e.Name, e.PID, err)
		}
	}
	end := time.Now().Add(deadline)
	for _, e := range left {
		for Alive(e) {
			if time.Now().After(end) {
				return nil, fmt.Errorf("cannot end %s (pid %d) of a former lab: it still runs after SIGKILL", e.Name, e.PID)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return left, nil
}

// Alive tells whether the very process of the entry runs (a zombie does not).
func Alive(e Entry) bool {
	start, err := startTime(e.PID)
	return err == nil && start == e.Start
}

var errZombie = errors.New("the process has ended")

func startTime(pid int) (uint64, error) {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	// The second field is the command in parentheses and may hold spaces: count from its end. Then: state is field 3,
	// start time field 22.
	_, rest, ok := strings.Cut(string(raw[max(0, strings.LastIndexByte(string(raw), ')')):]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return 0, fmt.Errorf("cannot parse /proc/%d/stat", pid)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return 0, errZombie
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// Self returns the entry of the calling process.
func Self(name string) (Entry, error) {
	start, err := startTime(os.Getpid())
	if err != nil {
		return Entry{}, fmt.Errorf("cannot read our own start time: %w", err)
	}
	return Entry{PID: os.Getpid(), Name: name, Start: start}, nil
}
