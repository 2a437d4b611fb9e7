// Package controlplane runs a real Kubernetes control plane as child processes: etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler, and KWOK in the place of the kubelets. It guarantees that after Start every
// component answers its health check, that a component which ends early is reported with the last lines of its log, and
// that Stop leaves none of them running.
//
// Everything listens on one loopback address that belongs to this lab alone, on ports the kernel picked there.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"headroom.dev/headroom/lab/binaries"
	"headroom.dev/headroom/lab/pki"
	"headroom.dev/headroom/lab/process"
	"headroom.dev/headroom/lab/progress"
)

// readyDeadline bounds the wait for one component. On two busy cores the API server was seen to take 3 to 12 s.
const readyDeadline = 90 * time.Second

// stopGrace is what a component gets between SIGTERM and SIGKILL. The data is thrown away, so there is nothing to flush.
const stopGrace = 2 * time.Second

// Options say what to run and where.
type Options struct {
	Components    binaries.Components
	Dir           string     // the lab's state directory, which exists
	Address       netip.Addr // this lab's own loopback address
	ProxySocket   string     // where lab/network answers the API server's connections into the cluster
	HPASyncPeriod time.Duration
	OwnImages     []string // image repositories whose pods KWOK leaves alone
	SimulateKey   string   // annotation whose pods KWOK leaves alone
	Usage         bool     // KWOK serves what pods use, as a kubelet's /metrics/resource
	Registry      *process.Registry
	Progress      *progress.Printer
}

// ControlPlane is a running control plane.
type ControlPlane struct {
	Server          string // https URL of the API server
	AdminKubeconfig string
	CA              []byte // PEM that vouches for Server

	options Options
	files   files
	failed  chan error

	mu         sync.Mutex
	components []*component
}

// component is one child with what is needed to start it again.
type component struct {
	name, path string
	args       []string
	healthy    func(context.Context) error
	process    *process.Process
}

// Start brings the control plane up in order and waits for each component's readiness. On an error everything that was
// started is stopped again.
func Start(ctx context.Context, o Options) (*ControlPlane, error) {
	c := &ControlPlane{options: o, failed: make(chan error, 8)}
	if err := c.prepare(); err != nil {
		return nil, err
	}
	for _, next := range c.components {
		step := o.Progress.Step(next.name)
		if err := c.start(ctx, next); err != nil {
			return nil, errors.Join(err, c.Stop())
		}
		step.Done("ready")
	}
	return c, nil
}

// Failed delivers an error for each component that ends without being asked to.
func (c *ControlPlane) Failed() <-chan error { return c.failed }

// Stop ends all components, last started first.
func (c *ControlPlane) Stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, one := range slices.Backward(c.components) {
		if one.process != nil {
			errs = append(errs, one.process.Stop(stopGrace))
		}
	}
	return errors.Join(errs...)
}

// StopComponent ends one component ("kube-apiserver"), to see what the others make of it.
func (c *ControlPlane) StopComponent(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	one, err := c.find(name)
	if err != nil {
		return err
	}
	return one.process.Stop(stopGrace)
}

// StartComponent starts a stopped component again, with the same ports and data, and waits until it is ready.
func (c *ControlPlane) StartComponent(ctx context.Context, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	one, err := c.find(name)
	if err != nil {
		return err
	}
	return c.start(ctx, one)
}

func (c *ControlPlane) find(name string) (*component, error) {
	for _, one := range c.components {
		if one.name == name {
			return one, nil
		}
	}
	return nil, fmt.Errorf("cannot find a control plane component named %q", name)
}

func (c *ControlPlane) start(ctx context.Context, one *component) error {
	p, err := process.Start(process.Options{
		Name: one.name, Path: one.path, Args: one.args, Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.options.Dir},
		LogPath: filepath.Join(c.options.Dir, "logs", one.name+".log"),
	}, c.options.Registry)
	if err != nil {
		return err
	}
	one.process = p
	if err := waitReady(ctx, p, one.healthy); err != nil {
		return err
	}
	go func() {
		<-p.Done()
		if err := p.Err(); err != nil {
			c.failed <- err
		}
	}()
	return nil
}

// waitReady polls a component's health until it is well, it has ended, or the deadline is over: a component that could
// not bind its port would otherwise leave the wait running for ever.
func waitReady(ctx context.Context, p *process.Process, healthy func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyDeadline)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		attempt, stop := context.WithTimeout(ctx, 2*time.Second)
		err := healthy(attempt)
		stop()
		if err == nil {
			return nil
		}
		select {
		case <-p.Done():
			return p.Err()
		case <-ctx.Done():
			return fmt.Errorf("cannot wait any longer for %s: %w (%w); the last lines of %s:\n%s",
				p.Name(), ctx.Err(), err, p.LogPath(), process.Tail(p.LogPath(), 12))
		case <-tick.C:
		}
	}
}

// files are the certificates and kubeconfigs that the components' flags name.
type files struct {
	ca, frontProxyCA                            *pki.Authority
	server, etcdServer, etcdClient, proxyClient pki.Pair
	serviceAccounts, kwokServer                 pki.Pair
	controllerManager, scheduler, kwok          string // kubeconfigs
	egress, kwokConfig, usage, etcdData         string
}

func (c *ControlPlane) prepare() error {
	ports, err := freePorts(c.options.Address, 6)
	if err != nil {
		return err
	}
	at := func(i int) string { return net.JoinHostPort(c.options.Address.String(), strconv.Itoa(ports[i])) }
	c.Server = "https://" + at(0)
	if err := c.makeFiles(); err != nil {
		return err
	}
	etcd, etcdPeer := "https://"+at(1), "https://"+at(2)
	c.components = []*component{
		c.etcd(etcd, etcdPeer),
		c.apiServer(ports[0], etcd),
		c.controllerManager(ports[3]),
		c.scheduler(ports[4]),
		c.kwok(ports[5]),
	}
	return nil
}

// freePorts asks the kernel for n different free TCP ports at an address. The address belongs to this lab, so nobody
// but a listener on all addresses can take one before the component does.
func freePorts(address netip.Addr, n int) ([]int, error) {
	ports := make([]int, 0, n)
	for range n {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: address.AsSlice()})
		if err != nil {
			return nil, fmt.Errorf("cannot find a free port on %s: %w", address, err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
