package exact

import (
	"iter"
	"math"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	vpav1 "k8s.io/autoscaler/vertical-pod-autoscaler/pkg/apis/autoscaling.k8s.io/v1"
	"k8s.io/autoscaler/vertical-pod-autoscaler/pkg/recommender/model"
	"k8s.io/autoscaler/vertical-pod-autoscaler/pkg/recommender/util"

	"headroom.dev/headroom/recommender/histogram"
	"headroom.dev/headroom/recommender/vpa"
)

// compare compares all that is in an aggregate.
func (s *stream) compare(a *aggregate) {
	s.histogram("CPU", a.ours.CPU(), a.theirs.AggregateCPUUsage)
	s.histogram("memory", a.ours.Memory(), a.theirs.AggregateMemoryPeaks)
	same(s.out, "samples", a.ours.Samples(), a.theirs.TotalSamplesCount)
	sameTime(s.out, "first sample", a.ours.First(), a.theirs.FirstSampleStart)
	sameTime(s.out, "last sample", a.ours.Last(), a.theirs.LastSampleStart)
}

func (s *stream) histogram(what string, ours *histogram.Histogram, h util.Histogram) {
	theirs := view(h)
	same(s.out, what+": buckets", ours.Shape().Buckets(), len(theirs.bucketWeight))
	for b, w := range theirs.bucketWeight {
		s.out.compared++
		if got := ours.Weight(b); math.Float64bits(got) != math.Float64bits(w) {
			s.out.differ("%s: weight of bucket %d: %v, the library's is %v", what, b, got, w)
		}
	}
	first, last := ours.Span()
	same(s.out, what+": first bucket", first, theirs.minBucket)
	same(s.out, what+": last bucket", last, theirs.maxBucket)
	sameFloat(s.out, what+": total weight", ours.Total(), theirs.totalWeight)
	sameTime(s.out, what+": reference time", ours.Reference(), theirs.referenceTimestamp)
}

func (s *stream) compareInstance(in *instance) {
	theirs := viewInstance(in.theirs)
	ours := in.ours.State()
	sameTime(s.out, "instance: newest CPU sample", ours.LastCPU, theirs.lastCPU)
	sameTime(s.out, "instance: newest memory sample", ours.LastMemory, theirs.lastMemory)
	sameTime(s.out, "instance: interval's end", ours.WindowEnd, theirs.windowEnd)
	same(s.out, "instance: memory peak", ours.MemoryPeak, int64(theirs.memoryPeak))
	same(s.out, "instance: OOM peak", ours.OOMPeak, int64(theirs.oomPeak))
}

// look compares what can be asked for: 201 percentiles and the recommendation.
func (s *stream) look() { s.lookAt(s.aggregates) }

func (s *stream) lookAt(all []aggregate) {
	states := model.ContainerNameToAggregateStateMap{}
	for k, a := range all {
		for i := range 201 {
			p := float64(i) / 200
			sameFloat(s.out, "CPU percentile", a.ours.CPU().Percentile(p), a.theirs.AggregateCPUUsage.Percentile(p))
			sameFloat(s.out, "memory percentile", a.ours.Memory().Percentile(p), a.theirs.AggregateMemoryPeaks.Percentile(p))
		}
		same(s.out, "CPU histogram is empty", a.ours.CPU().Empty(), a.theirs.AggregateCPUUsage.IsEmpty())
		states[name(k)] = a.theirs
	}
	theirs := s.recommender.GetRecommendedPodResources(states)
	for k, a := range all {
		e := s.ours.Estimate(a.ours, len(all))
		want := theirs[name(k)]
		of := func(r model.Resources) vpa.Amounts {
			return vpa.Amounts{CPU: int64(r[model.ResourceCPU]), Memory: int64(r[model.ResourceMemory])}
		}
		same(s.out, "estimate", e, vpa.Estimate{Target: of(want.Target), Lower: of(want.LowerBound), Upper: of(want.UpperBound)})
		s.out.coverIf(a.theirs.TotalSamplesCount == 0, "a recommendation without CPU samples")
		s.out.coverIf(e.Upper.CPU == 1e14, "an upper bound of 1e14")

		rules := s.drawRules(e)
		r := post(theirs, s.format, name(k), rules)
		same(s.out, "recommendation", s.ours.Recommend(e, rules), vpa.Recommendation{
			Estimate:       vpa.Estimate{Target: amounts(r.Target), Lower: amounts(r.LowerBound), Upper: amounts(r.UpperBound)},
			UncappedTarget: amounts(r.UncappedTarget),
		})
	}
}

func name(k int) string { return "container-" + string(rune('a'+k)) }

func (s *stream) drawRules(e vpa.Estimate) vpa.Rules {
	near := func(v int64) int64 {
		if s.r.IntN(2) == 0 {
			return 0
		}
		return v + int64(s.r.NormFloat64()*0.3*float64(min(v, 1e12)))
	}
	return vpa.Rules{
		MinAllowed: vpa.Amounts{CPU: max(near(e.Target.CPU), 0), Memory: max(near(e.Target.Memory), 0)},
		MaxAllowed: vpa.Amounts{CPU: max(near(e.Target.CPU), 0), Memory: max(near(e.Target.Memory), 0)},
		IntegerCPU: s.r.IntN(4) == 0,
	}
}

