package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// maxBody is how much of an answer is read, as the kubelet does: enough to be polite to a keep-alive server, too little
// to be drowned.
const maxBody = 10 << 10

// Validate says which of a container's probes cannot be run here and why.
func Validate(c *corev1.Container) error {
	for kind, p := range map[Kind]*corev1.Probe{Startup: c.StartupProbe, Liveness: c.LivenessProbe, Readiness: c.ReadinessProbe} {
		var port intstr.IntOrString
		switch {
		case p == nil:
			continue
		case p.HTTPGet != nil:
			port = p.HTTPGet.Port
		case p.TCPSocket != nil:
			port = p.TCPSocket.Port
		case p.Exec != nil:
			return fmt.Errorf("%s probe of container %s: the lab runs no exec probes, as there is no container to run them in", kind, c.Name)
		default:
			return fmt.Errorf("%s probe of container %s: the lab runs httpGet and tcpSocket probes only", kind, c.Name)
		}
		if _, err := resolve(c, port); err != nil {
			return fmt.Errorf("%s probe of container %s: %w", kind, c.Name, err)
		}
	}
	return nil
}

// NewCheck returns the HTTP and TCP probes of a container in a pod with that address.
func NewCheck(c *corev1.Container, podIP string) Check {
	return func(ctx context.Context, p *corev1.Probe) error {
		switch {
		case p.HTTPGet != nil:
			return httpGet(ctx, c, podIP, p.HTTPGet)
		case p.TCPSocket != nil:
			return tcpSocket(ctx, c, podIP, p.TCPSocket)
		}
		return errors.New("the lab runs httpGet and tcpSocket probes only")
	}
}

func tcpSocket(ctx context.Context, c *corev1.Container, podIP string, a *corev1.TCPSocketAction) error {
	address, err := hostPort(c, podIP, a.Host, a.Port)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

func httpGet(ctx context.Context, c *corev1.Container, podIP string, a *corev1.HTTPGetAction) error {
	address, err := hostPort(c, podIP, a.Host, a.Port)
	if err != nil {
		return err
	}
	target, err := url.Parse(a.Path)
	if err != nil {
		return fmt.Errorf("bad path: %w", err)
	}
	target.Scheme, target.Host = "http", address
	if a.Scheme != "" {
		target.Scheme = strings.ToLower(string(a.Scheme))
	}
	if !strings.HasPrefix(target.Path, "/") {
		target.Path = "/" + target.Path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "kube-probe/lab")
	req.Header.Set("Accept", "*/*")
	for _, h := range a.HTTPHeaders {
		if strings.EqualFold(h.Name, "Host") {
			req.Host = h.Value
			continue
		}
		req.Header.Add(h.Name, h.Value)
	}
	resp, err := client().Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return err
	}
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return fmt.Errorf("HTTP probe got status %d: %.200s", resp.StatusCode, strings.TrimSpace(string(body)))
	}
	return nil
}

// client makes a new connection each time, as the kubelet does: a probe is to find out whether one can connect.
// A redirect to another host is not followed and counts as success.
func client() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the kubelet's contract for HTTPS probes
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if req.URL.Hostname() != via[0].URL.Hostname() {
				return http.ErrUseLastResponse
			}
			if len(via) >= 10 {
				return errors.New("stopped after 10 redirects")
			}
			return nil
		},
	}
}

func hostPort(c *corev1.Container, podIP, host string, port intstr.IntOrString) (string, error) {
	n, err := resolve(c, port)
	if err != nil {
		return "", err
	}
	if host == "" {
		host = podIP
	}
	return net.JoinHostPort(host, strconv.Itoa(n)), nil
}

func resolve(c *corev1.Container, port intstr.IntOrString) (int, error) {
	if port.Type == intstr.Int {
		return port.IntValue(), nil
	}
	for _, p := range c.Ports {
		if p.Name == port.StrVal {
			return int(p.ContainerPort), nil
		}
	}
	if n, err := strconv.Atoi(port.StrVal); err == nil {
		return n, nil
	}
	return 0, fmt.Errorf("no port is named %q", port.StrVal)
}
