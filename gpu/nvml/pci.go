package nvml

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// PCIDevices is where Linux lists the devices of the PCI bus, for containers too.
const PCIDevices = "/sys/bus/pci/devices"

// OnBus reports whether an NVIDIA GPU is on the PCI bus that root lists: on a node where there is none, a driver that
// does not load is no fault. GPUs are display controllers (class 03) of vendor 10de; NVIDIA's NVSwitches and network
// cards are of other classes.
func OnBus(root string) (bool, error) {
	devices, err := os.ReadDir(root)
	if err != nil {
		return false, fmt.Errorf("cannot list PCI devices: %w", err)
	}
	for _, d := range devices {
		vendor, err := os.ReadFile(filepath.Join(root, d.Name(), "vendor")) //nolint:gosec // of sysfs
		if err != nil || strings.TrimSpace(string(vendor)) != "0x10de" {
			continue // unplugged meanwhile, or another's
		}
		class, err := os.ReadFile(filepath.Join(root, d.Name(), "class")) //nolint:gosec // of sysfs
		if err == nil && strings.HasPrefix(string(class), "0x03") {
			return true, nil
		}
	}
	return false, nil
}
