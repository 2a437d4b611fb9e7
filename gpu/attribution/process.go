package attribution

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"headroom.dev/headroom/gpu"
)

// maxProcesses bounds the processes, and with them the open files, that are remembered between sweeps. A node has some
// tens of processes on its GPUs; those beyond the bound are resolved as well, at the price of opening their files each time.
const maxProcesses = 4096

// initPIDNamespace is what the kernel numbers the first PID namespace (PROC_PID_INIT_INO).
const initPIDNamespace = "pid:[4026531836]"

// InInitPIDNamespace says whether this process is in the node's first PID namespace, by the /proc at procRoot. Only there
// are all PIDs that NVML returns those of the node: elsewhere the driver translates the ones that it can and leaves the
// others, so one PID can mean two processes. In a pod it takes hostPID, and in kind, whose nodes are containers, not even
// that is enough.
func InInitPIDNamespace(procRoot string) (bool, error) {
	namespace, err := os.Readlink(filepath.Join(procRoot, "self", "ns", "pid"))
	if err != nil {
		return false, fmt.Errorf("cannot tell the PID namespace: %w", err)
	}
	return namespace == initPIDNamespace, nil
}

// Kind says what became of a PID.
type Kind int

// The kinds of a Resolution.
const (
	Unreadable Kind = iota // /proc does not tell (permissions, no files left); asked again at each Resolve
	Gone                   // the process has ended, though its parent may not have taken notice; or /proc hides it (hidepid)
	Owned                  // it is the Owner's
	Unnamed                // its cgroup names a pod that is not known by name, yet; asked again at each Resolve
	Foreign                // it runs on the node, outside all pods
	Daemon                 // it is MPS's server or control daemon, which works for all tenants; it may run in a pod
)

// String returns the kind's name in lower case.
func (k Kind) String() string {
	switch k {
	case Unreadable:
		return "unreadable"
	case Gone:
		return "gone"
	case Owned:
		return "owned"
	case Unnamed:
		return "unnamed"
	case Foreign:
		return "foreign"
	case Daemon:
		return "daemon"
	default:
		return "Kind(" + strconv.Itoa(int(k)) + ")"
	}
}

// Resolution says whose a process is.
type Resolution struct {
	Kind  Kind
	Owner gpu.Owner // of an Owned one
	// StartTime is when the process started, in clock ticks (1/100 s) since the node did; together with the PID it names the
	// process. It is 0 for one that is Gone or Unreadable.
	StartTime uint64
}

// Processes resolves the PIDs of one /proc. It reads a process's cgroup once, when it first meets it: a process that is
// moved from one pod to another, which no runtime does, stays the first one's. It is not safe for concurrent use.
type Processes struct {
	root  string
	name  func(Container) (gpu.Owner, bool)
	known map[uint32]*process
	limit int
	text  [maxStat]byte // of the stat that was read last
}

// process is one that is remembered. Its stat file stays open: in procfs that pins the process and not the PID, so that
// reading it fails once the process has ended, even if the PID is another's by then.
type process struct {
	stat       *os.File
	container  Container  // empty for a Foreign one
	resolution Resolution // Owned, Foreign, or Unnamed until name knows the container
	resolved   bool       // since the last Sweep
}

// NewProcesses returns a Processes for the /proc at procRoot. The function name returns the owner of a container; where it
// knows the container's pod alone (Container.ID is empty, or a sandbox's) it may leave Owner.Container empty. It is called
// in Resolve: once for a process whose container it knows, each time for one whose container it does not know.
func NewProcesses(procRoot string, name func(Container) (gpu.Owner, bool)) *Processes {
	return &Processes{root: procRoot, name: name, known: map[uint32]*process{}, limit: maxProcesses}
}

// Resolve says whose the process is that has the PID now. For one that it resolved before it costs two system calls and no
// memory. A process is MPS's by its name, which it can give itself: a tenant that does so hides its own use only.
func (p *Processes) Resolve(pid uint32) Resolution {
	if known := p.known[pid]; known != nil {
		now, err := readStat(known.stat, p.text[:])
		if err == nil && now.start == known.resolution.StartTime && !now.ended() {
			known.resolved = true
			return p.answer(known, now)
		}
		p.forget(pid, known) // the PID may be another's by now
	}
	fresh, now, err := p.open(pid)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESRCH):
		return Resolution{Kind: Gone}
	case err != nil:
		return Resolution{Kind: Unreadable}
	}
	p.known[pid] = fresh
	switch {
	case now.ended():
		p.forget(pid, fresh)
		return Resolution{Kind: Gone}
	case len(p.known) > p.limit:
		defer p.forget(pid, fresh)
	}
	return p.answer(fresh, now)
}

// open reads what /proc has about the process. The error wraps fs.ErrNotExist or syscall.ESRCH if there is none.
func (p *Processes) open(pid uint32) (_ *process, now stat, err error) {
	folder := filepath.Join(p.root, strconv.FormatUint(uint64(pid), 10))
	file, err := os.Open(filepath.Join(folder, "stat")) //nolint:gosec // the root is a flag of the caller's, the rest a number
	if err != nil {
		return nil, stat{}, err
	}
	defer func() {
		if err != nil {
			_ = file.Close()
		}
	}()
	cgroup, err := os.ReadFile(filepath.Join(folder, "cgroup")) //nolint:gosec // as above
	if err != nil {
		return nil, stat{}, err
	}
	// Read after the cgroup, it shows that the process did not end, and the PID became another's, between the two.
	now, err = readStat(file, p.text[:])
	if err != nil {
		return nil, stat{}, err
	}
	fresh := &process{stat: file, resolution: Resolution{Kind: Foreign, StartTime: now.start}, resolved: true}
	container, inPod := ParseCgroup(cgroup)
	if inPod {
		fresh.container, fresh.resolution.Kind = container, Unnamed
	} else if now.exiting && !now.ended() {
		// With cgroup v1 the kernel shows "/" for a process from here on, whichever pod it is in; freeing a GPU's memory
		// can keep it here for seconds.
		return nil, stat{}, errors.New("the cgroup of an exiting process is not known")
	}
	return fresh, now, nil
}

// answer returns whose the process is, which lives and whose stat says now.
func (p *Processes) answer(known *process, now stat) Resolution {
	if now.mps { // asked each time, since a process that becomes another program keeps its start time
		return Resolution{Kind: Daemon, StartTime: now.start}
	}
	if known.resolution.Kind == Unnamed {
		if owner, ok := p.name(known.container); ok {
			known.resolution.Kind, known.resolution.Owner = Owned, owner
		}
	}
	return known.resolution
}

// Sweep forgets the processes that were not resolved since the last Sweep, and closes their files.
func (p *Processes) Sweep() {
	for pid, known := range p.known {
		if !known.resolved {
			p.forget(pid, known)
		}
		known.resolved = false
	}
}

// Close forgets all processes and closes their files.
func (p *Processes) Close() {
	for pid, known := range p.known {
		p.forget(pid, known)
	}
}

func (p *Processes) forget(pid uint32, known *process) {
	_ = known.stat.Close() // it was only read
	delete(p.known, pid)
}
