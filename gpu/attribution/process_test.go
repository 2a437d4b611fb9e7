package attribution

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/gpu"
)

// line is a /proc/PID/stat of kernel 6.18 with what matters in it left open.
func line(comm, state string, flags uint, threads int, start uint64) string {
	return fmt.Sprintf("77 (%s) %s 1 77 77 0 -1 %d 1234 0 0 0 12 3 0 0 20 0 %d 0 %d 228892672 3001 18446744073709551615 "+
		"1 1 0 0 0 0 0 16781312 17642 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n", comm, state, flags, threads, start)
}

func alive(start uint64) string { return line("python3", "S", 4194304, 9, start) }

// fakeProc is a /proc on disk, and what is known of its pods.
type fakeProc struct {
	t     *testing.T
	root  string
	names map[Container]gpu.Owner
	asked int // calls of name
	*Processes
}

func newFakeProc(t *testing.T) *fakeProc {
	t.Helper()
	f := &fakeProc{t: t, root: t.TempDir(), names: map[Container]gpu.Owner{}}
	f.Processes = NewProcesses(f.root, f.name)
	t.Cleanup(f.Close)
	return f
}

func (f *fakeProc) name(c Container) (gpu.Owner, bool) {
	f.asked++
	owner, ok := f.names[c]
	return owner, ok
}

// put writes a process. It writes in place what is there already, as procfs does when it changes.
func (f *fakeProc) put(pid int, stat, cgroup string) {
	f.t.Helper()
	folder := filepath.Join(f.root, strconv.Itoa(pid))
	require.NoError(f.t, os.MkdirAll(folder, 0o755))
	require.NoError(f.t, os.WriteFile(filepath.Join(folder, "stat"), []byte(stat), 0o600))
	require.NoError(f.t, os.WriteFile(filepath.Join(folder, "cgroup"), []byte(cgroup), 0o600))
}

func cgroupOf(uid, id string) string { return "0::/kubepods/burstable/pod" + uid + "/" + id + "\n" }

var (
	one = gpu.Owner{Namespace: "a", Pod: "one", Container: "main"}
	two = gpu.Owner{Namespace: "a", Pod: "two", Container: "main"}
)

