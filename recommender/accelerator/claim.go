package accelerator

import (
	"fmt"
	"strconv"
	"strings"
)

// The device classes, and the driver, of NVIDIA's DRA driver (NVIDIA/k8s-dra-driver-gpu); the driver's name is the domain of its
// devices' attributes.
const (
	wholeClass = "gpu.nvidia.com"
	migClass   = "mig.nvidia.com"
	driver     = "gpu.nvidia.com"
)

// Claim is the spec of a ResourceClaim (resource.k8s.io/v1) for some devices of a size.
type Claim struct {
	// Product is the model as the driver names it.
	Product string
	Size    Size
	Count   int
	// Need is the memory in bytes that a device must have at least; 0 for none.
	Need int64
	// Consumable says that the driver's devices can be given in parts (allowMultipleAllocations, feature DRAConsumableCapacity): a time
	// slice then asks for its memory, and the scheduler adds up. Otherwise the claim is of a whole device, which the pods that
	// share it must refer to by the same claim.
	Consumable bool
}

// YAML writes the spec.
func (c Claim) YAML() string {
	class, request := wholeClass, "gpu"
	expressions := []string{fmt.Sprintf("device.attributes[%q].productName == %s", driver, quote(c.Product))}
	if c.Size.Sharing == MIG {
		class, request = migClass, "mig"
		expressions = append(expressions, fmt.Sprintf("device.attributes[%q].profile == %s", driver, quote(c.Size.Profile)))
	}
	// The capacity that a driver publishes may be less than the table has: a claim that is not met says so, and an
	// engine that is too large for its device dies.
	if c.Need > 0 && c.Size.Sharing != TimeSlicing {
		expressions = append(expressions, fmt.Sprintf("device.capacity[%q].memory.compareTo(quantity(%q)) >= 0", driver, mebibytes(c.Need)))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "devices:\n  requests:\n  - name: %s\n    exactly:\n      deviceClassName: %s\n", request, class)
	fmt.Fprintf(&b, "      allocationMode: ExactCount\n      count: %d\n", c.Count)
	if c.Size.Sharing == TimeSlicing && c.Consumable {
		fmt.Fprintf(&b, "      capacity:\n        requests:\n          memory: %s\n", mebibytes(c.Size.Bytes))
	}
	b.WriteString("      selectors:\n")
	for _, expression := range expressions {
		fmt.Fprintf(&b, "      - cel:\n          expression: %s\n", strconv.Quote(expression))
	}
	if c.Size.Sharing == TimeSlicing && !c.Consumable {
		fmt.Fprintf(&b, "  config:\n  - requests: [%s]\n    opaque:\n      driver: %s\n      parameters:\n", request, driver)
		b.WriteString("        apiVersion: resource.nvidia.com/v1beta1\n        kind: GpuConfig\n        sharing:\n          strategy: TimeSlicing\n")
	}
	return b.String()
}

// quote makes a CEL string of a name: what is not printable ASCII is escaped in a way that both Go and CEL know.
func quote(name string) string { return strconv.QuoteToASCII(name) }

// mebibytes rounds up.
func mebibytes(bytes int64) string { return strconv.FormatInt((bytes+1<<20-1)>>20, 10) + "Mi" }
