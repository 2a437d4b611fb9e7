package kubelet

import (
	"fmt"
	"net/netip"
	"sync"
)

// addresses hands out the addresses of a block, each to one pod at a time. It goes round, so that an address rests as
// long as possible before its next pod: a client with a stale list meets nobody rather than somebody else.
type addresses struct {
	block netip.Prefix

	mu   sync.Mutex
	last netip.Addr
	used map[netip.Addr]bool
}

// newAddresses makes a pool of a block's addresses but the first two, the network's and the control plane's, and the last.
func newAddresses(block netip.Prefix) *addresses {
	return &addresses{block: block.Masked(), last: first(block).Prev(), used: map[netip.Addr]bool{}}
}

func first(block netip.Prefix) netip.Addr { return block.Masked().Addr().Next().Next() }

func (a *addresses) take() (netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	start := a.last
	for next := a.following(start); ; next = a.following(next) {
		if !a.used[next] {
			a.last, a.used[next] = next, true
			return next, nil
		}
		if next == start {
			return netip.Addr{}, fmt.Errorf("all %d pod addresses of %s are in use", len(a.used), a.block)
		}
	}
}

// following returns the next address of the block, going round at its end. The last address has no next one in the block.
func (a *addresses) following(x netip.Addr) netip.Addr {
	next := x.Next()
	if !a.block.Contains(next.Next()) {
		return first(a.block)
	}
	return next
}

func (a *addresses) release(x netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.used, x)
}
