package cluster

import (
	"sync"
	"sync/atomic"
)

// deviceIndex finds the UUID of a device that a ResourceSlice offers.
type deviceIndex struct {
	driver string

	mu     sync.Mutex
	slices map[string]sliceEntry // by name

	uuids atomic.Pointer[map[deviceID]string] // never nil; the map is not changed
}

type deviceID struct {
	driver, pool, device string
}

// sliceEntry is what is kept of a ResourceSlice.
type sliceEntry struct {
	pool       string
	generation int64
	uuids      map[string]string // by device name
}

func newDeviceIndex(driver string) *deviceIndex {
	x := &deviceIndex{driver: driver, slices: map[string]sliceEntry{}}
	x.uuids.Store(&map[deviceID]string{})
	return x
}

func (x *deviceIndex) find(id deviceID) (string, bool) {
	uuid, ok := (*x.uuids.Load())[id]
	return uuid, ok
}

func (x *deviceIndex) put(obj any) {
	s := obj.(*resourceSlice)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.set(s)
	x.publish()
}

func (x *deviceIndex) remove(obj any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.slices, obj.(*resourceSlice).Metadata.Name)
	x.publish()
}

func (x *deviceIndex) replace(objects []any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	clear(x.slices)
	for _, obj := range objects {
		x.set(obj.(*resourceSlice))
	}
	x.publish()
}

// set keeps a slice; the caller holds mu.
func (x *deviceIndex) set(s *resourceSlice) {
	if s.Spec.Driver != x.driver { // a server that ignores the selector
		delete(x.slices, s.Metadata.Name)
		return
	}
	e := sliceEntry{pool: s.Spec.Pool.Name, generation: s.Spec.Pool.Generation, uuids: map[string]string{}}
	for _, d := range s.Spec.Devices {
		for _, key := range [...]string{"uuid", x.driver + "/uuid"} {
			if uuid := d.Attributes[key].String; uuid != "" {
				e.uuids[d.Name] = uuid
				break
			}
		}
	}
	x.slices[s.Metadata.Name] = e
}

// publish shows readers the newest generation of each pool; the caller holds mu. A driver that publishes a new one writes
// its slices before it deletes the old ones. A device that slices of one generation disagree about is not known.
func (x *deviceIndex) publish() {
	newest := map[string]int64{}
	for _, s := range x.slices {
		newest[s.pool] = max(newest[s.pool], s.generation)
	}
	next, doubtful := map[deviceID]string{}, map[deviceID]bool{}
	for _, s := range x.slices {
		if s.generation < newest[s.pool] {
			continue
		}
		for name, uuid := range s.uuids {
			id := deviceID{driver: x.driver, pool: s.pool, device: name}
			if other, ok := next[id]; ok && other != uuid {
				doubtful[id] = true
			}
			next[id] = uuid
		}
	}
	for id := range doubtful {
		delete(next, id)
	}
	x.uuids.Store(&next)
}
