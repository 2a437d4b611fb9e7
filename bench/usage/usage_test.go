package usage

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOf(t *testing.T) {
	before, err := Of(os.Getpid())
	require.NoError(t, err)
	for began := time.Now(); time.Since(began) < 30*time.Millisecond; { // busy
	}
	after, err := Of(os.Getpid())
	require.NoError(t, err)
	assert.GreaterOrEqual(t, after.CPU-before.CPU, 10*time.Millisecond)
	assert.Less(t, after.CPU-before.CPU, 10*time.Second)
	assert.Greater(t, after.RSS, 1e6)
	assert.GreaterOrEqual(t, after.Peak, after.RSS)
	twice, err := Of(os.Getpid(), os.Getpid())
	require.NoError(t, err)
	assert.Greater(t, twice.RSS, 1.5*after.RSS)
	_, err = Of(os.Getpid(), 1<<21)
	require.ErrorContains(t, err, "cannot read what process 2097152 has used")
}

func TestParse(t *testing.T) {
	peak, err := parse([]byte("Name:\tx\nVmPeak:\t  99 kB\nVmHWM:\t  2048 kB\nVmRSS:\t 1 kB\n"), "VmHWM:")
	require.NoError(t, err)
	assert.InDelta(t, 2048*1024, peak, 0)
	_, err = parse([]byte("Name:\tx\n"), "VmHWM:")
	require.ErrorContains(t, err, "no VmHWM: in a process status of 8 bytes")
	_, err = parse([]byte("VmHWM: many kB\n"), "VmHWM:")
	require.ErrorContains(t, err, "VmHWM:")
}
