// Package binaries builds what the lab runs: the control plane (etcd, kube-apiserver, kube-controller-manager,
// kube-scheduler, KWOK, kubectl) from the nested module lab/components through the module proxy, on request what acts on
// recommendations (metrics-server, the VPA's updater and admission controller) from lab/components/rightsizing, and the
// project's own commands from the working tree.
//
// What comes from a nested module is built once into a cache that is keyed by everything that decides its content (the
// module's go.mod and go.sum, the Go version, the platform), so a change of a version is a new folder and an old one stays
// valid. Two labs that start together build once: the second waits for the first's lock.
package binaries

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"headroom.dev/headroom/lab/progress"
)

// Components are the paths of the control plane's binaries.
type Components struct {
	Etcd, APIServer, ControllerManager, Scheduler, KWOK, Kubectl string
	Versions                                                     string // "Kubernetes 1.37.2, etcd 3.7.3, KWOK 0.8.0"
}

// Rightsizing are the paths of what measures pods and acts on recommendations of requests.
type Rightsizing struct {
	MetricsServer, Updater, AdmissionController string
	Versions                                    string // "metrics-server 0.9.0, Vertical Pod Autoscaler 1.8.1"
}

// component is one program: what it is called here, and its package.
type component struct{ name, pkg string }

// group is what one nested module builds.
type group struct {
	module     string // the nested module's folder
	what       string // for people: "the control plane (Kubernetes 1.37.2)"
	lasts      string // on two cores, for people
	cache      string // the beginning of the name of its folder in the cache
	ldflags    string
	components []component
}

// Ensure returns the control plane's binaries, building those that the cache lacks. source is the project's root
// folder. Errors carry the compiler's output.
func Ensure(ctx context.Context, source string, p *progress.Printer) (Components, error) {
	module := filepath.Join(source, "lab", "components")
	versions, err := readVersions(module)
	if err != nil {
		return Components{}, err
	}
	const etcd, server, manager, scheduler, kwok, kubectl = "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "kubectl"
	paths, err := group{
		module: module, what: fmt.Sprintf("the control plane (%s)", versions), lasts: "ten minutes",
		cache: "kubernetes-" + versions.kubernetes, ldflags: versions.ldflags(),
		components: []component{
			{etcd, "go.etcd.io/etcd/server/v3"},
			{server, "k8s.io/kubernetes/cmd/kube-apiserver"},
			{manager, "k8s.io/kubernetes/cmd/kube-controller-manager"},
			{scheduler, "k8s.io/kubernetes/cmd/kube-scheduler"},
			{kwok, "sigs.k8s.io/kwok/cmd/kwok"},
			{kubectl, "k8s.io/kubernetes/cmd/kubectl"},
		},
	}.ensure(ctx, p)
	return Components{
		Etcd: paths[etcd], APIServer: paths[server], ControllerManager: paths[manager], Scheduler: paths[scheduler],
		KWOK: paths[kwok], Kubectl: paths[kubectl], Versions: versions.String(),
	}, err
}

// EnsureRightsizing returns metrics-server and the Vertical Pod Autoscaler's updater and admission controller, as Ensure
// returns the control plane.
func EnsureRightsizing(ctx context.Context, source string, p *progress.Printer) (Rightsizing, error) {
	module := rightsizingModule(source)
	v, err := required(module, metricsServerModule, autoscalerModule)
	if err != nil {
		return Rightsizing{}, err
	}
	versions := fmt.Sprintf("metrics-server %s, Vertical Pod Autoscaler %s", v[0], v[1])
	const server, updater, admission = "metrics-server", "updater", "admission-controller"
	paths, err := group{
		module: module, what: versions, lasts: "four minutes", cache: "rightsizing", ldflags: "-s -w",
		components: []component{
			{server, metricsServerModule + "/cmd/metrics-server"},
			{updater, autoscalerModule + "/pkg/updater"},
			{admission, autoscalerModule + "/pkg/admission-controller"},
		},
	}.ensure(ctx, p)
	return Rightsizing{MetricsServer: paths[server], Updater: paths[updater], AdmissionController: paths[admission], Versions: versions}, err
}

