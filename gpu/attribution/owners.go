package attribution

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"headroom.dev/headroom/gpu"
)

// maxErrors bounds what an error of Owners joins: a plugin whose IDs cannot be read can have thousands of them.
const maxErrors = 16

// ClaimedDevice names a device that a container was given through a ResourceClaim (DRA).
type ClaimedDevice struct {
	Driver string // "gpu.nvidia.com"
	Pool   string // usually the node's name
	Device string // the driver's name for it within the pool: "gpu-0", "gpu-0-mig-9-4-4"
}

// String returns the three names with slashes between, as events and the driver's log write them.
func (d ClaimedDevice) String() string { return d.Driver + "/" + d.Pool + "/" + d.Device }

// Owners returns who holds each device of the response by the device's UUID, as the options say; their Socket is of no
// account. A device that is given to nobody is not in the map, which is never nil. The error joins what is wrong with
// single device IDs and claims, the first 16 of them; the other devices are valid beside it.
func Owners(response *podresources.ListPodResourcesResponse, options Options) (map[string]gpu.Holders, error) {
	l := &ledger{options: options.withDefaults(), devices: map[string]*entry{}}
	for _, pod := range response.GetPodResources() {
		for _, container := range pod.GetContainers() {
			owner := gpu.Owner{Namespace: pod.GetNamespace(), Pod: pod.GetName(), Container: container.GetName()}
			l.addPlugins(owner, container.GetDevices())
			l.addClaims(owner, container.GetDynamicResources())
		}
	}
	return l.holders(), l.err()
}

// ledger gathers who holds what.
type ledger struct {
	options Options
	devices map[string]*entry // by UUID
	errs    []error           // the first maxErrors
	more    int               // errors beyond them
}

type entry struct {
	owners   []gpu.Owner
	replicas []int
	reserved bool
}

// addPlugins enters what device plugins gave to owner.
func (l *ledger) addPlugins(owner gpu.Owner, resources []*podresources.ContainerDevices) {
	for _, resource := range resources {
		if !strings.HasPrefix(resource.GetResourceName(), l.options.Prefix) {
			continue
		}
		for _, text := range resource.GetDeviceIds() {
			id, err := ParseDeviceID(text)
			if err != nil {
				l.fail(fmt.Errorf("%s: %w", ownerName(owner), err))
				continue
			}
			l.add(owner, id)
		}
	}
}

// addClaims enters what the DRA driver gave to owner.
func (l *ledger) addClaims(owner gpu.Owner, claims []*podresources.DynamicResource) {
	for _, claim := range claims {
		for _, resource := range claim.GetClaimResources() {
			device := ClaimedDevice{Driver: resource.GetDriverName(), Pool: resource.GetPoolName(), Device: resource.GetDeviceName()}
			if device.Driver != l.options.DRADriver {
				continue
			}
			uuid, err := l.resolve(device)
			if err != nil {
				l.fail(fmt.Errorf("claim device %s of %s: %w", device, ownerName(owner), err))
				continue
			}
			l.add(owner, DeviceID{UUID: uuid, Replica: -1})
		}
	}
}

func (l *ledger) resolve(device ClaimedDevice) (uuid string, err error) {
	if l.options.Resolve == nil {
		return "", errors.New("ResourceSlices are not read")
	}
	uuid, known := l.options.Resolve(device)
	switch {
	case !known:
		return "", errors.New("in no ResourceSlice")
	case uuid == "":
		return "", errors.New("its ResourceSlice names no UUID") // as for MIG instances that are made on demand
	}
	return uuid, nil
}

func (l *ledger) add(owner gpu.Owner, id DeviceID) {
	e := l.devices[id.UUID]
	if e == nil {
		e = &entry{}
		l.devices[id.UUID] = e
	}
	if slices.Contains(l.options.Reservations, owner.Namespace) {
		e.reserved = true
		return
	}
	e.owners = append(e.owners, owner)
	if id.Replica >= 0 {
		e.replicas = append(e.replicas, id.Replica)
	}
}

func (l *ledger) fail(err error) {
	if len(l.errs) == maxErrors {
		l.more++
		return
	}
	l.errs = append(l.errs, err)
}

func (l *ledger) err() error {
	if l.more > 0 {
		return errors.Join(append(l.errs, fmt.Errorf("and %d more", l.more))...)
	}
	return errors.Join(l.errs...)
}

func (l *ledger) holders() map[string]gpu.Holders {
	holders := make(map[string]gpu.Holders, len(l.devices))
	for uuid, e := range l.devices {
		slices.SortFunc(e.owners, func(a, b gpu.Owner) int {
			return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.Container, b.Container))
		})
		slices.Sort(e.replicas) // a pod that ended can still be listed with a replica that another holds now
		holders[uuid] = gpu.Holders{
			Owners:   slices.Compact(e.owners),
			Replicas: len(slices.Compact(e.replicas)),
			Reserved: e.reserved,
		}
	}
	return holders
}

// ownerName returns owner as errors write it.
func ownerName(o gpu.Owner) string { return o.Namespace + "/" + o.Pod + " " + o.Container }
