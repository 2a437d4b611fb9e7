package arch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The tests here show that each check can fail.

// toy declares a module that has one room of each kind.
func toy() table {
	return table{
		{"gpu", core, nil},
		{"gpu/agent", edge, []string{"gpu"}},
		{"adapter/store", query, []string{"adapter/metric"}},
		{"cmd/lab", join, []string{"..."}},
		{"cmd/...", join, []string{"gpu/...", "cmd/..."}},
		{"lab/...", join, []string{"..."}},
	}
}

func TestCheckRooms(t *testing.T) {
	whole := []pkg{{path: "gpu"}, {path: "gpu/agent"}, {path: "adapter/store"}, {path: "cmd/lab"}, {path: "cmd/a/b"}, {path: "lab"}}
	assert.Empty(t, checkRooms(toy(), whole))
	assert.Equal(t, []string{"gpu/new is not declared in rooms_test.go: give it a kind and the rooms it may import"},
		checkRooms(toy(), append(whole, pkg{path: "gpu/new"})))
	assert.Equal(t, []string{"rooms_test.go declares gpu, which does not exist"}, checkRooms(toy(), whole[1:]))
}

func TestCheckImports(t *testing.T) {
	f := func(path, source string, violations ...string) {
		t.Helper()
		assert.Equal(t, violations, checkImports(toy(), []pkg{{path, []file{parsed(t, "x.go", source)}}}))
	}
	f("gpu/agent", `package agent; import "headroom.dev/headroom/gpu"`)
	f("lab/demo", `package demo; import "headroom.dev/headroom/gpu/agent"`)
	f("cmd/agent", `package main; import "headroom.dev/headroom/gpu/agent"`)
	f("cmd/lab", `package main; import "headroom.dev/headroom/lab"`)

	f("gpu", `package gpu; import "headroom.dev/headroom/gpu/agent"`,
		`gpu/x.go imports gpu/agent, and may import []`)
	f("gpu/agent", `package agent; import "headroom.dev/headroom/adapter/store"`,
		`gpu/agent/x.go imports adapter/store, and may import ["gpu"]`)
	f("adapter/store", "//go:build windows\n\npackage store; import \"headroom.dev/headroom/gpu\"",
		`adapter/store/x.go imports gpu, and may import ["adapter/metric"]`)
	f("cmd/agent", `package main; import "headroom.dev/headroom/lab"`,
		`cmd/agent/x.go imports lab, and may import ["gpu/..." "cmd/..."]`)

	assert.Empty(t, checkImports(toy(), []pkg{{"gpu/agent", []file{
		parsed(t, "x_test.go", `package agent; import "headroom.dev/headroom/lab"`),
	}}}), "tests may join what they test")
}

func TestCheckReach(t *testing.T) {
	f := func(path string, imports graph, violations ...string) {
		t.Helper()
		assert.Equal(t, violations, checkReach(toy(), []pkg{{path: path}}, imports))
	}
	const us = module + "/"
	f("gpu", graph{us + "gpu": {"fmt"}, "fmt": {"os"}})
	f("gpu", graph{us + "gpu": {"a"}, "a": {"b", "c"}, "b": {"a"}, "c": {"net/http"}},
		"HTTP lives at the edges: headroom.dev/headroom/gpu → a → c → net/http")
	f("gpu", graph{us + "gpu": {"os/exec"}}, "decisions start no processes: headroom.dev/headroom/gpu → os/exec")
	f("gpu", graph{us + "gpu": {"testing"}}, "test code in a production binary: headroom.dev/headroom/gpu → testing")
	f("gpu", graph{us + "gpu": {"k8s.io/api/core/v1"}}, "Kubernetes lives at the edges: headroom.dev/headroom/gpu → k8s.io/api/core/v1")
	f("gpu", graph{us + "gpu": {"sigs.k8s.io/yaml"}}, "Kubernetes lives at the edges: headroom.dev/headroom/gpu → sigs.k8s.io/yaml")
	f("gpu", graph{us + "gpu": {nvml + "/pkg/nvml"}},
		"only gpu/nvml speaks NVML: headroom.dev/headroom/gpu → github.com/NVIDIA/go-nvml/pkg/nvml")

	f("adapter/store", graph{us + "adapter/store": {"prometheus"}, "prometheus": {"net/http"}})
	f("adapter/store", graph{us + "adapter/store": {"net/http"}},
		"HTTP lives at the edges: headroom.dev/headroom/adapter/store → net/http")

	f("gpu/agent", graph{us + "gpu/agent": {"net/http", "k8s.io/api/core/v1"}})
	f("undeclared", graph{us + "undeclared": {"net/http"}})

	f("cmd/agent", graph{us + "cmd/agent": {"net/http"}})
	f("cmd/agent", graph{us + "cmd/agent": {"a"}, "a": {"testing"}},
		"test code in a production binary: headroom.dev/headroom/cmd/agent → a → testing")
}

