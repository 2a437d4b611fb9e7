package binaries

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// cgoFlags are those of the Makefile: others would compile go-nvml again, with 147 lines of NVIDIA's deprecations.
const cgoFlags = "-g -O2 -Wno-deprecated-declarations"

// Own builds the project's commands from source and puts them into dir; it returns name → path. They are linked in a folder of
// the cache that belongs to the source folder, where an unchanged one is not linked again (0.5 s instead of 9 s), and dir gets
// links of its own, so that a later build does not change what a running lab starts.
func Own(ctx context.Context, source, dir string, commands ...string) (map[string]string, error) {
	what := strings.Join(commands, ", ")
	key := sha256.Sum256([]byte(source))
	cache, err := Cache("commands", hex.EncodeToString(key[:6]))
	if err != nil {
		return nil, err
	}
	unlock, err := lock(cache)
	if err != nil {
		return nil, err
	}
	defer unlock()
	args := []string{"build", "-trimpath", "-o", cache + string(filepath.Separator)} // as make build does, or all is compiled twice
	for _, c := range commands {
		args = append(args, "./cmd/"+c)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = source, os.Environ()
	if os.Getenv("CGO_CFLAGS") == "" {
		cmd.Env = append(cmd.Env, "CGO_CFLAGS="+cgoFlags)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("cannot build %s: %w", what, ctx.Err())
		}
		return nil, fmt.Errorf("cannot build %s: %w\n%s", what, err, out)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("cannot build %s: %w", what, err)
	}
	paths := map[string]string{}
	for _, c := range commands {
		paths[c] = filepath.Join(dir, c)
		if err := place(filepath.Join(cache, c), paths[c]); err != nil {
			return nil, fmt.Errorf("cannot build %s: %w", what, err)
		}
	}
	return paths, nil
}

// place links a file, or copies it where the two folders are on different file systems.
func place(from, to string) error {
	if err := os.Link(from, to); err == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700) //nolint:gosec // a program that its owner runs
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
