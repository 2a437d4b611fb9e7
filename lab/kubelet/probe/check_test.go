package probe_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"headroom.dev/headroom/lab/kubelet/probe"
)

func target(t *testing.T, handler http.Handler, secure bool) *corev1.Container {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	if secure {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	n, err := strconv.Atoi(port)
	require.NoError(t, err)
	return &corev1.Container{Name: "c", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: int32(n)}}}
}

func httpProbe(path string, change func(*corev1.HTTPGetAction)) *corev1.Probe {
	a := &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("http")}
	if change != nil {
		change(a)
	}
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: a}}
}

func TestHTTPCheck(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/sick", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no rules yet", http.StatusServiceUnavailable)
	})
	mux.HandleFunc("/near", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/sick", http.StatusFound) })
	mux.HandleFunc("/far", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
	})
	mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "me.example" || r.Header.Get("X-A") != "1" || r.URL.RawQuery != "q=1" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	c := target(t, mux, false)
	check := probe.NewCheck(c, "127.0.0.1")
	require.NoError(t, check(t.Context(), httpProbe("/ok", nil)))
	require.NoError(t, check(t.Context(), httpProbe("ok", nil)))
	require.ErrorContains(t, check(t.Context(), httpProbe("/sick", nil)), "status 503: no rules yet")
	require.ErrorContains(t, check(t.Context(), httpProbe("/near", nil)), "status 503")
	require.NoError(t, check(t.Context(), httpProbe("/far", nil)))
	require.NoError(t, check(t.Context(), httpProbe("/headers?q=1", func(a *corev1.HTTPGetAction) {
		a.HTTPHeaders = []corev1.HTTPHeader{{Name: "host", Value: "me.example"}, {Name: "X-A", Value: "1"}}
	})))
	require.Error(t, check(t.Context(), httpProbe("/ok", func(a *corev1.HTTPGetAction) { a.Port = intstr.FromInt32(1) })))
	require.NoError(t, probe.NewCheck(c, "192.0.2.1")(t.Context(), httpProbe("/ok", func(a *corev1.HTTPGetAction) { a.Host = "127.0.0.1" })))
}

func TestHTTPSCheckDoesNotVerify(t *testing.T) {
	c := target(t, http.NotFoundHandler(), true)
	err := probe.NewCheck(c, "127.0.0.1")(t.Context(), httpProbe("/", func(a *corev1.HTTPGetAction) { a.Scheme = corev1.URISchemeHTTPS }))
	require.ErrorContains(t, err, "status 404")
}

func TestTCPCheck(t *testing.T) {
	c := target(t, http.NotFoundHandler(), false)
	tcp := func(port intstr.IntOrString) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: port}}}
	}
	require.NoError(t, probe.NewCheck(c, "127.0.0.1")(t.Context(), tcp(intstr.FromString("http"))))
	require.Error(t, probe.NewCheck(c, "127.0.0.1")(t.Context(), tcp(intstr.FromInt32(1))))
}

func TestValidateNamesWhatCannotRun(t *testing.T) {
	c := &corev1.Container{Name: "c", LivenessProbe: httpProbe("/", nil)}
	require.ErrorContains(t, probe.Validate(c), `Liveness probe of container c: no port is named "http"`)
	c = &corev1.Container{Name: "c", StartupProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{}}}}
	require.ErrorContains(t, probe.Validate(c), "runs no exec probes")
	c = &corev1.Container{Name: "c", ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 1}}}}
	require.ErrorContains(t, probe.Validate(c), "httpGet and tcpSocket probes only")
	require.NoError(t, probe.Validate(&corev1.Container{}))
}
