package exact

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	vpav1 "k8s.io/autoscaler/vertical-pod-autoscaler/pkg/apis/autoscaling.k8s.io/v1"
	"k8s.io/autoscaler/vertical-pod-autoscaler/pkg/recommender/logic"
	"k8s.io/autoscaler/vertical-pod-autoscaler/pkg/recommender/model"
	"k8s.io/autoscaler/vertical-pod-autoscaler/pkg/recommender/routines"
	"k8s.io/autoscaler/vertical-pod-autoscaler/pkg/recommender/util"

	"headroom.dev/headroom/recommender/histogram"
	"headroom.dev/headroom/recommender/vpa"
)

// theirHistogram is laid out as util.decayingHistogram, whose fields are not exported. TestLayout checks that.
type theirHistogram struct {
	options            util.HistogramOptions
	bucketWeight       []float64
	totalWeight        float64
	minBucket          int
	maxBucket          int
	halfLife           time.Duration
	referenceTimestamp time.Time
}

func view(h util.Histogram) *theirHistogram {
	return (*theirHistogram)(reflect.ValueOf(h).UnsafePointer())
}

// theirInstance is laid out as model.ContainerState.
type theirInstance struct {
	request             model.Resources
	lastCPU             time.Time
	memoryPeak, oomPeak model.ResourceAmount
	windowEnd           time.Time
	lastMemory          time.Time
	aggregator          model.ContainerStateAggregator
}

func viewInstance(c *model.ContainerState) *theirInstance {
	return (*theirInstance)(unsafe.Pointer(c))
}

// TestLayout wants the library's structs to be as the views above take them to be.
func TestLayout(t *testing.T) {
	h := util.NewDecayingHistogram(model.GetAggregationsConfig().CPUHistogramOptions, time.Hour)
	theirs, ours := reflect.TypeOf(h).Elem(), reflect.TypeFor[theirHistogram]()
	inner := theirs.Field(0).Type
	require.Equal(t, "histogram", theirs.Field(0).Name)
	require.Equal(t, ours.Size(), theirs.Size())
	require.Equal(t, ours.NumField(), inner.NumField()+theirs.NumField()-1)
	for i := range ours.NumField() {
		f := ours.Field(i)
		from := theirs
		if i < inner.NumField() {
			from = inner
		}
		g, ok := from.FieldByName(f.Name)
		require.True(t, ok, f.Name)
		assert.Equal(t, g.Type, f.Type, f.Name)
		assert.Equal(t, g.Offset, f.Offset, f.Name)
	}

	container, mine := reflect.TypeFor[model.ContainerState](), reflect.TypeFor[theirInstance]()
	names := []string{"Request", "LastCPUSampleStart", "memoryPeak", "oomPeak", "WindowEnd", "lastMemorySampleStart", "aggregator"}
	require.Equal(t, len(names), container.NumField())
	for i, name := range names {
		f := container.Field(i)
		assert.Equal(t, name, f.Name)
		assert.Equal(t, mine.Field(i).Type, f.Type, name)
		assert.Equal(t, mine.Field(i).Offset, f.Offset, name)
	}
}

// configure makes the library's configuration of ours, and returns its recommender.
func configure(c *vpa.Config) (logic.PodResourceRecommender, logic.RecommendationFormat) {
	model.InitializeAggregationsConfig(model.NewAggregationsConfig(c.MemoryInterval, c.MemoryIntervals, c.Memory.HalfLife, c.CPU.HalfLife, c.OOMBumpUpRatio, c.OOMMinBumpUp))
	return logic.CreatePodResourceRecommender(logic.RecommendationConfig{
		SafetyMarginFraction: c.Margin, PodMinCPUMillicores: c.PodMinCPU, PodMinMemoryMb: c.PodMinMemoryMB,
		TargetCPUPercentile: c.CPU.Target, LowerBoundCPUPercentile: c.CPU.Lower, UpperBoundCPUPercentile: c.CPU.Upper,
		ConfidenceIntervalCPU:  c.CPU.Confidence,
		TargetMemoryPercentile: c.Memory.Target, LowerBoundMemoryPercentile: c.Memory.Lower, UpperBoundMemoryPercentile: c.Memory.Upper,
		ConfidenceIntervalMemory: c.Memory.Confidence,
	}), logic.RecommendationFormat{RoundCPUMillicores: int(c.RoundCPU), RoundMemoryBytes: int(c.RoundMemory)}
}

