// Package arch checks the module as a whole: that its packages import each other only in the declared directions, that
// decisions stay free of IO, that only the agent links NVML, that every package says what it is for, and that files
// stay short.
//
// A new package fails TestRooms until rooms_test.go declares it with its kind and its imports. It holds tests only, and
// lives under cmd because cmd is where everything is joined: no other package may know the whole.
//
// What golangci-lint sees in one file (globals, init, direct imports in an editor) is left to it. Nested modules are
// their own business.
package arch

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRooms(t *testing.T) { report(t, checkRooms(rooms(), repository(t))) }

func TestImports(t *testing.T) { report(t, checkImports(rooms(), repository(t))) }

func TestReach(t *testing.T) {
	// Reading the sources first makes them inputs of the test: without it the cached result would outlive a change.
	packages := repository(t)
	imports, err := importGraph(t.Context(), root)
	require.NoError(t, err)
	report(t, checkReach(rooms(), packages, imports))
	report(t, checkNVML(packages, imports))
}

func TestPackageComments(t *testing.T) { report(t, checkComments(repository(t))) }

func TestSizes(t *testing.T) { report(t, checkSizes(repository(t))) }

func repository(t *testing.T) []pkg {
	t.Helper()
	packages, err := load(root)
	require.NoError(t, err)
	require.Greater(t, len(packages), 1, "the module's packages are not where they are looked for")
	return packages
}

func report(t *testing.T, violations []string) {
	t.Helper()
	for _, violation := range violations {
		t.Error(violation)
	}
}
