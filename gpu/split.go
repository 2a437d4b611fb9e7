package gpu

// Owner is a container that was given a device, or that has a process on one.
type Owner struct {
	Namespace string
	Pod       string
	Container string // empty for a pod as a whole, where its containers are not told apart
}

// Usage is a part, or the whole, of what a device did.
type Usage struct {
	Utilization Value // 0 to 1 of the device
	SM          Value // 0 to 1, as in Activity
	Tensor      Value // 0 to 1
	DRAM        Value // 0 to 1
	MemoryUsed  Value // bytes
}

// Method is how a share was got. The order is that of trust.
type Method string

// The methods.
const (
	// Exclusive: the container is the only one on the device, so the device's own counters are its own.
	Exclusive Method = "exclusive"
	// ProcessSamples: the driver's samples say whose process was active; activity is split in that proportion, memory is
	// what the driver counts for the processes.
	ProcessSamples Method = "process-samples"
	// MemoryOnly: the device worked, and no sample says for whom; memory is what the driver counts for the processes.
	MemoryOnly Method = "memory-only"
)

// Share is the part of a device's usage that is known to be its owner's.
type Share struct {
	Owner     Owner
	Usage     Usage
	Method    Method
	Samples   int   // process samples of the owner's processes in the window
	Processes int   // that were seen on the device
	Peak      Value // bytes; the most that the driver accounted to one process of the owner
}

// UsedBy is a process on a device, with what its samples in the window add up to.
type UsedBy struct {
	Owner   Owner // zero: no container's, or it is not known whose
	Memory  Value // bytes
	Peak    Value // bytes
	Weight  float64
	Samples int
}

// Split is a device's usage, divided. It is reused from pass to pass.
type Split struct {
	Sharers      int // containers that the kubelet gave the device to; -1 when that is not known
	Shares       []Share
	Unattributed Usage
	Problem      string // why nothing, or less than could be, was divided; empty otherwise
}

// Divide splits what a device did among the containers on it. holders is nil when the kubelet has not said; processes
// are those that the driver lists, and unseen says why they cannot be told apart, empty when they can.
//
// A single container is credited with all that is not shown to be another's. Several are told apart by their processes
// alone: activity in proportion to the driver's samples, memory as the driver counts it. No process samples while the
// device worked is no reason to call anyone idle; a share is then unknown. What is no container's is unattributed. The shares
// and the rest add up to the whole, with unknown shares counted as part of the rest.
func (s *Split) Divide(whole Usage, holders *Holders, processes []UsedBy, unseen string) {
	*s = Split{Sharers: -1, Shares: s.Shares[:0]}
	if holders != nil {
		s.Sharers = len(holders.Owners)
		for _, owner := range holders.Owners {
			s.Shares = append(s.Shares, Share{Owner: owner})
		}
	}
	if unseen != "" {
		s.withoutProcesses(whole, holders, unseen)
		return
	}
	single := holders != nil && !holders.Reserved && len(holders.Owners) == 1
	var total, foreign float64
	foreignMemory, memoryKnown := 0.0, true
	for i := range processes {
		p := &processes[i]
		total += p.Weight
		share := s.share(p.Owner)
		if share == nil {
			foreign += p.Weight
			memory, ok := p.Memory.Get()
			foreignMemory, memoryKnown = foreignMemory+memory, memoryKnown && ok
			continue
		}
		share.add(p)
	}
	if single && len(s.Shares) == 1 {
		s.exclusive(whole, total, foreign, foreignMemory, memoryKnown)
		return
	}
	for i := range s.Shares {
		s.Shares[i].proportion(whole, total)
	}
	s.fit(whole)
	s.rest(whole)
}

// withoutProcesses divides by the kubelet's word alone.
func (s *Split) withoutProcesses(whole Usage, holders *Holders, unseen string) {
	switch {
	case holders == nil:
		s.Problem = "it is not known who was given the device, and " + unseen
	case holders.Reserved:
		s.Problem = "the device is held in place of others, and " + unseen
	case len(s.Shares) >= 1 && onePod(holders.Owners):
		if len(s.Shares) > 1 { // a claim that the containers of a pod share
			s.Shares = s.Shares[:1]
			s.Shares[0].Owner.Container = ""
		}
		s.Shares[0].Usage, s.Shares[0].Method, s.Shares[0].Peak = whole, Exclusive, Unknown(unseen)
	case len(s.Shares) > 1:
		s.Problem = "several containers share the device, and " + unseen
	}
	if s.Problem != "" {
		s.Shares = s.Shares[:0]
	}
	s.rest(whole)
}

func onePod(owners []Owner) bool {
	for _, o := range owners {
		if o.Namespace != owners[0].Namespace || o.Pod != owners[0].Pod {
			return false
		}
	}
	return true
}

