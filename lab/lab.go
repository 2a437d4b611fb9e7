// Package lab is a real Kubernetes cluster on one machine, without containers, root or a GPU: a real control plane
// (lab/controlplane), KWOK for nodes and bystander pods, the project's own pods as real processes and simulated inference
// pods with real HTTP servers (lab/kubelet, lab/inference), a fake libnvidia-ml.so that shows the simulated pods' load, and
// real open-loop traffic (lab/load). What runs in it is what users install: the manifests, their RBAC, their certificates. On
// request it also has metrics-server and the Vertical Pod Autoscaler's updater and admission controller (lab/rightsizing).
//
// Guarantees: Up returns when everything is ready or says what is not, with the last lines of its log; Down leaves no process
// and no file behind; a lab that crashed is cleaned up by the next Up or Down in the same state directory; labs in different
// state directories do not meet.
//
// What is not as in a cluster: pods share the machine's network namespace, each with a loopback address of its own; mounts
// are folders whose paths are put into the pod's arguments and environment; ClusterIPs answer the API server alone.
package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-logr/logr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"headroom.dev/headroom/gpu/nvmltest"
	"headroom.dev/headroom/lab/binaries"
	"headroom.dev/headroom/lab/controlplane"
	"headroom.dev/headroom/lab/kubelet"
	"headroom.dev/headroom/lab/network"
	"headroom.dev/headroom/lab/process"
	"headroom.dev/headroom/lab/progress"
	"headroom.dev/headroom/lab/rightsizing"
)

// commands are the project's own commands that pods may run.
func commands() []string {
	return []string{"headroom-adapter", "headroom-agent", "headroom-controller"}
}

// Lab is a running cluster.
type Lab struct {
	Dir        string
	Kubeconfig string // admin rights
	Kubectl    string // path of kubectl
	Source     string // the project's root
	Client     kubernetes.Interface
	Config     *rest.Config
	Progress   *progress.Printer

	*controlplane.ControlPlane // StopComponent and StartComponent, for faults

	registry *process.Registry
	lease    *network.Lease
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	failed   chan error
	client   atomic.Pointer[kubernetes.Clientset]
	log      *slog.Logger
	logFile  *os.File
}

// Up builds what is missing, starts the cluster and returns when its nodes are Ready. The lab lives until Down; ctx
// bounds the start alone.
func Up(ctx context.Context, o Options) (*Lab, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	p := progress.New(o.Output)
	source, err := FindSource(o.Source)
	if err != nil {
		return nil, err
	}
	components, err := binaries.Ensure(ctx, source, p)
	if err != nil {
		return nil, err
	}
	var rightsizers binaries.Rightsizing
	if o.Rightsizing {
		if rightsizers, err = binaries.EnsureRightsizing(ctx, source, p); err != nil {
			return nil, err
		}
		components.Versions += ", " + rightsizers.Versions
	}
	registry, err := claim(o.Dir, p)
	if err != nil {
		return nil, err
	}
	l := &Lab{Progress: p, Dir: o.Dir, Source: source, Kubectl: components.Kubectl, registry: registry, failed: make(chan error, 8)}
	if err := l.start(ctx, o, components, rightsizers, p); err != nil {
		if ctx.Err() != nil {
			return nil, errors.Join(err, l.Down()) // it was asked to stop: nothing to look into
		}
		return nil, l.Abandon(err)
	}
	if err := writeState(o, l, components); err != nil {
		return nil, l.Abandon(err)
	}
	return l, nil
}

// FindSource returns the root of the checkout at or above start; empty means the working directory.
func FindSource(start string) (string, error) {
	if start == "" {
		wd, err := os.Getwd()
		if err != nil {
			return "", fmt.Errorf("cannot find the project's sources: %w", err)
		}
		start = wd
	}
	absolute, err := filepath.Abs(start)
	if err != nil {
		return "", fmt.Errorf("cannot find the project's sources: %w", err)
	}
	return binaries.Source(absolute)
}

func (l *Lab) start(ctx context.Context, o Options, components binaries.Components, rightsizers binaries.Rightsizing, p *progress.Printer) error {
	var err error
	if err = l.openLog(o.Debug); err != nil {
		return err
	}
	step := p.Step("headroom binaries")
	own, err := binaries.Own(ctx, l.Source, filepath.Join(l.Dir, "bin"), commands()...)
	if err != nil {
		return err
	}
	nvml, err := nvmltest.Build(ctx, filepath.Join(l.Dir, "nvml"))
	if err != nil {
		return err
	}
	step.Done("built")

	if l.lease, err = network.Acquire(ctx); err != nil {
		return err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx)) // the lab outlives its start
	// client-go's own complaints, of an API server that is away, go to the lab's log too and not to the user's terminal.
	running = klog.NewContext(running, logr.FromSlogHandler(l.log.Handler()))
	l.cancel = cancel
	socket := filepath.Join(l.Dir, "egress.sock")
	if err := l.serveEgress(running, socket); err != nil {
		return err
	}
	images := map[string]string{}
	for name, path := range own {
		images[Registry+"/"+name] = path
	}
	if o.Rightsizing {
		maps.Copy(images, rightsizing.Images(rightsizers))
	}
	l.ControlPlane, err = controlplane.Start(ctx, controlplane.Options{
		Components: components, Dir: l.Dir, Address: l.lease.Address, ProxySocket: socket, HPASyncPeriod: o.HPASyncPeriod,
		OwnImages: slices.Sorted(maps.Keys(images)), SimulateKey: kubelet.SimulateAnnotation, Usage: o.Rightsizing, Registry: l.registry, Progress: p,
	})
	if err != nil {
		return err
	}
	if err := l.connect(); err != nil {
		return err
	}
	l.wg.Go(func() { l.watch(running) })
	if err := l.startNodes(ctx, running, o, images, filepath.Dir(nvml), p); err != nil || !o.Rightsizing {
		return err
	}
	return rightsizing.Install(ctx, rightsizing.Cluster{Kubectl: l.Cluster().Run, Source: l.Source, Dir: filepath.Join(l.Dir, "rightsizing")}, p)
}

