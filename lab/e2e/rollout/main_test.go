package rollout

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/process"
)

const (
	nodes       = 2
	gpusPerNode = 4
	// scaleVariable set to full runs what is too long for make test.
	scaleVariable = "HEADROOM_E2E_SCALE"
)

// shared is the lab that all tests run in, one after the other: its GPUs are what they are about.
var shared *cluster

// cluster is a lab with the kinds of Headroom and nothing else of it.
type cluster struct {
	*lab.Lab

	source string
}

func TestMain(m *testing.M) {
	code, err := start(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func start(m *testing.M) (code int, err error) {
	ctx := context.Background()
	log.SetLogger(logr.Discard())
	source, err := lab.FindSource("")
	if err != nil {
		return 1, err
	}
	parent, err := os.MkdirTemp("", "hr") // short: unix sockets lie in it
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(parent)) }()
	o := lab.DefaultOptions()
	o.Dir, o.Nodes, o.GPUs, o.HPASyncPeriod = filepath.Join(parent, "l"), nodes, gpusPerNode, time.Second
	l, err := lab.Up(ctx, o)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, l.Down()) }()
	shared = &cluster{l, source}
	if _, err := l.Cluster().Run(ctx, "apply", "-k", filepath.Join(source, "manifests", "crds")); err != nil {
		return 1, err
	}
	if _, err := l.Cluster().Run(ctx, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"); err != nil {
		return 1, err
	}
	code = m.Run()
	if code != 0 {
		paths, _ := filepath.Glob(filepath.Join(o.Dir, "logs", "*.log")) // the pattern is well-formed
		for _, path := range paths {
			fmt.Fprintf(os.Stderr, "--- %s\n%s", path, process.Tail(path, 12))
		}
	}
	return code, nil
}

// heavy leaves a test to make test-rollout-lab.
func heavy(t *testing.T) {
	t.Helper()
	if os.Getenv(scaleVariable) != "full" {
		t.Skipf("runs with %s=full: make test-rollout-lab", scaleVariable)
	}
}

// eventually polls until the check passes, and fails with its last complaint otherwise.
func eventually(t *testing.T, check func(require.TestingT)) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) { check(c) }, enough, 100*time.Millisecond)
}

// detached is a context for cleaning up, which has to go on when the test has failed.
func detached(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
}

func key(namespace, name string) client.ObjectKey {
	return client.ObjectKey{Namespace: namespace, Name: name}
}
