package arch

import (
	"fmt"
	"strings"
)

const (
	maxFileLines = 450 // hand-written, not a test
	maxMainLines = 40  // a command's, from the package clause on
)

// The checks return one sentence for each violation.

// checkRooms wants every package declared and every declaration used.
func checkRooms(rooms table, packages []pkg) []string {
	var violations []string
	used := map[string]bool{}
	for _, p := range packages {
		if r, ok := rooms.find(p.path); ok {
			used[r.path] = true
		} else {
			violations = append(violations, p.path+" is not declared in rooms_test.go: give it a kind and the rooms it may import")
		}
	}
	for _, r := range rooms {
		if !used[r.path] {
			violations = append(violations, "rooms_test.go declares "+r.path+", which does not exist")
		}
	}
	return violations
}

// checkImports wants packages to import only the rooms that their declaration lists, whatever a file's build
// constraints. Tests may join what they test.
func checkImports(rooms table, packages []pkg) []string {
	var violations []string
	for _, p := range packages {
		r, ok := rooms.find(p.path)
		if !ok {
			continue // checkRooms says so
		}
		for _, f := range p.files {
			if f.test {
				continue
			}
			for _, imported := range f.imports {
				target, ours := strings.CutPrefix(imported, module+"/")
				if ours && !withinAny(target, r.imports) {
					violations = append(violations, fmt.Sprintf("%s/%s imports %s, and may import %q", p.path, f.name, target, r.imports))
				}
			}
		}
	}
	return violations
}

// checkReach wants core to be free of IO, and no command to contain test code.
func checkReach(rooms table, packages []pkg, imports graph) []string {
	var violations []string
	for _, p := range packages {
		from := module + "/" + p.path
		var why func(string) string
		var stop func(string) bool
		switch r, ok := rooms.find(p.path); {
		case !ok:
			continue // checkRooms says so
		case r.kind == core:
			why, stop = forbidden, never
		case r.kind == query:
			why, stop = forbidden, func(path string) bool { return path != from }
		case within(p.path, "cmd/..."):
			why, stop = testCode, never
		default:
			continue
		}
		if way := imports.chain(from, func(path string) bool { return why(path) != "" }, stop); way != nil {
			violations = append(violations, why(way[len(way)-1])+": "+strings.Join(way, " → "))
		}
	}
	return violations
}

func testCode(path string) string {
	if path != "testing" {
		return ""
	}
	return forbidden(path)
}

// checkNVML wants every way to go-nvml to lead through gpu/nvml, and only the agent and the lab to have one.
func checkNVML(packages []pkg, imports graph) []string {
	isNVML := func(path string) bool { return within(path, nvml+"/...") }
	isOurs := func(path string) bool { return path == module+"/gpu/nvml" }
	var violations []string
	for _, p := range packages {
		from := module + "/" + p.path
		if way := imports.chain(from, isNVML, isOurs); way != nil {
			violations = append(violations, "go-nvml other than through gpu/nvml: "+strings.Join(way, " → "))
		}
		if withinAny(p.path, linksNVML()) {
			continue
		}
		if way := imports.chain(from, isNVML, never); way != nil {
			violations = append(violations, "only the agent and the lab link go-nvml: "+strings.Join(way, " → "))
		}
	}
	return violations
}

func never(string) bool { return false }

// checkComments wants one package comment in each package, "Package x …" or "Command x …". A package that has only
// tests carries it in one of them.
func checkComments(packages []pkg) []string {
	var violations []string
	for _, p := range packages {
		testsOnly := true
		for _, f := range p.files {
			testsOnly = testsOnly && f.test
		}
		var name string
		var comments []string
		for _, f := range p.files {
			if f.test && !testsOnly {
				continue
			}
			name = f.pkgName
			if f.comment != "" {
				comments = append(comments, f.comment)
			}
		}
		start := "Package " + name + " "
		if name == "main" {
			start = "Command " + p.path[strings.LastIndex(p.path, "/")+1:] + " "
		}
		switch {
		case len(comments) != 1:
			violations = append(violations, fmt.Sprintf("%s has %d package comments instead of one", p.path, len(comments)))
		case !strings.HasPrefix(comments[0], start):
			violations = append(violations, fmt.Sprintf("the package comment of %s does not start with %q", p.path, start))
		}
	}
	return violations
}

// checkSizes wants short files, and commands that leave the work to packages.
func checkSizes(packages []pkg) []string {
	var violations []string
	for _, p := range packages {
		var mainLines int
		for _, f := range p.files {
			if f.test || f.generated {
				continue
			}
			if f.lines > maxFileLines {
				violations = append(violations, fmt.Sprintf("%s/%s has %d lines, at most %d", p.path, f.name, f.lines, maxFileLines))
			}
			if f.pkgName == "main" && within(p.path, "cmd/...") {
				mainLines += f.body
			}
		}
		if mainLines > maxMainLines {
			violations = append(violations, fmt.Sprintf("%s has %d lines, at most %d: a command leaves the work to packages", p.path, mainLines, maxMainLines))
		}
	}
	return violations
}
