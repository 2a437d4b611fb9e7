package app

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBadFlagsAreNamed(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = taken.Close() }()
	for args, want := range map[string]string{
		"--listen=9400":                        "--listen: address 9400: missing port in address",
		"--listen=" + taken.Addr().String():    "--listen: listen tcp " + taken.Addr().String() + ": bind: address already in use",
		"--interval=1":                         `invalid argument "1" for "--interval" flag`,
		"--interval=10ms":                      "--interval: 10ms is less than 50ms",
		"--pod-resources-socket=":              `--pod-resources-socket: "" is not 1 to 107 bytes long`,
		"--pod-resources-socket=/" + long(107): "is not 1 to 107 bytes long",
		"--resource-prefix=":                   "--resource-prefix: empty",
		"--nvml-library=":                      "--nvml-library: empty",
		"--kubeconfigs=x":                      "unknown flag: --kubeconfigs",
		"--kubeconfig=/none --kubernetes-api=on --node-name=n --listen=127.0.0.1:0": "cannot use the Kubernetes API: --kubeconfig: stat /none: no such file",
		"--kubernetes-api=on --node-name=":                                          "--kubernetes-api=on needs --node-name",
		"--kubernetes-api=yes":                                                      `--kubernetes-api: "yes" is not auto, on or off`,
		"--process-attribution=yes":                                                 `--process-attribution: "yes" is not auto, on or off`,
		"--window=100ms":                                                            "--window: 100ms is not between --interval and 1m0s",
		"--window=2m":                                                               "--window: 2m0s is not between",
		"--tls-cert-file=x":                                                         "--tls-cert-file and --tls-private-key-file go together",
		"--authenticate":                                                            "--authenticate needs --tls-cert-file",
		"--authenticate --kubernetes-api=off":                                       "--authenticate needs the API server",
		"extra":                                                                     `unknown command "extra"`,
		"--interval=-1s --nvml-library= --listen=x":                                 "--listen: address x: missing port in address\n--interval: -1s is less than 50ms\n--nvml-library: empty",
	} {
		var stderr bytes.Buffer
		cmd := Command(&stderr)
		cmd.SetArgs(strings.Fields(args))
		err := cmd.ExecuteContext(t.Context())
		require.ErrorContains(t, err, want, args)
		assert.Empty(t, stderr.String(), "main prints the error, once")
	}
}

func long(n int) string { return strings.Repeat("x", n) }

func TestNodeNameComesFromEnvironment(t *testing.T) {
	t.Setenv("NODE_NAME", "node-7")
	name, err := Command(nil).Flags().GetString("node-name")
	require.NoError(t, err)
	assert.Equal(t, "node-7", name)
}

func validOptions() Options {
	return Options{
		Listen: "127.0.0.1:0", Interval: 100 * time.Millisecond, Window: time.Second, PodResourcesSocket: "/nowhere/kubelet.sock",
		ResourcePrefix: "nvidia.com/", DRADriver: "gpu.nvidia.com", NVMLLibrary: "libnvidia-ml.so.1", NodeName: "node-1",
		KubernetesAPI: off, Processes: auto, ProcRoot: "/proc",
	}
}

func TestListenerThatBreaksEndsRun(t *testing.T) {
	a, err := New(t.Context(), validOptions(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, a.listener.Close())
	require.ErrorContains(t, a.Run(t.Context()), "cannot serve on 127.0.0.1:")
}
