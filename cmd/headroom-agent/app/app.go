// Package app wires the agent together: flags, NVML, the kubelet's pod-resources socket, the loops and the HTTP server.
//
// It needs the driver's library and devices and the pod-resources socket, and no access to the Kubernetes API: no
// token, no RBAC. It starts without a driver and without a kubelet, and says so on /readyz until they come.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"headroom.dev/headroom/gpu/agent"
	"headroom.dev/headroom/gpu/attribution"
	"headroom.dev/headroom/gpu/nvml"
)

// shutdownGrace is how long a scrape or a call into NVML may go on after the signal; a pod has 30 s by default.
const shutdownGrace = 5 * time.Second

// minInterval keeps the agent from living in the driver: a pass over 8 GPUs takes about 1 ms.
const minInterval = 50 * time.Millisecond

// Options are the agent's flags.
type Options struct {
	Listen             string        // address of /metrics, /healthz and /readyz
	Interval           time.Duration // between two passes over the GPUs
	PodResourcesSocket string        // of the kubelet
	ResourcePrefix     string        // of the extended resources that are GPUs
	NVMLLibrary        string        // path, or a name for the loader to find
	NodeName           string        // for gpu_info; may be empty
}

// Validate names the flag of what is wrong.
func (o Options) Validate() error {
	var errs []error
	if _, _, err := net.SplitHostPort(o.Listen); err != nil {
		errs = append(errs, fmt.Errorf("--listen: %w", err))
	}
	if o.Interval < minInterval {
		errs = append(errs, fmt.Errorf("--interval: %s is less than %s", o.Interval, minInterval))
	}
	// 107 bytes is what sun_path holds.
	if n := len(o.PodResourcesSocket); n == 0 || n > 107 {
		errs = append(errs, fmt.Errorf("--pod-resources-socket: %q is not 1 to 107 bytes long", o.PodResourcesSocket))
	}
	if o.ResourcePrefix == "" {
		errs = append(errs, errors.New("--resource-prefix: empty, which every resource begins with"))
	}
	if o.NVMLLibrary == "" {
		errs = append(errs, errors.New("--nvml-library: empty"))
	}
	return errors.Join(errs...)
}

// Command returns the command. It logs to stderr and runs until its context is done.
func Command(stderr io.Writer) *cobra.Command {
	var o Options
	cmd := &cobra.Command{
		Use:   "headroom-agent",
		Short: "Measures the GPUs of this node and serves, by device and by pod, what they do",
		Long: "headroom-agent reads the GPUs of its node through NVIDIA's management library, asks the kubelet's pod-resources\n" +
			"socket which containers hold them, and serves both as Prometheus metrics on /metrics, with /healthz and /readyz.\n" +
			"It uses no Kubernetes API and needs no token and no RBAC.",
		Args:          cobra.NoArgs,
		SilenceUsage:  true, // an error is one line that names the flag
		SilenceErrors: true, // main prints it
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := New(cmd.Context(), o, slog.New(slog.NewTextHandler(stderr, nil)))
			if err != nil {
				return err
			}
			return a.Run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Listen, "listen", ":9400", "address that serves /metrics, /healthz and /readyz")
	flags.DurationVar(&o.Interval, "interval", time.Second, "time between two passes over the GPUs")
	flags.StringVar(&o.PodResourcesSocket, "pod-resources-socket", attribution.DefaultSocket, "the kubelet's pod-resources socket")
	flags.StringVar(&o.ResourcePrefix, "resource-prefix", attribution.DefaultPrefix, "beginning of the names of the resources that are GPUs")
	flags.StringVar(&o.NVMLLibrary, "nvml-library", nvml.DefaultLibrary, "NVIDIA's management library: a path, or a name for the loader to find")
	flags.StringVar(&o.NodeName, "node-name", os.Getenv("NODE_NAME"), "name of this node in gpu_info; default from NODE_NAME")
	return cmd
}

// App is an agent that listens but does not serve yet.
type App struct {
	options  Options
	log      *slog.Logger
	listener net.Listener
	registry *prometheus.Registry
	kubelet  *attribution.Client
}

// New validates the options and listens.
func New(ctx context.Context, o Options, log *slog.Logger) (*App, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	kubelet, err := attribution.New(o.PodResourcesSocket, o.ResourcePrefix)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("--listen: %w", err), kubelet.Close())
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &App{options: o, log: log, listener: listener, registry: registry, kubelet: kubelet}, nil
}

// Addr is where the agent listens.
func (a *App) Addr() net.Addr { return a.listener.Addr() }

// Run serves until ctx is done, then lets running scrapes end, shuts NVML down and returns nil. It can be called once.
func (a *App) Run(ctx context.Context) error {
	meter := agent.NewMeter(a.registry)
	driver := nvml.Open(nvml.Options{Library: a.options.NVMLLibrary, Observe: meter.ObserveCall})
	node := agent.New(agent.Config{
		Driver: driver, Lookup: a.kubelet, Meter: meter, Registry: a.registry,
		Interval: a.options.Interval, Node: a.options.NodeName, Log: a.log,
	})
	server := &http.Server{
		Handler:           node.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelWarn),
	}
	a.log.Info("serving", "address", a.Addr().String(), "interval", a.options.Interval)

	running, stop := context.WithCancel(ctx)
	defer stop()
	var loops sync.WaitGroup
	loops.Go(func() { node.Run(running) })
	served := make(chan error, 1)
	go func() { served <- server.Serve(a.listener) }()

	var err error
	select {
	case err = <-served:
		err = fmt.Errorf("cannot serve on %s: %w", a.Addr(), err)
	case <-ctx.Done():
		a.log.Info("shutting down")
	}
	stop()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if e := server.Shutdown(grace); e != nil {
		err = errors.Join(err, fmt.Errorf("cannot let running scrapes end: %w", e))
	}
	loops.Wait()
	return errors.Join(err, driver.Close(grace), a.kubelet.Close())
}
