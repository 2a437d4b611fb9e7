package exact

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"k8s.io/autoscaler/vertical-pod-autoscaler/pkg/recommender/logic"
	"k8s.io/autoscaler/vertical-pod-autoscaler/pkg/recommender/model"

	"headroom.dev/headroom/recommender/vpa"
)

// stream is one run of both: a few containers that feed a few aggregates.
type stream struct {
	t      testing.TB
	r      *rand.Rand
	out    *outcome
	mutate mutation

	config      vpa.Config
	ours        *vpa.Model
	recommender logic.PodResourceRecommender
	format      logic.RecommendationFormat

	now        time.Time
	level      float64 // of use, 0 to 1
	aggregates []aggregate
	instances  []instance
}

type aggregate struct {
	ours   *vpa.Aggregate
	theirs *model.AggregateContainerState
}

type instance struct {
	ours   *vpa.Instance
	theirs *model.ContainerState
	of     int // index of the aggregate
}

// mutation makes ours another VPA, by as little as can be, to see whether that is noticed.
type mutation struct {
	config func(*vpa.Config)
	at     time.Duration // added to the times of samples
	cpu    int64         // added to each CPU sample
	memory int64         // added to each memory sample
	keep   bool          // merge does not move the reference time of what is merged
	peaks  bool          // leave the current peaks in checkpoints
	skip   bool          // drop each hundredth sample
}

var start = time.Date(2023, 11, 14, 22, 13, 20, 0, time.UTC)

func newStream(t testing.TB, seed, n uint64, out *outcome, m mutation) *stream {
	s := &stream{t: t, r: rand.New(rand.NewPCG(seed, n)), out: out, mutate: m, now: start}
	s.config = s.drawConfig()
	s.recommender, s.format = configure(&s.config)
	ours := s.config
	if m.config != nil {
		m.config(&ours)
	}
	var err error
	if s.ours, err = vpa.New(ours); err != nil {
		t.Fatal(err)
	}
	s.level = s.r.Float64()
	for range 1 + s.r.IntN(3) {
		s.aggregates = append(s.aggregates, s.fresh())
	}
	for range 1 + s.r.IntN(4) {
		s.restart(-1)
	}
	return s
}

func (s *stream) drawConfig() vpa.Config {
	c := vpa.DefaultConfig()
	if s.r.IntN(2) == 0 {
		return c
	}
	hours := func() time.Duration {
		return []time.Duration{time.Hour, 12 * time.Hour, 24 * time.Hour, 72 * time.Hour, 25*time.Hour + 7*time.Second}[s.r.IntN(5)]
	}
	c.CPU.HalfLife, c.Memory.HalfLife, c.MemoryInterval = hours(), hours(), hours()
	c.CPU.Confidence, c.Memory.Confidence = hours(), hours()
	for _, p := range []*float64{&c.CPU.Target, &c.CPU.Lower, &c.CPU.Upper, &c.Memory.Target, &c.Memory.Lower, &c.Memory.Upper} {
		*p = []float64{0, 1, s.r.Float64(), s.r.Float64()}[s.r.IntN(4)]
	}
	c.Margin = s.r.Float64()
	c.PodMinCPU, c.PodMinMemoryMB = []float64{0, 25, s.r.Float64() * 300}[s.r.IntN(3)], []float64{0, 250, s.r.Float64() * 4000}[s.r.IntN(3)]
	c.OOMBumpUpRatio, c.OOMMinBumpUp = 1+s.r.Float64(), s.r.Float64()*1e9
	c.RoundCPU, c.RoundMemory = []int64{1, 10, 37}[s.r.IntN(3)], []int64{1, 1 << 20, 999983}[s.r.IntN(3)]
	return c
}

func (s *stream) fresh() aggregate {
	return aggregate{ours: s.ours.NewAggregate(), theirs: model.NewAggregateContainerState()}
}

