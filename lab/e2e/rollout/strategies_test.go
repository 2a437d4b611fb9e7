package rollout

import (
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"

	"headroom.dev/headroom/api/v1alpha1"
)

// inForce waits until the policy holds its workload.
func (s *service) inForce() {
	s.t.Helper()
	s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.True(t, meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionReady), "%s", told(p))
		require.Equal(t, "Resting", p.Status.Phase, "%s", told(p))
	})
}

func (s *service) controller() *controller {
	return newController(s.t, setup{config: shared.Config, namespace: s.namespace, plane: s.plane, log: logger(s.t)})
}

func TestRolloutRolling(t *testing.T) {
	s := deploy(t, 4, nil)
	run(t, always(s.controller()))
	s.policy("strategy: Rolling")
	s.inForce()
	s.update(version{name: "v2"})
	p := s.completed("v2")
	s.serves("v2", 4)
	require.Len(t, p.Status.History, 1, "%s", told(p))
	require.Equal(t, "Completed", p.Status.History[0].Outcome)
	s.remove()
}
