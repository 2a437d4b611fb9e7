// Package nvmltest is a libnvidia-ml.so.1 of our own, written in C, that the real go-nvml loads: tests and the lab drive
// it through a file instead of a GPU.
//
// Build compiles the library. It serves the machine that the file named by the environment variable
// HEADROOM_NVMLTEST_FILE describes, and reads that file again whenever it changed, so a writer that calls
// Machine.WriteFile several times a second is followed call by call. Without the file the library behaves like a host
// whose driver is not loaded; a malformed file makes every call return NVML_ERROR_UNKNOWN.
//
// The format is lines of "word rest". The first line is "nvmltest 1". Lines before the first device are about the host.
//
//	nvmltest 1
//	driver 570.124.06
//	error nvmlInit_v2 9                          every nvmlInit_v2 returns 9, NVML_ERROR_DRIVER_NOT_LOADED
//	device GPU-4f6a1f0e-…                        starts a device; the index and the minor number count from 0
//	name NVIDIA H100 80GB HBM3
//	memory 85899345920 1073741824                total and used bytes
//	utilization 87 12                            percent of time that a kernel ran, that memory was accessed
//	error nvmlDeviceGetUtilizationRates 15       this device's call returns 15, NVML_ERROR_GPU_IS_LOST
//	hang nvmlDeviceGetName 2000                  this device's call takes 2000 ms longer
//
// A fault names a C function as the library exports it ("nvmlInit_v2", not "nvmlInit"), or "*" for all of them. An error
// and a hang for one function both apply, the hang first. nvmlShutdown and nvmlErrorString know no faults.
package nvmltest

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// FileVariable is the environment variable that names the file which the library serves.
const FileVariable = "HEADROOM_NVMLTEST_FILE"

// LibraryName is the file name and the soname of the library.
const LibraryName = "libnvidia-ml.so.1"

// Limits of the library's fixed tables.
const (
	maxDevices = 64
	maxFaults  = 16
	maxText    = 95
)

//go:embed clib/nvmltest.c
var source string

// Machine is a host with its GPUs.
type Machine struct {
	Driver  string // version, "570.124.06"
	Fault   string // faults of calls on any device and on none; see Device.Fault
	Devices []Device
}

// Device is one GPU; its index is its place in Machine.Devices.
type Device struct {
	UUID                     string // "GPU-…"
	Name                     string // product, "NVIDIA H100 80GB HBM3"
	MemoryTotalBytes         uint64
	MemoryUsedBytes          uint64 // without the 1/128 of the total that the library reserves for the driver
	UtilizationPercent       uint   // 0 to 100; more is served as it is
	MemoryUtilizationPercent uint
	Fault                    string // "" or lines of "error FUNCTION CODE" and "hang FUNCTION MILLISECONDS"
}

// Text returns the machine in the format of the package comment. It errs on what the library would refuse.
func (m Machine) Text() (string, error) {
	var b strings.Builder
	b.WriteString("nvmltest 1\n")
	if err := writeText(&b, "driver", m.Driver); err != nil {
		return "", err
	}
	if err := writeFaults(&b, m.Fault); err != nil {
		return "", err
	}
	if len(m.Devices) > maxDevices {
		return "", fmt.Errorf("%d devices are more than %d", len(m.Devices), maxDevices)
	}
	for i, d := range m.Devices {
		if err := d.write(&b); err != nil {
			return "", fmt.Errorf("device %d: %w", i, err)
		}
	}
	return b.String(), nil
}

func (d Device) write(b *strings.Builder) error {
	if err := writeText(b, "device", d.UUID); err != nil {
		return err
	}
	if err := writeText(b, "name", d.Name); err != nil {
		return err
	}
	fmt.Fprintf(b, "memory %d %d\n", d.MemoryTotalBytes, d.MemoryUsedBytes)
	fmt.Fprintf(b, "utilization %d %d\n", d.UtilizationPercent, d.MemoryUtilizationPercent)
	return writeFaults(b, d.Fault)
}

