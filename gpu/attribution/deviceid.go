package attribution

import (
	"fmt"
	"strconv"
	"strings"
)

// uuidLength is that of 123e4567-e89b-12d3-a456-426614174000.
const uuidLength = 36

// DeviceID is an ID that a device plugin gave the kubelet.
type DeviceID struct {
	UUID string // "GPU-…", "MIG-…", or what a plugin uses instead: GKE's "nvidia0" and "nvidia0/gi1", for its MIG instance 1
	// Replica counts from 0 where the plugin advertises a device several times (time-slicing, MPS); -1 where it does not.
	Replica int
}

// ParseDeviceID reads the IDs of NVIDIA's plugin, "UUID" and "UUID::REPLICA"; of GKE's, "nvidia0", "nvidia0/gi1",
// "nvidia0/vgpuREPLICA" and "nvidia0/gi1/vgpuREPLICA"; and of HAMi's, "GPU-UUID-REPLICA". Any other text is a UUID as a
// whole, such as the "MIG-GPU-UUID/GI/CI" of drivers before 470. It errs on an empty UUID, on a replica that is no decimal
// number below 2³¹, and on two replicas in one ID.
func ParseDeviceID(id string) (DeviceID, error) {
	uuid, replica, replicated := strings.Cut(id, "::")
	if uuid == "" {
		return DeviceID{}, fmt.Errorf("device ID %q has no UUID", id)
	}
	if device, own, has := cutOwnReplica(uuid); has {
		if replicated {
			return DeviceID{}, fmt.Errorf("device ID %q has two replicas", id)
		}
		uuid, replica, replicated = device, own, true
	}
	if !replicated {
		return DeviceID{UUID: uuid, Replica: -1}, nil
	}
	n, err := strconv.ParseUint(replica, 10, 31)
	if err != nil {
		return DeviceID{}, fmt.Errorf("device ID %q: replica is no number: %w", id, err)
	}
	return DeviceID{UUID: uuid, Replica: int(n)}, nil
}

// cutOwnReplica splits the IDs of the plugins that have their own way to write a replica.
func cutOwnReplica(id string) (device, replica string, has bool) {
	if strings.HasPrefix(id, "nvidia") {
		return strings.Cut(id, "/vgpu")
	}
	const end = len("GPU-") + uuidLength
	if strings.HasPrefix(id, "GPU-") && len(id) > end && id[end] == '-' && isUUID(id[len("GPU-"):end], '-') {
		return id[:end], id[end+1:], true
	}
	return id, "", false
}

// String returns the ID as NVIDIA's plugin writes it, whichever plugin's it is; ParseDeviceID reads it.
func (id DeviceID) String() string {
	if id.Replica < 0 {
		return id.UUID
	}
	return id.UUID + "::" + strconv.Itoa(id.Replica)
}

// isUUID says whether text is 36 characters of lower-case hexadecimal digits in groups of 8, 4, 4, 4 and 12, with separator
// between them.
func isUUID[T string | []byte](text T, separator byte) bool {
	if len(text) != uuidLength {
		return false
	}
	for i := range len(text) {
		switch i {
		case 8, 13, 18, 23:
			if text[i] != separator {
				return false
			}
		default:
			if !isHex(text[i]) {
				return false
			}
		}
	}
	return true
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' }
