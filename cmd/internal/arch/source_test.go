package arch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// root is the module's root as the tests of this package see it.
const root = "../../.."

// pkg is one folder of Go files, whatever build constraints they carry.
type pkg struct {
	path  string // relative to the module, "gpu/agent"; "." for its root
	files []file
}

type file struct {
	name      string // "nvml.go"
	pkgName   string
	test      bool
	generated bool
	comment   string // the package comment, "" for none
	imports   []string
	lines     int
	body      int // the lines from the package clause on
}

// load parses every Go file of the module at root. It leaves out nested modules, and the folders that the go command
// leaves out of "./...".
func load(root string) ([]pkg, error) {
	var packages []pkg
	err := filepath.WalkDir(root, func(dir string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		path, err := filepath.Rel(root, dir)
		if err != nil {
			return err
		}
		skip, err := outside(dir, path)
		if err != nil {
			return err
		}
		if skip {
			return filepath.SkipDir
		}
		files, err := loadFiles(dir)
		if len(files) > 0 {
			packages = append(packages, pkg{filepath.ToSlash(path), files})
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the module: %w", err)
	}
	return packages, nil
}

// outside reports whether the folder, path from the module's root, is no part of the module.
func outside(dir, path string) (bool, error) {
	if path == "." {
		return false, nil
	}
	name := filepath.Base(path)
	if name == "testdata" || name == "vendor" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return true, nil
	}
	switch _, err := os.Stat(filepath.Join(dir, "go.mod")); {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	default:
		return false, err
	}
}

func loadFiles(dir string) ([]file, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []file
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) != ".go" {
			continue
		}
		source, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		f, err := parse(entry.Name(), source)
		if err != nil {
			return nil, fmt.Errorf("cannot parse %s: %w", dir, err)
		}
		files = append(files, f)
	}
	return files, nil
}

func parse(name string, source []byte) (file, error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, name, source, parser.ParseComments|parser.ImportsOnly)
	if err != nil {
		return file{}, err
	}
	f := file{
		name:      name,
		pkgName:   tree.Name.Name,
		test:      strings.HasSuffix(name, "_test.go"),
		generated: ast.IsGenerated(tree),
		comment:   strings.TrimSpace(tree.Doc.Text()),
		lines:     bytes.Count(source, []byte("\n")),
	}
	f.body = f.lines - fset.Position(tree.Package).Line + 1
	for _, spec := range tree.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return file{}, err
		}
		f.imports = append(f.imports, path)
	}
	return f, nil
}

// graph holds what each package imports, by import path; test files do not count.
type graph map[string][]string

// importGraph asks the go command for the imports of the module's packages and of all that they reach.
func importGraph(ctx context.Context, root string) (graph, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-json=ImportPath,Imports", "./...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("cannot list the packages: %w: %s", err, stderr.Bytes())
	}
	return parseGraph(out)
}

func parseGraph(list []byte) (graph, error) {
	imports := graph{}
	for decoder := json.NewDecoder(bytes.NewReader(list)); ; {
		var listed struct {
			ImportPath string
			Imports    []string
		}
		switch err := decoder.Decode(&listed); {
		case errors.Is(err, io.EOF):
			return imports, nil
		case err != nil:
			return nil, fmt.Errorf("cannot read the list of packages: %w", err)
		}
		imports[listed.ImportPath] = listed.Imports
	}
}

// chain returns a shortest way of imports from a package to one that the condition accepts, both included; nil where
// there is none. It does not go on from a package that stop accepts.
func (g graph) chain(from string, accept, stop func(string) bool) []string {
	before := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if at != from && accept(at) {
			var way []string
			for ; at != ""; at = before[at] {
				way = append([]string{at}, way...)
			}
			return way
		}
		if stop(at) {
			continue
		}
		for _, next := range g[at] {
			if _, seen := before[next]; !seen {
				before[next] = at
				queue = append(queue, next)
			}
		}
	}
	return nil
}
