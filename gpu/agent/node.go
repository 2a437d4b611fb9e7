package agent

import (
	"slices"
	"strconv"
	"time"

	"headroom.dev/headroom/gpu"
)

// node is what is known of the devices of this node. It is pure: time and measurements come as arguments.
type node struct {
	window  time.Duration
	stale   time.Duration // how old the newest sample of a window may be
	driver  string
	at      time.Time // of the last reading
	devices []*device // in the driver's order; those that are lost come last
	byUUID  map[string]*device
	kinds   []kindCount // of the processes seen last

	unreadable int // devices that the driver counts and cannot identify
	unmatched  int // devices of holders that are not among devices
	known      bool
}

// device is what is known of one device.
type device struct {
	sample  gpu.Sample // without its slices
	listed  int        // processes that the driver lists
	session int        // of the last reading that had it
	life    int        // counts its returns after it was lost
	window  gpu.Window
	summary gpu.Summary
	uses    []use // of the window, oldest first
	used    []gpu.UsedBy
	pids    []uint32 // of used
	holders gpu.Holders
	held    bool // holders is known
	split   gpu.Split
	peaks   []peak // by share
	kept    []peak // scratch
	present bool
	lost    gpu.Finding // Code is empty while the device answers
	xids    gpu.XIDs
	found   []gpu.Finding
	labels  labelled
}

// use is a process sample in the window.
type use struct {
	at    time.Time
	pid   uint32
	owner gpu.Owner
	sm    float64
}

// peak is the most memory that an owner's share of the device has had.
type peak struct {
	owner gpu.Owner
	bytes float64
}

func newNode(window, stale time.Duration) node {
	return node{window: window, stale: stale, byUUID: map[string]*device{}}
}

// observe takes a reading in. known says that holders is the kubelet's answer; owners are those of the processes of the
// reading, and unseen says why there are none.
func (n *node) observe(now time.Time, r *gpu.Reading, holders map[string]gpu.Holders, known bool, owners map[uint32]gpu.Owner, unseen string) {
	n.driver, n.at, n.unreadable, n.known = r.Driver, now, 0, known
	for _, d := range n.devices {
		d.present = false
	}
	n.devices = n.devices[:0]
	n.unmatched = len(holders)
	for i := range r.Samples {
		s := &r.Samples[i]
		if s.Device.UUID == "" {
			n.unreadable++
			continue
		}
		d := n.byUUID[s.Device.UUID]
		if d == nil {
			d = &device{window: gpu.Window{Span: n.window}}
			n.byUUID[s.Device.UUID] = d
		}
		if d.present {
			continue // a UUID that a driver gives twice would spoil the whole exposition
		}
		d.give(holdersOf(holders, &s.Device), known)
		d.take(now, s, r.Session, n.stale)
		if d.given() {
			n.unmatched--
		}
		d.credit(now, s, owners, n.window)
		d.divide(unseen)
		n.devices = append(n.devices, d)
	}
	for i := range r.Events {
		if d := n.byUUID[r.Events[i].UUID]; d != nil && r.Events[i].XID != 0 {
			d.xids.Add(r.Events[i].XID, r.Events[i].Time, d.life)
		}
	}
	n.missing(now, holders, known)
	n.assess(now)
}

// holdersOf finds a device's holders by its UUID, or by the names that GKE's device plugin uses.
func holdersOf(holders map[string]gpu.Holders, d *gpu.Device) gpu.Holders {
	if h, ok := holders[d.UUID]; ok || len(holders) == 0 {
		return h
	}
	minor, ok := d.Minor.Get()
	if !ok {
		return gpu.Holders{}
	}
	var buffer [32]byte
	key := strconv.AppendInt(append(buffer[:0], "nvidia"...), int64(minor), 10)
	if !d.Whole() {
		key = strconv.AppendInt(append(key, "/gi"...), int64(d.Instance.GPU), 10)
	}
	return holders[string(key)] // no copy is made for a lookup
}

// given reports whether a container holds the device.
func (d *device) given() bool { return d.held && (len(d.holders.Owners) > 0 || d.holders.Reserved) }

// give takes the kubelet's word for who was given the device. What was done before for others is not the new holders': the
// window starts anew.
func (d *device) give(holders gpu.Holders, known bool) {
	if known && d.held && (holders.Reserved != d.holders.Reserved || !slices.Equal(holders.Owners, d.holders.Owners)) {
		d.window.Clear()
		d.uses = d.uses[:0]
	}
	if known {
		d.holders = holders
	}
	d.held = known
}

// take keeps what was measured and sums the window up.
func (d *device) take(now time.Time, s *gpu.Sample, session int, stale time.Duration) {
	if d.session != session {
		d.window.Clear() // the GPU may have been reset
		d.uses = d.uses[:0]
	}
	d.sample, d.session, d.present, d.listed = *s, session, true, len(s.Processes)
	d.sample.Ring, d.sample.Processes, d.sample.ProcessRing = nil, nil, nil
	if len(s.Ring) > 0 {
		d.window.AddRing(s.Ring, s.Time)
	} else if ratio, ok := s.Utilization.Get(); ok {
		d.window.Add(s.Time, ratio)
	}
	d.summary = d.window.Summary(now)
	if now.Sub(d.summary.Newest) > stale { // also without any
		none := gpu.Unknown(s.Utilization.Reason())
		d.summary.Mean, d.summary.P50, d.summary.P95, d.summary.Max = none, none, none, none
	}
	switch was := d.lost.Code != ""; {
	case s.Lost == "" && was:
		d.lost, d.life = gpu.Finding{}, d.life+1
	case s.Lost != "" && !was:
		d.lost = gpu.Finding{Code: "lost", Text: s.Lost, Unfit: true, Since: now}
	}
}