// share returns the owner's share, with a new one for an owner that the kubelet did not name: on clusters where a
// reservation pod holds the device, or where the kubelet does not answer, the processes alone say who works.
func (s *Split) share(owner Owner) *Share {
	if owner == (Owner{}) {
		return nil
	}
	for i := range s.Shares {
		o := &s.Shares[i].Owner
		if *o == owner || owner.Container == "" && o.Pod == owner.Pod && o.Namespace == owner.Namespace {
			return &s.Shares[i] // of a pod of which no more is known, the first container stands for all
		}
	}
	s.Shares = append(s.Shares, Share{Owner: owner})
	return &s.Shares[len(s.Shares)-1]
}

// add counts a process in. Usage.MemoryUsed and SM hold the sums until the share is made.
func (s *Share) add(p *UsedBy) {
	memory, ok := p.Memory.Get()
	before, had := s.Usage.MemoryUsed.Get()
	switch {
	case !ok:
		s.Usage.MemoryUsed = p.Memory
	case s.Processes == 0 || had:
		s.Usage.MemoryUsed = Known(before + memory)
	}
	weight, _ := s.Usage.SM.Get()
	s.Usage.SM = Known(weight + p.Weight)
	s.Samples += p.Samples
	s.Processes++
	if peak, ok := p.Peak.Get(); ok {
		most, _ := s.Peak.Get()
		s.Peak = Known(max(most, peak))
	}
}

// exclusive credits the only container with everything that is not shown to be another's: processes of the host, or of
// the MPS daemon.
func (s *Split) exclusive(whole Usage, total, foreign, foreignMemory float64, memoryKnown bool) {
	share := &s.Shares[0]
	own := 1.0
	if total > 0 {
		own = 1 - foreign/total
	}
	share.Method = Exclusive
	if foreign > 0 {
		share.Method = ProcessSamples
	}
	share.Usage = whole.scaled(own)
	share.Usage.MemoryUsed = whole.MemoryUsed
	if used, ok := whole.MemoryUsed.Get(); ok && memoryKnown {
		share.Usage.MemoryUsed = Known(max(used-foreignMemory, 0))
	}
	s.rest(whole)
}

// proportion turns the sums of add into the part of whole that is the share's.
func (s *Share) proportion(whole Usage, total float64) {
	weight, _ := s.Usage.SM.Get()
	memory := s.Usage.MemoryUsed
	if s.Processes == 0 {
		memory = Known(0) // the driver lists every process that has memory
	}
	if _, ok := whole.MemoryUsed.Get(); !ok {
		memory = whole.MemoryUsed
	}
	s.Method = ProcessSamples
	if total > 0 {
		s.Usage = whole.scaled(weight / total)
	} else {
		s.Usage = whole.unsampled()
		if _, ok := s.Usage.Utilization.Get(); !ok {
			s.Method = MemoryOnly
		}
	}
	s.Usage.MemoryUsed = memory
}

// fit scales the shares' memory down where it adds up to more than the device's, which was read a moment apart.
func (s *Split) fit(whole Usage) {
	used, ok := whole.MemoryUsed.Get()
	sum := 0.0
	for i := range s.Shares {
		memory, _ := s.Shares[i].Usage.MemoryUsed.Get()
		sum += memory
	}
	if !ok || sum <= used {
		return
	}
	for i := range s.Shares {
		if memory, known := s.Shares[i].Usage.MemoryUsed.Get(); known {
			s.Shares[i].Usage.MemoryUsed = Known(memory * used / sum)
		}
	}
}

// rest leaves what the known shares do not take.
func (s *Split) rest(whole Usage) {
	s.Unattributed = whole
	for i := range s.Shares {
		u := &s.Shares[i].Usage
		s.Unattributed = Usage{
			Utilization: less(s.Unattributed.Utilization, u.Utilization),
			SM:          less(s.Unattributed.SM, u.SM),
			Tensor:      less(s.Unattributed.Tensor, u.Tensor),
			DRAM:        less(s.Unattributed.DRAM, u.DRAM),
			MemoryUsed:  less(s.Unattributed.MemoryUsed, u.MemoryUsed),
		}
	}
}

// less takes a known part away from a known whole. Rounding must not leave less than nothing.
func less(whole, part Value) Value {
	if !whole.known || !part.known {
		return whole
	}
	return Known(max(whole.number-part.number, 0))
}

// scaled is the activity times factor, without memory.
func (u Usage) scaled(factor float64) Usage {
	scale := func(v Value) Value {
		if !v.known {
			return v
		}
		return Known(v.number * factor)
	}
	return Usage{Utilization: scale(u.Utilization), SM: scale(u.SM), Tensor: scale(u.Tensor), DRAM: scale(u.DRAM)}
}

// unsampled is what is known of a share when the driver has no process samples: nothing of nothing is nothing, and of
// anything else it is unknown.
func (u Usage) unsampled() Usage {
	part := func(v Value) Value {
		if v.known && v.number > 0 {
			return Unknown("the driver has no process samples")
		}
		return v
	}
	return Usage{Utilization: part(u.Utilization), SM: part(u.SM), Tensor: part(u.Tensor), DRAM: part(u.DRAM)}
}
