// Package app joins the controller's parts into one process: a manager with leader election, the scaler's controller, and its
// view of the metric plane, which is the adapter's APIs or a Prometheus-compatible server.
//
// Both replicas watch; the leader alone works. /metrics has the wishes of ScalePolicies in mode Act, which the adapter
// scrapes as it does every annotated pod, and serves as the external metric that the owned HPAs follow.
package app

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"headroom.dev/headroom/cmd/internal/promflags"
)

// namespaceFile is where the kubelet puts the namespace of a pod.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// Options are the command line.
type Options struct {
	Kubeconfig     string
	Namespace      string // of the Lease
	Lease          string
	LogLevel       string
	MetricsAddress string
	HealthAddress  string
	Period         time.Duration
	Workers        int
	LeaseDuration  time.Duration
	Prometheus     promflags.Options
	Recommend      RecommendOptions
	Rollouts       bool
	RolloutGPUs    int
}

// NewOptions returns the defaults. The environment is asked for POD_NAMESPACE and KUBECONFIG alone.
func NewOptions(getenv func(string) string) *Options {
	o := &Options{
		Kubeconfig: getenv(clientcmd.RecommendedConfigPathEnvVar), Namespace: getenv("POD_NAMESPACE"), Lease: "headroom-controller",
		LogLevel: "info", MetricsAddress: ":9402", HealthAddress: ":9403", Period: 15 * time.Second, Workers: 8,
		LeaseDuration: 15 * time.Second, Prometheus: promflags.Default(), Recommend: defaultRecommend(), Rollouts: true,
	}
	if o.Namespace == "" {
		if b, err := os.ReadFile(namespaceFile); err == nil {
			o.Namespace = strings.TrimSpace(string(b))
		}
	}
	return o
}

// AddFlags registers the flags.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "Kubeconfig file; without it the KUBECONFIG variable, else the pod's service account.")
	fs.StringVar(&o.Namespace, "namespace", o.Namespace, "The controller's own namespace, for its Lease; without it the POD_NAMESPACE variable, else the pod's service account.")
	fs.StringVar(&o.Lease, "lease", o.Lease, "Lease in --namespace by which the replicas agree on which of them works.")
	fs.DurationVar(&o.LeaseDuration, "lease-duration", o.LeaseDuration, "How long after its last sign a leader that vanished is replaced, 3s or more.")
	fs.StringVar(&o.LogLevel, "log-level", o.LogLevel, "debug, info, warn or error.")
	fs.StringVar(&o.MetricsAddress, "metrics-listen", o.MetricsAddress, "Address that serves /metrics.")
	fs.StringVar(&o.HealthAddress, "health-listen", o.HealthAddress, "Address that serves /healthz and /readyz.")
	fs.DurationVar(&o.Period, "period", o.Period, "Time between two decisions for a policy, 1s to 5m.")
	fs.IntVar(&o.Workers, "workers", o.Workers, "Policies that are looked at at the same time.")
	o.Recommend.addFlags(fs)
	fs.BoolVar(&o.Rollouts, "rollouts", o.Rollouts, "Have workloads updated by their RolloutPolicies.")
	fs.IntVar(&o.RolloutGPUs, "rollout-gpus", o.RolloutGPUs, "GPUs of each resource that all updates together may take beyond those of their services; 0 for what is free.")
	o.Prometheus.AddFlags(fs, "with the past and present of demand, instead of the adapter's query API and of checkpoints")
}

// Validate names every flag that is wrong. Nothing has been started then.
func (o *Options) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for flag, address := range map[string]string{"--health-listen": o.HealthAddress, "--metrics-listen": o.MetricsAddress} {
		_, _, err := net.SplitHostPort(address)
		check(err == nil, "%s: %w", flag, err)
	}
	check(o.Period >= time.Second && o.Period <= 5*time.Minute, "--period %s is not between 1s and 5m", o.Period)
	check(o.LeaseDuration >= 3*time.Second, "--lease-duration %s is less than 3s", o.LeaseDuration)
	check(o.Workers > 0, "--workers %d is not positive", o.Workers)
	check(o.RolloutGPUs >= 0, "--rollout-gpus %d is negative", o.RolloutGPUs)
	check(o.Lease != "", "--lease is empty")
	check(o.Namespace != "", "--namespace is required: POD_NAMESPACE is not set and there is no service account")
	check(!strings.ContainsRune(o.Kubeconfig, os.PathListSeparator), "--kubeconfig (or KUBECONFIG) %q names several files; give one", o.Kubeconfig)
	check(o.level() != nil, "--log-level %q is none of debug, info, warn, error", o.LogLevel)
	errs = append(errs, o.Recommend.errors()...)
	return errors.Join(append(errs, o.Prometheus.Errors()...)...)
}

// level returns nil for an unknown one.
func (o *Options) level() *slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(o.LogLevel)); err != nil {
		return nil
	}
	return &l
}

// restConfig reads the one configuration that all clients use.
func (o *Options) restConfig() (*rest.Config, error) {
	c, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("cannot read the cluster's address and credentials: %w", err)
	}
	c.UserAgent = "headroom-controller"
	// A policy asks for five metrics and the scale in a period: hundreds of policies are some tens of requests a second. The API
	// server shapes traffic itself.
	c.QPS, c.Burst = 100, 200
	return c, nil
}
