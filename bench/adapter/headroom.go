package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"headroom.dev/headroom/bench/adapter/targets"
	"headroom.dev/headroom/lab/binaries"
	"headroom.dev/headroom/lab/kubelet/podenv"
)

// ours starts headroom-adapter as the manifests' Deployment has it: one pod's arguments, variables, service account and rights.
type ours struct {
	cluster *cluster
	binary  string
	flags   []string // besides the manifests'
	address netip.Addr
	pod     *corev1.Pod
}

const (
	oursName    = "Headroom"
	adapterName = "headroom-adapter"
)

// newOurs builds the adapter and applies the manifests.
func newOurs(ctx context.Context, c *cluster, flags []string) (*ours, error) {
	step := c.progress.Step(adapterName)
	built, err := binaries.Own(ctx, c.source, filepath.Join(c.dir, "bin"), adapterName)
	if err != nil {
		return nil, err
	}
	if _, err := c.kubectl.Run(ctx, "apply", "-k", filepath.Join(c.source, "manifests")); err != nil {
		return nil, err
	}
	deployment, err := c.client.AppsV1().Deployments(targets.AgentNamespace).Get(ctx, adapterName, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("cannot read the manifests' Deployment: %w", err)
	}
	o := &ours{cluster: c, binary: built[adapterName], flags: flags, address: c.address()}
	template := deployment.Spec.Template
	template.Spec.NodeName = "bench"
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: deployment.Namespace, Name: adapterName + "-bench", Labels: template.Labels},
		Spec:       template.Spec,
	}
	if o.pod, err = c.endpoint(ctx, pod, o.address, adapterName, o.port(pod)); err != nil {
		return nil, err
	}
	step.Done("built, manifests applied")
	return o, nil
}

func (o *ours) port(pod *corev1.Pod) int32 {
	for _, p := range pod.Spec.Containers[0].Ports {
		if p.Name == "https" {
			return p.ContainerPort
		}
	}
	return 6443
}

func (o *ours) start(ctx context.Context, pods int) (_ *stack, err error) {
	c, container := o.cluster, &o.pod.Spec.Containers[0]
	kubeconfig, err := c.kubeconfig(ctx, o.pod.Namespace, o.pod.Spec.ServiceAccountName)
	if err != nil {
		return nil, err
	}
	env, err := podenv.Environment(ctx, c.client.CoreV1(), o.pod, container, map[string]string{"KUBECONFIG": kubeconfig})
	if err != nil {
		return nil, err
	}
	var args []string
	for _, arg := range container.Args {
		args = append(args, podenv.Expand(arg, env))
	}
	address := net.JoinHostPort(o.address.String(), strconv.Itoa(int(o.port(o.pod))))
	s := &stack{name: oursName, service: apiregistrationv1.ServiceReference{Namespace: o.pod.Namespace, Name: adapterName, Port: new(int32(443))}}
	if s.door, err = c.aggregated(address, hpaUser); err != nil {
		return nil, err
	}
	admin, err := c.aggregated(address, "bench", "system:masters")
	if err != nil {
		return nil, err
	}
	s.query = func(ctx context.Context, expr string, at time.Time) (map[string]float64, error) {
		return promQuery(at, expr, func(path string) (int, []byte, error) { return admin.get(ctx, path) })
	}
	adapter, err := c.start(adapterName, o.binary, append(args, o.flags...), podenv.List(env)...)
	if err != nil {
		return nil, err
	}
	s.processes = append(s.processes, adapter)
	err = s.until(ctx, "the adapter", s.healthy)
	if err == nil {
		err = s.until(ctx, "the adapter's values", func(ctx context.Context) error { return s.complete(ctx, pods) })
	}
	if err == nil {
		err = c.register(ctx, s)
	}
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// errNoQueries is returned where there is no Prometheus API.
var errNoQueries = errors.New("no query API is served")

// promQuery asks Prometheus' query API: pod → value.
func promQuery(at time.Time, expr string, get func(path string) (int, []byte, error)) (map[string]float64, error) {
	when := strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64)
	status, body, err := get("/api/v1/query?time=" + when + "&query=" + url.QueryEscape(expr))
	if err != nil {
		return nil, err
	}
	if status == http.StatusNotFound {
		return nil, errNoQueries
	}
	var answer struct {
		Error string
		Data  struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("cannot query %s: HTTP %d: %.300q", expr, status, body)
	}
	out := map[string]float64{}
	for _, r := range answer.Data.Result {
		text, _ := r.Value[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("cannot read a result of %s: %w", expr, err)
		}
		out[r.Metric["pod"]] = v
	}
	return out, nil
}