// restart replaces a container, or adds one.
func (s *stream) restart(i int) {
	of := s.r.IntN(len(s.aggregates))
	fresh := instance{ours: &vpa.Instance{}, theirs: model.NewContainerState(nil, s.aggregates[of].theirs), of: of}
	if i < 0 {
		s.instances = append(s.instances, fresh)
		return
	}
	s.instances[i] = fresh
}

// run does some operations at random, and compares after each.
func (s *stream) run(operations int) {
	for range operations {
		s.step()
		i := s.r.IntN(len(s.instances))
		switch n := s.r.IntN(1000); {
		case n < 480:
			s.cpu(i)
		case n < 880:
			s.memory(i)
		case n < 910:
			s.oom(i)
		case n < 935:
			s.merge()
		case n < 950:
			s.restart(i)
		case n < 965:
			s.checkpoint()
		case n < 970:
			s.loadMade()
		default:
			s.look()
		}
		for k := range s.aggregates {
			s.compare(&s.aggregates[k])
		}
		s.compareInstance(&s.instances[i])
	}
	s.look()
}

// step moves time: a minute as a rule, now and then a long way, or back.
func (s *stream) step() {
	s.level = min(max(s.level+s.r.NormFloat64()*0.03, 0), 1)
	switch n := s.r.IntN(1000); {
	case n < 600:
		s.now = s.now.Add(time.Minute)
	case n < 700:
	case n < 900:
		s.now = s.now.Add(time.Duration(s.r.Int64N(int64(2 * time.Hour))))
	case n < 950:
		s.now = s.now.Add(time.Duration(s.r.Int64N(int64(4 * 24 * time.Hour))))
	case n < 990:
		s.now = s.now.Add(-time.Duration(s.r.Int64N(int64(30 * time.Hour)))).Truncate(time.Duration(1 + s.r.Int64N(int64(time.Minute))))
	case n < 993:
		s.now = s.now.Add(-time.Duration(s.r.Int64N(int64(50 * 24 * time.Hour))))
		s.out.cover("time goes back by weeks")
	case n < 996:
		s.now = s.now.Add(time.Duration(101+s.r.IntN(60)) * max(s.config.CPU.HalfLife, s.config.Memory.HalfLife))
		s.out.cover("a gap of over 100 half-lives")
	case n < 997:
		if h := view(s.aggregates[0].theirs.AggregateCPUUsage); !h.referenceTimestamp.IsZero() {
			s.now = h.referenceTimestamp.Add(100 * h.halfLife)
			s.out.cover("time is 100 half-lives after the reference time")
		}
	default:
		s.now = s.now.Truncate(s.config.MemoryInterval).Add(s.config.MemoryInterval)
		s.out.cover("time is at the end of an interval")
	}
	// Ours takes no samples from before 1970 or after 2200; the library none from where its nanoseconds end.
	if s.now.Before(start.AddDate(-30, 0, 0)) || s.now.After(start.AddDate(150, 0, 0)) {
		s.now = start
	}
}

// value draws an amount around what is usual: in the bucket size of the resource, its edges, nothing, and far beyond the last.
func (s *stream) value(unit float64) int64 {
	switch n := s.r.IntN(100); {
	case n < 4:
		return 0
	case n < 6:
		return int64(unit * 1e5 * (1 + s.r.Float64()))
	case n < 7:
		return []int64{1, 1e14, -1, 1e15}[s.r.IntN(4)]
	case n < 20:
		edges := s.aggregates[0].ours.CPU().Shape() // edges are in first buckets of both resources
		return int64(edges.Start(s.r.IntN(edges.Buckets()))/edges.Options().First*unit) + int64(s.r.IntN(3)) - 1
	default:
		return int64(unit * (5 + 60*s.level) * (0.5 + s.r.Float64()))
	}
}

func (s *stream) skip() bool { return s.mutate.skip && s.r.IntN(100) == 0 }

func (s *stream) cpu(i int) {
	in, v := s.instances[i], s.value(10)
	theirs := in.theirs.AddSample(&model.ContainerUsageSample{MeasureStart: s.now, Usage: model.ResourceAmount(v), Resource: model.ResourceCPU})
	if s.skip() {
		return
	}
	ours := in.ours.AddCPU(s.aggregates[in.of].ours, s.now.Add(s.mutate.at), v+s.mutate.cpu)
	same(s.out, "CPU sample taken", ours, theirs)
	s.out.coverIf(!theirs && v >= 0, "a CPU sample out of order")
	s.out.coverIf(!theirs && v < 0, "a negative CPU sample")
}

