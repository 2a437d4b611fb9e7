package policy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/scaler"
)

// spec is a valid one, as the API server completes it.
func spec(change func(s *v1alpha1.ScalePolicySpec)) *v1alpha1.ScalePolicySpec {
	s := &v1alpha1.ScalePolicySpec{
		TargetRef: v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "chat"}, Mode: v1alpha1.ModeAct,
		MinReplicas: new(int32(2)), MaxReplicas: 9, Demand: v1alpha1.DemandSource{Metric: "requests_per_second"},
		SLO:                &v1alpha1.ServiceLevel{Metric: "request_latency_p95_ms", Target: resource.MustParse("500")},
		UtilizationPercent: 80, Forecast: v1alpha1.ForecastOptions{QuantilePercent: 95},
	}
	if change != nil {
		change(s)
	}
	return s
}

// noon is a Saturday.
var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func TestSettings(t *testing.T) {
	s, err := Read(spec(nil), 15*time.Second)
	require.NoError(t, err)
	assert.Equal(t, Settings{Metric: "requests_per_second", Latency: "request_latency_p95_ms", Config: scaler.Config{
		Policy: scaler.Policy{Min: 2, Max: 9, Utilization: 0.8, Quantile: 0.95, Period: 15 * time.Second}, LatencyTarget: 500,
	}}, s)

	s, err = Read(spec(func(s *v1alpha1.ScalePolicySpec) {
		s.MinReplicas, s.SLO, s.Demand = nil, nil, v1alpha1.DemandSource{Metric: InFlight}
		s.CapacityPerReplica = new(resource.MustParse("2500m"))
		s.StartupTime = &metav1.Duration{Duration: 3 * time.Minute}
		s.ScaleDownWindow = &metav1.Duration{}
		s.Forecast = v1alpha1.ForecastOptions{Disabled: true, QuantilePercent: 90, Step: &metav1.Duration{Duration: time.Second}}
	}), 15*time.Second)
	require.NoError(t, err)
	assert.Equal(t, Settings{Metric: InFlight, Config: scaler.Config{
		Policy: scaler.Policy{
			Min: 1, Max: 9, Capacity: 2.5, StartUp: 3 * time.Minute, Utilization: 0.8, Quantile: 0.9, Concurrency: true,
			Window: 1, Period: time.Second, // none, which is not the scaler's default; and no step without a look
		}, Step: time.Second, NoForecast: true,
	}}, s)
}

func TestSettingsNameTheField(t *testing.T) {
	f := func(want string, change func(s *v1alpha1.ScalePolicySpec)) {
		t.Helper()
		_, err := Read(spec(change), 15*time.Second)
		require.EqualError(t, err, want)
		assert.Equal(t, v1alpha1.ReasonInvalid, ErrorOf(err).Reason)
	}
	f("spec.minReplicas: 10 is above maxReplicas, 9", func(s *v1alpha1.ScalePolicySpec) { s.MinReplicas = new(int32(10)) })
	f("spec.capacityPerReplica: 0 is not positive", func(s *v1alpha1.ScalePolicySpec) { s.CapacityPerReplica = new(resource.MustParse("0")) })
	f("spec.slo.target: -5 is not positive", func(s *v1alpha1.ScalePolicySpec) { s.SLO.Target = resource.MustParse("-5") })
	f("spec.slo: without it or capacityPerReplica nothing says how much a replica can serve", func(s *v1alpha1.ScalePolicySpec) { s.SLO = nil })
	f("spec.demand: metric and query are both set", func(s *v1alpha1.ScalePolicySpec) { s.Demand.Query = "sum(x)" })
	floor := func(start, zone string, duration time.Duration, replicas int32) func(s *v1alpha1.ScalePolicySpec) {
		return func(s *v1alpha1.ScalePolicySpec) {
			s.Schedule = []v1alpha1.ScheduledFloor{
				{Name: "good", Start: "0 7 * * *", Duration: metav1.Duration{Duration: time.Hour}, MinReplicas: 2},
				{Name: "bad", Start: start, TimeZone: zone, Duration: metav1.Duration{Duration: duration}, MinReplicas: replicas},
			}
		}
	}
	f(`spec.schedule[1].start: "0 7 * *" is no cron expression: expected exactly 5 fields, found 4: [0 7 * *]`, floor("0 7 * *", "", time.Hour, 2))
	f(`spec.schedule[1].start: "TZ=UTC 0 7 * * *" names a time zone, which is for timeZone to say`, floor("TZ=UTC 0 7 * * *", "", time.Hour, 2))
	f(`spec.schedule[1].timeZone: unknown time zone Mars/Olympus`, floor("0 7 * * *", "Mars/Olympus", time.Hour, 2))
	f(`spec.schedule[1].timeZone: "Local" is no IANA time zone`, floor("0 7 * * *", "Local", time.Hour, 2))
	f(`spec.schedule[1].duration: 0s is not positive`, floor("0 7 * * *", "", 0, 2))
	f(`spec.schedule[1].minReplicas: 10 is above maxReplicas, 9`, floor("0 7 * * *", "", time.Hour, 10))
}

