package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"headroom.dev/headroom/gpu/nvmltest"
)

//go:embed limit/limit.c
var limitSource string

// limitPasses are made one a second, as the agent's.
const limitPasses = 30

// limit returns the milliseconds of CPU that a pass takes from C.
func limit(ctx context.Context, n *node, library string) (float64, error) {
	program := filepath.Join(n.dir, "limit")
	compile := exec.CommandContext(ctx, "cc", "-O2", "-Wall", "-Wextra", "-Werror", "-x", "c", "-", "-o", program, "-ldl")
	compile.Stdin = strings.NewReader(limitSource)
	if out, err := compile.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("cannot compile the limit: %w\n%s", err, out)
	}
	cmd := exec.CommandContext(ctx, program, library, strconv.Itoa(limitPasses))
	cmd.Env = append(os.Environ(), nvmltest.FileVariable+"="+n.machine())
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("cannot run the limit: %w", err)
	}
	total, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	if err != nil {
		return 0, fmt.Errorf("cannot read the limit: %w", err)
	}
	return total / limitPasses, nil
}
