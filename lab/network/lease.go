// Package network is what a machine without a container network lacks: a block of loopback addresses that belongs to one
// lab alone, and the way from the API server into ClusterIP Services.
package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

const (
	// blocks of /19 in 127.1.0.0/16: eight labs side by side, each with an address for itself and 8,189 pods.
	blockBits = 19
	// leasePort is bound on a block's first address for as long as the lab lives. A socket is a lease that the kernel
	// ends with its process, however that ends; nothing needs cleaning up.
	leasePort = 19999
)

// Lease is a block of loopback addresses.
type Lease struct {
	Address netip.Addr   // for the control plane
	Pods    netip.Prefix // the whole block; pods start after Address
	socket  net.Listener
}

// Acquire takes the first free block. Errors: all are taken, or loopback addresses other than 127.0.0.1 cannot be bound.
func Acquire(ctx context.Context) (*Lease, error) {
	var config net.ListenConfig
	root := netip.MustParsePrefix("127.1.0.0/16")
	for n := range 1 << (blockBits - root.Bits()) {
		a := root.Addr().As4()
		a[2] = byte(n << (24 - blockBits))
		block := netip.PrefixFrom(netip.AddrFrom4(a), blockBits)
		address := block.Addr().Next()
		socket, err := config.Listen(ctx, "tcp", netip.AddrPortFrom(address, leasePort).String())
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot lease loopback addresses in %s: %w", block, err)
		}
		return &Lease{Address: address, Pods: block, socket: socket}, nil
	}
	return nil, fmt.Errorf("cannot lease loopback addresses: all %d blocks of %s are in use by other labs", 1<<(blockBits-root.Bits()), root)
}

// Release gives the block back.
func (l *Lease) Release() error { return l.socket.Close() }
