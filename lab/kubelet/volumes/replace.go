package volumes

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// file is a file to be: contents and permissions.
type file struct {
	content []byte
	mode    fs.FileMode
}

// dataLink is what readers go through: the folder that it points to changes, the names in the volume do not.
const dataLink = "..data"

// replace makes dir hold exactly those files, by relative path, in one step for its readers: the files are written into
// a new folder, "..data" is pointed to it, and each top-level name is a symlink into "..data".
func replace(dir string, files map[string]file) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	next, err := os.MkdirTemp(dir, "..next-")
	if err != nil {
		return err
	}
	tops := map[string]bool{}
	for path, f := range files {
		if !filepath.IsLocal(path) {
			return fmt.Errorf("%q leads out of the volume", path)
		}
		if err := write(filepath.Join(next, path), f); err != nil {
			return err
		}
		top, _, _ := strings.Cut(filepath.Clean(path), "/")
		tops[top] = true
	}
	old, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := link(filepath.Base(next), filepath.Join(dir, dataLink)); err != nil {
		return err
	}
	if err := linkNames(dir, tops); err != nil {
		return err
	}
	if old == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(dir, old))
}

func write(path string, f file) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	if err := os.WriteFile(path, f.content, f.mode); err != nil {
		return err
	}
	return os.Chmod(path, f.mode) // whatever our umask
}

// linkNames makes the names point into "..data" and removes those of former contents.
func linkNames(dir string, names map[string]bool) error {
	for name := range names {
		if err := link(filepath.Join(dataLink, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !names[e.Name()] && !strings.HasPrefix(e.Name(), "..") {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// link points a symlink at target, in one step also where it exists.
func link(target, path string) error {
	if now, err := os.Readlink(path); err == nil && now == target {
		return nil
	}
	tmp := filepath.Join(filepath.Dir(path), "..link")
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func hash(files map[string]file) string {
	h := sha256.New()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		f := files[path]
		_, _ = fmt.Fprintf(h, "%q %o %d\n", path, f.mode, len(f.content))
		_, _ = h.Write(f.content)
	}
	return hex.EncodeToString(h.Sum(nil))
}