func (l *Lab) startNodes(ctx, running context.Context, o Options, images map[string]string, nvmlDir string, p *progress.Printer) error {
	nodes, err := kubeletNodes(o)
	if err != nil {
		return err
	}
	k, err := kubelet.New(kubelet.Config{
		Client: l.Client, APIServer: l.Server, CA: l.CA, Nodes: nodes, Images: images, PodCIDR: l.lease.Pods, Dir: l.Dir,
		NVMLLibraryDir: nvmlDir, Registry: l.registry, Log: l.log,
	})
	if err != nil {
		return err
	}
	l.wg.Go(func() {
		if err := k.Run(running); err != nil {
			l.fail(fmt.Errorf("the lab's kubelet ended: %w", err))
		}
	})
	l.wg.Go(func() {
		if err := network.RunSlices(running, l.Client, l.log); err != nil {
			l.fail(err)
		}
	})
	step := p.Step("nodes")
	if err := createNodes(ctx, l.Client, o); err != nil {
		return err
	}
	step.Done(fmt.Sprintf("%d × %d %s", o.Nodes, o.GPUs, o.Product))
	return nil
}

func (l *Lab) openLog(debug bool) error {
	path := filepath.Join(l.Dir, "logs", "lab.log")
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("cannot open the lab's log: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot open the lab's log: %w", err)
	}
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	l.logFile, l.log = f, slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{Level: level}))
	return nil
}

func (l *Lab) serveEgress(running context.Context, socket string) error {
	var config net.ListenConfig
	listener, err := config.Listen(running, "unix", socket)
	if err != nil {
		return fmt.Errorf("cannot serve the API server's way into the cluster: %w", err)
	}
	proxy := network.NewProxy(func() kubernetes.Interface {
		if c := l.client.Load(); c != nil {
			return c
		}
		return nil
	}, l.log)
	l.wg.Go(func() {
		if err := proxy.Serve(running, listener); err != nil {
			l.fail(err)
		}
	})
	return nil
}

// connect makes the lab's own client. Its limits are off: the kubelets of a real cluster are many clients.
func (l *Lab) connect() error {
	config, err := clientcmd.BuildConfigFromFlags("", l.AdminKubeconfig)
	if err != nil {
		return fmt.Errorf("cannot read the lab's kubeconfig: %w", err)
	}
	config.QPS = -1
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("cannot make the lab's client: %w", err)
	}
	l.Kubeconfig, l.Config, l.Client = l.AdminKubeconfig, config, client
	l.client.Store(client)
	return nil
}

func (l *Lab) watch(running context.Context) {
	for {
		select {
		case <-running.Done():
			return
		case err := <-l.ControlPlane.Failed():
			l.fail(err)
		}
	}
}

func (l *Lab) fail(err error) {
	l.log.Error("a part of the lab ended", "err", err)
	select {
	case l.failed <- err:
	default: // nobody reads; the log has it
	}
}

// Failed delivers an error for each part that ends without being asked to.
func (l *Lab) Failed() <-chan error { return l.failed }

// PodAddresses is the block that the pods' addresses come from.
func (l *Lab) PodAddresses() string { return l.lease.Pods.String() }

// Down ends everything and removes the state directory.
func (l *Lab) Down() error {
	if l.cancel != nil {
		l.cancel() // the kubelet stops the pods' processes and the API server's tunnels close
	}
	l.wg.Wait()
	var errs []error
	if l.ControlPlane != nil {
		errs = append(errs, l.ControlPlane.Stop())
	}
	if l.lease != nil {
		errs = append(errs, l.lease.Release())
	}
	if l.logFile != nil {
		errs = append(errs, l.logFile.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(l.Dir))...)
}

// Abandon takes down a lab in which something failed, keeps its logs, and returns the failure with where they are.
func (l *Lab) Abandon(failure error) error {
	return errors.Join(failure, l.keepLogs(), l.Down())
}

// keepLogs saves the logs next to the state directory, which Down removes.
func (l *Lab) keepLogs() error {
	kept := l.Dir + ".failed-logs"
	if err := os.RemoveAll(kept); err != nil {
		return fmt.Errorf("cannot keep the logs: %w", err)
	}
	if err := os.Rename(filepath.Join(l.Dir, "logs"), kept); err != nil {
		return fmt.Errorf("cannot keep the logs: %w", err)
	}
	return fmt.Errorf("the logs are kept in %s", kept)
}

func kubectl(ctx context.Context, path, kubeconfig string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, append([]string{"--kubeconfig", kubeconfig}, args...)...)
	var out, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return out.String(), fmt.Errorf("cannot run kubectl %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return out.String(), nil
}
