package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// exporterPort is where tests play a pod's exporter: every pod address is one of this machine.
const exporterPort = 9100

// exporter is a /metrics that a test serves in the name of pods, with whatever it wants to say.
type exporter struct {
	answer atomic.Pointer[func(w io.Writer) error]
	asked  atomic.Int64
	token  string // that requests must bear, "" for none
}

// says makes an exporter that answers the same text each time.
func says(text string) *exporter {
	e := &exporter{}
	e.say(text)
	return e
}

// exporting is inference with the annotation that leads to the test's exporter, on pods that start at once.
func exporting(name string) *appsv1.Deployment {
	d := inference(name, "{"+wellSpec+"}", 0)
	d.Spec.Template.Annotations["prometheus.io/port"] = strconv.Itoa(exporterPort)
	return d
}

func (e *exporter) say(text string) {
	e.use(func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
}

func (e *exporter) use(answer func(w io.Writer) error) { e.answer.Store(&answer) }

// count makes the exporter a counter of that name that grows by rate each second.
func (e *exporter) count(name string, rate float64) {
	began := time.Now()
	e.use(func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "# TYPE %s counter\n%s %g\n", name, name, rate*time.Since(began).Seconds())
		return err
	})
}

// lines makes the exporter answer n lines of one metric.
func (e *exporter) lines(name string, n int) {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%s{n=\"%06d\"} %d\n", name, i, i)
	}
	e.say(b.String())
}

func (e *exporter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.asked.Add(1)
	if e.token != "" && r.Header.Get("Authorization") != "Bearer "+e.token {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_ = (*e.answer.Load())(w) // the scraper went: it has its own word for that
}

// serve answers at the pod's address until the test ends. configuration is nil for HTTP.
func (e *exporter) serve(t *testing.T, pod corev1.Pod, configuration *tls.Config) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(exporterPort)))
	require.NoError(t, err)
	if configuration != nil {
		listener = tls.NewListener(listener, configuration)
	}
	server := &http.Server{Handler: e, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		assert.ErrorIs(t, server.Serve(listener), http.ErrServerClosed)
	}()
	t.Cleanup(func() { _ = server.Close(); <-done })
}

// export deploys one pod for each exporter, by name, and serves them.
func (c *cluster) export(t *testing.T, namespace string, exporters map[string]*exporter) map[string]corev1.Pod {
	t.Helper()
	for name := range exporters {
		c.deploy(t, namespace, exporting(name))
	}
	pods := map[string]corev1.Pod{}
	for _, pod := range c.ready(t, namespace, "app=service", len(exporters)) {
		name := pod.Labels["name"]
		pods[name] = pod
		exporters[name].serve(t, pod, nil)
	}
	return pods
}
