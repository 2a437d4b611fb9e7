package nvmltest

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed clib
var clib embed.FS

// Build compiles the library with cc and returns its path, dir/nvmltest-HASH/libnvidia-ml.so.1, whose folder can go into
// LD_LIBRARY_PATH. HASH is that of the sources and the hidden symbols: a later Build in the same dir finds the file and
// compiles nothing, and concurrent ones do not disturb each other. hide lists functions that the library is not to
// export, as an old driver's would not.
func Build(ctx context.Context, dir string, hide ...string) (string, error) {
	sources, err := readSources()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(dir, "nvmltest-"+hash(sources, hide))
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
	if err := compile(ctx, work, sources, hide); err != nil {
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

// source is a file of clib.
type source struct {
	name string
	text []byte
}

func readSources() ([]source, error) {
	entries, err := clib.ReadDir("clib")
	if err != nil {
		return nil, fmt.Errorf("cannot list sources of %s: %w", LibraryName, err)
	}
	sources := make([]source, 0, len(entries))
	for _, e := range entries {
		text, err := clib.ReadFile("clib/" + e.Name())
		if err != nil {
			return nil, fmt.Errorf("cannot read source of %s: %w", LibraryName, err)
		}
		sources = append(sources, source{e.Name(), text})
	}
	return sources, nil
}

func hash(sources []source, hide []string) string {
	h := sha256.New()
	for _, s := range sources {
		_, _ = fmt.Fprintf(h, "%s %d\n%s", s.name, len(s.text), s.text) // hashes take everything
	}
	_, _ = fmt.Fprint(h, strings.Join(hide, "\x00"))
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// compile leaves the library alone in the folder work. Lazy binding is asked for explicitly because some distributions'
// cc defaults to -z now; -z defs has a forgotten file fail here and not at the first call.
func compile(ctx context.Context, work string, sources []source, hide []string) error {
	from := filepath.Join(work, "sources")
	if err := os.Mkdir(from, 0o700); err != nil {
		return fmt.Errorf("cannot make folder for sources: %w", err)
	}
	args := []string{
		"-shared", "-fPIC", "-fvisibility=hidden", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread",
		"-Wl,-soname," + LibraryName, "-Wl,-z,lazy", "-Wl,-z,defs", "-o", filepath.Join(work, LibraryName),
	}
	if len(hide) > 0 {
		script := filepath.Join(from, "hide.map")
		text := "{ local: " + strings.Join(hide, "; ") + "; };\n"
		if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
			return fmt.Errorf("cannot write linker script: %w", err)
		}
		args = append(args, "-Wl,--version-script,"+script)
	}
	for _, s := range sources {
		path := filepath.Join(from, s.name)
		if err := os.WriteFile(path, s.text, 0o600); err != nil {
			return fmt.Errorf("cannot write source of %s: %w", LibraryName, err)
		}
		if strings.HasSuffix(s.name, ".c") {
			args = append(args, path)
		}
	}
	cmd := exec.CommandContext(ctx, "cc", args...) //nolint:gosec // fixed program, arguments from code
	if out, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("cannot compile %s: %w", LibraryName, ctx.Err())
		}
		return fmt.Errorf("cannot compile %s: %w\n%s", LibraryName, err, out)
	}
	if err := os.RemoveAll(from); err != nil {
		return fmt.Errorf("cannot remove sources of %s: %w", LibraryName, err)
	}
	return nil
}