func writeText(b *strings.Builder, word, text string) error {
	if text == "" || len(text) > maxText || strings.ContainsAny(text, "\x00\n") {
		return fmt.Errorf("%s %q is not one line of 1 to %d bytes", word, text, maxText)
	}
	b.WriteString(word + " " + text + "\n")
	return nil
}

func writeFaults(b *strings.Builder, faults string) error {
	n := 0
	for line := range strings.Lines(faults) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 3 || (f[0] != "error" && f[0] != "hang") || len(f[1]) > maxText {
			return fmt.Errorf("fault %q is neither \"error FUNCTION CODE\" nor \"hang FUNCTION MILLISECONDS\"", line)
		}
		if _, err := strconv.ParseUint(f[2], 10, 31); err != nil {
			return fmt.Errorf("fault %q: %w", line, err)
		}
		if n++; n > maxFaults {
			return fmt.Errorf("more than %d faults", maxFaults)
		}
		b.WriteString(strings.Join(f, " ") + "\n")
	}
	return nil
}

// WriteFile replaces the file at path in one step: a library that reads it at the same time sees the old machine or the
// new one. One writer per path at a time.
func (m Machine) WriteFile(path string) error {
	text, err := m.Text()
	if err != nil {
		return fmt.Errorf("cannot describe machine: %w", err)
	}
	next := path + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		return fmt.Errorf("cannot write machine: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("cannot publish machine: %w", err)
	}
	return nil
}

// Build compiles the library with cc and returns its path, dir/nvmltest-HASH/libnvidia-ml.so.1, whose folder can go into
// LD_LIBRARY_PATH. HASH is that of the source and the hidden symbols: a later Build in the same dir finds the file and
// compiles nothing, and concurrent ones do not disturb each other. hide lists functions that the library is not to
// export, as an old driver's would not.
func Build(ctx context.Context, dir string, hide ...string) (string, error) {
	sum := sha256.Sum256([]byte(source + "\x00" + strings.Join(hide, "\x00")))
	folder := filepath.Join(dir, fmt.Sprintf("nvmltest-%x", sum[:8]))
	library := filepath.Join(folder, LibraryName)
	if _, err := os.Stat(library); err == nil {
		return library, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("cannot look for %s: %w", library, err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("cannot make folder for %s: %w", LibraryName, err)
	}
	work, err := os.MkdirTemp(dir, "nvmltest-build-")
	if err != nil {
		return "", fmt.Errorf("cannot make build folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }() // gone already when it was published below
	if err := compile(ctx, work, hide); err != nil {
		return "", err
	}
	if err := os.Chmod(work, 0o755); err != nil { //nolint:gosec // pods of any user load the library
		return "", fmt.Errorf("cannot publish %s: %w", library, err)
	}
	err = os.Rename(work, folder)
	if _, there := os.Stat(library); err != nil && there != nil { // a concurrent Build that came first is as good
		return "", fmt.Errorf("cannot publish %s: %w", library, err)
	}
	return library, nil
}

// compile leaves the library alone in the folder work. Lazy binding is asked for explicitly because some distributions'
// cc defaults to -z now.
func compile(ctx context.Context, work string, hide []string) error {
	args := []string{
		"-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread",
		"-Wl,-soname," + LibraryName, "-Wl,-z,lazy", "-o", filepath.Join(work, LibraryName), "-x", "c", "-",
	}
	if len(hide) > 0 {
		script := filepath.Join(work, "hide.map")
		text := "{ local: " + strings.Join(hide, "; ") + "; };\n"
		if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
			return fmt.Errorf("cannot write linker script: %w", err)
		}
		args = append([]string{"-Wl,--version-script," + script}, args...)
	}
	cmd := exec.CommandContext(ctx, "cc", args...) //nolint:gosec // fixed program, arguments from code
	cmd.Stdin = strings.NewReader(source)
	if out, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("cannot compile %s: %w", LibraryName, ctx.Err())
		}
		return fmt.Errorf("cannot compile %s: %w\n%s", LibraryName, err, out)
	}
	return nil
}