func TestCheckNVML(t *testing.T) {
	f := func(path string, imports graph, violations ...string) {
		t.Helper()
		assert.Equal(t, violations, checkNVML([]pkg{{path: path}}, imports))
	}
	const us, theirs = module + "/", nvml + "/pkg/nvml"
	f("gpu/nvml", graph{us + "gpu/nvml": {theirs}})
	f("cmd/headroom-agent", graph{us + "cmd/headroom-agent": {us + "gpu/nvml"}, us + "gpu/nvml": {theirs}})
	f("cmd/headroom-agent", graph{us + "cmd/headroom-agent": {theirs}},
		"go-nvml other than through gpu/nvml: headroom.dev/headroom/cmd/headroom-agent → "+theirs)
	f("cmd/headroom-adapter", graph{us + "cmd/headroom-adapter": {us + "gpu/nvml"}, us + "gpu/nvml": {theirs}},
		"only the agent and the lab link go-nvml: headroom.dev/headroom/cmd/headroom-adapter → headroom.dev/headroom/gpu/nvml → "+theirs)
	f("cmd/headroom-adapter", graph{us + "cmd/headroom-adapter": {"net/http"}})
}

func TestCheckComments(t *testing.T) {
	f := func(files []file, violations ...string) {
		t.Helper()
		assert.Equal(t, violations, checkComments([]pkg{{"gpu/agent", files}}))
	}
	named := parsed(t, "agent.go", "// Package agent ticks.\npackage agent")
	bare := parsed(t, "loop.go", "//go:build linux\n\npackage agent")
	test := parsed(t, "agent_test.go", "// Package agent_test lies.\npackage agent_test")
	f([]file{named, bare, test})
	f([]file{bare, test}, "gpu/agent has 0 package comments instead of one")
	f([]file{named, named}, "gpu/agent has 2 package comments instead of one")
	f([]file{parsed(t, "agent.go", "// The agent ticks.\npackage agent")},
		`the package comment of gpu/agent does not start with "Package agent "`)
	f([]file{parsed(t, "agent.go", "// Package agents ticks.\npackage agent")},
		`the package comment of gpu/agent does not start with "Package agent "`)
	f([]file{parsed(t, "main.go", "// Command agent ticks.\npackage main")})
	f([]file{parsed(t, "main.go", "// Package main ticks.\npackage main")},
		`the package comment of gpu/agent does not start with "Command agent "`)
	f([]file{test})
	f([]file{parsed(t, "agent_test.go", "package agent")}, "gpu/agent has 0 package comments instead of one")
}

func TestCheckSizes(t *testing.T) {
	f := func(path string, files []file, violations ...string) {
		t.Helper()
		assert.Equal(t, violations, checkSizes([]pkg{{path, files}}))
	}
	long := func(name, head string, lines int) file {
		return parsed(t, name, head+strings.Repeat("\n", lines-strings.Count(head, "\n")))
	}
	f("gpu", []file{long("gpu.go", "package gpu", 450), long("gpu_test.go", "package gpu", 451)})
	f("gpu", []file{long("gpu.go", "package gpu", 451)}, "gpu/gpu.go has 451 lines, at most 450")
	f("gpu", []file{long("gpu.go", "// Code generated by x. DO NOT EDIT.\n\npackage gpu", 451)})

	f("cmd/x", []file{long("main.go", "// Command x\n// does much.\npackage main", 42)})
	f("cmd/x", []file{long("main.go", "package main", 40), long("more.go", "package main", 1)},
		"cmd/x has 41 lines, at most 40: a command leaves the work to packages")
	f("bench/loop", []file{long("main.go", "package main", 41)})
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	for name, source := range map[string]string{
		"go.mod":                  "module x",
		"a/a.go":                  "// Package a is one.\npackage a\n\nimport (\n\t\"fmt\"\n\tm \"math\"\n)\n",
		"a/a_test.go":             "package a\n",
		"a/testdata/bad.go":       "not Go",
		"nested/go.mod":           "module y",
		"nested/bad.go":           "not Go",
		".hidden/bad.go":          "not Go",
		"_hidden/bad.go":          "not Go",
		"vendor/example.com/b.go": "not Go",
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(source), 0o644))
	}
	packages, err := load(dir)
	require.NoError(t, err)
	assert.Equal(t, []pkg{{"a", []file{
		{name: "a.go", pkgName: "a", comment: "Package a is one.", imports: []string{"fmt", "math"}, lines: 7, body: 6},
		{name: "a_test.go", pkgName: "a", test: true, lines: 1, body: 1},
	}}}, packages)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "a", "bad.go"), []byte("not Go"), 0o644))
	_, err = load(dir)
	require.ErrorContains(t, err, "bad.go")
}

func TestParseGraph(t *testing.T) {
	imports, err := parseGraph([]byte(`{"ImportPath": "a", "Imports": ["b", "c"]} {"ImportPath": "b"}`))
	require.NoError(t, err)
	assert.Equal(t, graph{"a": {"b", "c"}, "b": nil}, imports)
	_, err = parseGraph([]byte(`{"ImportPath": "a", `))
	require.Error(t, err)
}

func parsed(t *testing.T, name, source string) file {
	t.Helper()
	f, err := parse(name, []byte(source))
	require.NoError(t, err)
	return f
}
