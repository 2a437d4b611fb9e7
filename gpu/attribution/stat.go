package attribution

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// maxStat is more than a /proc/PID/stat up to the start time takes: 22 numbers and a name of at most 64 bytes.
const maxStat = 1024

// mpsName is what the names of MPS's processes, nvidia-cuda-mps-server and -control, begin with; it is all that the kernel
// keeps of them.
const mpsName = "nvidia-cuda-mps"

// exitingFlag is PF_EXITING of the kernel's sched.h.
const exitingFlag = 0x4

var errNoStat = errors.New("not a /proc/PID/stat")

// stat is what a /proc/PID/stat says.
type stat struct {
	mps     bool   // the process has the name of MPS's server or control daemon
	state   byte   // 'R', 'S', 'Z', …
	exiting bool   // its first thread ends or has ended
	threads uint64 // 1 for a zombie
	start   uint64 // clock ticks since boot
}

// ended says whether all of the process has ended. A zombie with threads is one that lives on without its first.
func (s stat) ended() bool {
	return s.state == 'X' || s.state == 'Z' && s.threads <= 1
}

// readStat reads an open /proc/PID/stat from its beginning into buffer.
func readStat(file *os.File, buffer []byte) (stat, error) {
	n, err := file.ReadAt(buffer, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return stat{}, err
	}
	return parseStat(buffer[:n])
}

// parseStat reads "PID (NAME) STATE …". The name is the program's own choice, and may have spaces and parentheses; nothing
// after it has.
func parseStat(text []byte) (s stat, err error) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open || end+2 >= len(text) || text[end+1] != ' ' {
		return stat{}, errNoStat
	}
	s.mps = bytes.HasPrefix(text[open+1:end], []byte(mpsName))
	s.state = text[end+2]
	rest := text[end+2:]
	for field := 3; field <= 22; field++ { // by proc_pid_stat(5)'s count
		var value []byte
		value, rest = cut(rest, ' ')
		if field != 9 && field != 20 && field != 22 {
			continue
		}
		n, ok := parseUint(value)
		if !ok || field == 22 && rest == nil { // a number that the end of the text cuts short is none
			return stat{}, errNoStat
		}
		switch field {
		case 9:
			s.exiting = n&exitingFlag != 0
		case 20:
			s.threads = n
		default:
			s.start = n
		}
	}
	return s, nil
}

// parseUint is strconv.ParseUint in base 10 for bytes, which need not become a string on the heap.
func parseUint(text []byte) (n uint64, ok bool) {
	for _, c := range text {
		if c < '0' || c > '9' || n > (1<<64-1-uint64(c-'0'))/10 {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, len(text) > 0
}
