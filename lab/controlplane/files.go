package controlplane

import (
	"bytes"
	_ "embed"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"text/template"

	"headroom.dev/headroom/lab/pki"
)

// NodeAnnotation marks the nodes that KWOK plays.
const NodeAnnotation = "kwok.x-k8s.io/node"

// Usage annotations say what each container of a KWOK pod uses, as quantities; a pod without them has no metrics. They
// may be changed while the pod runs.
const (
	UsageCPUAnnotation    = "kwok.x-k8s.io/usage-cpu"
	UsageMemoryAnnotation = "kwok.x-k8s.io/usage-memory"
)

// UsagePath returns where KWOK serves a node's usage, and the annotation of the node that tells metrics-server: a kubelet
// serves one node at /metrics/resource, and KWOK all of them at one address.
func UsagePath(node string) (annotation, path string) {
	return "metrics.k8s.io/resource-metrics-path", "/metrics/nodes/" + node + "/metrics/resource"
}

//go:embed kwok.yaml.tmpl
var kwokTemplate string

//go:embed usage.yaml
var kwokUsage []byte

// egressConfig makes the API server reach Services through lab/network, as a managed cluster's control plane reaches
// its nodes through a tunnel. So the manifests' ClusterIP Services work unchanged without kube-proxy.
const egressConfig = `apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
- name: cluster
  connection:
    proxyProtocol: HTTPConnect
    transport:
      uds:
        udsName: %q
`

func (c *ControlPlane) makeFiles() error {
	if err := c.options.Validate(); err != nil {
		return err
	}
	dir := filepath.Join(c.options.Dir, "pki")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot prepare the control plane: %w", err)
	}
	if err := c.makeCertificates(dir); err != nil {
		return err
	}
	if err := c.makeKubeconfigs(dir); err != nil {
		return err
	}
	c.files.etcdData = filepath.Join(c.options.Dir, "etcd")
	c.files.egress = filepath.Join(c.options.Dir, "egress.yaml")
	if err := os.WriteFile(c.files.egress, fmt.Appendf(nil, egressConfig, c.options.ProxySocket), 0o600); err != nil {
		return fmt.Errorf("cannot prepare the control plane: %w", err)
	}
	stages, err := kwokStages(c.options.OwnImages, c.options.SimulateKey)
	if err != nil {
		return err
	}
	c.files.kwokConfig = filepath.Join(c.options.Dir, "kwok.yaml")
	if err := os.WriteFile(c.files.kwokConfig, stages, 0o600); err != nil {
		return fmt.Errorf("cannot prepare the control plane: %w", err)
	}
	c.files.usage = filepath.Join(c.options.Dir, "kwok-usage.yaml")
	if err := os.WriteFile(c.files.usage, kwokUsage, 0o600); err != nil {
		return fmt.Errorf("cannot prepare the control plane: %w", err)
	}
	return nil
}

func (c *ControlPlane) makeCertificates(dir string) (err error) {
	f := &c.files
	steps := []func() error{
		func() error { f.ca, err = pki.NewAuthority(dir, "ca"); return err },
		func() error { f.frontProxyCA, err = pki.NewAuthority(dir, "front-proxy-ca"); return err },
		func() error {
			f.server, err = f.ca.Server("kube-apiserver", []net.IP{c.options.Address.AsSlice(), net.IPv4(127, 0, 0, 1)},
				"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
			return err
		},
		func() error {
			f.etcdServer, err = f.ca.Peer("etcd", []net.IP{c.options.Address.AsSlice()})
			return err
		},
		// The API server's identity towards etcd, and the health checks' towards both.
		func() error {
			f.etcdClient, err = f.ca.Client("apiserver-etcd-client", "kube-apiserver", "headroom-lab:health")
			return err
		},
		func() error {
			f.kwokServer, err = f.ca.Server("kwok-server", []net.IP{c.options.Address.AsSlice()})
			return err
		},
		func() error {
			f.proxyClient, err = f.frontProxyCA.Client("front-proxy-client", "front-proxy-client")
			return err
		},
		func() error { f.serviceAccounts, err = f.ca.Client("service-accounts", "service-accounts"); return err },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	c.CA = f.ca.CertPEM
	return nil
}

func (c *ControlPlane) makeKubeconfigs(dir string) error {
	c.AdminKubeconfig = filepath.Join(c.options.Dir, "kubeconfig")
	f := &c.files
	f.controllerManager = filepath.Join(dir, "controller-manager.kubeconfig")
	f.scheduler = filepath.Join(dir, "scheduler.kubeconfig")
	f.kwok = filepath.Join(dir, "kwok.kubeconfig")
	for _, one := range []struct{ path, name, user, group string }{
		{c.AdminKubeconfig, "admin", "headroom-lab-admin", "system:masters"},
		{f.controllerManager, "controller-manager", "system:kube-controller-manager", ""},
		{f.scheduler, "scheduler", "system:kube-scheduler", ""},
		{f.kwok, "kwok", "kwok", "system:masters"},
	} {
		client, err := f.ca.Client(one.name, one.user, one.group)
		if err != nil {
			return err
		}
		if err := f.ca.Kubeconfig(one.path, c.Server, client); err != nil {
			return err
		}
	}
	return nil
}

// kwokStages are KWOK's own fast stages, narrowed to the pods that the lab does not run itself.
func kwokStages(ownImages []string, simulateKey string) ([]byte, error) {
	t, err := template.New("kwok").Delims("[[", "]]").Parse(kwokTemplate)
	if err != nil {
		return nil, fmt.Errorf("cannot parse KWOK's stages: %w", err)
	}
	var out bytes.Buffer
	err = t.Execute(&out, struct {
		Images      []string
		SimulateKey string
	}{ownImages, simulateKey})
	if err != nil {
		return nil, fmt.Errorf("cannot write KWOK's stages: %w", err)
	}
	return out.Bytes(), nil
}
