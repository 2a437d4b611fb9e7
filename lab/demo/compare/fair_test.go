package compare

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/scaler/hpa"
	"headroom.dev/headroom/scaler/hpa/kube"
	"headroom.dev/headroom/scaler/simulate"
)

// stock is the scenario's own HPA with another target.
func stock(t *testing.T, s Scenario, target float64) *simulate.StockHPA {
	t.Helper()
	s.Target = target
	text, err := s.manifests()
	require.NoError(t, err)
	for document := range strings.SplitSeq(text, "\n---\n") {
		if strings.Contains(document, "kind: HorizontalPodAutoscaler") {
			var h autoscalingv2.HorizontalPodAutoscaler
			require.NoError(t, yaml.UnmarshalStrict([]byte(document), &h))
			a := kube.Autoscaler(&h.Spec)
			a.Default()
			config := hpa.DefaultConfig()
			require.NoError(t, a.Validate(&config))
			return &simulate.StockHPA{Autoscaler: a}
		}
	}
	t.Fatal("the scenario has no HPA")
	return nil
}

// TestNoTargetIsBetterInBoth plays the scenario's judged days in virtual time under HPAs of several targets: none may miss fewer
// requests for less replica time than the default one, or the comparison would be with an HPA that is badly set. The log has
// the whole frontier (go test -v).
func TestNoTargetIsBetterInBoth(t *testing.T) {
	s := DefaultScenario()
	p, err := s.pattern()
	require.NoError(t, err)
	trace := &simulate.Trace{Name: "wave", Start: zero(), Step: time.Second}
	for at := time.Duration(0); at < s.length(); at += time.Second {
		trace.Rate = append(trace.Rate, p.Rate(at))
	}
	l, err := simulate.NewLoad(trace, simulate.Plant{
		Slots: slots, ServiceTime: 1020 * time.Millisecond, StartUp: s.LoadTime + time.Second, LateAfter: LateAfter - service,
		// What a full queue refuses in the lab would have waited for 4 s.
		Timeout: queue * service / slots, Min: minimum, Max: maximum, Seed: s.Seed,
	})
	require.NoError(t, err)
	judged := func(target float64) (missed, hours float64) {
		parts, err := simulate.Run(l, stock(t, s, target), simulate.RunOptions{Cuts: []time.Duration{time.Duration(s.Learning) * s.Day}})
		require.NoError(t, err)
		r := parts[1]
		t.Logf("%s: %.1f %% on time, %.0f replica-minutes", r.Setting, 100*r.Attainment, 60*r.ReplicaHours)
		return r.Late + r.Failed, r.ReplicaHours
	}
	missed, hours := judged(s.Target)
	for _, target := range []float64{1.2, 1.8, 2.4, 3, 3.6, 4.2, 4.5, 5.1, 5.4, 6} {
		m, h := judged(target)
		require.False(t, m < missed && h < hours, "a target of %g is better in both", target)
	}
}
