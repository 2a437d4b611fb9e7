package hold

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/process"
)

const (
	// scaleVariable is that of lab/e2e.
	scaleVariable = "HEADROOM_E2E_SCALE"
	// reportVariable names the document whose table is written.
	reportVariable = "HEADROOM_HOLD_REPORT"

	groups      = 4 // clusters of three nodes, each used by one file at a time
	groupNodes  = 3
	groupLabel  = "hold.test/group"
	gpusPerNode = 3
	hpaSync     = time.Second
)

// alone are the files that change something for the whole lab. They run after the others, one by one.
func alone() []string { return []string{"restart", "autoscaler"} }

func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", strconv.Itoa(groups)) // not the number of cores: files wait more than they compute; -parallel overrides it
	os.Exit(m.Run())
}

// first are the files that take longest, since users' minReadySeconds have to pass.
func first(name string) bool { return strings.HasPrefix(name, "own-seconds") }

// TestHold runs every file of testdata.
func TestHold(t *testing.T) {
	if os.Getenv(scaleVariable) != "full" {
		t.Skipf("takes minutes in a lab of its own; %s=full, or make test-hold, runs it", scaleVariable)
	}
	c := bringUp(t)
	paths, err := filepath.Glob("testdata/*")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	slices.SortStableFunc(paths, func(a, b string) int {
		return cmp.Compare(rank(first(filepath.Base(a))), rank(first(filepath.Base(b))))
	})
	single := map[string]bool{}
	for _, name := range alone() {
		single[name] = true
	}
	t.Run("together", func(t *testing.T) {
		for _, path := range paths {
			if name := filepath.Base(path); !single[name] {
				t.Run(name, func(t *testing.T) { t.Parallel(); c.run(t, path) })
			}
		}
	})
	for _, name := range alone() {
		t.Run(name, func(t *testing.T) { c.run(t, filepath.Join("testdata", name)) })
	}
	c.report.print(t)
	if path := os.Getenv(reportVariable); path != "" && !t.Failed() && c.report.files() == len(paths) { // -run leaves the document alone
		require.NoError(t, c.report.write(path))
	}
}

func rank(first bool) int {
	if first {
		return 0
	}
	return 1
}

// cluster is the lab.
type cluster struct {
	*lab.Lab

	free      chan string // groups of nodes that nobody uses
	report    *report
	endpoints *exec.Cmd
	installed bool
}

func bringUp(t *testing.T) *cluster {
	t.Helper()
	parent, err := shortDir()
	require.NoError(t, err)
	o := lab.DefaultOptions()
	o.Dir, o.Nodes, o.GPUs, o.HPASyncPeriod = filepath.Join(parent, "l"), groups*groupNodes, gpusPerNode, hpaSync
	l, err := lab.Up(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			printLogs(t, o.Dir)
		}
		assert.NoError(t, errors.Join(l.Down(), os.RemoveAll(parent)))
	})
	c := &cluster{Lab: l, free: make(chan string, groups), report: &report{}}
	for g := range groups {
		name := fmt.Sprintf("g%d", g)
		for n := range groupNodes {
			patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, groupLabel, name)
			_, err := l.Client.CoreV1().Nodes().Patch(t.Context(), fmt.Sprintf("gpu-%d", g*groupNodes+n), types.MergePatchType, patch, metav1.PatchOptions{})
			require.NoError(t, err)
		}
		c.free <- name
	}
	return c
}

// shortDir makes a folder in which unix sockets may lie, for which t.TempDir's may be too long.
func shortDir() (string, error) { return os.MkdirTemp("", "hr") }

func printLogs(t *testing.T, dir string) {
	t.Helper()
	paths, _ := filepath.Glob(filepath.Join(dir, "logs", "*.log")) // the pattern is well-formed
	for _, path := range paths {
		t.Logf("--- %s\n%s", path, process.Tail(path, 12))
	}
}

// run plays one file on a group of nodes of its own.
func (c *cluster) run(t *testing.T, path string) {
	t.Helper()
	group := <-c.free
	defer func() { c.free <- group }()
	p := c.newPlayer(t, filepath.Base(path), group)
	defer p.leave(t)
	datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
		t.Helper()
		return p.play(t, d)
	})
}

// detached is a context for cleaning up, which has to go on when the test has failed.
func detached(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
}
