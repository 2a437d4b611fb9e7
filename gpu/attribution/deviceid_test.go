package attribution

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	gpuUUID = "GPU-1cb8edae-82f3-6a6f-1c76-a25281b02033"
	migUUID = "MIG-4404041a-04cf-5ccf-9e70-f139a9b1e23c"
)

func TestParseDeviceID(t *testing.T) {
	for text, want := range map[string]DeviceID{
		gpuUUID:                       {gpuUUID, -1},
		gpuUUID + "::0":               {gpuUUID, 0},
		gpuUUID + "::2147483647":      {gpuUUID, 1<<31 - 1},
		migUUID:                       {migUUID, -1},
		migUUID + "::3":               {migUUID, 3},
		"MIG-" + gpuUUID + "/7/0":     {"MIG-" + gpuUUID + "/7/0", -1},
		"MIG-" + gpuUUID + "/7/0::1":  {"MIG-" + gpuUUID + "/7/0", 1},
		"nvidia0":                     {"nvidia0", -1},
		"nvidia10/gi1":                {"nvidia10/gi1", -1},
		"nvidia0/vgpu2":               {"nvidia0", 2},
		"nvidia0/gi1/vgpu12":          {"nvidia0/gi1", 12},
		gpuUUID + "-9":                {gpuUUID, 9}, // HAMi
		gpuUUID + "/1":                {gpuUUID + "/1", -1},
		"GPU-short-9":                 {"GPU-short-9", -1},
		"amd-1cb8edae-82f3-6a6f-1c76": {"amd-1cb8edae-82f3-6a6f-1c76", -1},
	} {
		id, err := ParseDeviceID(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, id, text)
	}
	for text, want := range map[string]string{
		"":                     `device ID "" has no UUID`,
		"::3":                  `device ID "::3" has no UUID`,
		"GPU-x::many":          `device ID "GPU-x::many": replica is no number: strconv.ParseUint: parsing "many": invalid syntax`,
		"GPU-x::2147483648":    `device ID "GPU-x::2147483648": replica is no number: strconv.ParseUint: parsing "2147483648": value out of range`,
		"GPU-x::1::2":          `device ID "GPU-x::1::2": replica is no number: strconv.ParseUint: parsing "1::2": invalid syntax`,
		"nvidia0/vgpu":         `device ID "nvidia0/vgpu": replica is no number: strconv.ParseUint: parsing "": invalid syntax`,
		"nvidia0/vgpu1/vgpu2":  `device ID "nvidia0/vgpu1/vgpu2": replica is no number: strconv.ParseUint: parsing "1/vgpu2": invalid syntax`,
		"nvidia0/gi1/vgpu2::1": `device ID "nvidia0/gi1/vgpu2::1" has two replicas`,
		gpuUUID + "-1::2":      `device ID "` + gpuUUID + `-1::2" has two replicas`,
		gpuUUID + "-":          `device ID "` + gpuUUID + `-": replica is no number: strconv.ParseUint: parsing "": invalid syntax`,
	} {
		id, err := ParseDeviceID(text)
		require.EqualError(t, err, want)
		assert.Equal(t, DeviceID{}, id, text)
	}
}

func FuzzParseDeviceID(f *testing.F) {
	for _, id := range []string{
		"", "GPU-x", "GPU-x::0", "GPU-x::2147483648", "GPU-x::-1", "::", "a::b::c", "GPU-x::+1", "GPU-x::01",
		"nvidia0", "nvidia0/gi1", "nvidia0/gi1/vgpu2", "nvidia0/vgpu2::1", "nvidia/vgpu0/vgpu1",
		gpuUUID + "-7", gpuUUID + "-7-8", gpuUUID + "-", "MIG-" + gpuUUID + "/7/0", migUUID + "::3",
	} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseDeviceID(text)
		if err != nil {
			require.Equal(t, DeviceID{}, id)
			return
		}
		require.NotEmpty(t, id.UUID)
		require.NotContains(t, id.UUID, "::")
		again, err := ParseDeviceID(id.String())
		require.NoError(t, err)
		require.Equal(t, id, again)
		if id.Replica < 0 {
			require.Equal(t, text, id.UUID, "a whole device is named as the plugin does")
		}
	})
}
