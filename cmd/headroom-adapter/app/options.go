// Package app joins the adapter's parts into one process: pods found by a watch are scraped into the store, rules make a
// snapshot of values of it every second, and the API server answers from the last snapshot.
//
// The process needs the API server and does not need it first: until that answers it waits, alive and not ready. It is
// ready when it knows the pods and has evaluated the rules once; sources that are down never make it unready.
package app

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	cliflag "k8s.io/component-base/cli/flag"

	"headroom.dev/headroom/adapter/profiles"
	"headroom.dev/headroom/adapter/rules"
	"headroom.dev/headroom/adapter/scrape"
	"headroom.dev/headroom/adapter/store"
)

// namespaceFile is where the kubelet puts the namespace of a pod.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// Options are the command line.
type Options struct {
	Kubeconfig string
	LogLevel   string

	ScrapeInterval     time.Duration
	ScrapeTimeout      time.Duration // 0: ScrapeInterval
	BodyLimit          int64
	MaxSeries          int
	EvaluationInterval time.Duration
	Profiles           []string
	ProfilesSource     string // a rules.Source

	Prometheus prometheusOptions
	Trusted    []string // nil: Namespace alone

	Namespace   string
	ServiceName string
	TLSSecret   string
	Lease       string
	Identity    string

	ShutdownDelay  time.Duration
	Serving        *genericoptions.SecureServingOptionsWithLoopback
	Authentication *genericoptions.DelegatingAuthenticationOptions
	Authorization  *genericoptions.DelegatingAuthorizationOptions
}

// NewOptions returns the defaults. The environment is asked for POD_NAMESPACE, POD_NAME and KUBECONFIG alone.
func NewOptions(getenv func(string) string) *Options {
	o := &Options{
		Kubeconfig:         getenv(clientcmd.RecommendedConfigPathEnvVar),
		LogLevel:           "info",
		ScrapeInterval:     scrape.DefaultInterval,
		BodyLimit:          scrape.DefaultBodyLimit,
		MaxSeries:          store.DefaultMaxSeries,
		EvaluationInterval: 500 * time.Millisecond,
		Profiles:           profiles.Names(),
		ProfilesSource:     string(rules.Embedded),
		Prometheus:         defaultPrometheusOptions(),
		Namespace:          getenv("POD_NAMESPACE"),
		ServiceName:        "headroom-adapter",
		TLSSecret:          "headroom-adapter-tls",
		Lease:              "headroom-adapter",
		ShutdownDelay:      5 * time.Second,
		Serving:            genericoptions.NewSecureServingOptions().WithLoopback(),
		Authentication:     genericoptions.NewDelegatingAuthenticationOptions(),
		Authorization:      genericoptions.NewDelegatingAuthorizationOptions(),
	}
	if o.Identity = getenv("POD_NAME"); o.Identity == "" {
		o.Identity, _ = os.Hostname() // then Validate says what is missing
	}
	if o.Namespace == "" {
		if b, err := os.ReadFile(namespaceFile); err == nil {
			o.Namespace = strings.TrimSpace(string(b))
		}
	}
	o.Serving.BindPort = 6443 // no root needed
	o.Serving.Required = true
	o.Serving.ServerCert.CertDirectory = "" // certificates live in the Secret or in the files that the flags name
	o.Serving.ServerCert.PairName = ""
	return o
}

// Flags returns the flags in sections, for --help.
func (o *Options) Flags() cliflag.NamedFlagSets {
	var sets cliflag.NamedFlagSets
	fs := sets.FlagSet("metrics")
	fs.DurationVar(&o.ScrapeInterval, "scrape-interval", o.ScrapeInterval, "Time between two scrapes of a pod, 100ms to 5s.")
	fs.DurationVar(&o.ScrapeTimeout, "scrape-timeout", o.ScrapeTimeout, "Time limit of one scrape; 0 means --scrape-interval.")
	fs.Int64Var(&o.BodyLimit, "body-limit", o.BodyLimit, "Largest answer of a scrape in bytes, decompressed. A larger one fails the scrape.")
	fs.IntVar(&o.MaxSeries, "max-series", o.MaxSeries, "Most series kept in memory, about 1.1 KiB each. Samples of further ones are refused.")
	fs.DurationVar(&o.EvaluationInterval, "evaluation-interval", o.EvaluationInterval, "Time between two evaluations of the rules, 100ms to 5s.")
	fs.StringSliceVar(&o.Profiles, "profiles", o.Profiles, "Whose metrics the built-in rules are about; a MetricRule of a built-in rule's name replaces it. Empty for none.")
	fs.StringVar(&o.ProfilesSource, "profiles-source", o.ProfilesSource, "Where the built-in rules read: Embedded, what this process scrapes, or Prometheus, --prometheus-url.")
	fs.StringSliceVar(&o.Trusted, "trusted-namespaces", o.Trusted,
		"Namespaces whose pods may expose metrics of other pods, under the labels namespace and pod, and whose monitors may select pods of other namespaces. (default --namespace)")

	o.Prometheus.addFlags(sets.FlagSet("prometheus"))

	fs = sets.FlagSet("cluster")
	fs.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "Kubeconfig file; without it the KUBECONFIG variable, else the pod's service account.")
	fs.StringVar(&o.Namespace, "namespace", o.Namespace, "The adapter's own namespace; without it the POD_NAMESPACE variable, else the pod's service account.")
	fs.StringVar(&o.ServiceName, "service-name", o.ServiceName, "The Service that the APIServices point to; the certificate is made out to it.")
	fs.StringVar(&o.TLSSecret, "tls-secret", o.TLSSecret,
		"Secret in --namespace for the certificate that the adapter makes, renews and puts into the APIServices' caBundle when --tls-cert-file is not given.")
	fs.StringVar(&o.Lease, "lease", o.Lease, "Lease in --namespace by which the replicas agree on which of them writes the status of MetricRules.")
	fs.StringVar(&o.LogLevel, "log-level", o.LogLevel, "debug, info, warn or error.")

	sets.FlagSet("serving").DurationVar(&o.ShutdownDelay, "shutdown-delay-duration", o.ShutdownDelay,
		"How long to go on serving after SIGTERM, unready, so that nobody is refused before the endpoints are updated. Must be less than the pod's grace period.")
	o.Serving.AddFlags(sets.FlagSet("serving"))
	// cert-dir is of no effect here; the others are for tuning that nobody has needed yet. They work, unlisted.
	hide(sets.FlagSet("serving"), "cert-dir", "permit-port-sharing", "permit-address-sharing", "http2-max-streams-per-connection",
		"tls-curve-preferences", "tls-sni-cert-key")
	sets.FlagSet("serving").Lookup("tls-cert-file").Usage = "Certificate for HTTPS, with its CA behind it if there is one. Without it the adapter makes its own, see --tls-secret."
	o.Authentication.AddFlags(sets.FlagSet("authentication"))
	o.Authorization.AddFlags(sets.FlagSet("authorization"))
	for _, set := range []string{"authentication", "authorization"} {
		sets.FlagSet(set).Lookup(set + "-kubeconfig").Usage += " (default --kubeconfig)"
	}
	return sets
}

