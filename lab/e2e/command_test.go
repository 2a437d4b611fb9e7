package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/process"
)

// TestCrashIsCleanedUpByTheNextUp kills a lab that is up, and brings another up in its place.
func TestCrashIsCleanedUpByTheNextUp(t *testing.T) {
	dir := tempState(t)
	first := start(t, "up", "--state-dir", dir, "--nodes", "1", "--gpus", "1")
	state := first.awaitUp(t, dir)
	require.Equal(t, "running", statusOf(t, dir))
	require.Equal(t, first.pid(), state.Host.PID)

	out, code := finish(t, "up", "--state-dir", dir)
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "a lab runs in "+dir+" already")
	require.Equal(t, "running", statusOf(t, dir), "the refused one has left it alone")

	processes := first.kill(t, dir)
	require.Equal(t, "crashed; headroom-lab down cleans up", statusOf(t, dir))
	second := start(t, "up", "--state-dir", dir, "--nodes", "1", "--gpus", "1")
	again := second.awaitUp(t, dir)
	require.Equal(t, second.pid(), again.Host.PID)
	require.Empty(t, alive(processes))

	_, processes, err := lab.ReadState(dir)
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(second.pid(), syscall.SIGINT))
	require.Equal(t, 0, second.wait(t), "Ctrl-C is no failure")
	require.Empty(t, alive(processes))
	require.NoDirExists(t, dir)
}

// TestCrashIsCleanedUpByDown kills a lab while it comes up.
func TestCrashIsCleanedUpByDown(t *testing.T) {
	dir := tempState(t)
	c := start(t, "up", "--state-dir", dir, "--nodes", "1", "--gpus", "1")
	eventually(t, time.Minute, func(t require.TestingT) {
		_, processes, err := lab.ReadState(dir)
		require.NoError(t, err)
		require.NotEmpty(t, processes)
	})
	processes := c.kill(t, dir)
	require.Equal(t, "crashed; headroom-lab down cleans up", statusOf(t, dir))
	out, code := finish(t, "down", "--state-dir", dir)
	require.Equal(t, 0, code, out)
	require.Empty(t, alive(processes))
	require.NoDirExists(t, dir)
	out, code = finish(t, "down", "--state-dir", dir)
	require.Equal(t, 0, code, out)
	require.Contains(t, out, "no lab runs here")
}

// TestForeignDirectoryIsLeftAlone: a state directory is removed at the end, so it must be a lab's.
func TestForeignDirectoryIsLeftAlone(t *testing.T) {
	dir := tempState(t)
	file := filepath.Join(dir, "thesis.tex")
	require.NoError(t, os.MkdirAll(dir, 0o750))
	require.NoError(t, os.WriteFile(file, []byte("years"), 0o600))
	for _, command := range []string{"up", "down"} {
		out, code := finish(t, command, "--state-dir", dir)
		if command == "up" {
			assert.Equal(t, 1, code)
			assert.Contains(t, out, "it holds thesis.tex and is not a lab's")
		}
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, "years", string(content))
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Len(t, entries, 1)
	}
}

// running is a headroom-lab that has been started.
type running struct {
	cmd  *exec.Cmd
	out  *output
	done chan struct{}
}

// output may be read while it is written.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start runs headroom-lab until it ends or the test does.
func start(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{cmd: exec.Command(command, args...), out: &output{}, done: make(chan struct{})}
	r.cmd.Dir, r.cmd.Stdout, r.cmd.Stderr = shared.Source, r.out, r.out
	require.NoError(t, r.cmd.Start())
	go func() { _ = r.cmd.Wait(); close(r.done) }()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("headroom-lab %v:\n%s", args, r.out)
		}
		_ = r.cmd.Process.Kill() // an error: it has ended
		<-r.done
	})
	return r
}

func (r *running) pid() int { return r.cmd.Process.Pid }

func (r *running) wait(t *testing.T) (code int) {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(time.Minute):
		t.Fatalf("headroom-lab has not ended:\n%s", r.out)
	}
	return r.cmd.ProcessState.ExitCode()
}

func (r *running) awaitUp(t *testing.T, dir string) lab.State {
	t.Helper()
	var state lab.State
	eventually(t, 90*time.Second, func(c require.TestingT) {
		var err error
		state, _, err = lab.ReadState(dir)
		require.NoError(c, err)
		require.True(c, state.Ready)
		require.Equal(c, r.pid(), state.Host.PID)
	})
	return state
}

// kill ends a lab as a crash does, checks that its processes die with it, and returns them.
func (r *running) kill(t *testing.T, dir string) []process.Entry {
	t.Helper()
	_, processes, err := lab.ReadState(dir)
	require.NoError(t, err)
	require.NotEmpty(t, processes)
	require.NoError(t, syscall.Kill(r.pid(), syscall.SIGKILL))
	<-r.done
	// By the kernel's parent-death signal.
	eventually(t, 5*time.Second, func(t require.TestingT) { require.Empty(t, alive(processes)) })
	return processes
}

// alive returns the names of the processes that still run.
func alive(processes []process.Entry) []string {
	var out []string
	for _, p := range processes {
		if process.Alive(p) {
			out = append(out, p.Name)
		}
	}
	return out
}

// finish runs headroom-lab to its end.
func finish(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, command, args...)
	cmd.Dir = shared.Source
	raw, err := cmd.CombinedOutput()
	require.NotNil(t, cmd.ProcessState, "%v", err)
	return string(raw), cmd.ProcessState.ExitCode()
}

func statusOf(t *testing.T, dir string) string {
	t.Helper()
	out, code := finish(t, "status", "--state-dir", dir, "-o", "json")
	require.Equal(t, 0, code, out)
	var report struct {
		Status string `json:"status"`
	}
	require.NoError(t, json.Unmarshal([]byte(out), &report), out)
	return report.Status
}
