// Package usage says what processes have used of the machine.
package usage

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what some processes have used together.
type Usage struct {
	CPU  time.Duration // since their starts, user and system
	RSS  float64       // bytes: the sum of their resident sets now
	Peak float64       // bytes: the sum of the largest that they were
}

// Of asks the kernel about processes that run.
func Of(pids ...int) (Usage, error) {
	var u Usage
	for _, pid := range pids {
		one, err := of(pid)
		if err != nil {
			return u, fmt.Errorf("cannot read what process %d has used: %w", pid, err)
		}
		u.CPU, u.RSS, u.Peak = u.CPU+one.CPU, u.RSS+one.RSS, u.Peak+one.Peak
	}
	return u, nil
}

func of(pid int) (Usage, error) {
	// The clock of another process (clock_getcpuclockid(3)): nanoseconds, where /proc counts hundredths of a second.
	var cpu unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &cpu); err != nil {
		return Usage{}, fmt.Errorf("its clock: %w", err)
	}
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return Usage{}, err //nolint:wrapcheck // names the file
	}
	rss, err := parse(status, "VmRSS:")
	if err != nil {
		return Usage{}, err
	}
	peak, err := parse(status, "VmHWM:")
	return Usage{CPU: time.Duration(cpu.Nano()), RSS: rss, Peak: peak}, err
}

// parse returns a line of /proc/PID/status in bytes.
func parse(status []byte, key string) (float64, error) {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(key)); ok {
			kib, err := strconv.ParseFloat(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte("kB")))), 64)
			if err != nil {
				return 0, fmt.Errorf("%s %w", key, err)
			}
			return kib * 1024, nil
		}
	}
	return 0, fmt.Errorf("no %s in a process status of %d bytes", key, len(status))
}