func TestResolve(t *testing.T) {
	f := newFakeProc(t)
	f.names[Container{uid1, id1}] = one
	f.names[Container{uid2, ""}] = gpu.Owner{Namespace: "a", Pod: "kata"}
	f.put(1, line("systemd", "S", 4194560, 1, 12), "0::/init.scope\n")
	f.put(2, alive(200), cgroupOf(uid1, id1))
	f.put(3, alive(300), "0::/kubepods/pod"+uid2+"/kata_"+id2+"\n")
	f.put(4, alive(400), cgroupOf(uid2, id2))
	f.put(5, line("nvidia-cuda-mps", "S", 4194304, 4, 500), cgroupOf(uid1, id1))
	f.put(6, line("python3", "Z", 4194316, 1, 600), cgroupOf(uid1, id1))
	f.put(7, line("python3", "X", 4194316, 1, 700), cgroupOf(uid1, id1))
	f.put(8, line("python3", "Z", 4194316, 3, 800), cgroupOf(uid1, id1)) // its first thread ended, not the others
	f.put(9, line("python3", "R", 4194308, 1, 900), "7:devices:/\n0::/\n")
	f.put(10, line("python3", "R", 4194308, 1, 1000), cgroupOf(uid1, id1))
	f.put(11, "", cgroupOf(uid1, id1))
	f.put(12, "12 (python3) S 1 77", cgroupOf(uid1, id1))
	f.put(13, line(") Z (1) S (nvidia-cuda-mps", "D", 0, 1, 1300), cgroupOf(uid1, id1))
	f.put(14, line("nvidia-cuda-mps-server", "S", 0, 1, 1400), "0::/system.slice/mps.service\n")
	f.put(15, alive(1500), cgroupOf(uid1, id1))
	require.NoError(t, os.Remove(filepath.Join(f.root, "15", "stat")))
	require.NoError(t, os.Mkdir(filepath.Join(f.root, "15", "stat"), 0o755)) // cannot be read, whoever tries
	f.put(16, alive(1600), cgroupOf(uid1, id1))
	require.NoError(t, os.Remove(filepath.Join(f.root, "16", "cgroup")))

	for range 2 {
		for pid, want := range map[uint32]Resolution{
			0:  {Kind: Gone},
			1:  {Kind: Foreign, StartTime: 12},
			2:  {Kind: Owned, Owner: one, StartTime: 200},
			3:  {Kind: Owned, Owner: gpu.Owner{Namespace: "a", Pod: "kata"}, StartTime: 300},
			4:  {Kind: Unnamed, StartTime: 400},
			5:  {Kind: Daemon, StartTime: 500},
			6:  {Kind: Gone},
			7:  {Kind: Gone},
			8:  {Kind: Owned, Owner: one, StartTime: 800},
			9:  {Kind: Unreadable},
			10: {Kind: Owned, Owner: one, StartTime: 1000},
			11: {Kind: Unreadable},
			12: {Kind: Unreadable},
			13: {Kind: Owned, Owner: one, StartTime: 1300},
			14: {Kind: Daemon, StartTime: 1400},
			15: {Kind: Unreadable},
			16: {Kind: Gone}, // it ended between the opening of the two files
			99: {Kind: Gone}, 1<<32 - 1: {Kind: Gone},
		} {
			assert.Equal(t, want, f.Resolve(pid), pid)
		}
	}
	assert.Equal(t, 2+5, f.asked, "twice for the one without a name, once for the others")

	f.names[Container{uid2, id2}] = two
	assert.Equal(t, Resolution{Kind: Owned, Owner: two, StartTime: 400}, f.Resolve(4), "its name has become known")
	f.put(2, line("nvidia-cuda-mps-control", "S", 0, 1, 200), cgroupOf(uid1, id1))
	assert.Equal(t, Resolution{Kind: Daemon, StartTime: 200}, f.Resolve(2), "it became another program")
	f.put(8, line("python3", "Z", 4194316, 1, 800), cgroupOf(uid1, id1))
	assert.Equal(t, Resolution{Kind: Gone}, f.Resolve(8))
	assert.NotContains(t, f.known, uint32(8))
}

func TestResolveReusedPID(t *testing.T) {
	f := newFakeProc(t)
	f.names[Container{uid1, id1}], f.names[Container{uid2, id2}] = one, two
	f.put(7, alive(100), cgroupOf(uid1, id1))
	assert.Equal(t, Resolution{Kind: Owned, Owner: one, StartTime: 100}, f.Resolve(7))
	f.put(7, alive(101), cgroupOf(uid2, id2))
	assert.Equal(t, Resolution{Kind: Owned, Owner: two, StartTime: 101}, f.Resolve(7))
	f.put(7, alive(102), "0::/system.slice/x.service\n")
	assert.Equal(t, Resolution{Kind: Foreign, StartTime: 102}, f.Resolve(7))
	assert.Len(t, f.known, 1)
}

func TestSweep(t *testing.T) {
	f := newFakeProc(t)
	f.names[Container{uid1, id1}] = one
	for pid := range 4 {
		f.put(pid, alive(uint64(100+pid)), cgroupOf(uid1, id1))
		f.Resolve(uint32(pid))
	}
	kept, dropped := f.known[1], f.known[2]
	f.Sweep()
	assert.Len(t, f.known, 4, "all were resolved since the beginning")
	f.Resolve(1)
	f.Sweep()
	assert.Equal(t, map[uint32]*process{1: kept}, f.known)
	require.ErrorIs(t, dropped.stat.Close(), os.ErrClosed)
	f.asked = 0
	assert.Equal(t, Resolution{Kind: Owned, Owner: one, StartTime: 102}, f.Resolve(2), "swept, and met again")
	assert.Equal(t, 1, f.asked)
	f.Close()
	assert.Empty(t, f.known)
	require.ErrorIs(t, kept.stat.Close(), os.ErrClosed)
	assert.Equal(t, Resolution{Kind: Owned, Owner: one, StartTime: 101}, f.Resolve(1))
}

