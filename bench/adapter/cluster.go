package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/binaries"
	"headroom.dev/headroom/lab/controlplane"
	"headroom.dev/headroom/lab/network"
	"headroom.dev/headroom/lab/process"
	"headroom.dev/headroom/lab/progress"
)

// cluster is a real API server that aggregates, with nothing else of a cluster running: no controller, scheduler or kubelet
// takes CPU from what is measured. Pods are written with their status, as KWOK would.
type cluster struct {
	dir      string
	source   string // the project's root
	client   kubernetes.Interface
	config   *rest.Config
	plane    *controlplane.ControlPlane
	registry *process.Registry
	lease    *network.Lease
	kubectl  lab.Cluster
	progress *progress.Printer
	cancel   context.CancelFunc
	next     netip.Addr // the next address that is free
}

// startCluster starts it in dir, which exists.
func startCluster(ctx context.Context, source, dir string, p *progress.Printer) (_ *cluster, err error) {
	components, err := binaries.Ensure(ctx, source, p)
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &cluster{dir: dir, source: source, registry: process.NewRegistry(filepath.Join(dir, "processes.json")), progress: p, cancel: cancel}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	if c.lease, err = network.Acquire(ctx); err != nil {
		return nil, err
	}
	c.next = c.lease.Address.Next()
	socket := filepath.Join(dir, "egress.sock")
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("cannot serve the API server's way into the cluster: %w", err)
	}
	proxy := network.NewProxy(func() kubernetes.Interface { return c.client }, slog.New(slog.DiscardHandler))
	c.plane, err = controlplane.Start(ctx, controlplane.Options{
		Components: components, Dir: dir, Address: c.lease.Address, ProxySocket: socket, HPASyncPeriod: lab.DefaultOptions().HPASyncPeriod,
		SimulateKey: "headroom.dev/simulate", Registry: c.registry, Progress: p,
	})
	if err != nil {
		return nil, err
	}
	for _, idle := range []string{"kwok", "kube-scheduler", "kube-controller-manager"} {
		if err := c.plane.StopComponent(idle); err != nil {
			return nil, err
		}
	}
	if err := c.connect(); err != nil {
		return nil, err
	}
	go func() { _ = proxy.Serve(running, listener) }() // ends with running; the API server says so if it ends before
	c.kubectl = lab.Cluster{Kubeconfig: c.plane.AdminKubeconfig, Kubectl: components.Kubectl, Source: source}
	return c, nil
}

func (c *cluster) connect() error {
	config, err := clientcmd.BuildConfigFromFlags("", c.plane.AdminKubeconfig)
	if err != nil {
		return fmt.Errorf("cannot read the cluster's kubeconfig: %w", err)
	}
	config.QPS = -1 // thousands of pods are written
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("cannot make a client: %w", err)
	}
	c.config, c.client = config, client
	return nil
}

// stop ends the cluster and everything that was started in it.
func (c *cluster) stop() error {
	c.cancel()
	var errs []error
	if c.plane != nil {
		errs = append(errs, c.plane.Stop())
	}
	if c.lease != nil {
		errs = append(errs, c.lease.Release())
	}
	return errors.Join(errs...)
}

// address hands out a loopback address that nobody else has.
func (c *cluster) address() netip.Addr {
	a := c.next
	c.next = a.Next()
	return a
}

// apiServer returns the API server's process id.
func (c *cluster) apiServer() (int, error) {
	for _, e := range c.registry.Entries() {
		if e.Name == "kube-apiserver" {
			return e.PID, nil
		}
	}
	return 0, errors.New("the API server does not run")
}

// aggregated returns the door at an adapter's own port, with what the API server's aggregation layer would send for a user.
func (c *cluster) aggregated(address, user string, groups ...string) (door, error) {
	pki := filepath.Join(c.dir, "pki", "front-proxy-client")
	pair, err := tls.LoadX509KeyPair(pki+".crt", pki+".key")
	if err != nil {
		return door{}, fmt.Errorf("cannot read the front proxy's certificate: %w", err)
	}
	d := newDoor(address)
	d.tls.Certificates = []tls.Certificate{pair}
	d.header["X-Remote-User"] = []string{user}
	d.header["X-Remote-Group"] = append(groups, "system:authenticated")
	return d, nil
}

