package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// serviceCIDR is where ClusterIPs come from. Nothing routes there: the API server's own connections into it go through
// the egress selector to lab/network, which plays kube-proxy.
const serviceCIDR = "10.96.0.0/16"

// kwokPodCIDR gives KWOK's pods addresses that nobody answers on; the pods that do answer get theirs from the lab.
const kwokPodCIDR = "127.2.0.0/16"

func (c *ControlPlane) etcd(client, peer string) *component {
	f := c.files
	return &component{
		name: "etcd", path: c.options.Components.Etcd,
		args: []string{
			"--name=lab", "--data-dir=" + f.etcdData,
			"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=lab=" + peer,
			"--cert-file=" + f.etcdServer.CertFile, "--key-file=" + f.etcdServer.KeyFile,
			"--client-cert-auth", "--trusted-ca-file=" + f.ca.CertFile,
			"--peer-cert-file=" + f.etcdServer.CertFile, "--peer-key-file=" + f.etcdServer.KeyFile,
			"--peer-client-cert-auth", "--peer-trusted-ca-file=" + f.ca.CertFile,
			"--unsafe-no-fsync", // the lab's data does not outlive it, and fsync costs most of a start on slow disks
			"--log-level=warn",
		},
		healthy: c.get(client+"/health", f.etcdClient.CertFile, f.etcdClient.KeyFile),
	}
}

func (c *ControlPlane) apiServer(port int, etcd string) *component {
	f := c.files
	return &component{
		name: "kube-apiserver", path: c.options.Components.APIServer,
		args: []string{
			"--bind-address=" + c.options.Address.String(), "--advertise-address=" + c.options.Address.String(),
			"--secure-port=" + strconv.Itoa(port),
			"--etcd-servers=" + etcd, "--etcd-cafile=" + f.ca.CertFile, "--etcd-certfile=" + f.etcdClient.CertFile, "--etcd-keyfile=" + f.etcdClient.KeyFile,
			"--tls-cert-file=" + f.server.CertFile, "--tls-private-key-file=" + f.server.KeyFile, "--client-ca-file=" + f.ca.CertFile,
			"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
			"--service-account-key-file=" + f.serviceAccounts.CertFile, "--service-account-signing-key-file=" + f.serviceAccounts.KeyFile,
			"--authorization-mode=Node,RBAC", "--service-cluster-ip-range=" + serviceCIDR,
			"--endpoint-reconciler-type=none", // EndpointSlices refuse loopback addresses
			"--requestheader-client-ca-file=" + f.frontProxyCA.CertFile, "--requestheader-allowed-names=front-proxy-client",
			"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
			"--requestheader-extra-headers-prefix=X-Remote-Extra-",
			"--proxy-client-cert-file=" + f.proxyClient.CertFile, "--proxy-client-key-file=" + f.proxyClient.KeyFile,
			"--enable-aggregator-routing=false", "--egress-selector-config-file=" + f.egress,
			"--delete-collection-workers=16", // 1 by default: 200 pods then take ten seconds to be marked
			"--profiling=false",
		},
		healthy: c.get(c.Server+"/readyz", f.etcdClient.CertFile, f.etcdClient.KeyFile),
	}
}

func (c *ControlPlane) controllerManager(port int) *component {
	f := c.files
	return &component{
		name: "kube-controller-manager", path: c.options.Components.ControllerManager,
		args: []string{
			"--kubeconfig=" + f.controllerManager, "--authentication-kubeconfig=" + f.controllerManager, "--authorization-kubeconfig=" + f.controllerManager,
			"--bind-address=" + c.options.Address.String(), "--secure-port=" + strconv.Itoa(port),
			"--root-ca-file=" + f.ca.CertFile, "--service-account-private-key-file=" + f.serviceAccounts.KeyFile,
			"--cluster-signing-cert-file=" + f.ca.CertFile, "--cluster-signing-key-file=" + f.ca.KeyFile,
			"--use-service-account-credentials", "--leader-elect=false", "--profiling=false",
			"--kube-api-qps=200", "--kube-api-burst=400", // 20 and 30 by default, which its forty controllers wait on when they start
			// lab/network writes EndpointSlices instead: these would try loopback addresses and be refused, again and again.
			"--controllers=*,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller",
			"--horizontal-pod-autoscaler-sync-period=" + c.options.HPASyncPeriod.String(),
		},
		healthy: c.get(c.local(port), "", ""),
	}
}

