package compare

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/scaler/simulate"
)

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
		parts, err := simulate.Run(l, &simulate.HPA{Target: target, Window: s.Window}, simulate.RunOptions{Cuts: []time.Duration{time.Duration(s.Learning) * s.Day}})
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
