//go:build !linux || !cgo

package nvml

import (
	"context"

	"headroom.dev/headroom/gpu"
)

// Driver stands in for the reader where there can be none.
type Driver struct{}

// Open returns a Driver whose Read returns ErrNoDriver.
func Open(Options) *Driver { return &Driver{} }

// Read returns ErrNoDriver.
func (*Driver) Read(context.Context, *gpu.Reading) error { return ErrNoDriver }

// Release does nothing.
func (*Driver) Release(context.Context) error { return nil }

// Close does nothing.
func (*Driver) Close(context.Context) error { return nil }
