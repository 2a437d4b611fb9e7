package binaries

import (
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
	path := filepath.Join(module, "go.mod")
	raw, err := os.ReadFile(path)
	if err != nil {
		return versions{}, fmt.Errorf("cannot read the control plane's versions: %w", err)
	}
	var v versions
	for pkg, into := range map[string]*string{
		"k8s.io/kubernetes": &v.kubernetes, "go.etcd.io/etcd/server/v3": &v.etcd, "sigs.k8s.io/kwok": &v.kwok,
	} {
		m := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(pkg) + ` v(\S+)`).FindSubmatch(raw)
		if m == nil {
			return versions{}, fmt.Errorf("cannot read the control plane's versions: %s does not require %s", path, pkg)
		}
		*into = string(m[1])
	}
	return v, nil
}
