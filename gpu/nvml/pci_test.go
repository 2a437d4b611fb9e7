package nvml

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOnBus(t *testing.T) {
	root := t.TempDir()
	device := func(name, vendor, class string) {
		dir := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(dir, 0o750))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "vendor"), []byte(vendor+"\n"), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "class"), []byte(class+"\n"), 0o600))
	}
	has := func() bool {
		found, err := OnBus(root)
		require.NoError(t, err)
		return found
	}
	assert.False(t, has())
	device("0000:00:01.0", "0x8086", "0x030000") // Intel's graphics
	device("0000:00:02.0", "0x10de", "0x068000") // an NVSwitch
	require.NoError(t, os.Mkdir(filepath.Join(root, "0000:00:03.0"), 0o750))
	assert.False(t, has())
	device("0000:00:04.0", "0x10de", "0x030200")
	assert.True(t, has())
	_, err := OnBus(filepath.Join(root, "missing"))
	require.ErrorContains(t, err, "cannot list PCI devices")
}