func (c *ControlPlane) scheduler(port int) *component {
	f := c.files
	return &component{
		name: "kube-scheduler", path: c.options.Components.Scheduler,
		args: []string{
			"--kubeconfig=" + f.scheduler, "--authentication-kubeconfig=" + f.scheduler, "--authorization-kubeconfig=" + f.scheduler,
			"--bind-address=" + c.options.Address.String(), "--secure-port=" + strconv.Itoa(port), "--leader-elect=false", "--profiling=false",
		},
		healthy: c.get(c.local(port), "", ""),
	}
}

// kwok has no health port unless it serves the kubelet's API: without, it is well when it runs, and the lab goes on to wait
// until it has made the nodes Ready.
func (c *ControlPlane) kwok(port int) *component {
	f := c.files
	one := &component{
		name: "kwok", path: c.options.Components.KWOK,
		args: []string{
			"--kubeconfig=" + f.kwok, "--config=" + f.kwokConfig, "--cidr=" + kwokPodCIDR, "--node-ip=" + c.options.Address.String(),
			"--manage-all-nodes=false", "--manage-nodes-with-annotation-selector=" + NodeAnnotation + "=fake", "--node-lease-duration-seconds=40",
		},
		healthy: func(context.Context) error { return nil },
	}
	if c.options.Usage {
		address := net.JoinHostPort(c.options.Address.String(), strconv.Itoa(port))
		one.args = append(one.args, "--config="+f.usage, "--server-address="+address, "--node-port="+strconv.Itoa(port),
			"--tls-cert-file="+f.kwokServer.CertFile, "--tls-private-key-file="+f.kwokServer.KeyFile)
		one.healthy = c.get("https://"+address+"/healthz", f.etcdClient.CertFile, f.etcdClient.KeyFile)
	}
	return one
}

func (c *ControlPlane) local(port int) string {
	return "https://" + net.JoinHostPort(c.options.Address.String(), strconv.Itoa(port)) + "/healthz"
}

// get asks a health endpoint. Without a client certificate the server's certificate is not checked either: the
// controller manager and the scheduler sign their own.
func (c *ControlPlane) get(url, certFile, keyFile string) func(context.Context) error {
	return func(ctx context.Context) error {
		config := &tls.Config{InsecureSkipVerify: certFile == ""} //nolint:gosec // see above: a health check of our own child on loopback
		if certFile != "" {
			pair, err := tls.LoadX509KeyPair(certFile, keyFile)
			if err != nil {
				return fmt.Errorf("cannot load the health check's certificate: %w", err)
			}
			config.Certificates = []tls.Certificate{pair}
			config.RootCAs = x509.NewCertPool()
			config.RootCAs.AppendCertsFromPEM(c.files.ca.CertPEM)
		}
		transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := transport.RoundTrip(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			body, _ := io.ReadAll(io.LimitReader(response.Body, 2048))
			return fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(body)))
		}
		return nil
	}
}

// Validate refuses options that the components would choke on later, less clearly.
func (o Options) Validate() error {
	var errs []error
	if o.HPASyncPeriod <= 0 {
		errs = append(errs, fmt.Errorf("the HPA's sync period must be positive, not %s", o.HPASyncPeriod))
	}
	if problems := validation.IsQualifiedName(o.SimulateKey); len(problems) > 0 {
		errs = append(errs, fmt.Errorf("annotation %q: %s", o.SimulateKey, strings.Join(problems, "; ")))
	}
	return errors.Join(errs...)
}