// TestFloors asks every quarter of an hour and compares with a walk over every minute: what stands at a time is what a cron
// expression started within its duration before.
func TestFloors(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	// 2026-10-25 has 25 hours in Berlin, 2026-03-29 has 23.
	for _, day := range []time.Time{time.Date(2026, 10, 24, 0, 0, 0, 0, berlin), time.Date(2026, 3, 28, 0, 0, 0, 0, berlin), time.Date(2026, 6, 1, 0, 0, 0, 0, berlin)} {
		for _, f := range []v1alpha1.ScheduledFloor{
			{Name: "morning", Start: "0 7 * * 1-5", TimeZone: "Europe/Berlin", Duration: metav1.Duration{Duration: 90 * time.Minute}, MinReplicas: 3},
			{Name: "hourly", Start: "30 * * * *", Duration: metav1.Duration{Duration: 20 * time.Minute}, MinReplicas: 3},
			{Name: "overlapping", Start: "0 */2 * * *", Duration: metav1.Duration{Duration: 3 * time.Hour}, MinReplicas: 3},
			{Name: "weekly", Start: "0 0 * * 0", Duration: metav1.Duration{Duration: 50 * time.Hour}, MinReplicas: 3},
		} {
			s, err := parse([]v1alpha1.ScheduledFloor{f}, 9)
			require.NoError(t, err)
			for now := day; now.Before(day.Add(72 * time.Hour)); now = now.Add(15 * time.Minute) {
				stands := false
				for ago := time.Duration(0); ago < f.Duration.Duration; ago += time.Minute {
					minute := now.Add(-ago)
					stands = stands || s[0].start.Next(minute.Add(-time.Second).In(s[0].zone)).Equal(minute)
				}
				found := s.Floors(now, now)
				require.Equal(t, stands, len(found) == 1, "%s at %s: %v", f.Name, now, found)
				if stands {
					require.False(t, found[0].Start.After(now))
					require.True(t, found[0].End.After(now))
				}
			}
		}
	}
}

func TestFloorsAhead(t *testing.T) {
	s, err := parse([]v1alpha1.ScheduledFloor{
		{Name: "launch", Start: "0 13 * * *", Duration: metav1.Duration{Duration: time.Hour}, MinReplicas: 5},
	}, 9)
	require.NoError(t, err)
	assert.Empty(t, s.Floors(noon, noon.Add(59*time.Minute)))
	want := scaler.Floor{Name: "launch", Start: noon.Add(time.Hour), End: noon.Add(2 * time.Hour), Replicas: 5}
	assert.Equal(t, []scaler.Floor{want}, s.Floors(noon, noon.Add(time.Hour)), "ordered so early that they serve at 13:00")
	assert.Empty(t, s.Floors(noon.Add(2*time.Hour), noon.Add(2*time.Hour)), "it is over")
}
