package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"headroom.dev/headroom/lab/binaries"
	"headroom.dev/headroom/lab/process"
	"headroom.dev/headroom/lab/progress"
)

// reapDeadline bounds the wait for SIGKILLed leftovers and for a lab that was told to go down; a lab with twenty
// processes was seen to need 3 s.
const reapDeadline = 60 * time.Second

// State is what a lab tells other commands of itself, in the file lab.json of its state directory.
type State struct {
	Host       process.Entry `json:"host"` // the process that holds the lab
	Kubeconfig string        `json:"kubeconfig"`
	Kubectl    string        `json:"kubectl"`
	Server     string        `json:"server"`
	Pods       string        `json:"pods"` // the block of the pods' addresses
	Versions   string        `json:"versions"`
	Nodes      int           `json:"nodes"`
	GPUs       int           `json:"gpusPerNode"`
	Product    string        `json:"product"`
	HPASync    string        `json:"hpaSyncPeriod"`
	Started    time.Time     `json:"started"`
	Ready      bool          `json:"ready"` // false while it starts
}

func statePath(dir string) string    { return filepath.Join(dir, "lab.json") }
func registryPath(dir string) string { return filepath.Join(dir, "processes.json") }

// ErrNoLab is returned where a state directory holds no lab.
var ErrNoLab = errors.New("no lab runs here")

// ReadState returns what the lab in dir tells of itself, and its running processes. ErrNoLab if there is none; a lab
// whose holder has ended is returned with process.Alive(state.Host) false.
func ReadState(dir string) (State, []process.Entry, error) {
	raw, err := os.ReadFile(statePath(dir))
	if errors.Is(err, os.ErrNotExist) {
		return State{}, nil, fmt.Errorf("%w: %s", ErrNoLab, dir)
	}
	if err != nil {
		return State{}, nil, fmt.Errorf("cannot read the lab's state: %w", err)
	}
	var s State
	if err := json.Unmarshal(raw, &s); err != nil {
		return State{}, nil, fmt.Errorf("cannot read the lab's state %s: %w", statePath(dir), err)
	}
	processes, err := process.Read(registryPath(dir))
	return s, processes, err
}

func writeState(o Options, l *Lab, components binaries.Components) error {
	self, err := process.Self("headroom-lab")
	if err != nil {
		return err
	}
	return saveState(o.Dir, State{
		Host: self, Kubeconfig: l.Kubeconfig, Kubectl: l.Kubectl, Server: l.Server, Pods: l.PodAddresses(), Versions: components.Versions,
		Nodes: o.Nodes, GPUs: o.GPUs, Product: o.Product, HPASync: o.HPASyncPeriod.String(), Started: time.Now(), Ready: true,
	})
}

func saveState(dir string, s State) error {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write the lab's state: %w", err)
	}
	tmp := statePath(dir) + ".tmp"
	if err := os.WriteFile(tmp, append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("cannot write the lab's state: %w", err)
	}
	if err := os.Rename(tmp, statePath(dir)); err != nil {
		return fmt.Errorf("cannot write the lab's state: %w", err)
	}
	return nil
}

// claim makes dir this process's: refuses one in which a lab runs or that is not a lab's, cleans up after one that
// crashed, and marks it as taken.
func claim(dir string, p *progress.Printer) (*process.Registry, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the state directory: %w", err)
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	state, _, err := ReadState(dir)
	switch {
	case errors.Is(err, ErrNoLab):
		if err := mustBeEmpty(dir); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case process.Alive(state.Host):
		return nil, fmt.Errorf("a lab runs in %s already (pid %d); end it with headroom-lab down, or choose another --state-dir", dir, state.Host.PID)
	default:
		if err := cleanUp(dir, p); err != nil {
			return nil, err
		}
	}
	self, err := process.Self("headroom-lab")
	if err != nil {
		return nil, err
	}
	if err := saveState(dir, State{Host: self, Started: time.Now()}); err != nil {
		return nil, err
	}
	return process.NewRegistry(registryPath(dir)), nil
}

// lockDir keeps two labs from claiming one directory at the same moment. What is locked is the folder above, since the
// directory's own contents are removed.
func lockDir(dir string) (func(), error) {
	f, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return nil, fmt.Errorf("cannot lock the state directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot lock the state directory: %w", err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

func mustBeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot read the state directory: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("cannot use %s as state directory: it holds %s and is not a lab's; going down would remove it", dir, entries[0].Name())
	}
	return nil
}

// cleanUp ends what a crashed lab left running and empties its directory.
func cleanUp(dir string, p *progress.Printer) error {
	killed, err := process.Reap(registryPath(dir), reapDeadline)
	if err != nil {
		return err
	}
	if len(killed) > 0 {
		p.Line("A former lab in %s crashed; ended %d processes that it had left.", dir, len(killed))
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot clean up after a former lab: %w", err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("cannot clean up after a former lab: %w", err)
		}
	}
	return nil
}

// DownAt ends the lab in dir from another process, or cleans up after it if it crashed. ErrNoLab if there is none.
func DownAt(dir string, p *progress.Printer) error {
	state, _, err := ReadState(dir)
	if err != nil {
		return err
	}
	if process.Alive(state.Host) {
		step := p.Step("lab in " + dir)
		if err := syscall.Kill(state.Host.PID, syscall.SIGTERM); err != nil {
			return fmt.Errorf("cannot tell the lab (pid %d) to go down: %w", state.Host.PID, err)
		}
		for end := time.Now().Add(reapDeadline); process.Alive(state.Host); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				return fmt.Errorf("cannot wait any longer for the lab (pid %d) to go down; see %s", state.Host.PID, filepath.Join(dir, "logs", "lab.log"))
			}
		}
		step.Done("down")
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := cleanUp(dir, p); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}
