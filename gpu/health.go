package gpu

import (
	"fmt"
	"slices"
	"time"
)

// xidHold is how long an XID that takes a GPU out of service does so, unless the GPU was lost and has come back since. A
// driver that knows what has to be done says so for longer through its recovery action.
const xidHold = 10 * time.Minute

// Finding is something that is wrong with a GPU.
type Finding struct {
	Code  string    // "xid-79", "recovery-action-reset", "lost": short and stable
	Text  string    // for people
	Unfit bool      // the GPU cannot be counted on to run anything
	Since time.Time // zero when it is not known
}

// XIDs counts the XIDs of one GPU. The zero value has none.
type XIDs struct {
	counts []xidCount
}

type xidCount struct {
	xid   uint64
	count uint64
	last  time.Time
	life  int
}

// maxXIDs bounds how many different XIDs are counted; the catalogue has fewer than 200.
const maxXIDs = 256

// Add counts an event. A GPU begins a new life when it comes back after it was lost: it has been reset then, which a new
// session with the driver alone does not say, for another GPU's loss makes one.
func (x *XIDs) Add(xid uint64, at time.Time, life int) {
	for i := range x.counts {
		if c := &x.counts[i]; c.xid == xid {
			c.count, c.last, c.life = c.count+1, at, life
			return
		}
	}
	if len(x.counts) < maxXIDs {
		x.counts = append(x.counts, xidCount{xid, 1, at, life})
	}
}

// Each calls f with every XID seen since the agent started, how often and when last.
func (x *XIDs) Each(f func(xid, count uint64, last time.Time)) {
	for _, c := range x.counts {
		f(c.xid, c.count, c.last)
	}
}

// Assess appends to findings what the condition and the XIDs of a GPU in its present life say is wrong with it now.
func Assess(findings []Finding, c *Condition, xids *XIDs, life int, now time.Time) []Finding {
	if action, ok := c.RecoveryAction.Get(); ok && action != 0 {
		code, text := recovery(action)
		findings = append(findings, Finding{Code: code, Text: text, Unfit: true})
	}
	if v, ok := c.RemapFailed.Get(); ok && v != 0 {
		findings = append(findings, Finding{
			Code: "row-remap-failed", Text: "a faulty memory row could not be remapped: the GPU has to be replaced", Unfit: true,
		})
	}
	if v, ok := c.RemapPending.Get(); ok && v != 0 {
		findings = append(findings, Finding{
			Code: "row-remap-pending", Text: "a faulty memory row will be remapped when the GPU is next reset",
		})
	}
	for _, x := range xids.counts {
		if now.Sub(x.last) > xidHold {
			continue
		}
		severity := severityOf(x.xid)
		if severity == workloads {
			continue
		}
		findings = append(findings, Finding{
			Code: fmt.Sprintf("xid-%d", x.xid), Text: fmt.Sprintf("XID %d", x.xid),
			Unfit: severity == outOfService && x.life == life, Since: x.last,
		})
	}
	return findings
}

// Fit reports whether none of the findings makes the GPU unfit.
func Fit(findings []Finding) bool {
	return !slices.ContainsFunc(findings, func(f Finding) bool { return f.Unfit })
}

// recovery reads NVML's nvmlDeviceGpuRecoveryAction_t (nvml.h).
func recovery(action float64) (code, text string) {
	switch action {
	case 1:
		return "recovery-action-reset", "the driver asks for a reset of the GPU"
	case 2:
		return "recovery-action-reboot", "the driver asks for a reboot of the node"
	case 3:
		return "recovery-action-drain-p2p", "the driver asks that peer-to-peer traffic ends and a reset follows"
	case 4:
		return "recovery-action-drain-and-reset", "the driver asks that work ends and a reset follows"
	default:
		return "recovery-action-unknown", fmt.Sprintf("the driver asks for recovery action %g", action)
	}
}

type severity int

const (
	hardware     severity = iota // worth telling; the GPU goes on
	workloads                    // a program's own fault
	outOfService                 // the GPU is unfit until it is reset
)

// severityOf follows NVIDIA's XID catalogue. What the k8s-device-plugin calls application errors (13, 31, 43, 45, 68, 109)
// says nothing about the GPU.
func severityOf(xid uint64) severity {
	switch xid {
	case 13, 31, 43, 45, 68, 109:
		return workloads
	case 46, // the GPU stopped processing
		48,     // double-bit ECC error
		61, 62, // microcontroller breakpoint, halt
		64,       // row remapping failed
		74,       // NVLink
		79,       // fallen off the bus
		95,       // uncontained memory error
		110,      // security fault
		119, 120, // GSP firmware: timeout, error
		123,      // power management
		136, 140, // link training, unrecovered ECC
		142, 143, // failed initialisation
		155, 156, 158: // NVLink flows, resource retirement, GPU fatal timeout
		return outOfService
	default:
		return hardware
	}
}