// ensure returns name → path of the group's programs, building those that the cache lacks.
func (g group) ensure(ctx context.Context, p *progress.Printer) (map[string]string, error) {
	dir, err := g.cacheDir()
	if err != nil {
		return nil, err
	}
	paths := map[string]string{}
	var missing []component
	for _, c := range g.components {
		paths[c.name] = filepath.Join(dir, c.name)
		if _, err := os.Stat(paths[c.name]); err != nil {
			missing = append(missing, c)
		}
	}
	if len(missing) == 0 {
		return paths, nil
	}
	unlock, err := lock(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	p.Line("Building %s once; %s on two cores, nothing after.", g.what, g.lasts)
	for _, c := range missing {
		if _, err := os.Stat(paths[c.name]); err == nil {
			continue // another lab built it while we waited for the lock
		}
		if err := g.build(ctx, c, paths[c.name], p); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// build compiles into a temporary name and renames, so that an interrupted build leaves nothing that looks whole.
func (g group) build(ctx context.Context, c component, out string, p *progress.Printer) error {
	step := p.Step(c.name)
	total := countPackages(ctx, g.module, c.pkg)
	tmp := out + ".building"
	cmd := exec.CommandContext(ctx, "go", "build", "-v", "-trimpath", "-ldflags", g.ldflags, "-o", tmp, c.pkg)
	cmd.Dir = g.module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-buildvcs=false")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("cannot build %s: %w", c.name, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot build %s: %w", c.name, err)
	}
	tail := watchBuild(stderr, total, step)
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("cannot build %s: %w", c.name, ctx.Err())
		}
		return fmt.Errorf("cannot build %s: %w\n%s", c.name, err, tail)
	}
	if err := os.Rename(tmp, out); err != nil {
		return fmt.Errorf("cannot build %s: %w", c.name, err)
	}
	step.Done("built")
	return nil
}

// watchBuild turns `go build -v`, which prints a line per package, into progress, and keeps the last lines for an error.
func watchBuild(r io.Reader, total int, step *progress.Step) string {
	var tail []string
	n := 0
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		line := scanner.Text()
		tail = append(tail[max(0, len(tail)-19):], line)
		if strings.HasPrefix(line, "go: downloading") {
			step.Update(strings.TrimPrefix(line, "go: "))
			continue
		}
		n++
		step.Update(fmt.Sprintf("package %d of at most %d", n, total))
	}
	return strings.Join(tail, "\n")
}

func countPackages(ctx context.Context, module, pkg string) int {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", pkg)
	cmd.Dir = module
	out, err := cmd.Output()
	if err != nil {
		return 0 // the build that follows says what is wrong
	}
	return bytes.Count(out, []byte("\n"))
}

// Source finds the project's root: the nearest folder at or above start whose go.mod names the project's module.
func Source(start string) (string, error) {
	for dir := start; ; dir = filepath.Dir(dir) {
		raw, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(raw, []byte("module headroom.dev/headroom\n")) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("cannot find the sources of headroom.dev/headroom at or above %s: "+
				"the lab builds them, so run it inside a checkout", start)
		}
	}
}

func (g group) cacheDir() (string, error) {
	h := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		raw, err := os.ReadFile(filepath.Join(g.module, name))
		if err != nil {
			return "", fmt.Errorf("cannot key the cache: %w", err)
		}
		h.Write(raw)
	}
	fmt.Fprint(h, runtime.Version(), runtime.GOOS, runtime.GOARCH, g.ldflags)
	return Cache("components", fmt.Sprintf("%s_%s", g.cache, hex.EncodeToString(h.Sum(nil))[:12]))
}

// Cache makes a folder of this project in the user's cache.
func Cache(parts ...string) (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cannot find a cache folder: %w", err)
	}
	dir := filepath.Join(append([]string{base, "headroom"}, parts...)...)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("cannot make the cache folder: %w", err)
	}
	return dir, nil
}

// lock takes the cache folder for this process; the kernel lets go of it however the process ends.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the cache: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot lock the cache: %w", err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}
