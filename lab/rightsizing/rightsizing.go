// Package rightsizing installs in a lab what measures pods and acts on recommendations of requests: metrics-server, which
// reads KWOK's simulated usage, and the stock Vertical Pod Autoscaler's updater and admission controller. The autoscaler's
// own recommender is left out: its place is what a lab of this kind is for.
//
// It applies the manifests of the modules that the programs are built from, CustomResourceDefinitions and RBAC included, with
// what a lab needs instead of a cluster: addresses of the pods' own, a kubeconfig, certificates, and a pace at which one can
// watch. The programs run as pods of the lab's kubelet.
package rightsizing

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"headroom.dev/headroom/lab/binaries"
	"headroom.dev/headroom/lab/pki"
	"headroom.dev/headroom/lab/progress"
)

// Namespace is where the manifests put everything.
const Namespace = "kube-system"

// deadline bounds the wait for each part. metrics-server is Ready after its second scrape, 20 s; the admission controller
// registers its webhook after 10 s.
const deadline = 2 * time.Minute

// Images returns the image repositories that the manifests name, with the programs that stand for them.
func Images(b binaries.Rightsizing) map[string]string {
	return map[string]string{
		"registry.k8s.io/metrics-server/metrics-server":        b.MetricsServer,
		"registry.k8s.io/autoscaling/vpa-updater":              b.Updater,
		"registry.k8s.io/autoscaling/vpa-admission-controller": b.AdmissionController,
	}
}

// Cluster is what installing needs of a lab.
type Cluster struct {
	Kubectl func(ctx context.Context, args ...string) (string, error) // with admin rights
	Source  string                                                    // the project's root
	Dir     string                                                    // for files that go with the lab; made if it is missing
}

// Install applies the manifests and waits until metrics.k8s.io answers and the autoscaler's webhook is registered.
func Install(ctx context.Context, c Cluster, p *progress.Printer) error {
	step := p.Step("metrics-server and vertical pod autoscaler")
	if err := os.MkdirAll(c.Dir, 0o750); err != nil {
		return fmt.Errorf("cannot install what acts on recommendations: %w", err)
	}
	manifests, err := c.manifests(ctx)
	if err != nil {
		return fmt.Errorf("cannot install what acts on recommendations: %w", err)
	}
	path := filepath.Join(c.Dir, "manifests.yaml")
	if err := os.WriteFile(path, manifests, 0o600); err != nil {
		return fmt.Errorf("cannot install what acts on recommendations: %w", err)
	}
	// On the server's side: the autoscaler's definitions are larger than the annotation of a client's apply may be.
	if _, err := c.Kubectl(ctx, "apply", "--server-side", "-f", path); err != nil {
		return err
	}
	timeout := "--timeout=" + deadline.String()
	for _, wait := range [][]string{
		{"rollout", "status", "-n", Namespace, "deployment/vpa-updater", timeout},
		{"rollout", "status", "-n", Namespace, "deployment/vpa-admission-controller", timeout},
		{"rollout", "status", "-n", Namespace, "deployment/metrics-server", timeout},
		{"wait", "--for=condition=Available", "apiservice/v1beta1.metrics.k8s.io", timeout},
		{"wait", "--for=create", "mutatingwebhookconfiguration/vpa-webhook-config", timeout},
	} {
		step.Update("waiting for " + wait[len(wait)-2])
		if _, err := c.Kubectl(ctx, wait...); err != nil {
			return fmt.Errorf("cannot install what acts on recommendations: %w", err)
		}
	}
	step.Done("installed")
	return nil
}

// manifests returns the modules' manifests, fitted to the lab, and the webhook's Secret.
func (c Cluster) manifests(ctx context.Context) ([]byte, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	server, err := binaries.MetricsServerSource(ctx, c.Source)
	if err != nil {
		return nil, err
	}
	autoscaler, err := binaries.AutoscalerSource(ctx, c.Source)
	if err != nil {
		return nil, err
	}
	var all []byte
	for _, from := range []struct{ name, dir, overlay string }{
		{"metrics-server", filepath.Join(server, "manifests"), filepath.Join("overlays", "release")},
		{"autoscaler", filepath.Join(autoscaler, "deploy"), "."},
	} {
		rendered, err := c.render(ctx, from.name, from.dir, from.overlay)
		if err != nil {
			return nil, err
		}
		fitted, err := fit(rendered, port)
		if err != nil {
			return nil, err
		}
		all = append(all, fitted...)
	}
	secret, err := webhookSecret(filepath.Join(c.Dir, "pki"))
	if err != nil {
		return nil, err
	}
	return append(all, secret...), nil
}

// render runs kustomize on a copy: the module cache's paths hold an @, which kustomize takes for a repository's.
func (c Cluster) render(ctx context.Context, name, from, overlay string) (string, error) {
	to := filepath.Join(c.Dir, name)
	if err := os.RemoveAll(to); err != nil {
		return "", fmt.Errorf("cannot copy the manifests of %s: %w", name, err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return "", fmt.Errorf("cannot copy the manifests of %s: %w", name, err)
	}
	return c.Kubectl(ctx, "kustomize", filepath.Join(to, overlay))
}

// webhookSecret is what the autoscaler's gencerts.sh makes: an authority for the webhook alone.
func webhookSecret(dir string) ([]byte, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the webhook's certificate: %w", err)
	}
	ca, err := pki.NewAuthority(dir, "vpa-webhook-ca")
	if err != nil {
		return nil, err
	}
	serving, err := ca.Server("vpa-webhook", nil, "vpa-webhook."+Namespace+".svc")
	if err != nil {
		return nil, err
	}
	return document(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "vpa-tls-certs", "namespace": Namespace},
		"stringData": map[string]any{"caCert.pem": string(ca.CertPEM), "serverCert.pem": string(serving.CertPEM), "serverKey.pem": string(serving.KeyPEM)},
	})
}
