package lab

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"headroom.dev/headroom/lab/progress"
)

// installDeadline bounds the wait for each part; the adapter's first answer needs its certificate, the pod informer and
// one evaluation, seen to take 2 to 6 s.
const installDeadline = 2 * time.Minute

// Cluster is what installing and watching needs of a lab, from inside it or from another process.
type Cluster struct {
	Kubeconfig, Kubectl, Source string
}

// Cluster returns the lab's own.
func (l *Lab) Cluster() Cluster {
	return Cluster{Kubeconfig: l.Kubeconfig, Kubectl: l.Kubectl, Source: l.Source}
}

// Run runs kubectl with admin rights and returns its output; an error carries what kubectl said.
func (c Cluster) Run(ctx context.Context, args ...string) (string, error) {
	return kubectl(ctx, c.Kubectl, c.Kubeconfig, args...)
}

// Install applies the project's manifests as a user does, and waits until both replicas of the adapter serve all of its APIs
// and an agent runs on each GPU node.
func (c Cluster) Install(ctx context.Context, p *progress.Printer) error {
	step := p.Step("headroom manifests")
	if _, err := c.Run(ctx, "apply", "-k", filepath.Join(c.Source, "manifests")); err != nil {
		return err
	}
	timeout := "--timeout=" + installDeadline.String()
	for _, wait := range [][]string{
		{"rollout", "status", "-n", "headroom-system", "deployment/headroom-adapter", timeout},
		{"rollout", "status", "-n", "headroom-system", "daemonset/headroom-agent", timeout},
		{"rollout", "status", "-n", "headroom-system", "deployment/headroom-controller", timeout},
		append([]string{"wait", "--for=condition=Available", timeout}, APIServices()...),
	} {
		step.Update("waiting for " + wait[len(wait)-2])
		if _, err := c.Run(ctx, wait...); err != nil {
			return fmt.Errorf("cannot install Headroom: %w", err)
		}
	}
	step.Done("installed")
	return nil
}

// APIServices are the registrations of the adapter's APIs, as kubectl takes them.
func APIServices() []string {
	return []string{
		"apiservice/v1beta1.custom.metrics.k8s.io", "apiservice/v1beta2.custom.metrics.k8s.io",
		"apiservice/v1beta1.external.metrics.k8s.io", "apiservice/v1alpha1.query.headroom.dev",
	}
}

// InstallExample applies the example service and waits until its first pods are Ready.
func (c Cluster) InstallExample(ctx context.Context, p *progress.Printer) error {
	step := p.Step("example service")
	if _, err := c.Run(ctx, "apply", "-k", filepath.Join(c.Source, "manifests", "example")); err != nil {
		return err
	}
	// The Deployment starts with one replica and the HPA's floor makes it two.
	if _, err := c.Run(ctx, "wait", "-n", ExampleNamespace, "--for=jsonpath={.status.readyReplicas}=2", "deployment/"+ExampleName,
		"--timeout="+installDeadline.String()); err != nil {
		return fmt.Errorf("cannot install the example: %w", err)
	}
	step.Done("2 pods Ready")
	return nil
}

// The example in manifests/example.
const (
	ExampleNamespace = "headroom-example"
	ExampleName      = "chat" // of the Deployment, the Service and the HPA, and the pods' label app
)
