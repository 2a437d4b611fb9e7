package binaries

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// versions are those that the nested module requires, without the leading v.
type versions struct{ kubernetes, etcd, kwok string }

func (v versions) String() string {
	return fmt.Sprintf("Kubernetes %s, etcd %s, KWOK %s", v.kubernetes, v.etcd, v.kwok)
}

// ldflags stamp the Kubernetes version, which an unstamped build reports as v0.0.0-master: `kubectl version` and
// clients that ask the server for its version then see the truth.
func (v versions) ldflags() string {
	const pkg = "k8s.io/component-base/version"
	major, rest, _ := strings.Cut(v.kubernetes, ".")
	minor, _, _ := strings.Cut(rest, ".")
	return fmt.Sprintf("-s -w -X %[1]s.gitVersion=v%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s -X %[1]s.gitTreeState=clean",
		pkg, v.kubernetes, major, minor)
}

func readVersions(module string) (versions, error) {
	v, err := required(module, "k8s.io/kubernetes", "go.etcd.io/etcd/server/v3", "sigs.k8s.io/kwok")
	if err != nil {
		return versions{}, err
	}
	return versions{kubernetes: v[0], etcd: v[1], kwok: v[2]}, nil
}

// The modules of what acts on recommendations.
const (
	metricsServerModule = "sigs.k8s.io/metrics-server"
	autoscalerModule    = "k8s.io/autoscaler/vertical-pod-autoscaler"
)

func rightsizingModule(source string) string {
	return filepath.Join(source, "lab", "components", "rightsizing")
}

// required returns the versions, without the leading v, that a nested module requires of others.
func required(module string, others ...string) ([]string, error) {
	path := filepath.Join(module, "go.mod")
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the versions of what the lab runs: %w", err)
	}
	found := make([]string, 0, len(others))
	for _, other := range others {
		m := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(other) + ` v(\S+)`).FindSubmatch(raw)
		if m == nil {
			return nil, fmt.Errorf("cannot read the versions of what the lab runs: %s does not require %s", path, other)
		}
		found = append(found, string(m[1]))
	}
	return found, nil
}

// MetricsServerSource and AutoscalerSource return the folders with the sources, and so the manifests, of the versions that
// EnsureRightsizing builds, downloading them where the module cache lacks them.
func MetricsServerSource(ctx context.Context, source string) (string, error) {
	return moduleDir(ctx, source, metricsServerModule)
}

// AutoscalerSource is described at MetricsServerSource.
func AutoscalerSource(ctx context.Context, source string) (string, error) {
	return moduleDir(ctx, source, autoscalerModule)
}

func moduleDir(ctx context.Context, source, module string) (string, error) {
	out, err := Run(ctx, rightsizingModule(source), "go", "mod", "download", "-json", module)
	if err != nil {
		return "", err
	}
	var found struct{ Dir string }
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		return "", fmt.Errorf("cannot find the sources of %s in what go mod download says: %w\n%s", module, err, out)
	}
	return found.Dir, nil
}
