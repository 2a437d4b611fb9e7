package observe

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
)

func TestReactionCountsFromTheStep(t *testing.T) {
	zero := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(s float64) time.Time { return zero.Add(time.Duration(s * float64(time.Second))) }
	h := History{
		Readings: []Reading{
			{Time: at(-1), Metric: "rps", Mean: 99, Pods: 2}, // before the step: an older peak
			{Time: at(0.5), Metric: "gpu", Mean: 99, Pods: 2},
			{Time: at(1), Metric: "rps", Mean: 11, Pods: 2}, // within the tolerance
			{Time: at(1.5), Metric: "rps", Missing: "connection refused"},
			{Time: at(2), Metric: "rps", Mean: 12, Pods: 2},
			{Time: at(3), Metric: "rps", Mean: 20, Pods: 2},
		},
		Scales: []Scale{{at(-60), 7}, {at(-30), 2}, {at(4), 1}, {at(5), 3}, {at(6), 6}},
		Ready:  []PodReady{{at(-20), "a"}, {at(14), "b"}, {at(15), "c"}},
	}
	r := h.React(zero, "rps", 11)
	require.Equal(t, Reaction{
		Metric: Elapsed{2, true}, Decision: Elapsed{5, true}, Ready: Elapsed{14, true},
	}, r)
	require.EqualValues(t, 2, h.WantedAt(zero))

	none := h.React(at(20), "rps", 11)
	require.Equal(t, Reaction{}, none)
	require.Equal(t, "not seen", none.Metric.String())
}

func TestRescaleMessages(t *testing.T) {
	now := time.Now()
	r, err := parseRescale(now, "New size: 6; reason: pods metric requests_per_second above target")
	require.NoError(t, err)
	require.Equal(t, Rescale{now, 6, "pods metric requests_per_second above target"}, r)
	for _, bad := range []string{"", "New size: x; reason: y", "New size: 6", "old"} {
		_, err := parseRescale(now, bad)
		require.Error(t, err, bad)
	}
}

func TestReadingKeepsTheOldestAgeAndTheMean(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 9, 0, time.UTC)
	item := func(value string, age time.Duration) v1beta2.MetricValue {
		return v1beta2.MetricValue{Value: resource.MustParse(value), Timestamp: metav1.NewTime(now.Add(-age))}
	}
	r := read(now, "m", v1beta2.MetricValueList{Items: []v1beta2.MetricValue{item("500m", time.Second), item("1500m", 3*time.Second)}})
	require.Equal(t, Reading{Time: now, Metric: "m", Mean: 1, Pods: 2, Age: 3 * time.Second}, r)
	require.Equal(t, "an empty list", read(now, "m", v1beta2.MetricValueList{}).Missing)
}
