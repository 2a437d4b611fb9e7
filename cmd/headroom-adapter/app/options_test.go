package app

import (
	"bytes"
	"net"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// parsed returns the options of a command line in a pod of headroom-system.
func parsed(t *testing.T, args ...string) *Options {
	t.Helper()
	o := NewOptions(func(name string) string {
		return map[string]string{"POD_NAMESPACE": "headroom-system", "KUBECONFIG": "/etc/kubeconfig"}[name]
	})
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	sets := o.Flags()
	for _, name := range sets.Order {
		fs.AddFlagSet(sets.FlagSets[name])
	}
	require.NoError(t, fs.Parse(args))
	o.Complete()
	return o
}

func TestDefaultsAreValid(t *testing.T) {
	o := parsed(t)
	require.NoError(t, o.Validate())
	assert.Equal(t, []string{"headroom-system"}, o.Trusted)
	assert.Equal(t, o.ScrapeInterval, o.ScrapeTimeout)
	assert.Equal(t, "/etc/kubeconfig", o.Authentication.RemoteKubeConfigFile)
	assert.Equal(t, "/etc/kubeconfig", o.Authorization.RemoteKubeConfigFile)
	assert.False(t, o.ownFiles())
}

func TestFlags(t *testing.T) {
	o := parsed(t, "--bind-address=127.1.0.5", "--secure-port=8443", "--kubeconfig=/k", "--authorization-kubeconfig=/a",
		"--trusted-namespaces=a,b", "--tls-cert-file=c", "--tls-private-key-file=k", "--scrape-timeout=500ms")
	require.NoError(t, o.Validate())
	assert.Equal(t, net.ParseIP("127.1.0.5"), o.Serving.BindAddress)
	assert.Equal(t, "/k", o.Authentication.RemoteKubeConfigFile)
	assert.Equal(t, "/a", o.Authorization.RemoteKubeConfigFile)
	assert.Equal(t, []string{"a", "b"}, o.Trusted)
	assert.True(t, o.ownFiles())
	assert.Empty(t, parsed(t, "--trusted-namespaces=").Trusted, "nobody is trusted when asked so")
}

func TestBadFlagsAreNamed(t *testing.T) {
	f := func(flag string) {
		t.Helper()
		name, _, _ := strings.Cut(flag, "=")
		require.ErrorContains(t, parsed(t, flag).Validate(), name)
	}
	f("--scrape-interval=0s")
	f("--scrape-interval=6s")
	f("--scrape-timeout=2s")
	f("--scrape-timeout=-1s")
	f("--evaluation-interval=1ms")
	f("--body-limit=10")
	f("--max-series=0")
	f("--namespace=")
	f("--service-name=")
	f("--tls-secret=")
	f("--tls-cert-file=x")
	f("--tls-private-key-file=x")
	f("--kubeconfig=/a:/b")
	f("--log-level=loud")
	f("--secure-port=0")
	err := parsed(t, "--max-series=0", "--log-level=loud").Validate()
	require.ErrorContains(t, err, "--max-series")
	require.ErrorContains(t, err, "--log-level", "all mistakes at once")
}

func TestCommand(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "headroom-system")
	var out bytes.Buffer
	help := NewCommand()
	help.SetOut(&out)
	help.SetArgs([]string{"--help"})
	require.NoError(t, help.Execute())
	for _, flag := range []string{"--scrape-interval", "--trusted-namespaces", "--secure-port", "--tls-secret"} {
		assert.Contains(t, out.String(), flag)
	}
	assert.NotContains(t, out.String(), "--cert-dir")
	f := func(want string, args ...string) {
		t.Helper()
		cmd := NewCommand()
		cmd.SetArgs(args)
		require.ErrorContains(t, cmd.Execute(), want)
	}
	f("--max-series", "--max-series=-1")
	f("unknown flag: --nope", "--nope")
	f("/nowhere", "--kubeconfig=/nowhere")
}
