package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"text/template"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"headroom.dev/headroom/bench/adapter/targets"
	"headroom.dev/headroom/lab/binaries"
)

// peer starts Prometheus and prometheus-adapter, configured as their users do, one rule for each metric. Both have all rights.
//
// Three things are in the peer's favour. Its targets come from files and need no watch. Its adapter asks the API server for the pods of each request, by default at most five
// times a second, in which an HPA of a large cluster waits for seconds: here --client-qps lifts that. And it runs once,
// though its manifests have two replicas.
type peer struct {
	cluster            *cluster
	prometheus, binary string
	promAddress        string
	adapterAddress     netip.Addr
	plan               targets.Plan
	lean               bool // Prometheus keeps only what the rules read
}

const (
	peerName      = "Prometheus + prometheus-adapter"
	peerNamespace = "monitoring"
	peerService   = "prometheus-adapter"
	peerPort      = 6443
)

//go:embed config/prometheus.yml.tmpl
var prometheusConfig string

//go:embed config/prometheus-adapter.yml
var adapterConfig []byte

// newPeer downloads and builds what is missing.
func newPeer(ctx context.Context, c *cluster, plan targets.Plan, prometheus string) (*peer, error) {
	p := &peer{cluster: c, plan: plan, prometheus: prometheus, adapterAddress: c.address()}
	var err error
	if p.prometheus == "" {
		if p.prometheus, err = binaries.Debian(ctx, "prometheus", "usr/bin/prometheus", c.progress); err != nil {
			return nil, fmt.Errorf("%w; install it by hand and give --prometheus /usr/bin/prometheus", err)
		}
	}
	if p.binary, err = buildPeer(ctx, c.source, c.progress); err != nil {
		return nil, err
	}
	p.promAddress = net.JoinHostPort(c.address().String(), "9090")
	if err := c.namespace(ctx, peerNamespace); err != nil {
		return nil, err
	}
	labels := map[string]string{"app.kubernetes.io/name": peerService}
	_, err = c.client.CoreV1().Services(peerNamespace).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: peerService},
		Spec:       corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Name: "https", Port: 443, TargetPort: intstr.FromInt32(peerPort)}}},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("cannot create the peer's Service: %w", err)
	}
	_, err = c.endpoint(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: peerNamespace, Name: peerService, Labels: labels}, Spec: podSpec(peerPort, "bench"),
	}, p.adapterAddress, peerService, peerPort)
	return p, err
}