// front returns the door at the API server, for the HPA controller.
func (c *cluster) front(ctx context.Context) (door, error) {
	token, err := c.token(ctx, metav1.NamespaceSystem, "horizontal-pod-autoscaler")
	if err != nil {
		return door{}, err
	}
	d := newDoor(strings.TrimPrefix(c.plane.Server, "https://"))
	d.header.Set("Authorization", "Bearer "+token)
	return d, nil
}

func newDoor(address string) door {
	return door{
		address: address,
		tls:     &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the peer signs its own certificate; both are our children on loopback
		header: http.Header{
			"Accept": {"application/vnd.kubernetes.protobuf,application/json"}, "User-Agent": {"bench-adapter"},
		},
	}
}

// token makes a service account, where it is missing, and a token for it.
func (c *cluster) token(ctx context.Context, namespace, name string) (string, error) {
	accounts := c.client.CoreV1().ServiceAccounts(namespace)
	_, err := accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("cannot make service account %s/%s: %w", namespace, name, err)
	}
	day := int64(24 * 3600)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &day}}
	request, err = accounts.CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("cannot make a token for service account %s/%s: %w", namespace, name, err)
	}
	return request.Status.Token, nil
}

// kubeconfig writes a kubeconfig for a service account and returns its path.
func (c *cluster) kubeconfig(ctx context.Context, namespace, account string) (string, error) {
	token, err := c.token(ctx, namespace, account)
	if err != nil {
		return "", err
	}
	config := api.NewConfig()
	config.Clusters["bench"] = &api.Cluster{Server: c.plane.Server, CertificateAuthorityData: c.plane.CA}
	config.AuthInfos["user"] = &api.AuthInfo{Token: token}
	config.Contexts["bench"] = &api.Context{Cluster: "bench", AuthInfo: "user"}
	config.CurrentContext = "bench"
	path := filepath.Join(c.dir, account+".kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return "", fmt.Errorf("cannot write %s: %w", path, err)
	}
	return path, nil
}

// endpoint makes the pod Ready at an address, and an EndpointSlice of it for the Service, without which the API server does
// not believe an aggregated API to be available. EndpointSlices refuse loopback addresses; lab/network maps 198.18/16 to ours.
func (c *cluster) endpoint(ctx context.Context, pod *corev1.Pod, address netip.Addr, service string, port int32) (*corev1.Pod, error) {
	made, err := c.pod(ctx, pod, address)
	if err != nil {
		return nil, err
	}
	a := address.As4()
	a[0], a[1] = 198, 18
	_, err = c.client.DiscoveryV1().EndpointSlices(pod.Namespace).Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: service + "-bench", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{netip.AddrFrom4(a).String()}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
		}},
		Ports: []discoveryv1.EndpointPort{{Name: new("https"), Port: &port, Protocol: new(corev1.ProtocolTCP)}},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("cannot write the EndpointSlice of %s/%s: %w", pod.Namespace, service, err)
	}
	return made, nil
}

// pod creates a pod and writes the status of one that has been Ready for long.
func (c *cluster) pod(ctx context.Context, pod *corev1.Pod, address netip.Addr) (*corev1.Pod, error) {
	pods := c.client.CoreV1().Pods(pod.Namespace)
	made, err := pods.Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("cannot create pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	now := metav1.Now()
	made.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: address.String(), PodIPs: []corev1.PodIP{{IP: address.String()}}, StartTime: &now,
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		made.Status.Conditions = append(made.Status.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	for i := range made.Spec.Containers {
		made.Status.ContainerStatuses = append(made.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: made.Spec.Containers[i].Name, Image: made.Spec.Containers[i].Image, Ready: true, Started: new(true),
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
	if made, err = pods.UpdateStatus(ctx, made, metav1.UpdateOptions{}); err != nil {
		return nil, fmt.Errorf("cannot write the status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return made, nil
}

// start starts a child of the cluster with the environment given and nothing else of ours than PATH.
func (c *cluster) start(name, path string, args []string, env ...string) (*process.Process, error) {
	return process.Start(process.Options{
		Name: name, Path: path, Args: args, Env: append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.dir}, env...), Dir: c.dir,
		LogPath: filepath.Join(c.dir, "logs", name+".log"),
	}, c.registry)
}