// subtractPeak is checkpoint.subtractCurrentContainerMemoryPeak.
func subtractPeak(a *model.AggregateContainerState, c *model.ContainerState, now time.Time) {
	if now.Before(c.WindowEnd) {
		a.AggregateMemoryPeaks.SubtractSample(model.BytesFromMemoryAmount(c.GetMaxMemoryPeak()), 1.0, c.WindowEnd)
	}
}

// post is what the recommender does with a recommendation before it writes it.
func post(r logic.RecommendedPodResources, f logic.RecommendationFormat, name string, rules vpa.Rules) *vpav1.RecommendedContainerResources {
	object := &vpav1.VerticalPodAutoscaler{}
	policy := vpav1.ContainerResourcePolicy{ContainerName: name, MinAllowed: list(rules.MinAllowed), MaxAllowed: list(rules.MaxAllowed)}
	object.Spec.ResourcePolicy = &vpav1.PodResourcePolicy{ContainerPolicies: []vpav1.ContainerResourcePolicy{policy}}
	if rules.IntegerCPU {
		object.Annotations = map[string]string{"vpa-post-processor.kubernetes.io/" + name + "_integerCPU": "true"}
	}
	out := logic.MapToListOfRecommendedContainerResources(r, f)
	out = (&routines.IntegerCPUPostProcessor{}).Process(object, out)
	out = routines.NewCappingRecommendationProcessor(nil).Process(object, out)
	for i := range out.ContainerRecommendations {
		if out.ContainerRecommendations[i].ContainerName == name {
			return &out.ContainerRecommendations[i]
		}
	}
	return nil
}

func list(a vpa.Amounts) corev1.ResourceList {
	l := corev1.ResourceList{}
	if a.CPU != 0 {
		l[corev1.ResourceCPU] = *resource.NewMilliQuantity(a.CPU, resource.DecimalSI)
	}
	if a.Memory != 0 {
		l[corev1.ResourceMemory] = *resource.NewQuantity(a.Memory, resource.BinarySI)
	}
	return l
}

func amounts(l corev1.ResourceList) vpa.Amounts {
	return vpa.Amounts{CPU: l.Cpu().MilliValue(), Memory: l.Memory().Value()}
}

// fromTheirs makes our checkpoint of the library's: as it is, or by way of JSON.
func fromTheirs(t testing.TB, c *vpav1.VerticalPodAutoscalerCheckpointStatus, wire bool) *vpa.Checkpoint {
	if wire {
		b, err := json.Marshal(c)
		require.NoError(t, err)
		parsed, err := vpa.ParseCheckpoint(b)
		require.NoError(t, err, "%s", b)
		return parsed
	}
	h := func(c *vpav1.HistogramCheckpoint) histogram.Checkpoint {
		out := histogram.Checkpoint{Reference: c.ReferenceTimestamp.Time, Total: c.TotalWeight}
		for b := math.MinInt16; b < math.MaxInt16 && len(c.BucketWeights) > 0; b++ {
			if w, ok := c.BucketWeights[b]; ok {
				out.Weights = append(out.Weights, histogram.Weight{Bucket: int32(b), Weight: w})
			}
		}
		return out
	}
	return &vpa.Checkpoint{
		Updated: c.LastUpdateTime.Time, Version: c.Version, First: c.FirstSampleStart.Time, Last: c.LastSampleStart.Time,
		Samples: c.TotalSamplesCount, CPU: h(&c.CPUHistogram), Memory: h(&c.MemoryHistogram),
	}
}

// fromOurs makes the library's checkpoint of ours.
func fromOurs(t testing.TB, c *vpa.Checkpoint, wire bool) *vpav1.VerticalPodAutoscalerCheckpointStatus {
	if wire {
		out := &vpav1.VerticalPodAutoscalerCheckpointStatus{}
		b := c.AppendJSON(nil)
		require.NoError(t, json.Unmarshal(b, out), "%s", b)
		return out
	}
	h := func(c histogram.Checkpoint) vpav1.HistogramCheckpoint {
		out := vpav1.HistogramCheckpoint{ReferenceTimestamp: metav1.NewTime(c.Reference), TotalWeight: c.Total, BucketWeights: map[int]uint32{}}
		for _, w := range c.Weights {
			out.BucketWeights[int(w.Bucket)] = w.Weight
		}
		return out
	}
	return &vpav1.VerticalPodAutoscalerCheckpointStatus{
		LastUpdateTime: metav1.NewTime(c.Updated), Version: c.Version, FirstSampleStart: metav1.NewTime(c.First),
		LastSampleStart: metav1.NewTime(c.Last), TotalSamplesCount: c.Samples, CPUHistogram: h(c.CPU), MemoryHistogram: h(c.Memory),
	}
}