func TestResolveBeyondLimit(t *testing.T) {
	f := newFakeProc(t)
	f.names[Container{uid1, id1}] = one
	f.limit = 2
	for range 2 {
		for pid := range 5 {
			f.put(pid, alive(uint64(100+pid)), cgroupOf(uid1, id1))
			assert.Equal(t, Resolution{Kind: Owned, Owner: one, StartTime: uint64(100 + pid)}, f.Resolve(uint32(pid)))
			assert.LessOrEqual(t, len(f.known), 2)
		}
	}
	assert.Equal(t, 2+3*2, f.asked)
}

func TestResolveAllocatesNothing(t *testing.T) {
	f := newFakeProc(t)
	f.names[Container{uid1, id1}] = one
	f.put(1, alive(1), cgroupOf(uid1, id1))
	f.put(2, alive(2), cgroupOf(uid2, id2))
	f.put(3, alive(3), "0::/\n")
	f.put(4, line("nvidia-cuda-mps", "S", 0, 1, 4), cgroupOf(uid1, id1))
	for pid, kind := range map[uint32]Kind{1: Owned, 2: Unnamed, 3: Foreign, 4: Daemon} {
		require.Equal(t, kind, f.Resolve(pid).Kind)
		assert.Zero(t, testing.AllocsPerRun(100, func() { f.Resolve(pid) }), kind)
	}
}

func TestKindString(t *testing.T) {
	for kind, want := range map[Kind]string{
		Unreadable: "unreadable", Gone: "gone", Owned: "owned", Unnamed: "unnamed", Foreign: "foreign", Daemon: "daemon", 9: "Kind(9)",
	} {
		assert.Equal(t, want, kind.String())
	}
}

// sleeper starts a process that does nothing until it is killed, which kill does without its parent taking notice.
func sleeper(t *testing.T) (pid int, kill, reap func()) {
	t.Helper()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("there is no procfs here")
	}
	cmd := exec.CommandContext(t.Context(), "sleep", "600")
	require.NoError(t, cmd.Start())
	kill = func() { require.NoError(t, cmd.Process.Kill()) }
	reap = func() { require.Error(t, cmd.Wait(), "it was killed") }
	return cmd.Process.Pid, kill, reap
}

func TestResolveRealProcess(t *testing.T) {
	// The cgroup of this machine's processes may be any, so a process of any pod will do.
	p := NewProcesses("/proc", func(Container) (gpu.Owner, bool) { return one, true })
	defer p.Close()
	number, kill, reap := sleeper(t)
	pid := uint32(number)
	first := p.Resolve(pid)
	assert.Contains(t, []Kind{Owned, Foreign}, first.Kind)
	assert.NotZero(t, first.StartTime)
	assert.Equal(t, first, p.Resolve(pid))
	assert.Zero(t, testing.AllocsPerRun(100, func() { p.Resolve(pid) }))
	assert.Contains(t, []Kind{Owned, Foreign}, p.Resolve(uint32(os.Getpid())).Kind)
	assert.GreaterOrEqual(t, first.StartTime, p.Resolve(uint32(os.Getpid())).StartTime)

	file := p.known[pid].stat
	kill()
	require.Eventually(t, func() bool { return p.Resolve(pid).Kind == Gone }, 10*time.Second, time.Millisecond, "a zombie")
	assert.NotContains(t, p.known, pid)
	require.ErrorIs(t, file.Close(), os.ErrClosed)
	reap()
	assert.Equal(t, Resolution{Kind: Gone}, p.Resolve(pid))
}

