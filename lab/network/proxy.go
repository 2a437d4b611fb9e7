package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
)

// dialTimeout bounds the connection to a pod; on loopback it is there at once or not at all.
const dialTimeout = 2 * time.Second

// Proxy plays kube-proxy for the API server: it answers HTTP CONNECT on a unix socket (KEP-1281, the egress selector), and
// connects a Service's ClusterIP and port to one of its Ready pods, picked at random. Connections to anything that is
// neither a Service nor on loopback are refused.
type Proxy struct {
	log    *slog.Logger
	client func() kubernetes.Interface // nil until the API server is up
	wg     sync.WaitGroup
}

// NewProxy returns a proxy; client may return nil as long as there is no API server, and connections are refused then.
func NewProxy(client func() kubernetes.Interface, log *slog.Logger) *Proxy {
	return &Proxy{client: client, log: log}
}

// Serve answers on l until ctx ends, and returns when all connections are closed.
func (p *Proxy) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if err != nil {
			p.wg.Wait()
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("cannot accept the API server's connections: %w", err)
		}
		p.wg.Go(func() { p.handle(ctx, conn) })
	}
}

func (p *Proxy) handle(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	request, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return // a client that went away before it asked
	}
	if request.Method != http.MethodConnect {
		fmt.Fprintf(conn, "HTTP/1.1 405 Only CONNECT\r\n\r\n")
		return
	}
	backend, err := p.dial(ctx, request.Host)
	if err != nil {
		p.log.Debug("no way into the cluster", "to", request.Host, "err", err)
		fmt.Fprintf(conn, "HTTP/1.1 502 %s\r\n\r\n", err)
		return
	}
	defer backend.Close()
	if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	splice(conn, backend)
}

// splice copies both ways until both are closed; a half-closed side passes its end on.
func splice(a, b net.Conn) {
	var wg sync.WaitGroup
	for _, pair := range [][2]net.Conn{{a, b}, {b, a}} {
		wg.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			if half, ok := pair[0].(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
		})
	}
	wg.Wait()
}

func (p *Proxy) dial(ctx context.Context, address string) (net.Conn, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %q: %w", address, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %q: %w", address, err)
	}
	if ip, err := netip.ParseAddr(host); err == nil && loopback(ip.Unmap()).IsLoopback() {
		address = net.JoinHostPort(loopback(ip.Unmap()).String(), portText)
	} else {
		client := p.client()
		if client == nil {
			return nil, errors.New("cannot look up services: the API server is not up yet")
		}
		if address, err = resolve(ctx, client, host, int32(port)); err != nil {
			return nil, err
		}
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	return dialer.DialContext(ctx, "tcp", address)
}

// resolve finds a Ready pod behind a ClusterIP. It asks the API server each time: connections are few, and a list is
// never stale.
func resolve(ctx context.Context, client kubernetes.Interface, clusterIP string, port int32) (string, error) {
	services, err := client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", fmt.Errorf("cannot look up services: %w", err)
	}
	for _, s := range services.Items {
		if s.Spec.ClusterIP != clusterIP {
			continue
		}
		for _, sp := range s.Spec.Ports {
			if sp.Port == port {
				return backend(ctx, client, &s, sp)
			}
		}
		return "", fmt.Errorf("service %s/%s has no port %d", s.Namespace, s.Name, port)
	}
	return "", fmt.Errorf("no service has the address %s", clusterIP)
}

func backend(ctx context.Context, client kubernetes.Interface, s *corev1.Service, port corev1.ServicePort) (string, error) {
	if len(s.Spec.Selector) == 0 {
		return "", fmt.Errorf("service %s/%s has no selector", s.Namespace, s.Name)
	}
	pods, err := client.CoreV1().Pods(s.Namespace).List(ctx, metav1.ListOptions{LabelSelector: labels.SelectorFromSet(s.Spec.Selector).String()})
	if err != nil {
		return "", fmt.Errorf("cannot look up the pods of service %s/%s: %w", s.Namespace, s.Name, err)
	}
	var ready []string
	for i := range pods.Items {
		pod := &pods.Items[i]
		if target, ok := TargetPort(pod, port); ok && Ready(pod) {
			ready = append(ready, net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(int(target))))
		}
	}
	if len(ready) == 0 {
		return "", fmt.Errorf("service %s/%s has no Ready pod", s.Namespace, s.Name)
	}
	return ready[rand.IntN(len(ready))], nil
}

// Ready tells whether a Service would send traffic to the pod: it has an address, is not being deleted, and its Ready
// condition is true.
func Ready(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && pod.Status.PodIP != "" && podReady(pod)
}

func podReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// TargetPort resolves a Service's port on a pod; false where the pod has no container port of that name.
func TargetPort(pod *corev1.Pod, port corev1.ServicePort) (int32, bool) {
	if port.TargetPort.IntVal != 0 {
		return port.TargetPort.IntVal, true
	}
	if port.TargetPort.StrVal == "" {
		return port.Port, true
	}
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == port.TargetPort.StrVal {
				return p.ContainerPort, true
			}
		}
	}
	return 0, false
}
