package compare

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/lab/inference"
	"headroom.dev/headroom/lab/kubelet"
)

func TestScenarioManifests(t *testing.T) {
	s := DefaultScenario()
	require.NoError(t, s.Validate())
	text, err := s.manifests()
	require.NoError(t, err)
	kinds := map[string]int{}
	for document := range strings.SplitSeq(text, "\n---\n") {
		var head struct {
			Kind string `json:"kind"`
			Spec struct {
				Template struct {
					Metadata struct {
						Annotations map[string]string `json:"annotations"`
					} `json:"metadata"`
				} `json:"template"`
			} `json:"spec"`
		}
		require.NoError(t, yaml.Unmarshal([]byte(document), &head), document)
		kinds[head.Kind]++
		switch head.Kind {
		case "Deployment":
			spec, err := inference.ParseSpec(head.Spec.Template.Metadata.Annotations[kubelet.SimulateAnnotation])
			require.NoError(t, err)
			require.Equal(t, time.Minute, spec.Startup.Median)
			require.Equal(t, slots, spec.Slots)
		case "HorizontalPodAutoscaler":
			var hpa autoscalingv2.HorizontalPodAutoscaler
			require.NoError(t, yaml.UnmarshalStrict([]byte(document), &hpa))
			require.EqualValues(t, 4800, hpa.Spec.Metrics[0].Pods.Target.AverageValue.MilliValue(), "80 % of what a replica serves")
			require.EqualValues(t, 60, *hpa.Spec.Behavior.ScaleDown.StabilizationWindowSeconds)
			require.Equal(t, Stock.name(), hpa.Spec.ScaleTargetRef.Name)
		case v1alpha1.KindScalePolicy:
			var p v1alpha1.ScalePolicy
			require.NoError(t, yaml.UnmarshalStrict([]byte(document), &p))
			require.Equal(t, v1alpha1.ModeAct, p.Spec.Mode)
			require.Equal(t, Policy.name(), p.Spec.TargetRef.Name)
			require.EqualValues(t, Utilization, p.Spec.UtilizationPercent)
			require.EqualValues(t, 6000, p.Spec.CapacityPerReplica.MilliValue())
			require.Equal(t, 2*time.Second, p.Spec.Forecast.Step.Duration)
			require.Equal(t, time.Minute, p.Spec.ScaleDownWindow.Duration)
		}
	}
	require.Equal(t, map[string]int{
		"Namespace": 1, "Deployment": 2, "Service": 2, "HorizontalPodAutoscaler": 1, v1alpha1.KindScalePolicy: 1,
	}, kinds)
}

func TestScenarioRefusesWhatCannotWork(t *testing.T) {
	for want, change := range map[string]func(*Scenario){
		"--day must be":               func(s *Scenario) { s.Day = time.Minute },
		"--days must be":              func(s *Scenario) { s.Days = 1 },
		"--learning-days must be":     func(s *Scenario) { s.Learning = 7 },
		"--load-time must":            func(s *Scenario) { s.LoadTime = s.Day },
		"--hpa-target must be":        func(s *Scenario) { s.Target = math.NaN() },
		"--scale-down-window must be": func(s *Scenario) { s.Window = -time.Second },
		"--night must be":             func(s *Scenario) { s.Night = 100 },
		"--peak must be":              func(s *Scenario) { s.Peak = 61 },
		"noise 7 is not in":           func(s *Scenario) { s.Noise = 7 },
	} {
		s := DefaultScenario()
		change(&s)
		require.ErrorContains(t, s.Validate(), want)
	}
}

func TestHoursAndDays(t *testing.T) {
	s := DefaultScenario()
	require.Equal(t, "00:00", s.hour(0))
	require.Equal(t, "12:00", s.hour(s.Day+s.Day/2))
	require.Equal(t, 1, s.day(s.Day))
	require.Equal(t, 6, s.day(10*s.Day), "what ends after the last day belongs to it")
	require.False(t, s.judged(4))
	require.True(t, s.judged(5))
}

// times are when slots fall free, the earliest first.
type times []float64

func (x times) Len() int           { return len(x) }
func (x times) Less(i, j int) bool { return x[i] < x[j] }
func (x times) Swap(i, j int)      { x[i], x[j] = x[j], x[i] }
func (x *times) Push(v any)        { *x = append(*x, v.(float64)) }
func (x *times) Pop() any          { panic("slots are never taken away") }

// missedAt plays Poisson arrivals to one replica's slots and returns the share that is late or refused.
func missedAt(rate float64, seed uint64) float64 {
	const requests = 200_000
	rng := rand.New(rand.NewPCG(seed, 0))
	free := make(times, slots)
	var waiting []float64 // when those in the queue start
	now, missed := 0.0, 0
	for range requests {
		now += rng.ExpFloat64() / rate
		for len(waiting) > 0 && waiting[0] <= now {
			waiting = waiting[1:]
		}
		start := max(now, free[0])
		if start > now {
			if len(waiting) >= queue {
				missed++
				continue
			}
			waiting = append(waiting, start)
		}
		free[0] = start + service.Seconds()*math.Exp(sigma*rng.NormFloat64())
		if free[0]-now > LateAfter.Seconds() {
			missed++
		}
		heap.Fix(&free, 0)
	}
	return float64(missed) / requests
}

// TestCapacityIsWhatTheSLOGives: at the stated capacity fewer than 1 of 100 requests are missed, a sixth above it more.
func TestCapacityIsWhatTheSLOGives(t *testing.T) {
	const seed = 1
	require.Less(t, missedAt(Capacity, seed), 0.01)
	require.Greater(t, missedAt(Capacity*7/6, seed), 0.01)
	require.Less(t, missedAt(Capacity*Utilization/100, seed), 0.001)
}
