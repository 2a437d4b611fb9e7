package main

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/lab/demo/update"
)

const replicas = 8

// limit is long enough for eight replicas one at a time: 8 × (9 s of loading, 1.5 s of draining, and what scheduling and probes take).
const limit = 110 * time.Second

// way is a manner of updating.
type way struct {
	name     string
	strategy appsv1.DeploymentStrategy
}

func native() []way {
	return []way{
		{"RollingUpdate 25%/25%", update.Default()},
		{"RollingUpdate 1/0", update.Rolling(intstr.FromInt32(1), intstr.FromInt32(0))},
		{"Recreate", appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}},
	}
}

// cases are in the order in which they are played and shown.
func cases(o options) []update.Case {
	var out []update.Case
	add := func(c update.Case) {
		if o.only.MatchString(c.Name) {
			out = append(out, c)
		}
	}
	// On a cluster that is full, Kubernetes' default rounds down to no pod that may be missing, and none fits that may be more.
	add(update.Case{Name: "3 replicas, 3 GPUs, RollingUpdate 25%/25%", Replicas: 3, GPUs: 3, Demand: 15, Strategy: update.Default(), Limit: limit})
	for _, demand := range o.demands {
		for _, gpus := range o.gpus {
			for _, w := range native() {
				name := fmt.Sprintf("%d GPUs, %g/s, %s", gpus, demand, w.name)
				add(update.Case{Name: name, Replicas: replicas, GPUs: gpus, Demand: demand, Strategy: w.strategy, Limit: limit})
			}
			for _, strategy := range []v1alpha1.RolloutStrategy{v1alpha1.StrategyRolling, v1alpha1.StrategyBlueGreen, v1alpha1.StrategyCanary} {
				name := fmt.Sprintf("%d GPUs, %g/s, Headroom %s", gpus, demand, strategy)
				add(update.Case{
					Name: name, Replicas: replicas, GPUs: gpus, Demand: demand, Strategy: update.Default(), Policy: update.Policy(strategy), Limit: limit,
				})
			}
		}
	}
	return out
}
