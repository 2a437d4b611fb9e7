package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// tick is the unit of CPU times in /proc, USER_HZ, which is 100 on every Linux that Go runs on.
const tick = time.Second / 100

// usage is what some processes have used together.
type usage struct {
	cpu  time.Duration // since their starts
	peak float64       // bytes: the sum of their peak resident sets (VmHWM)
}

// used reads /proc of processes that run.
func used(pids ...int) (usage, error) {
	var u usage
	for _, pid := range pids {
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			return u, fmt.Errorf("cannot read what process %d has used: %w", pid, err)
		}
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			return u, fmt.Errorf("cannot read what process %d has used: %w", pid, err)
		}
		cpu, err := parseStat(stat)
		if err != nil {
			return u, fmt.Errorf("cannot read what process %d has used: %w", pid, err)
		}
		peak, err := parsePeak(status)
		if err != nil {
			return u, fmt.Errorf("cannot read what process %d has used: %w", pid, err)
		}
		u.cpu += cpu
		u.peak += peak
	}
	return u, nil
}

// parseStat returns user and system time, fields 14 and 15 of /proc/PID/stat. The second field is the command in parentheses
// and may hold spaces and parentheses: what follows its last one is counted.
func parseStat(stat []byte) (time.Duration, error) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("a process status of %d fields", len(fields))
	}
	var total time.Duration
	for _, field := range fields[11:13] {
		ticks, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(ticks) * tick
	}
	return total, nil
}

// parsePeak returns VmHWM of /proc/PID/status in bytes.
func parsePeak(status []byte) (float64, error) {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmHWM:")); ok {
			kib, err := strconv.ParseFloat(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte("kB")))), 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("no VmHWM in a process status of %d bytes", len(status))
}
