package process_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/lab/process"
)

func start(t *testing.T, script string) (*process.Process, string) {
	t.Helper()
	dir := t.TempDir()
	registry := filepath.Join(dir, "processes.json")
	p, err := process.Start(process.Options{
		Name: "child", Path: "/bin/sh", Args: []string{"-c", script}, LogPath: filepath.Join(dir, "logs", "child.log"),
	}, process.NewRegistry(registry))
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Stop(0) })
	return p, registry
}

func ended(t *testing.T, p *process.Process) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the child has not ended after 10s")
	}
}

func TestUnaskedEndCarriesTheLogsLastLines(t *testing.T) {
	p, _ := start(t, "for i in $(seq 100); do echo line $i; done; echo cannot bind >&2; exit 3")
	ended(t, p)
	var exit *process.ExitError
	require.ErrorAs(t, p.Err(), &exit)
	require.Contains(t, exit.Tail, "line 100\n  cannot bind")
	require.NotContains(t, exit.Tail, "line 80\n")
	require.Equal(t, 3, p.ExitCode())
}

func TestAChildThatEndsAtOnceStillTellsWhy(t *testing.T) {
	for range 50 { // it may end before or after it is entered into the registry
		p, _ := start(t, "echo unknown flag >&2; exit 2")
		ended(t, p)
		require.ErrorContains(t, p.Err(), "unknown flag")
	}
}

func TestStopKillsWhatIgnoresSIGTERMAndItsChildren(t *testing.T) {
	dir := t.TempDir()
	pidFile := filepath.Join(dir, "grandchild")
	p, _ := start(t, "trap '' TERM; sleep 600 & echo $! > "+pidFile+"; echo up; wait; wait")
	require.Eventually(t, func() bool { raw, err := os.ReadFile(pidFile); return err == nil && len(raw) > 1 }, 5*time.Second, 5*time.Millisecond)
	require.NoError(t, p.Stop(50*time.Millisecond))
	require.NoError(t, p.Err(), "an end that was asked for is no error")
	require.Equal(t, 128+int(syscall.SIGKILL), p.ExitCode())
}

func TestReapEndsAFormerLabsChildrenAndSparesRecycledIDs(t *testing.T) {
	p, registry := start(t, "exec sleep 600")
	alive, err := process.Read(registry)
	require.NoError(t, err)
	require.Len(t, alive, 1)
	require.Equal(t, p.PID(), alive[0].PID)

	recycled := alive[0]
	recycled.Start++
	require.False(t, process.Alive(recycled), "another start time is another process")

	killed, err := process.Reap(registry, 10*time.Second)
	require.NoError(t, err)
	require.Len(t, killed, 1)
	ended(t, p)
}

func TestStopLeavesTheGroupOfAnEndedChildAlone(t *testing.T) {
	// The child ends and leaves a process in its group: the group stands for whoever has the recycled id.
	pidFile := filepath.Join(t.TempDir(), "left")
	p, _ := start(t, "sleep 600 >/dev/null 2>&1 & echo $! > "+pidFile+"; exit 3")
	ended(t, p)
	raw, err := os.ReadFile(pidFile)
	require.NoError(t, err)
	left, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Kill(left, syscall.SIGKILL) })

	require.NoError(t, p.Stop(time.Second))
	// The kernel ends a sleep that was sent SIGTERM within milliseconds.
	require.Never(t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", left))
		return err != nil || strings.Contains(string(stat), ") Z ")
	}, 200*time.Millisecond, 10*time.Millisecond, "it was sent a signal")
	var exit *process.ExitError
	require.ErrorAs(t, p.Err(), &exit, "the end was not asked for, whatever comes after")
}

func TestReapOfNothingAndOfGarbage(t *testing.T) {
	dir := t.TempDir()
	killed, err := process.Reap(filepath.Join(dir, "none.json"), time.Second)
	require.NoError(t, err)
	require.Empty(t, killed)

	bad := filepath.Join(dir, "bad.json")
	require.NoError(t, os.WriteFile(bad, []byte("{"), 0o600))
	_, err = process.Reap(bad, time.Second)
	require.ErrorContains(t, err, bad)
}

func TestStartNamesWhatCannotRun(t *testing.T) {
	_, err := process.Start(process.Options{Name: "etcd", Path: "/nonexistent", LogPath: filepath.Join(t.TempDir(), "l")},
		process.NewRegistry(filepath.Join(t.TempDir(), "p.json")))
	require.ErrorContains(t, err, "cannot start etcd")
	require.ErrorIs(t, err, os.ErrNotExist)
}