func hide(fs *pflag.FlagSet, names ...string) {
	for _, name := range names {
		if f := fs.Lookup(name); f != nil {
			f.Hidden = true
		}
	}
}

// Complete fills in what depends on other flags.
func (o *Options) Complete() {
	o.Prometheus.Complete()
	if o.ScrapeTimeout == 0 {
		o.ScrapeTimeout = o.ScrapeInterval
	}
	if o.Trusted == nil {
		o.Trusted = []string{o.Namespace}
	}
	for _, file := range []*string{&o.Authentication.RemoteKubeConfigFile, &o.Authorization.RemoteKubeConfigFile} {
		if *file == "" {
			*file = o.Kubeconfig
		}
	}
}

// Validate names every flag that is wrong. Nothing has been started then.
func (o *Options) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	const least, most = 100 * time.Millisecond, 5 * time.Second
	within := func(d time.Duration) bool { return least <= d && d <= most }
	check(within(o.ScrapeInterval), "--scrape-interval %s is not between %s and %s", o.ScrapeInterval, least, most)
	check(o.ScrapeTimeout > 0 && o.ScrapeTimeout <= o.ScrapeInterval, "--scrape-timeout %s is not above 0 and at most --scrape-interval %s", o.ScrapeTimeout, o.ScrapeInterval)
	check(within(o.EvaluationInterval), "--evaluation-interval %s is not between %s and %s", o.EvaluationInterval, least, most)
	check(o.BodyLimit >= 1024 && o.BodyLimit <= 1<<30, "--body-limit %d is not between 1024 and %d", o.BodyLimit, 1<<30)
	for _, name := range o.Profiles {
		check(slices.Contains(profiles.Names(), name), "--profiles %q is none of %s", name, strings.Join(profiles.Names(), ", "))
	}
	source := rules.Source(o.ProfilesSource)
	check(source == rules.Embedded || source == rules.Prometheus, "--profiles-source %q is neither %s nor %s", source, rules.Embedded, rules.Prometheus)
	check(source != rules.Prometheus || o.Prometheus.URL != "", "--profiles-source %s needs --prometheus-url", source)
	errs = append(errs, o.Prometheus.validate()...)
	check(o.ShutdownDelay >= 0, "--shutdown-delay-duration %s is negative", o.ShutdownDelay)
	check(o.Identity != "", "the name of this replica is not known: POD_NAME is not set and the host has no name")
	check(o.Lease != "", "--lease is empty")
	check(o.MaxSeries > 0, "--max-series %d is not positive", o.MaxSeries)
	check(o.Namespace != "", "--namespace is required: POD_NAMESPACE is not set and there is no service account")
	check(o.ServiceName != "", "--service-name is empty")
	check(o.TLSSecret != "" || o.ownFiles(), "--tls-secret is empty and no --tls-cert-file is given")
	key := o.Serving.ServerCert.CertKey
	check((key.CertFile == "") == (key.KeyFile == ""), "--tls-cert-file and --tls-private-key-file go together")
	check(!strings.ContainsRune(o.Kubeconfig, os.PathListSeparator), "--kubeconfig (or KUBECONFIG) %q names several files; give one", o.Kubeconfig)
	check(o.level() != nil, "--log-level %q is none of debug, info, warn, error", o.LogLevel)
	errs = append(errs, o.Serving.Validate()...)
	errs = append(errs, o.Authentication.Validate()...)
	errs = append(errs, o.Authorization.Validate()...)
	return errors.Join(errs...)
}

// ownFiles says whether the certificate comes from files and is none of the adapter's business.
func (o *Options) ownFiles() bool { return o.Serving.ServerCert.CertKey.CertFile != "" }

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
	c.UserAgent = "headroom-adapter"
	c.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json" // thousands of pods, a third of the bytes
	c.ContentType = "application/vnd.kubernetes.protobuf"
	return c, nil
}
