package process

import (
	"bytes"
	"io"
	"os"
	"strings"
)

// tailBytes bounds what Tail reads from a log that may be gigabytes long.
const tailBytes = 64 << 10

// Tail returns the last n lines of a file, each indented by two spaces, or a line that says why it cannot.
func Tail(path string, n int) string {
	f, err := os.Open(path)
	if err != nil {
		return "  (" + err.Error() + ")"
	}
	defer func() { _ = f.Close() }()
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, size-tailBytes), io.SeekStart)
	}
	raw, err := io.ReadAll(f)
	if err != nil {
		return "  (" + err.Error() + ")"
	}
	raw = bytes.TrimRight(raw, "\n")
	if len(raw) == 0 {
		return "  (empty)"
	}
	lines := strings.Split(string(raw), "\n")
	lines = lines[max(0, len(lines)-n):]
	return "  " + strings.Join(lines, "\n  ")
}
