package arch

import "strings"

const (
	module = "headroom.dev/headroom"
	nvml   = "github.com/NVIDIA/go-nvml"
)

// kind says what a room may reach outside the module.
type kind int

const (
	// core decides over plain structs: what core reaches, however indirectly, does no IO.
	core kind = iota
	// query is core that stands on Prometheus' libraries, which reach the network themselves: only its own imports count.
	query
	// edge talks to the world, and knows no other edge.
	edge
	// join puts edges together.
	join
)

// room declares a package. A path that ends in "/..." stands for the package and all below it.
type room struct {
	path    string
	kind    kind
	imports []string // the rooms it may import, in the form of path; "..." for every room
}

// table declares packages; the first room that matches a package is its declaration.
type table []room

// rooms declares the packages of this module.
func rooms() table {
	return table{
		{"gpu", core, nil},
		{"gpu/nvml", edge, []string{"gpu"}},
		{"gpu/attribution", edge, []string{"gpu"}},
		{"gpu/cluster", edge, []string{"gpu"}},
		{"gpu/agent", edge, []string{"gpu", "api/gpus"}},
		{"gpu/nvmltest", edge, nil},

		{"adapter/metric", core, nil},
		{"adapter/store", query, []string{"adapter/metric"}},
		{"adapter/bound", query, nil},
		{"adapter/direct", query, []string{"adapter/metric", "adapter/store"}},
		{"adapter/rules", query, []string{"adapter/metric", "adapter/bound", "adapter/direct"}},
		{"adapter/profiles", query, []string{"adapter/metric", "adapter/rules"}},
		{"adapter/scrape", edge, []string{"adapter/metric"}},
		{"adapter/discovery", edge, []string{"adapter/metric"}},
		{"adapter/certs", edge, nil},
		{"adapter/apiserver", edge, []string{"adapter/metric", "api/query"}},
		{"adapter/promapi", edge, []string{"adapter/metric", "adapter/bound"}},
		{"adapter/rulewatch", edge, []string{"adapter/metric", "adapter/rules", "api/v1alpha1"}},

		{"api/query", core, nil},
		{"api/gpus", core, nil},
		{"api/v1alpha1", edge, nil},

		{"scaler", core, []string{"scaler/forecast"}},
		{"scaler/hpa", core, nil},
		{"scaler/forecast", core, nil},
		{"scaler/policy", edge, []string{"scaler", "api/v1alpha1"}},
		{"scaler/kube", edge, []string{"scaler", "scaler/forecast", "scaler/policy", "api/v1alpha1"}},
		{"scaler/simulate", core, []string{"scaler", "scaler/hpa", "scaler/kpa", "scaler/forecast"}},
		{"scaler/report", core, []string{"internal/svgplot"}},
		{"scaler/hpa/kube", edge, []string{"scaler/hpa"}},
		{"scaler/kpa", core, nil},

		{"recommender", core, nil},
		{"recommender/histogram", core, nil},
		{"recommender/vpa", core, []string{"recommender/histogram"}},
		{"recommender/accelerator", core, []string{"recommender"}},
		{"recommender/report", core, []string{"internal/svgplot"}},
		{"recommender/sources", edge, []string{"recommender", "recommender/accelerator", "api/query"}},
		{"recommender/kube", edge, []string{"recommender", "recommender/vpa", "recommender/histogram", "recommender/accelerator", "api/v1alpha1"}},

		{"rollout", core, nil},
		{"rollout/simulate", core, []string{"rollout"}},
		{"rollout/judge", core, nil},
		{"rollout/route", core, nil},
		{"rollout/traffic", edge, []string{"internal/managedfields", "rollout/route"}},
		{"rollout/placement", core, nil},
		{"rollout/placement/kube", edge, []string{"rollout/placement"}},
		{"rollout/workload", edge, []string{"internal/managedfields", "rollout", "api/v1alpha1"}},
		{"rollout/capacity", edge, []string{"rollout", "rollout/placement", "rollout/placement/kube", "api/v1alpha1"}},
		{"rollout/evidence", edge, []string{"rollout", "rollout/judge", "api/v1alpha1", "api/query"}},
		{"rollout/autoscaler", edge, []string{"rollout/workload", "api/v1alpha1"}},
		{"rollout/kube", edge, []string{"rollout", "rollout/route", "rollout/workload", "rollout/capacity", "rollout/evidence", "rollout/autoscaler", "api/v1alpha1"}},

		{"internal/managedfields", core, nil},
		{"internal/svgplot", core, nil},

		{"manifests/...", edge, nil},
		{"cmd/headroom-lab/...", join, []string{"..."}},
		// What runs in a cluster contains neither the lab nor a stand-in driver.
		{"cmd/...", join, []string{"gpu", "gpu/nvml", "gpu/attribution", "gpu/cluster", "gpu/agent", "adapter/...", "api/...", "scaler", "scaler/hpa", "scaler/hpa/kube", "scaler/kube", "scaler/policy", "scaler/simulate", "scaler/report", "recommender/...", "rollout", "rollout/judge", "rollout/route", "rollout/traffic", "rollout/workload", "rollout/capacity", "rollout/evidence", "rollout/autoscaler", "rollout/kube", "rollout/placement/kube", "manifests", "cmd/..."}},
		{"lab/...", join, []string{"..."}},
		{"bench/...", join, []string{"..."}},
	}
}

// linksNVML lists the packages that may contain go-nvml: the agent, and the lab, which plays the node it runs on.
func linksNVML() []string {
	return []string{"gpu/nvml", "cmd/headroom-agent/...", "cmd/headroom-lab/...", "lab/...", "bench/..."}
}

// forbidden says why core must not reach an import path, "" where it may.
func forbidden(path string) string {
	switch {
	case path == "net/http":
		return "HTTP lives at the edges"
	case path == "os/exec":
		return "decisions start no processes"
	case path == "testing":
		return "test code in a production binary"
	case within(path, "k8s.io/...") || within(path, "sigs.k8s.io/..."):
		return "Kubernetes lives at the edges"
	case within(path, nvml+"/..."):
		return "only gpu/nvml speaks NVML"
	}
	return ""
}

// within reports whether path is the pattern, or lies below it where the pattern ends in "/...".
func within(path, pattern string) bool {
	if pattern == "..." {
		return true
	}
	tree, ok := strings.CutSuffix(pattern, "/...")
	return path == tree || ok && strings.HasPrefix(path, tree+"/")
}

func withinAny(path string, patterns []string) bool {
	for _, pattern := range patterns {
		if within(path, pattern) {
			return true
		}
	}
	return false
}

// find returns the declaration of a package.
func (t table) find(path string) (room, bool) {
	for _, r := range t {
		if within(path, r.path) {
			return r, true
		}
	}
	return room{}, false
}
