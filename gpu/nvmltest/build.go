package nvmltest

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed clib
var sources embed.FS

// Build compiles the library with cc and returns its path, dir/nvmltest-HASH/libnvidia-ml.so.1, whose folder can go into
// LD_LIBRARY_PATH. HASH is that of the source and the hidden symbols: a later Build in the same dir finds the file and
// compiles nothing, and concurrent ones do not disturb each other. hide lists functions that the library is not to
// export, as an old driver's would not.
func Build(ctx context.Context, dir string, hide ...string) (string, error) {
	sum, err := hash(hide)
	if err != nil {
		return "", err
	}
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

// hash is that of all that goes into the library.
func hash(hide []string) ([]byte, error) {
	h := sha256.New()
	err := fs.WalkDir(sources, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := sources.ReadFile(path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(text), text)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the source of %s: %w", LibraryName, err)
	}
	fmt.Fprint(h, hide)
	return h.Sum(nil), nil
}

// compile leaves the library alone in the folder work. Lazy binding is asked for explicitly because some distributions'
// cc defaults to -z now.
func compile(ctx context.Context, work string, hide []string) error {
	source := filepath.Join(work, "source")
	if err := os.CopyFS(source, sources); err != nil {
		return fmt.Errorf("cannot write the source of %s: %w", LibraryName, err)
	}
	defer func() { _ = os.RemoveAll(source) }()
	files, err := filepath.Glob(filepath.Join(source, "clib", "*.c"))
	if err != nil {
		return fmt.Errorf("cannot find the source of %s: %w", LibraryName, err)
	}
	args := append([]string{
		"-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread",
		"-Wl,-soname," + LibraryName, "-Wl,-z,lazy", "-o", filepath.Join(work, LibraryName),
	}, files...)
	if len(hide) > 0 {
		script := filepath.Join(source, "hide.map")
		text := "{ local: " + strings.Join(hide, "; ") + "; };\n"
		if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
			return fmt.Errorf("cannot write linker script: %w", err)
		}
		args = append([]string{"-Wl,--version-script," + script}, args...)
	}
	cmd := exec.CommandContext(ctx, "cc", args...) //nolint:gosec // fixed program, arguments from code
	if out, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("cannot compile %s: %w", LibraryName, ctx.Err())
		}
		return fmt.Errorf("cannot compile %s: %w\n%s", LibraryName, err, out)
	}
	return nil
}