// start starts Prometheus, waits until it has every target, then the adapter: that lists the series once a minute, and would
// know none for the first.
func (p *peer) start(ctx context.Context, pods int) (_ *stack, err error) {
	c := p.cluster
	dir, err := os.MkdirTemp(c.dir, "peer")
	if err != nil {
		return nil, fmt.Errorf("cannot make the peer's folder: %w", err)
	}
	if err := p.writeConfig(dir, p.plan, pods); err != nil {
		return nil, err
	}
	address := net.JoinHostPort(p.adapterAddress.String(), strconv.Itoa(peerPort))
	s := &stack{name: peerName, insecure: true, service: apiregistrationv1.ServiceReference{Namespace: peerNamespace, Name: peerService, Port: new(int32(443))}}
	if s.door, err = c.aggregated(address, hpaUser); err != nil {
		return nil, err
	}
	s.query = func(ctx context.Context, expr string, at time.Time) (map[string]float64, error) {
		return promQuery(at, expr, func(path string) (int, []byte, error) { return p.get(ctx, path) })
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	prometheus, err := c.start("prometheus", p.prometheus, []string{
		"--config.file=" + filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path=" + filepath.Join(dir, "data"),
		"--web.listen-address=" + p.promAddress, "--log.level=warn",
	})
	if err != nil {
		return nil, err
	}
	s.processes = append(s.processes, prometheus)
	wanted := pods + targets.Agents(pods)
	err = s.until(ctx, "Prometheus' targets", func(ctx context.Context) error {
		up, err := s.query(ctx, "sum(up)", time.Now())
		if err == nil && int(up[""]) != wanted {
			err = fmt.Errorf("%g of %d targets are up", up[""], wanted)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if p.lean {
		return s, nil // to see what Prometheus uses
	}
	adapter, err := c.start(peerService, p.binary, []string{
		"--bind-address=" + p.adapterAddress.String(), fmt.Sprintf("--secure-port=%d", peerPort), "--cert-dir=" + filepath.Join(dir, "certs"),
		"--config=" + filepath.Join(dir, "adapter.yml"), "--metrics-relist-interval=1m", "--prometheus-url=http://" + p.promAddress + "/",
		"--lister-kubeconfig=" + c.plane.AdminKubeconfig, "--authentication-kubeconfig=" + c.plane.AdminKubeconfig,
		"--authorization-kubeconfig=" + c.plane.AdminKubeconfig, "--client-qps=10000", "--client-burst=10000",
	})
	if err != nil {
		return nil, err
	}
	s.processes = append(s.processes, adapter)
	if err = s.until(ctx, "prometheus-adapter", s.healthy); err != nil {
		return nil, err
	}
	if err = s.until(ctx, "prometheus-adapter's values", func(ctx context.Context) error { return s.complete(ctx, pods) }); err != nil {
		return nil, err
	}
	return s, c.register(ctx, s)
}

func (p *peer) writeConfig(dir string, plan targets.Plan, pods int) error {
	t, err := template.New("prometheus.yml").Parse(prometheusConfig)
	if err != nil {
		return fmt.Errorf("cannot configure Prometheus: %w", err)
	}
	fill := map[string]string{"Pods": filepath.Join(dir, "pods.json"), "Agents": filepath.Join(dir, "agents.json")}
	if p.lean {
		fill["Keep"] = "vllm:request_success_total|vllm:e2e_request_latency_seconds_bucket|gpu_pod_utilization_ratio"
	}
	var config bytes.Buffer
	if err := t.Execute(&config, fill); err != nil {
		return fmt.Errorf("cannot configure Prometheus: %w", err)
	}
	podsFile, agentsFile, err := targetFiles(plan, pods)
	if err != nil {
		return err
	}
	for path, text := range map[string][]byte{
		filepath.Join(dir, "prometheus.yml"): config.Bytes(), filepath.Join(dir, "adapter.yml"): adapterConfig,
		fill["Pods"]: podsFile, fill["Agents"]: agentsFile,
	} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return fmt.Errorf("cannot configure the peer: %w", err)
		}
	}
	return nil
}

// targetFiles are the first pods, and their agents, as Prometheus reads targets from files.
func targetFiles(plan targets.Plan, pods int) (podsFile, agentsFile []byte, err error) {
	type group struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	one := func(a netip.Addr, namespace, pod string) group {
		return group{
			Targets: []string{netip.AddrPortFrom(a, uint16(plan.Port)).String()}, Labels: map[string]string{"namespace": namespace, "pod": pod},
		}
	}
	var some, agents []group
	for i := range pods {
		some = append(some, one(plan.PodAddress(i), targets.Namespace, targets.Pod(i)))
	}
	for j := range targets.Agents(pods) {
		name, _ := targets.Agent(j)
		agents = append(agents, one(plan.AgentAddress(j), targets.AgentNamespace, name))
	}
	podsFile, err = json.Marshal(some)
	if err == nil {
		agentsFile, err = json.Marshal(agents)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot configure Prometheus: %w", err)
	}
	return podsFile, agentsFile, nil
}

// get asks Prometheus.
func (p *peer) get(ctx context.Context, path string) (int, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.promAddress+path, http.NoBody)
	if err != nil {
		return 0, nil, fmt.Errorf("cannot ask Prometheus: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, fmt.Errorf("cannot ask Prometheus: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, nil, fmt.Errorf("cannot read an answer of Prometheus: %w", err)
	}
	return response.StatusCode, body, nil
}
