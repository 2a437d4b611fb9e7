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
	path, _, err := debian(ctx, pkg, program, alone, p)
	return path, err
}

// DebianWithLibraries is Debian for a program that needs other packages: those that are not installed are unpacked beside it.
// The environment is what the program must be started with to find them.
func DebianWithLibraries(ctx context.Context, pkg, program string, p *progress.Printer) (path string, environment []string, err error) {
	path, root, err := debian(ctx, pkg, program, withMissing, p)
	if err != nil {
		return "", nil, err
	}
	folders, err := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu*"))
	if err != nil {
		return "", nil, err
	}
	for _, folder := range folders {
		folders = append(folders, filepath.Join(folder, "pulseaudio")) // where libpulse finds a part of itself
	}
	return path, []string{"LD_LIBRARY_PATH=" + strings.Join(folders, ":")}, nil
}

// alone and withMissing are the packages to download for one.
func alone(_ context.Context, _, pkg string) ([]string, error) { return []string{pkg}, nil }

func withMissing(ctx context.Context, dir, pkg string) ([]string, error) {
	plan, err := Run(ctx, dir, "apt-get", "--simulate", "--no-install-recommends", "install", pkg)
	if err != nil {
		return nil, err
	}
	list := []string{pkg} // also where it is installed, but not in the way that it is looked for
	for line := range strings.Lines(plan) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "Inst" && fields[1] != pkg {
			list = append(list, fields[1])
		}
	}
	return list, nil
}

func debian(ctx context.Context, pkg, program string, choose func(ctx context.Context, dir, pkg string) ([]string, error), p *progress.Printer) (path, root string, err error) {
	dir, err := Cache("debian", pkg)
	if err != nil {
		return "", "", err
	}
	root = filepath.Join(dir, "root")
	path = filepath.Join(root, program)
	if _, err := os.Stat(path); err == nil {
		return path, root, nil
	}
	unlock, err := lock(dir)
	if err != nil {
		return "", "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, root, nil // another process fetched it while we waited for the lock
	}
	step := p.Step(pkg + " (Debian's package)")
	if err := download(ctx, dir, pkg, choose); err != nil {
		step.Update("the list of packages is updated")
		_, updated := Run(ctx, dir, "apt-get", "update", "-qq")
		if err = download(ctx, dir, pkg, choose); err != nil {
			return "", "", fmt.Errorf("cannot fetch Debian's package %s: %w", pkg, errors.Join(updated, err))
		}
	}
	if _, err := os.Stat(path); err != nil {
		return "", "", fmt.Errorf("cannot use Debian's package %s: %w", pkg, err)
	}
	step.Done("unpacked")
	return path, root, nil
}

// download fetches the package and unpacks it; an interrupted one leaves nothing that looks whole.
func download(ctx context.Context, dir, pkg string, choose func(ctx context.Context, dir, pkg string) ([]string, error)) error {
	names, err := choose(ctx, dir, pkg)
	if err != nil {
		return err
	}
	if _, err := Run(ctx, dir, "apt-get", append([]string{"download", "-qq"}, names...)...); err != nil {
		return err
	}
	fresh := filepath.Join(dir, "unpacking")
	for _, name := range names {
		packages, err := filepath.Glob(filepath.Join(dir, name+"_*.deb"))
		if err != nil || len(packages) == 0 {
			return fmt.Errorf("cannot find the package %s that apt-get downloaded into %s", name, dir)
		}
		if _, err := Run(ctx, dir, "dpkg-deb", "--extract", packages[len(packages)-1], fresh); err != nil {
			return err
		}
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
