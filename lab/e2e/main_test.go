package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/binaries"
	"headroom.dev/headroom/lab/process"
	"headroom.dev/headroom/lab/progress"
)

// hpaSync is how often the labs' HPA decides: the default 15 s would make these tests wait more than test.
const hpaSync = 2 * time.Second

// shared is the lab that most tests run in, with Headroom installed.
var shared *cluster

// command is the path of headroom-lab, built from the working tree.
var command string

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	_ = flag.Set("test.parallel", "8") // not the number of cores: they wait more than they compute; -parallel overrides it
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx := context.Background()
	source, err := lab.FindSource("")
	if err != nil {
		return 1, err
	}
	dir, err := stateDir()
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(filepath.Dir(dir))) }()
	own, err := binaries.Own(ctx, source, filepath.Join(filepath.Dir(dir), "bin"), "headroom-lab")
	if err != nil {
		return 1, err
	}
	command = own["headroom-lab"]
	l, err := up(ctx, dir, 4, 8)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, l.Down()) }()
	if shared, err = newCluster(l); err != nil {
		return 1, err
	}
	if err := l.Cluster().Install(ctx, l.Progress); err != nil {
		printLogs(dir)
		return 1, err
	}
	code = m.Run()
	select {
	case err := <-l.Failed():
		code = 1
		fmt.Fprintf(os.Stderr, "a part of the shared lab ended by itself: %v\n", err)
	default:
	}
	if code != 0 {
		printLogs(dir)
	}
	return code, nil
}

// stateDir returns a fresh state directory. It is short, as unix sockets lie in it, which t.TempDir's may not be.
func stateDir() (string, error) {
	parent, err := os.MkdirTemp("", "hr")
	return filepath.Join(parent, "l"), err
}

// tempState is a stateDir for one test.
func tempState(t *testing.T) string {
	t.Helper()
	dir, err := stateDir()
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = lab.DownAt(dir, progress.New(io.Discard)) // what a test that failed has left
		assert.NoError(t, os.RemoveAll(filepath.Dir(dir)))
	})
	return dir
}

func up(ctx context.Context, dir string, nodes, gpus int) (*lab.Lab, error) {
	o := lab.DefaultOptions()
	o.Dir, o.Nodes, o.GPUs, o.HPASyncPeriod = dir, nodes, gpus, hpaSync
	return lab.Up(ctx, o)
}

// printLogs shows how each of a lab's logs ends.
func printLogs(dir string) {
	paths, _ := filepath.Glob(filepath.Join(dir, "logs", "*.log")) // the pattern is well-formed
	for _, path := range paths {
		fmt.Fprintf(os.Stderr, "--- %s\n%s\n", path, process.Tail(path, 25))
	}
}
