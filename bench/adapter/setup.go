package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"headroom.dev/headroom/lab/progress"
)

// peerPackage is what the nested module in bench/adapter/peer builds.
const peerPackage = "sigs.k8s.io/prometheus-adapter/cmd/adapter"

// fetchPrometheus returns the path of Debian's Prometheus, out of its package in the user's cache. It is unpacked, not
// installed: no service starts, no user is made, and root is not needed.
func fetchPrometheus(ctx context.Context, p *progress.Printer) (string, error) {
	dir, err := cache("prometheus")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "usr", "bin", "prometheus")
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	step := p.Step("prometheus (Debian's package)")
	if err := download(ctx, dir); err != nil {
		step.Update("the list of packages is updated")
		if _, err := run(ctx, dir, "apt-get", "update", "-qq"); err != nil {
			return "", fmt.Errorf("cannot fetch Prometheus; install Debian's package by hand and give --prometheus /usr/bin/prometheus: %w", err)
		}
		if err := download(ctx, dir); err != nil {
			return "", fmt.Errorf("cannot fetch Prometheus; install Debian's package by hand and give --prometheus /usr/bin/prometheus: %w", err)
		}
	}
	version, err := run(ctx, dir, binary, "--version")
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(version, " (branch")
	step.Done(first)
	return binary, nil
}

// download fetches the package and unpacks it beside; an interrupted one leaves no binary.
func download(ctx context.Context, dir string) error {
	if _, err := run(ctx, dir, "apt-get", "download", "-qq", "prometheus"); err != nil {
		return err
	}
	packages, err := filepath.Glob(filepath.Join(dir, "prometheus_*.deb"))
	if err != nil || len(packages) == 0 {
		return fmt.Errorf("cannot find the package that apt-get downloaded into %s", dir)
	}
	fresh := filepath.Join(dir, "unpacking")
	if _, err := run(ctx, dir, "dpkg-deb", "--extract", packages[0], fresh); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(fresh, "usr"), filepath.Join(dir, "usr")); err != nil {
		return fmt.Errorf("cannot unpack Prometheus: %w", err)
	}
	return os.RemoveAll(fresh)
}

// buildPeer returns the path of prometheus-adapter, built once from the nested module.
func buildPeer(ctx context.Context, source string, p *progress.Printer) (string, error) {
	module := filepath.Join(source, "bench", "adapter", "peer")
	sums, err := os.ReadFile(filepath.Join(module, "go.sum"))
	if err != nil {
		return "", fmt.Errorf("cannot build prometheus-adapter: %w", err)
	}
	key := sha256.Sum256(append(sums, runtime.Version()...))
	dir, err := cache("prometheus-adapter", hex.EncodeToString(key[:6]))
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "adapter")
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	step := p.Step("prometheus-adapter")
	step.Update("building, two minutes on two cores, once")
	if _, err := run(ctx, module, "env", "GOWORK=off", "CGO_ENABLED=0", "GOFLAGS=-mod=readonly",
		"go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary+".building", peerPackage); err != nil {
		return "", err
	}
	if err := os.Rename(binary+".building", binary); err != nil {
		return "", fmt.Errorf("cannot build prometheus-adapter: %w", err)
	}
	step.Done("built")
	return binary, nil
}

// cache makes a folder of this project in the user's cache.
func cache(parts ...string) (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cannot find a cache folder: %w", err)
	}
	dir := filepath.Join(append([]string{base, "headroom", "bench"}, parts...)...)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("cannot make the cache folder: %w", err)
	}
	return dir, nil
}

// run runs a command to its end; an error carries what it said.
func run(ctx context.Context, dir, name string, args ...string) (string, error) {
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