// credit adds up, process by process, what the driver's samples of the window say.
func (d *device) credit(now time.Time, s *gpu.Sample, owners map[uint32]gpu.Owner, window time.Duration) {
	kept := d.uses[:0]
	for _, u := range d.uses {
		if now.Sub(u.at) <= window {
			kept = append(kept, u)
		}
	}
	d.uses = kept
	for _, u := range s.ProcessRing {
		d.uses = append(d.uses, use{at: now, pid: u.PID, owner: owners[u.PID], sm: u.SM})
	}
	d.used, d.pids = d.used[:0], d.pids[:0]
	for _, p := range s.Processes {
		d.used = append(d.used, gpu.UsedBy{Owner: owners[p.PID], Memory: p.Memory, Peak: p.PeakMemory})
		d.pids = append(d.pids, p.PID)
	}
	for _, u := range d.uses {
		i := 0
		for i < len(d.pids) && (d.pids[i] != u.pid || d.used[i].Owner != u.owner) {
			i++
		}
		if i == len(d.pids) { // it has ended, and its memory is free again
			d.used = append(d.used, gpu.UsedBy{Owner: u.owner, Memory: gpu.Known(0)})
			d.pids = append(d.pids, u.pid)
		}
		d.used[i].Weight += u.sm
		d.used[i].Samples++
	}
}

// divide splits the device's use and keeps the high-water marks.
func (d *device) divide(unseen string) {
	s := &d.sample
	if unseen == "" {
		unseen = s.ProcessFail
	}
	whole := gpu.Usage{
		Utilization: d.summary.Mean, SM: s.Activity.SM, Tensor: s.Activity.Tensor, DRAM: s.Activity.DRAM, MemoryUsed: s.Memory.Used,
	}
	if s.Device.Partitioned { // what it does is done by its instances
		none := gpu.Unknown("MIG is on: containers hold the GPU's instances")
		d.split = gpu.Split{Shares: d.split.Shares[:0], Unattributed: gpu.Usage{Utilization: none, SM: none, Tensor: none, DRAM: none, MemoryUsed: none}}
		return
	}
	var holders *gpu.Holders
	if d.held {
		holders = &d.holders
	}
	d.split.Divide(whole, holders, d.used, unseen)
	d.kept = d.kept[:0]
	for i := range d.split.Shares {
		share := &d.split.Shares[i]
		p := peak{owner: share.Owner}
		for _, former := range d.peaks {
			if former.owner == share.Owner {
				p = former
			}
		}
		used, _ := share.Usage.MemoryUsed.Get()
		accounted, _ := share.Peak.Get()
		p.bytes = max(p.bytes, used, accounted)
		d.kept = append(d.kept, p)
	}
	if !d.held && len(d.kept) < len(d.peaks) {
		return // the kubelet is silent: what it named before is not over
	}
	d.peaks, d.kept = d.kept, d.peaks
}

// missing keeps GPUs that were there and are no more: their health is what decides about the pods that hold them. A MIG
// instance that has gone was destroyed by someone.
func (n *node) missing(now time.Time, holders map[string]gpu.Holders, known bool) {
	for uuid, d := range n.byUUID {
		if d.present {
			continue
		}
		if !d.sample.Device.Whole() {
			delete(n.byUUID, uuid)
			continue
		}
		if d.lost.Code == "" {
			d.lost = gpu.Finding{Code: "lost", Text: "the driver no longer has the GPU", Unfit: true, Since: now}
		}
		none := gpu.Unknown(d.lost.Text)
		d.sample = gpu.Sample{Device: d.sample.Device, Time: now, Utilization: none, Lost: d.lost.Text}
		d.window.Clear()
		d.uses = d.uses[:0]
		d.summary = gpu.Summary{Mean: none, P50: none, P95: none, Max: none}
		d.give(holdersOf(holders, &d.sample.Device), known)
		if d.given() {
			n.unmatched--
		}
		d.split.Divide(gpu.Usage{Utilization: none, SM: none, Tensor: none, DRAM: none, MemoryUsed: none}, nil, nil, "")
		n.devices = append(n.devices, d)
	}
}

// assess says of every GPU what is wrong with it. What is wrong with a GPU is wrong with its instances.
func (n *node) assess(now time.Time) {
	for _, d := range n.devices {
		d.found = d.found[:0]
		if d.lost.Code != "" {
			d.found = append(d.found, d.lost)
		}
		gpuOf := d
		if !d.sample.Device.Whole() {
			if gpuOf = n.byUUID[d.sample.Device.Instance.Parent]; gpuOf == nil {
				continue
			}
			if gpuOf.lost.Code != "" && d.lost.Code == "" {
				d.found = append(d.found, gpuOf.lost)
			}
		}
		d.found = gpu.Assess(d.found, &gpuOf.sample.Condition, &gpuOf.xids, gpuOf.life, now)
	}
}

// peakOf returns the high-water mark of the i-th share's memory.
func (d *device) peakOf(i int) gpu.Value {
	owner := d.split.Shares[i].Owner
	if _, ok := d.split.Shares[i].Usage.MemoryUsed.Get(); !ok {
		return d.split.Shares[i].Usage.MemoryUsed
	}
	for _, p := range d.peaks {
		if p.owner == owner {
			return gpu.Known(p.bytes)
		}
	}
	return gpu.Unknown("not seen yet")
}

func index(d *gpu.Device) string { return strconv.Itoa(d.Index) }