// checkpoint compares the checkpoints of both, as they are and without the current peaks, and goes on with what one loads of the
// other's.
func (s *stream) checkpoint() {
	k := s.r.IntN(len(s.aggregates))
	a, of := s.aggregates[k], s.instancesOf(k)
	theirs, err := a.theirs.SaveToCheckpoint()
	if err != nil {
		s.t.Fatal(err)
	}
	ours := a.ours.Checkpoint(s.now, nil)
	s.sameCheckpoint(&ours, theirs)

	without := model.NewAggregateContainerState()
	without.MergeContainerState(a.theirs)
	for _, in := range of {
		subtractPeak(without, in.theirs, s.now)
		s.out.coverIf(s.now.Before(in.theirs.WindowEnd), "a current peak taken from a checkpoint")
	}
	if theirs, err = without.SaveToCheckpoint(); err != nil {
		s.t.Fatal(err)
	}
	ours = a.ours.Checkpoint(s.now, s.yield(of))
	s.sameCheckpoint(&ours, theirs)

	// Each loads what the other wrote.
	wire := s.r.IntN(2) == 0
	loaded := s.fresh()
	if loaded.ours, err = s.ours.Load(fromTheirs(s.t, theirs, wire)); err != nil {
		s.out.differ("cannot load the library's checkpoint: %v", err)
		return
	}
	if err = loaded.theirs.LoadFromCheckpoint(fromOurs(s.t, &ours, wire)); err != nil {
		s.out.differ("the library cannot load our checkpoint: %v", err)
		return
	}
	s.compare(&loaded)
	s.out.coverIf(wire, "a checkpoint by way of JSON")
	s.out.coverIf(!wire, "a checkpoint from memory")
	if s.r.IntN(2) == 0 {
		s.use(k, loaded)
	}
}

func (s *stream) yield(of []instance) iter.Seq[*vpa.Instance] {
	return func(yield func(*vpa.Instance) bool) {
		for _, in := range of {
			if s.mutate.peaks || !yield(in.ours) {
				return
			}
		}
	}
}

func (s *stream) sameCheckpoint(c *vpa.Checkpoint, theirs *vpav1.VerticalPodAutoscalerCheckpointStatus) {
	ours := fromOurs(s.t, c, false)
	h := func(what string, a, b *vpav1.HistogramCheckpoint) {
		sameTime(s.out, what+" checkpoint: reference", a.ReferenceTimestamp.Time, b.ReferenceTimestamp.Time)
		sameFloat(s.out, what+" checkpoint: total", a.TotalWeight, b.TotalWeight)
		same(s.out, what+" checkpoint: number of weights", len(a.BucketWeights), len(b.BucketWeights))
		for bucket, w := range b.BucketWeights {
			same(s.out, what+" checkpoint: weight", a.BucketWeights[bucket], w)
		}
	}
	h("CPU", &ours.CPUHistogram, &theirs.CPUHistogram)
	h("memory", &ours.MemoryHistogram, &theirs.MemoryHistogram)
	same(s.out, "checkpoint: version", ours.Version, theirs.Version)
	same(s.out, "checkpoint: samples", ours.TotalSamplesCount, theirs.TotalSamplesCount)
	sameTime(s.out, "checkpoint: first", ours.FirstSampleStart.Time, theirs.FirstSampleStart.Time)
	sameTime(s.out, "checkpoint: last", ours.LastSampleStart.Time, theirs.LastSampleStart.Time)
}

// loadMade goes on with a checkpoint that nobody saved, or wants both to refuse it.
func (s *stream) loadMade() {
	made := func() vpav1.HistogramCheckpoint {
		h := vpav1.HistogramCheckpoint{TotalWeight: math.Exp(s.r.NormFloat64() * 10), BucketWeights: map[int]uint32{}}
		h.ReferenceTimestamp = metav1.NewTime(s.now.Add(time.Duration(s.r.Int64N(int64(200*24*time.Hour))) - 100*24*time.Hour).Truncate(time.Second))
		if s.r.IntN(3) > 0 {
			h.ReferenceTimestamp.Time = h.ReferenceTimestamp.Truncate(24 * time.Hour)
		}
		if s.r.IntN(10) == 0 {
			h.ReferenceTimestamp.Time = time.Time{}
			s.out.cover("a checkpoint without a reference time")
		}
		for range s.r.IntN(40) {
			h.BucketWeights[s.r.IntN(176)] = uint32(s.r.IntN(3) * s.r.IntN(10001))
		}
		return h
	}
	c := &vpav1.VerticalPodAutoscalerCheckpointStatus{
		LastUpdateTime: metav1.NewTime(s.now), Version: "v3", CPUHistogram: made(), MemoryHistogram: made(),
		FirstSampleStart: metav1.NewTime(s.now.AddDate(0, 0, -3)), LastSampleStart: metav1.NewTime(s.now), TotalSamplesCount: s.r.IntN(20000),
	}
	switch s.r.IntN(8) {
	case 0:
		c.Version = []string{"v2", "v4", ""}[s.r.IntN(3)]
	case 1:
		c.CPUHistogram.TotalWeight *= -1
	case 2:
		c.MemoryHistogram.BucketWeights[176+s.r.IntN(1000)] = 1
	case 3:
		c.MemoryHistogram.BucketWeights[-1-s.r.IntN(1000)] = 1
	}
	loaded := s.fresh()
	wrong := loaded.theirs.LoadFromCheckpoint(c)
	var err error
	loaded.ours, err = s.ours.Load(fromTheirs(s.t, c, false))
	same(s.out, "checkpoint is loaded", err == nil, wrong == nil)
	s.out.coverIf(wrong != nil, "a checkpoint that is refused")
	if err != nil || wrong != nil {
		return
	}
	s.compare(&loaded)
	s.lookAt([]aggregate{loaded})
	s.use(s.r.IntN(len(s.aggregates)), loaded)
	s.out.cover("a checkpoint that nobody saved")
}
