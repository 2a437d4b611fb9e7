//go:build !linux || !cgo

package nvml

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStubSaysWhy(t *testing.T) {
	d := Open(Options{})
	_, err := d.Read(t.Context())
	require.ErrorIs(t, err, ErrNoDriver)
	require.NoError(t, d.Close(t.Context()))
}
