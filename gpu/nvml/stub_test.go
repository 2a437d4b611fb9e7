//go:build !linux || !cgo

package nvml

import (
	"testing"

	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/gpu"
)

func TestStubSaysWhy(t *testing.T) {
	d := Open(Options{})
	err := d.Read(t.Context(), &gpu.Reading{})
	require.ErrorIs(t, err, ErrNoDriver)
	require.NoError(t, d.Close(t.Context()))
}
