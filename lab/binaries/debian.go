package binaries

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"headroom.dev/headroom/lab/progress"
)

// Debian returns the path of a program out of a Debian package, which it downloads once into the user's cache. The package is
// unpacked, not installed: no service starts, no user is made, and root is not needed. program is its path in the package,
// "usr/bin/prometheus".
func Debian(ctx context.Context, pkg, program string, p *progress.Printer) (string, error) {
	dir, err := Cache("debian", pkg)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "root", program)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	unlock, err := lock(dir)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil // another process fetched it while we waited for the lock
	}
	step := p.Step(pkg + " (Debian's package)")
	if err := download(ctx, dir, pkg); err != nil {
		step.Update("the list of packages is updated")
		_, updated := Run(ctx, dir, "apt-get", "update", "-qq")
		if err = download(ctx, dir, pkg); err != nil {
			return "", fmt.Errorf("cannot fetch Debian's package %s: %w", pkg, errors.Join(updated, err))
		}
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("cannot use Debian's package %s: %w", pkg, err)
	}
	step.Done("unpacked")
	return path, nil
}

// download fetches the package and unpacks it; an interrupted one leaves nothing that looks whole.
func download(ctx context.Context, dir, pkg string) error {
	if _, err := Run(ctx, dir, "apt-get", "download", "-qq", pkg); err != nil {
		return err
	}
	packages, err := filepath.Glob(filepath.Join(dir, pkg+"_*.deb"))
	if err != nil || len(packages) == 0 {
		return fmt.Errorf("cannot find the package that apt-get downloaded into %s", dir)
	}
	fresh := filepath.Join(dir, "unpacking")
	if _, err := Run(ctx, dir, "dpkg-deb", "--extract", packages[len(packages)-1], fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, filepath.Join(dir, "root")); err != nil {
		return fmt.Errorf("cannot unpack %s: %w", pkg, err)
	}
	return nil
}

// Run runs a command in a folder to its end and returns what it said; an error carries that, too.
func Run(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", fmt.Errorf("cannot run %s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
