// Package process runs the lab's child processes: log file, exit status with the log's last lines, and an end that
// is certain. A child dies with the lab in three ways, the second for a lab that is killed, the third for one that is
// killed on a system without parent-death signals: Stop (SIGTERM, then SIGKILL), the kernel's parent-death signal, and
// the Registry's file of process ids that the next lab in the same state directory reaps.
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// tailLines is how much of a log an error carries: enough for a panic's head or a flag's complaint, short enough to read.
const tailLines = 12

// Options say what to run.
type Options struct {
	Name    string   // for messages: "kube-apiserver"
	Path    string   // the binary
	Args    []string // without the binary itself
	Env     []string // the whole environment; nothing is inherited
	Dir     string   // working directory; empty = ours
	LogPath string   // stdout and stderr are appended here
}

// Process is a running or ended child.
type Process struct {
	name    string
	logPath string
	cmd     *exec.Cmd
	done    chan struct{}

	mu       sync.Mutex
	err      error
	stopping bool
}

// Start starts a child and enters it into the registry. Errors: the log cannot be opened, the binary cannot be run.
func Start(o Options, reg *Registry) (*Process, error) {
	if err := os.MkdirAll(filepath.Dir(o.LogPath), 0o750); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", o.Name, err)
	}
	log, err := os.OpenFile(o.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", o.Name, err)
	}
	// Not CommandContext: the end is Stop's, which is gentle first.
	cmd := exec.Command(o.Path, o.Args...) //nolint:noctx // see above
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = o.Env, o.Dir, log, log
	// A group of its own, so that a terminal's Ctrl-C reaches the lab alone and the lab decides the order of the end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	p := &Process{name: o.Name, logPath: o.LogPath, cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go p.run(log, reg, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", o.Name, err)
	}
	return p, nil
}

// run owns the child. Pdeathsig follows the thread that forked, so that thread is kept until the child has ended.
func (p *Process) run(log *os.File, reg *Registry, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer func() { _ = log.Close() }()
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	pid := p.cmd.Process.Pid
	if err := reg.add(pid, p.name); err != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		started <- err
		return
	}
	started <- nil
	err := p.cmd.Wait()
	reg.remove(pid)
	p.mu.Lock()
	p.err = p.describe(err)
	p.mu.Unlock()
	close(p.done)
}

func (p *Process) describe(err error) error {
	if p.stopping {
		return nil
	}
	status := "exit status 0"
	if err != nil {
		status = err.Error()
	}
	return &ExitError{Name: p.name, Status: status, LogPath: p.logPath, Tail: Tail(p.logPath, tailLines)}
}

// PID returns the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Name returns the name it was started under.
func (p *Process) Name() string { return p.name }

// LogPath returns where its output goes.
func (p *Process) LogPath() string { return p.logPath }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns nil while the child runs and after a Stop, else an *ExitError with the last lines of its log.
func (p *Process) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// ExitCode returns the exit code of an ended child: 128+n when signal n ended it, -1 while it runs.
func (p *Process) ExitCode() int {
	select {
	case <-p.done:
	default:
		return -1
	}
	ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return p.cmd.ProcessState.ExitCode()
}

// Stop sends SIGTERM to the child's group and SIGKILL after grace, and waits for the end. A child that has ended already is
// sent nothing: its id may be another process's by now.
func (p *Process) Stop(grace time.Duration) error {
	select {
	case <-p.done:
		return nil
	default:
	}
	p.mu.Lock()
	p.stopping = true
	p.mu.Unlock()
	if err := signalGroup(p.PID(), syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("cannot stop %s: %w", p.name, err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(grace):
	}
	if err := signalGroup(p.PID(), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("cannot kill %s: %w", p.name, err)
	}
	<-p.done
	return nil
}

// Signal sends sig to the child alone; tests use it to kill or freeze components.
func (p *Process) Signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

func signalGroup(pid int, sig syscall.Signal) error { return syscall.Kill(-pid, sig) }

// ExitError is an end that nobody asked for.
type ExitError struct {
	Name, Status, LogPath, Tail string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("%s ended: %s; the last lines of %s:\n%s", e.Name, e.Status, e.LogPath, e.Tail)
}
