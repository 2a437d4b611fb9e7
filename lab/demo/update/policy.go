package update

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/progress"
)

// Policy is what the owner of the service states, for a strategy. What is judged is another matter: steps pass as soon as they are
// reached, so that times can be compared with Kubernetes' strategies, which judge nothing.
func Policy(strategy v1alpha1.RolloutStrategy) *v1alpha1.RolloutPolicySpec {
	spec := &v1alpha1.RolloutPolicySpec{
		Strategy: strategy, CapacityPerReplica: new(resource.MustParse(fmt.Sprint(Capacity))),
		StartupTime: &metav1.Duration{Duration: StartUp + time.Second}, DrainTime: &metav1.Duration{Duration: Drain}, // a probe's period
	}
	switch strategy {
	case v1alpha1.StrategyCanary:
		spec.Canary = &v1alpha1.CanaryStrategy{Steps: []v1alpha1.CanaryStep{{Replicas: new(int32(1)), Unjudged: true}, {Percent: new(int32(50)), Unjudged: true}}}
	case v1alpha1.StrategyBlueGreen:
		spec.BlueGreen = &v1alpha1.BlueGreenStrategy{Unjudged: true}
		spec.Traffic = &v1alpha1.TrafficRouting{Service: Name, Switch: true}
	case v1alpha1.StrategyRolling, v1alpha1.StrategyRecreate:
	}
	return spec
}

// Hasten makes the controller look at policies that nothing changes about every second: its 15 s, compressed.
func Hasten(ctx context.Context, c lab.Cluster, p *progress.Printer) error {
	step := p.Step("controller's period")
	const patch = `[{"op":"add","path":"/spec/template/spec/containers/0/args/-","value":"--period=1s"}]`
	for _, args := range [][]string{
		{"patch", "deployment/headroom-controller", "-n", "headroom-system", "--type=json", "-p", patch},
		{"rollout", "status", "deployment/headroom-controller", "-n", "headroom-system", "--timeout=2m"},
	} {
		if _, err := c.Run(ctx, args...); err != nil {
			return fmt.Errorf("cannot set the controller's period: %w", err)
		}
	}
	step.Done("1s")
	return nil
}