// TestResolveRealReuse gives PID 7 of a fake /proc to one real process after another, so that the file that is kept open is
// procfs's and does what procfs's files do.
func TestResolveRealReuse(t *testing.T) {
	f := newFakeProc(t)
	f.names[Container{uid1, id1}], f.names[Container{uid2, id2}] = one, two
	path := filepath.Join(f.root, "7", "stat")
	give := func(pid int, cgroup string) {
		_ = os.Remove(path)
		f.put(7, "", cgroup)
		require.NoError(t, os.Remove(path))
		require.NoError(t, os.Symlink(fmt.Sprintf("/proc/%d/stat", pid), path))
	}
	pid, kill, reap := sleeper(t)
	give(pid, cgroupOf(uid1, id1))
	first := f.Resolve(7)
	assert.Equal(t, Resolution{Kind: Owned, Owner: one, StartTime: first.StartTime}, first)
	pinned := f.known[7].stat

	next, killNext, reapNext := sleeper(t)
	kill()
	reap()
	give(next, cgroupOf(uid2, id2))
	_, err := readStat(pinned, f.text[:])
	require.ErrorContains(t, err, "no such process", "the open file is the process's, not the PID's")
	second := f.Resolve(7)
	assert.Equal(t, Resolution{Kind: Owned, Owner: two, StartTime: second.StartTime}, second)
	assert.GreaterOrEqual(t, second.StartTime, first.StartTime)
	require.ErrorIs(t, pinned.Close(), os.ErrClosed)

	killNext()
	reapNext()
	assert.Equal(t, Resolution{Kind: Gone}, f.Resolve(7))
	assert.Empty(t, f.known)
}

func TestInInitPIDNamespace(t *testing.T) {
	root := t.TempDir()
	_, err := InInitPIDNamespace(root)
	require.ErrorContains(t, err, "cannot tell the PID namespace: readlink "+root)
	require.NoError(t, os.MkdirAll(filepath.Join(root, "self", "ns"), 0o755))
	for target, want := range map[string]bool{"pid:[4026531836]": true, "pid:[4026532448]": false} {
		link := filepath.Join(root, "self", "ns", "pid")
		_ = os.Remove(link)
		require.NoError(t, os.Symlink(target, link))
		in, err := InInitPIDNamespace(root)
		require.NoError(t, err)
		assert.Equal(t, want, in)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add(alive(1))
	f.Add(line(") Z (1", "Z", 4, 1, 1<<64-1))
	f.Add("1 (a) S 1")
	f.Add("1 )a( S 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseStat([]byte(text))
		if err != nil {
			require.Equal(t, stat{}, s)
			return
		}
		fields := strings.Split(text[strings.LastIndex(text, ")")+2:], " ") // from the third on
		require.Greater(t, len(fields), 22-3)
		for field, want := range map[int]uint64{20: s.threads, 22: s.start} {
			n, err := strconv.ParseUint(fields[field-3], 10, 64)
			require.NoError(t, err)
			require.Equal(t, want, n)
		}
	})
}

func TestParseUint(t *testing.T) {
	for text, want := range map[string]uint64{"0": 0, "007": 7, "18446744073709551615": 1<<64 - 1} {
		n, ok := parseUint([]byte(text))
		assert.True(t, ok, text)
		assert.Equal(t, want, n, text)
	}
	for _, text := range []string{"", "-1", "+1", "1 ", "18446744073709551616", "99999999999999999999"} {
		_, ok := parseUint([]byte(text))
		assert.False(t, ok, text)
	}
}

func BenchmarkResolve(b *testing.B) {
	p := NewProcesses("/proc", func(Container) (gpu.Owner, bool) { return one, true })
	defer p.Close()
	pid := uint32(os.Getpid())
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p.Resolve(pid)
		}
	})
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p.Close()
			p.Resolve(pid)
		}
	})
}
