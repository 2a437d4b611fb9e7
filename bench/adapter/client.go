package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"

	"headroom.dev/headroom/bench/adapter/targets"
)

// hpaUser is who the HPA controller is, and what its built-in role lets it read.
const hpaUser = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"

// requestTimeout ends a request that gets no answer.
const requestTimeout = 60 * time.Second

// door is a way to ask for metrics: an adapter's own port, as the API server's aggregation layer asks it (front-proxy
// certificate, user in headers), or the API server itself (bearer token).
type door struct {
	address string
	tls     *tls.Config
	header  http.Header
}

// connection is one client: an HTTP/1.1 connection that is kept. Its own cost is small beside the server's; net/http's is not.
type connection struct {
	door   door
	conn   net.Conn
	reader *bufio.Reader
	body   bytes.Buffer
}

func (d door) dial(ctx context.Context) (*connection, error) {
	dialer := tls.Dialer{Config: d.tls}
	conn, err := dialer.DialContext(ctx, "tcp", d.address)
	if err != nil {
		return nil, fmt.Errorf("cannot reach %s: %w", d.address, err)
	}
	return &connection{door: d, conn: conn, reader: bufio.NewReaderSize(conn, 32<<10)}, nil
}

func (c *connection) close() { _ = c.conn.Close() }

// request returns the bytes of a GET.
func (d door) request(path string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\n", path, d.address)
	_ = d.header.Write(&b) // a buffer takes everything
	b.WriteString("\r\n")
	return b.Bytes()
}

// do sends a request and returns status and body, which is valid until the next call.
func (c *connection) do(request []byte) (int, []byte, error) {
	if err := c.conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return 0, nil, fmt.Errorf("cannot ask %s: %w", c.door.address, err)
	}
	if _, err := c.conn.Write(request); err != nil {
		return 0, nil, fmt.Errorf("cannot ask %s: %w", c.door.address, err)
	}
	resp, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("cannot read an answer of %s: %w", c.door.address, err)
	}
	defer resp.Body.Close()
	c.body.Reset()
	if _, err := io.Copy(&c.body, resp.Body); err != nil {
		return 0, nil, fmt.Errorf("cannot read an answer of %s: %w", c.door.address, err)
	}
	return resp.StatusCode, c.body.Bytes(), nil
}

// get asks once on a connection of its own.
func (d door) get(ctx context.Context, path string) (int, []byte, error) {
	c, err := d.dial(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer c.close()
	return c.do(d.request(path))
}

// listPath is what the HPA asks for a Pods metric; namePath is for one pod.
func listPath(app, metric string) string {
	return apiPath + "/%2A/" + metric + "?labelSelector=" + url.QueryEscape("app="+app)
}

func namePath(pod, metric string) string { return apiPath + "/" + pod + "/" + metric }

const apiPath = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/" + targets.Namespace + "/pods"

// values decodes an answer in protobuf: pod → value.
func values(body []byte) (map[string]float64, error) {
	raw, ok := bytes.CutPrefix(body, []byte("k8s\x00"))
	if !ok {
		return nil, fmt.Errorf("the answer is not protobuf: %.200q", body)
	}
	var envelope runtime.Unknown
	if err := envelope.Unmarshal(raw); err != nil {
		return nil, fmt.Errorf("cannot decode an answer: %w", err)
	}
	var list v1beta2.MetricValueList
	if err := list.Unmarshal(envelope.Raw); err != nil {
		return nil, fmt.Errorf("cannot decode an answer: %w", err)
	}
	out := make(map[string]float64, len(list.Items))
	for i := range list.Items {
		out[list.Items[i].DescribedObject.Name] = float64(list.Items[i].Value.MilliValue()) / 1000
	}
	return out, nil
}

// all asks for a metric of every app's pods.
func (c *connection) all(apps int, metric string) (map[string]float64, error) {
	out := map[string]float64{}
	for a := range apps {
		status, body, err := c.do(c.door.request(listPath(targets.App(a), metric)))
		if err != nil {
			return nil, err
		}
		if status != http.StatusOK {
			return nil, fmt.Errorf("%s of %s: HTTP %d: %.300q", metric, targets.App(a), status, body)
		}
		some, err := values(body)
		if err != nil {
			return nil, err
		}
		maps.Copy(out, some)
	}
	return out, nil
}
