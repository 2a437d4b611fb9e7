package app

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/progress"
)

// keepWord tells a host that its parent lets go of it. The end of its input without the word means that the parent died.
const keepWord = "keep"

// hostCommand is the other half of startHost: it holds a lab in a session of its own, tells of its start on stderr, and goes
// down when its standard input ends before keepWord.
func hostCommand() *cobra.Command {
	o := lab.DefaultOptions()
	c := &cobra.Command{
		Use: "host", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithCancel(c.Context())
			defer cancel()
			go func() {
				if !readKeep(os.Stdin) {
					cancel()
				}
			}()
			l, err := lab.Up(ctx, o)
			if err != nil {
				return err
			}
			if err := silence(filepath.Join(o.Dir, "logs", "host.log")); err != nil {
				return l.Abandon(err)
			}
			return hold(ctx, l)
		},
	}
	clusterFlags(c.Flags(), &o)
	return c
}

func readKeep(r io.Reader) bool {
	scanner := bufio.NewScanner(r)
	return scanner.Scan() && scanner.Text() == keepWord
}

// silence puts stdout and stderr into a log: a host that outlives its parent must not hold the parent's pipe open, or
// `headroom-lab up -d | tee` would never end.
func silence(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // in the lab's own state directory
	if err != nil {
		return fmt.Errorf("cannot open the host's log: %w", err)
	}
	defer func() { _ = f.Close() }()
	for _, fd := range []int{1, 2} {
		if err := unix.Dup2(int(f.Fd()), fd); err != nil {
			return fmt.Errorf("cannot redirect the host's output: %w", err)
		}
	}
	return nil
}

// host is a lab held by a child process.
type host struct {
	state lab.State
	cmd   *exec.Cmd
	line  io.WriteCloser // its standard input
	ended chan error
}

// startHost starts a lab in a child process and returns when it is up. Should this process die, so does the lab, unless
// keep was called.
func startHost(ctx context.Context, o lab.Options) (*host, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot start the lab's process: %w", err)
	}
	// Not CommandContext: it would kill the child, which has a cluster to take down.
	cmd := exec.Command(self, "host", //nolint:gosec,noctx // our own binary
		"--state-dir", o.Dir, "--nodes", strconv.Itoa(o.Nodes), "--gpus", strconv.Itoa(o.GPUs), "--product", o.Product,
		"--hpa-sync-period", o.HPASyncPeriod.String(), "--source", o.Source,
		"--rightsizing="+strconv.FormatBool(o.Rightsizing), "--debug="+strconv.FormatBool(o.Debug))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	line, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("cannot start the lab's process: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start the lab's process: %w", err)
	}
	h := &host{cmd: cmd, line: line, ended: make(chan error, 1)}
	go func() { h.ended <- cmd.Wait() }()
	return h, h.awaitReady(ctx, o.Dir)
}

func (h *host) awaitReady(ctx context.Context, dir string) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), h.down())
		case err := <-h.ended:
			return fmt.Errorf("the lab did not come up: %w", err)
		case <-tick.C:
		}
		state, _, err := lab.ReadState(dir)
		if err == nil && state.Ready && state.Host.PID == h.cmd.Process.Pid {
			h.state = state
			return nil
		}
	}
}

// keep lets go of the lab: it stays when this process ends.
func (h *host) keep() error {
	if _, err := fmt.Fprintln(h.line, keepWord); err != nil {
		return fmt.Errorf("cannot let go of the lab: %w", err)
	}
	return h.line.Close()
}

// down ends the lab and waits for it.
func (h *host) down() error {
	p := progress.New(os.Stderr)
	step := p.Step("lab")
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("cannot take the lab down: %w", err)
	}
	err := <-h.ended
	step.Done("down")
	if err != nil {
		return fmt.Errorf("the lab ended with an error: %w", err)
	}
	return nil
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