func (s *stream) memory(i int) {
	in, v := s.instances[i], s.value(1e7)
	before := viewInstance(in.theirs).windowEnd
	theirs := in.theirs.AddSample(&model.ContainerUsageSample{MeasureStart: s.now, Usage: model.ResourceAmount(v), Resource: model.ResourceMemory})
	if s.skip() {
		return
	}
	ours := in.ours.AddMemory(s.aggregates[in.of].ours, s.now.Add(s.mutate.at), v+s.mutate.memory)
	same(s.out, "memory sample taken", ours, theirs)
	s.out.coverIf(!theirs && v >= 0, "a memory sample out of order")
	s.out.coverIf(viewInstance(in.theirs).windowEnd.After(before), "a new memory interval")
}

func (s *stream) oom(i int) {
	in, request := s.instances[i], max(s.value(1e7), 0)
	at := s.now
	switch s.r.IntN(4) {
	case 0:
		at = at.Add(-time.Duration(s.r.Int64N(int64(2 * s.config.MemoryInterval))))
	case 1:
		request = 0
	case 2:
		if last := viewInstance(in.theirs).lastMemory; !last.IsZero() && s.r.IntN(4) == 0 {
			at = last.Add(-s.config.MemoryInterval)
			s.out.cover("an OOM kill an interval before the newest sample")
		}
	}
	old, peak := viewInstance(in.theirs).windowEnd, viewInstance(in.theirs).oomPeak
	theirs := in.theirs.RecordOOM(at, model.ResourceAmount(request))
	ours := in.ours.AddOOM(s.aggregates[in.of].ours, at.Add(s.mutate.at), request)
	same(s.out, "OOM kill taken", ours == nil, theirs == nil)
	s.out.coverIf(theirs != nil, "an old OOM kill")
	s.out.coverIf(theirs == nil && peak != 0 && viewInstance(in.theirs).windowEnd.Equal(old), "an OOM kill after another in its interval")
	s.out.coverIf(theirs == nil && at.Before(s.now), "a late OOM kill")
}

// merge merges an aggregate into another, or all into a fresh one as the recommender does, and may go on with that.
func (s *stream) merge() {
	a := s.aggregates
	i, j := s.r.IntN(len(a)), s.r.IntN(len(a))
	if s.r.IntN(2) == 0 || i == j {
		fresh := s.fresh()
		for k := range a {
			s.mergeInto(fresh, a[k])
		}
		s.compare(&fresh)
		s.lookAt([]aggregate{fresh})
		return
	}
	apart := !view(a[i].theirs.AggregateCPUUsage).referenceTimestamp.Equal(view(a[j].theirs.AggregateCPUUsage).referenceTimestamp)
	s.out.coverIf(apart, "a merge of histograms with different reference times")
	s.mergeInto(a[i], a[j])
}

func (s *stream) mergeInto(a, b aggregate) {
	if s.mutate.keep {
		copied := *b.ours // shares the weights, not the reference time
		_ = a.ours.Merge(&copied)
	} else if err := a.ours.Merge(b.ours); err != nil {
		s.t.Fatal(err)
	}
	a.theirs.MergeContainerState(b.theirs)
	s.out.cover("a merge")
}

// use replaces an aggregate, and the containers that fed it.
func (s *stream) use(k int, with aggregate) {
	s.aggregates[k] = with
	for i, in := range s.instances {
		if in.of == k {
			s.instances[i] = instance{ours: &vpa.Instance{}, theirs: model.NewContainerState(nil, with.theirs), of: k}
		}
	}
}

func (s *stream) instancesOf(k int) (of []instance) {
	return slices.DeleteFunc(slices.Clone(s.instances), func(in instance) bool { return in.of != k })
}
