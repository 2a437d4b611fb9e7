package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"headroom.dev/headroom/lab/binaries"
	"headroom.dev/headroom/lab/progress"
)

// peerPackage is what the nested module in bench/adapter/peer builds.
const peerPackage = "sigs.k8s.io/prometheus-adapter/cmd/adapter"

// buildPeer returns the path of prometheus-adapter, built once from the nested module.
func buildPeer(ctx context.Context, source string, p *progress.Printer) (string, error) {
	module := filepath.Join(source, "bench", "adapter", "peer")
	sums, err := os.ReadFile(filepath.Join(module, "go.sum"))
	if err != nil {
		return "", fmt.Errorf("cannot build prometheus-adapter: %w", err)
	}
	key := sha256.Sum256(append(sums, runtime.Version()...))
	dir, err := binaries.Cache("bench", "prometheus-adapter", hex.EncodeToString(key[:6]))
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "adapter")
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	step := p.Step("prometheus-adapter")
	step.Update("building, two minutes on two cores, once")
	if _, err := binaries.Run(ctx, module, "env", "GOWORK=off", "CGO_ENABLED=0", "GOFLAGS=-mod=readonly",
		"go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary+".building", peerPackage); err != nil {
		return "", err
	}
	if err := os.Rename(binary+".building", binary); err != nil {
		return "", fmt.Errorf("cannot build prometheus-adapter: %w", err)
	}
	step.Done("built")
	return binary, nil
}
