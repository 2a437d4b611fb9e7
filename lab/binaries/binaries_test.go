package binaries

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVersionsComeFromTheNestedModule(t *testing.T) {
	source, err := Source(".")
	require.ErrorContains(t, err, "cannot find the sources", "a relative path has no parents to walk")
	require.Empty(t, source)

	wd, err := os.Getwd()
	require.NoError(t, err)
	source, err = Source(wd)
	require.NoError(t, err)
	v, err := readVersions(filepath.Join(source, "lab", "components"))
	require.NoError(t, err)
	require.Equal(t, "Kubernetes 1.37.2, etcd 3.7.3, KWOK 0.8.0", v.String())
	require.Contains(t, v.ldflags(), "gitMajor=1 ")
	require.Contains(t, v.ldflags(), "gitMinor=37 ")

	two, err := required(rightsizingModule(source), metricsServerModule, autoscalerModule)
	require.NoError(t, err)
	require.Equal(t, []string{"0.9.0", "1.8.1"}, two)
}

func TestCacheKeyFollowsTheModuleFiles(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	module := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(module, name), []byte(text), 0o600))
	}
	write("go.mod", "module x\n")
	write("go.sum", "a\n")
	g := group{module: module, cache: "kubernetes-1.0.0", ldflags: "-s"}
	first, err := g.cacheDir()
	require.NoError(t, err)
	again, err := g.cacheDir()
	require.NoError(t, err)
	require.Equal(t, first, again)
	write("go.sum", "b\n")
	other, err := g.cacheDir()
	require.NoError(t, err)
	require.NotEqual(t, first, other)
	_, err = readVersions(module)
	require.ErrorContains(t, err, "does not require")
}
