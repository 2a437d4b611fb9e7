// Package app wires the agent together: flags, NVML, the kubelet's pod-resources socket, /proc, the Kubernetes API, the loops
// and the HTTP server.
//
// It needs the driver's library and devices and the pod-resources socket; that is enough for GPUs and MIG instances that
// one container has. With the host's PIDs (hostPID) and the node's pods from the Kubernetes API it tells the containers
// on shared GPUs apart; with the API it knows DRA's devices as well, and lets go of the hardware while MIG is
// reconfigured. It starts without any of these, and says on /readyz, in the log and on /gpus what it misses.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"headroom.dev/headroom/gpu"
	"headroom.dev/headroom/gpu/agent"
	"headroom.dev/headroom/gpu/attribution"
	"headroom.dev/headroom/gpu/cluster"
	"headroom.dev/headroom/gpu/nvml"
)

// shutdownGrace is how long a scrape or a call into NVML may go on after the signal; a pod has 30 s by default.
const shutdownGrace = 5 * time.Second

// Command returns the command. It logs to stderr and runs until its context is done.
func Command(stderr io.Writer) *cobra.Command {
	var o Options
	cmd := &cobra.Command{
		Use:   "headroom-agent",
		Short: "Measures the GPUs of this node and serves, by device and by container, what they do",
		Long: "headroom-agent reads the GPUs of its node through NVIDIA's management library, asks the kubelet's pod-resources\n" +
			"socket which containers hold them, and serves both as Prometheus metrics on /metrics and as JSON on /gpus, with\n" +
			"/healthz and /readyz. GPUs that several containers share need the host's PIDs (hostPID: true) and a token that may\n" +
			"list the node's pods; nothing else needs either.",
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
	o.addTo(cmd.Flags())
	return cmd
}

// App is an agent that listens but does not serve yet.
type App struct {
	options   Options
	log       *slog.Logger
	listener  net.Listener
	registry  *prometheus.Registry
	kubelet   *attribution.Client
	node      *cluster.Node                   // nil without the Kubernetes API
	alone     error                           // why there is none, if one was looked for
	processes *attribution.Processes          // nil if they cannot be told apart
	unseen    string                          // why processes is nil
	guard     func(http.Handler) http.Handler // nil if everybody may read
}

// New validates the options and listens.
func New(ctx context.Context, o Options, log *slog.Logger) (*App, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	a := &App{options: o, log: log, registry: prometheus.NewRegistry()}
	if err := a.connect(); err != nil {
		return nil, err
	}
	var resolve func(attribution.ClaimedDevice) (string, bool)
	if a.node != nil {
		resolve = func(d attribution.ClaimedDevice) (string, bool) {
			return a.node.ClaimedDevice(d.Driver, d.Pool, d.Device)
		}
	}
	var err error
	a.kubelet, err = attribution.New(attribution.Options{
		Socket: o.PodResourcesSocket, Prefix: o.ResourcePrefix, DRADriver: o.DRADriver, Resolve: resolve, Reservations: o.Reservations,
	})
	if err != nil {
		return nil, err
	}
	if a.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", o.Listen); err != nil {
		return nil, errors.Join(fmt.Errorf("--listen: %w", err), a.kubelet.Close())
	}
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	a.unseen = a.openProcesses()
	return a, nil
}

// connect finds the Kubernetes API, if it is wanted.
func (a *App) connect() error {
	o := &a.options
	if o.KubernetesAPI == off {
		return nil
	}
	config, err := restConfig(o.Kubeconfig)
	if err == nil && o.NodeName == "" {
		err = errors.New("--node-name is empty")
	}
	if err != nil {
		if o.KubernetesAPI == on || o.Authenticate {
			return fmt.Errorf("cannot use the Kubernetes API: %w", err)
		}
		a.alone = err
		return nil
	}
	config.UserAgent = "headroom-agent"
	if a.node, err = cluster.New(cluster.Options{Config: config, Node: o.NodeName, Log: a.log, DRADriver: o.DRADriver}); err != nil {
		return fmt.Errorf("cannot watch the node: %w", err)
	}
	if o.Authenticate {
		authenticator, err := cluster.NewAuthenticator(cluster.Options{Config: config, Log: a.log})
		if err != nil {
			return fmt.Errorf("cannot authenticate clients: %w", err)
		}
		a.guard = func(next http.Handler) http.Handler { return cluster.Middleware(next, authenticator.Authorize, a.log) }
	}
	return nil
}

func restConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("cannot use the pod's service account: %w", err)
		}
		return config, nil
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	return config, nil
}

// openProcesses makes a.processes, or says why processes cannot be told apart.
func (a *App) openProcesses() (unseen string) {
	o := &a.options
	switch o.Processes {
	case off:
		return "--process-attribution is off"
	case auto:
		host, err := attribution.InInitPIDNamespace(o.ProcRoot)
		if err != nil {
			return err.Error()
		}
		if !host {
			return "the agent does not see the host's PIDs (its pod needs hostPID: true)"
		}
	}
	if a.node == nil {
		return "there is no Kubernetes API to name the pods of processes (--kubernetes-api)"
	}
	a.processes = attribution.NewProcesses(o.ProcRoot, func(c attribution.Container) (gpu.Owner, bool) { return a.node.Container(c.PodUID, c.ID) })
	return ""
}

// Addr is where the agent listens.
func (a *App) Addr() net.Addr { return a.listener.Addr() }

// Run serves until ctx is done, then lets running scrapes end, shuts NVML down and returns nil. It can be called once.
func (a *App) Run(ctx context.Context) error {
	meter := agent.NewMeter(a.registry)
	driver := nvml.Open(nvml.Options{Library: a.options.NVMLLibrary, Observe: meter.ObserveCall})
	measuring := agent.New(a.config(driver, meter))
	server := &http.Server{
		Handler:           measuring.Handler(a.guard),
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelWarn),
	}
	if a.alone != nil {
		a.log.Info("doing without the Kubernetes API", "reason", a.alone)
	}
	if a.unseen != "" {
		a.log.Info("containers on shared GPUs are not told apart", "reason", a.unseen)
	}
	a.log.Info("serving", "address", a.Addr().String(), "interval", a.options.Interval)

	running, stop := context.WithCancel(ctx)
	defer stop()
	var loops sync.WaitGroup
	loops.Go(func() { measuring.Run(running) })
	if a.node != nil {
		loops.Go(func() { a.node.Run(running) })
	}
	served := make(chan error, 1)
	go func() { served <- a.serve(server) }()

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
	if a.processes != nil {
		a.processes.Close()
	}
	return errors.Join(err, driver.Close(grace), a.kubelet.Close())
}

func (a *App) serve(server *http.Server) error {
	if a.options.TLSCertFile == "" {
		return server.Serve(a.listener)
	}
	server.TLSConfig = (&certificate{certFile: a.options.TLSCertFile, keyFile: a.options.TLSKeyFile}).config()
	return server.ServeTLS(a.listener, "", "")
}

// config joins the agent's parts.
func (a *App) config(driver *nvml.Driver, meter *agent.Meter) agent.Config {
	cfg := agent.Config{
		Driver: driver, Lookup: a.kubelet, Unseen: a.unseen, Meter: meter, Gatherer: a.registry,
		Absent:   func() bool { found, err := nvml.OnBus(a.options.PCIRoot); return err == nil && !found },
		Interval: a.options.Interval, Window: a.options.Window, Node: a.options.NodeName, DCGM: a.options.DCGM, Log: a.log,
	}
	if a.processes != nil {
		cfg.Processes = processes{a.processes}
	}
	if a.node != nil {
		cfg.Paused, cfg.Problems = a.paused, a.node.Problems
	}
	return cfg
}

// paused says why the hardware must be left alone: NVIDIA's MIG manager can repartition a GPU only when nothing has it
// open, and stops only the clients of NVML that it knows. It tells where it is in a label of the node.
func (a *App) paused() string {
	state := a.node.MIGState()
	if slices.Contains([]string{"pending", "rebooting"}, state) {
		return "MIG is being reconfigured: the node's nvidia.com/mig.config.state is " + state
	}
	return ""
}

// processes is attribution.Processes as the agent wants it.
type processes struct{ *attribution.Processes }

func (p processes) Container(pid uint32) (gpu.Owner, string) {
	r := p.Resolve(pid)
	return r.Owner, r.Kind.String()
}
