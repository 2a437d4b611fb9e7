package app

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/spf13/pflag"

	"headroom.dev/headroom/gpu/attribution"
	"headroom.dev/headroom/gpu/nvml"
)

// minInterval keeps the agent from living in the driver: a pass over 8 GPUs takes about 1 ms.
const minInterval = 50 * time.Millisecond

// maxWindow bounds what is kept: at 7 samples a second a minute is 420 of each GPU, and as many of processes.
const maxWindow = time.Minute

// What a choice between "auto", "on" and "off" can be.
const (
	auto = "auto"
	on   = "on"
	off  = "off"
)

// Options are the agent's flags.
type Options struct {
	Listen             string        // address of /metrics, /gpus, /healthz and /readyz
	Interval           time.Duration // between two passes over the GPUs
	Window             time.Duration // over which use is summed up
	PodResourcesSocket string        // of the kubelet
	ResourcePrefix     string        // of the extended resources that are GPUs
	DRADriver          string        // of the DRA claims that are GPUs
	Reservations       []string      // namespaces whose pods hold GPUs in place of others
	NVMLLibrary        string        // path, or a name for the loader to find
	NodeName           string        // for gpu_info and the Kubernetes API; may be empty
	KubernetesAPI      string        // auto, on, off
	Kubeconfig         string        // empty: the pod's service account
	Processes          string        // auto, on, off: whether processes are told apart
	ProcRoot           string        // where /proc is
	PCIRoot            string        // where the PCI bus is listed
	DCGM               bool          // serve dcgm-exporter's names
	TLSCertFile        string        // empty: plain HTTP
	TLSKeyFile         string
	Authenticate       bool // ask the API server who may read
}

// addTo registers the flags, with their defaults.
func (o *Options) addTo(flags *pflag.FlagSet) {
	flags.StringVar(&o.Listen, "listen", ":9400", "address that serves /metrics, /gpus, /healthz and /readyz")
	flags.DurationVar(&o.Interval, "interval", time.Second, "time between two passes over the GPUs")
	flags.DurationVar(&o.Window, "window", 10*time.Second, "time over which utilization is summed up and shared out; the driver's own samples go back 10s")
	flags.StringVar(&o.PodResourcesSocket, "pod-resources-socket", attribution.DefaultSocket, "the kubelet's pod-resources socket")
	flags.StringVar(&o.ResourcePrefix, "resource-prefix", attribution.DefaultPrefix, "beginning of the names of the resources that are GPUs")
	flags.StringVar(&o.DRADriver, "dra-driver", attribution.DefaultDRADriver, "driver of the resource claims that are GPUs")
	flags.StringSliceVar(&o.Reservations, "reservation-namespaces", []string{attribution.DefaultReservations},
		"namespaces whose pods hold GPUs in place of the pods that use them")
	flags.StringVar(&o.NVMLLibrary, "nvml-library", nvml.DefaultLibrary, "NVIDIA's management library: a path, or a name for the loader to find")
	flags.StringVar(&o.NodeName, "node-name", os.Getenv("NODE_NAME"), "name of this node; default from NODE_NAME")
	flags.StringVar(&o.KubernetesAPI, "kubernetes-api", auto,
		"whether to watch this node's pods, resource slices and MIG state: on, off, or auto for where there are credentials")
	flags.StringVar(&o.Kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "kubeconfig file; without it the KUBECONFIG variable, else the pod's service account")
	flags.StringVar(&o.Processes, "process-attribution", auto,
		"whether the processes on a GPU are told apart, which shared GPUs need: on, off, or auto for where the agent sees the host's PIDs (hostPID: true)")
	flags.StringVar(&o.ProcRoot, "proc", "/proc", "where the host's processes are listed")
	flags.StringVar(&o.PCIRoot, "pci-devices", nvml.PCIDevices, "where the PCI devices are listed: a node without NVIDIA GPUs there needs no driver")
	flags.BoolVar(&o.DCGM, "dcgm-metrics", false, "serve dcgm-exporter's names on /metrics/dcgm")
	flags.StringVar(&o.TLSCertFile, "tls-cert-file", "", "certificate to serve with; read again when it changes")
	flags.StringVar(&o.TLSKeyFile, "tls-private-key-file", "", "key of the certificate")
	flags.BoolVar(&o.Authenticate, "authenticate", false,
		"serve only clients whose bearer token the API server knows (TokenReview) and allows to get the path (SubjectAccessReview)")
}

// Validate names the flag of what is wrong.
func (o *Options) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	_, _, err := net.SplitHostPort(o.Listen)
	check(err == nil, "--listen: %w", err)
	check(o.Interval >= minInterval, "--interval: %s is less than %s", o.Interval, minInterval)
	check(o.Window >= o.Interval && o.Window <= maxWindow, "--window: %s is not between --interval and %s", o.Window, maxWindow)
	// 107 bytes is what sun_path holds.
	n := len(o.PodResourcesSocket)
	check(n > 0 && n <= 107, "--pod-resources-socket: %q is not 1 to 107 bytes long", o.PodResourcesSocket)
	check(o.ResourcePrefix != "", "--resource-prefix: empty, which every resource begins with")
	check(o.NVMLLibrary != "", "--nvml-library: empty")
	for flag, value := range map[string]string{"kubernetes-api": o.KubernetesAPI, "process-attribution": o.Processes} {
		check(value == auto || value == on || value == off, "--%s: %q is not auto, on or off", flag, value)
	}
	check(o.KubernetesAPI != on || o.NodeName != "", "--kubernetes-api=on needs --node-name")
	check((o.TLSCertFile == "") == (o.TLSKeyFile == ""), "--tls-cert-file and --tls-private-key-file go together")
	check(!o.Authenticate || o.KubernetesAPI != off, "--authenticate needs the API server: --kubernetes-api is off")
	// A token that is sent in the clear is a token for whoever listens.
	check(!o.Authenticate || o.TLSCertFile != "", "--authenticate needs --tls-cert-file")
	return errors.Join(errs...)
}
