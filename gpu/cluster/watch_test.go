package cluster

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNotListedYet(t *testing.T) {
	n, err := New(Options{Config: newAPIServer(t).config(), Node: "node-1"})
	require.NoError(t, err)
	assert.Equal(t, []string{
		"cannot watch pods: not listed yet", "cannot watch the node: not listed yet", "cannot watch ResourceSlices: not listed yet",
	}, n.Problems())
}

func TestTheServerIsAwayAtFirst(t *testing.T) {
	s := newAPIServer(t)
	s.stop()
	s.put(podsPath, aPod("a", "main!"))
	n := s.run()
	eventually(t, func() bool {
		problems := n.Problems()
		return len(problems) == 3 && strings.HasPrefix(problems[0], "cannot watch pods: ") && strings.Contains(problems[0], "connection refused")
	})
	_, ok := n.Container("uid-a", "id-main")
	assert.False(t, ok)
	s.start()
	n.works(t)
	n.owns(t, "uid-a", "id-main", owner("a", "main"))
	assert.Equal(t, 3, n.log.count("cannot watch"))
	assert.Equal(t, 3, n.log.count("the watch works again"))
}

func TestRunEndsWhileTheServerIsAway(t *testing.T) {
	s := newAPIServer(t)
	s.stop()
	n := s.run()
	for _, w := range n.watches {
		eventually(t, func() bool { return !strings.HasSuffix(w.trouble(), "not listed yet") })
	}
	n.stop()
}

// TestTheServerGoesAway wants what was known to stay, and the watch to go on where it ended.
func TestTheServerGoesAway(t *testing.T) {
	s := newAPIServer(t)
	s.put(podsPath, aPod("a", "main!"))
	s.put(podsPath, aPod("b", "main!"))
	n := s.run()
	n.works(t)
	watches, lists := s.count(podsPath+" watch"), s.count(podsPath+" list")
	s.stop()
	eventually(t, func() bool { return len(n.Problems()) == 3 })
	n.owns(t, "uid-a", "id-main", owner("a", "main"))
	s.remove(podsPath, aPod("a", "main!"))
	s.put(podsPath, aPod("c", "main!"))
	s.start()
	n.works(t)
	n.owns(t, "uid-c", "id-main", owner("c", "main"))
	n.owns(t, "uid-b", "id-main", owner("b", "main"))
	n.ownsNot(t, "uid-a", "id-main")
	assert.Greater(t, s.count(podsPath+" watch"), watches)
	assert.Equal(t, lists, s.count(podsPath+" list"))
}

// TestTheConnectionIsCut wants a server that answers nothing to count as away: client-go calls that a watch without events.
func TestTheConnectionIsCut(t *testing.T) {
	s := newAPIServer(t)
	s.put(podsPath, aPod("a", "main!"))
	n := s.run()
	n.works(t)
	s.with(true, func() { s.faults[podsPath] = -1 })
	eventually(t, func() bool { return s.count(podsPath) >= 10 && len(n.Problems()) == 1 })
	assert.Equal(t, 1, n.log.count("\n"))
	n.owns(t, "uid-a", "id-main", owner("a", "main"))
	s.with(false, func() { delete(s.faults, podsPath) })
	n.works(t)
}

func TestWatchesEnd(t *testing.T) {
	s := newAPIServer(t)
	s.put(podsPath, aPod("a", "main!"))
	n := s.run()
	n.works(t)
	for _, name := range []string{"b", "c", "d"} {
		s.with(true, func() {})
		s.put(podsPath, aPod(name, "main!"))
		n.owns(t, "uid-"+name, "id-main", owner(name, "main"))
	}
	n.works(t)
	assert.Zero(t, n.log.count("\n"), "this is how watches end")
}

func TestGone(t *testing.T) {
	for _, noLists := range []bool{false, true} {
		s := newAPIServer(t)
		s.noLists = noLists
		s.put(podsPath, aPod("a", "main!"))
		n := s.run()
		n.works(t)
		n.owns(t, "uid-a", "id-main", owner("a", "main"))
		s.remove(podsPath, aPod("a", "main!"))
		s.with(true, func() { s.oldest = 1000 }) // what is listed now is old, too
		eventually(t, func() bool { return s.count(podsPath+" watch") >= 3 })
		s.put(podsPath, aPod("b", "main!"))
		s.with(false, func() { s.oldest = 0 })
		n.owns(t, "uid-b", "id-main", owner("b", "main"))
		n.ownsNot(t, "uid-a", "id-main")
		n.works(t)
	}
}

// TestWatchingIsForbidden is an account that may list and not watch: what is listed is known, and the trouble is said once.
func TestWatchingIsForbidden(t *testing.T) {
	s := newAPIServer(t)
	s.faults[podsPath+" watch"] = http.StatusForbidden
	s.put(podsPath, aPod("a", "main!"))
	n := s.run()
	n.owns(t, "uid-a", "id-main", owner("a", "main"))
	eventually(t, func() bool { return s.count(podsPath+" list") >= 5 && len(n.Problems()) == 1 })
	assert.Equal(t, []string{"cannot watch pods: it said 403"}, n.Problems())
	assert.Equal(t, 1, n.log.count("\n"))
}

func TestTheServerIsBusy(t *testing.T) {
	for _, code := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusInternalServerError} {
		s := newAPIServer(t)
		s.put(podsPath, aPod("a", "main!"))
		s.faults[podsPath] = code
		n := s.run()
		eventually(t, func() bool { return s.count(podsPath) >= 4 && len(n.Problems()) == 1 })
		assert.Contains(t, n.Problems()[0], "it said")
		s.with(false, func() { delete(s.faults, podsPath) })
		n.works(t)
		n.owns(t, "uid-a", "id-main", owner("a", "main"))
	}
}
