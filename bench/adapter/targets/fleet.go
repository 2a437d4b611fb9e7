package targets

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// Fleet is a running process of targets.
type Fleet struct {
	Plan
	cmd      *exec.Cmd
	stdin    io.WriteCloser
	mu       sync.Mutex
	commands *json.Encoder
	reports  *json.Decoder
}

// Start runs program with args, which must call Serve with its standard input and output, and returns when all targets
// listen. The process ends with ours, however that ends: its input does.
func Start(plan Plan, program string, args ...string) (*Fleet, error) {
	cmd := exec.Command(program, args...) //nolint:noctx // Stop ends it
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C is for the parent, which then calls Stop
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("cannot start the targets: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("cannot start the targets: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start the targets: %w", err)
	}
	f := &Fleet{Plan: plan, cmd: cmd, stdin: stdin, commands: json.NewEncoder(stdin), reports: json.NewDecoder(bufio.NewReader(stdout))}
	if _, err := f.report(); err != nil {
		return nil, errors.Join(err, f.Stop())
	}
	return f, nil
}

// Do has a command carried out. Safe for concurrent use.
func (f *Fleet) Do(c Command) (Report, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.commands.Encode(c); err != nil {
		return Report{}, fmt.Errorf("cannot command the targets: %w", err)
	}
	return f.report()
}

func (f *Fleet) report() (Report, error) {
	var r Report
	if err := f.reports.Decode(&r); err != nil {
		return r, fmt.Errorf("the targets do not answer: %w", err)
	}
	if r.Error != "" {
		return r, fmt.Errorf("the targets refuse: %s", r.Error)
	}
	return r, nil
}

// Stop ends the process and waits for its end.
func (f *Fleet) Stop() error {
	if err := errors.Join(f.stdin.Close(), f.cmd.Wait()); err != nil {
		return fmt.Errorf("cannot stop the targets: %w", err)
	}
	return nil
}
