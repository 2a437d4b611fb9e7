package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Registry is where the manifests say that our images come from; a pod of Registry/NAME runs the local binary NAME.
const Registry = "headroom.dev"

// maxSocketPath is the kernel's limit for a unix socket's path, less the final NUL (sockaddr_un, 108 bytes).
const maxSocketPath = 107

// Options describe a lab. The zero value is not valid; start from DefaultOptions.
type Options struct {
	Dir           string // state directory, made if it is missing
	Source        string // a folder inside a checkout of the project; empty = the working directory
	Nodes         int
	GPUs          int    // per node
	Product       string // as NVIDIA's feature discovery writes it: "NVIDIA-H100-80GB-HBM3"
	HPASyncPeriod time.Duration
	Rightsizing   bool      // with metrics-server and the VPA's updater and admission controller
	Output        io.Writer // where progress is told
	Debug         bool      // the lab's own log tells every step
}

// DefaultOptions are four nodes of eight H100s, and the HPA at Kubernetes' default pace.
func DefaultOptions() Options {
	return Options{
		Dir: DefaultDir(), Nodes: 4, GPUs: 8, Product: "NVIDIA-H100-80GB-HBM3", HPASyncPeriod: 15 * time.Second, Output: os.Stderr,
	}
}

// DefaultDir is the state directory of the lab that has no name: under XDG_STATE_HOME, else ~/.local/state.
func DefaultDir() string {
	base := os.Getenv("XDG_STATE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return filepath.Join(os.TempDir(), fmt.Sprintf("headroom-lab-%d", os.Getuid()))
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "headroom", "lab")
}

// Validate names every option that cannot work.
func (o Options) Validate() error {
	var errs []error
	if o.Nodes < 1 || o.Nodes > 500 {
		errs = append(errs, fmt.Errorf("--nodes must be 1 to 500, not %d", o.Nodes))
	}
	if o.GPUs < 0 || o.GPUs > 16 {
		errs = append(errs, fmt.Errorf("--gpus must be 0 to 16, not %d", o.GPUs))
	}
	if _, err := productOf(o.Product); err != nil {
		errs = append(errs, err)
	}
	if o.HPASyncPeriod < time.Second {
		errs = append(errs, fmt.Errorf("--hpa-sync-period must be at least 1s, not %s", o.HPASyncPeriod))
	}
	socket := podResourcesSocket(o.Dir, nodeName(o.Nodes-1))
	if len(socket) > maxSocketPath {
		errs = append(errs, fmt.Errorf("--state-dir %s is too long: the unix socket %s would have %d bytes, and %d is the kernel's limit",
			o.Dir, socket, len(socket), maxSocketPath))
	}
	return errors.Join(errs...)
}

func nodeName(i int) string { return fmt.Sprintf("gpu-%d", i) }

func podResourcesSocket(dir, node string) string {
	return filepath.Join(dir, "nodes", node, "var/lib/kubelet/pod-resources/kubelet.sock")
}

// product is what the labels of NVIDIA's GPU feature discovery say of a model.
type product struct {
	name            string
	family          string
	computeMajor    string
	computeMinor    string
	memory          resource.Quantity
	migCapable      bool
	nodeCPU, nodeGB int64
}

func products() []product {
	return []product{
		{"NVIDIA-H100-80GB-HBM3", "hopper", "9", "0", resource.MustParse("81559Mi"), true, 192, 2048},
		{"NVIDIA-H200", "hopper", "9", "0", resource.MustParse("143771Mi"), true, 192, 2048},
		{"NVIDIA-A100-SXM4-80GB", "ampere", "8", "0", resource.MustParse("81920Mi"), true, 128, 1024},
		{"NVIDIA-L40S", "ada-lovelace", "8", "9", resource.MustParse("46068Mi"), false, 128, 1024},
		{"NVIDIA-L4", "ada-lovelace", "8", "9", resource.MustParse("23034Mi"), false, 96, 384},
		{"Tesla-T4", "turing", "7", "5", resource.MustParse("15360Mi"), false, 64, 256},
	}
}

func productOf(name string) (product, error) {
	var known []string
	for _, p := range products() {
		if p.name == name {
			return p, nil
		}
		known = append(known, p.name)
	}
	return product{}, fmt.Errorf("--product %q is not known; known are %q", name, known)
}
