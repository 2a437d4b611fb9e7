package main

import (
	"fmt"
	"sync"
	"time"

	"k8s.io/autoscaler/vertical-pod-autoscaler/pkg/recommender/logic"
	"k8s.io/autoscaler/vertical-pod-autoscaler/pkg/recommender/model"

	"headroom.dev/headroom/recommender"
)

// vpaConfig is what an operator may set of the VPA's recommender by flags; the zero value of floors is none.
type vpaConfig struct {
	percentile, margin float64
	halfLife           time.Duration
	floors             bool
}

func vpaDefault() vpaConfig {
	return vpaConfig{percentile: 0.9, margin: 0.15, halfLife: 24 * time.Hour}
}

// stock is the library at its default, with and without floors, and unless it must be short a grid of other parameters.
func stock(short bool) []setting {
	add := func(group, name string, named bool, c vpaConfig) setting {
		return setting{group: group, name: name, named: named, make: func(r recommender.Resource) policy { return newStockPolicy(r, c) }}
	}
	floors := vpaDefault()
	floors.floors = true
	list := []setting{add(groupVPA, "VPA", true, vpaDefault()), add(groupVPA, "VPA, floors on", true, floors)}
	if short {
		return list
	}
	for _, percentile := range []float64{0.8, 0.9, 0.95, 0.98, 0.99, 0.999} {
		for _, margin := range []float64{0, 0.15, 0.3} {
			for _, halfLife := range []time.Duration{6 * time.Hour, 24 * time.Hour, 72 * time.Hour} {
				c := vpaConfig{percentile: percentile, margin: margin, halfLife: halfLife}
				if c != vpaDefault() {
					list = append(list, add(groupTuned, fmt.Sprintf("VPA p%g +%.0f%% %.0fh", percentile*100, margin*100, halfLife.Hours()), false, c))
				}
			}
		}
	}
	return list
}

func (c vpaConfig) logic() logic.RecommendationConfig {
	config := logic.RecommendationConfig{
		SafetyMarginFraction: c.margin,
		TargetCPUPercentile:  c.percentile, LowerBoundCPUPercentile: 0.5, UpperBoundCPUPercentile: max(0.95, c.percentile), ConfidenceIntervalCPU: 24 * time.Hour,
		TargetMemoryPercentile: c.percentile, LowerBoundMemoryPercentile: 0.5, UpperBoundMemoryPercentile: max(0.95, c.percentile), ConfidenceIntervalMemory: 24 * time.Hour,
	}
	if c.floors {
		config.PodMinCPUMillicores, config.PodMinMemoryMb = 25, 250
	}
	return config
}

// stockPolicy is the VPA's model of one container, and its recommender.
type stockPolicy struct {
	resource    recommender.Resource
	aggregate   *model.AggregateContainerState
	container   *model.ContainerState
	recommender logic.PodResourceRecommender
	states      model.ContainerNameToAggregateStateMap
}

// aggregates guards the library's global configuration, which an aggregate takes its half-lives from when it is made.
type aggregates struct{ sync.Mutex }

func (a *aggregates) make(halfLife time.Duration) *model.AggregateContainerState {
	a.Lock()
	defer a.Unlock()
	model.InitializeAggregationsConfig(model.NewAggregationsConfig(model.DefaultMemoryAggregationInterval, model.DefaultMemoryAggregationIntervalCount,
		halfLife, halfLife, model.DefaultOOMBumpUpRatio, model.DefaultOOMMinBumpUp))
	return model.NewAggregateContainerState()
}

var library aggregates //nolint:gochecknoglobals // it guards a global variable of the library

func newStockPolicy(r recommender.Resource, c vpaConfig) *stockPolicy {
	p := &stockPolicy{resource: r, aggregate: library.make(c.halfLife), recommender: logic.CreatePodResourceRecommender(c.logic())}
	p.container = model.NewContainerState(nil, p.aggregate)
	p.states = model.ContainerNameToAggregateStateMap{"c": p.aggregate}
	return p
}

// add gives the sample. The library tells how long the history is by CPU samples alone, so memory gets one beside it. Of no
// memory at all metrics-server says nothing, and the library, which takes 0 for no peak yet, would lose the window's peak by it.
func (p *stockPolicy) add(at time.Time, value float64) {
	if p.resource == recommender.Memory && value == 0 {
		return
	}
	cpu := model.ContainerUsageSample{MeasureStart: at, Usage: 1, Resource: model.ResourceCPU}
	if p.resource == recommender.CPU {
		cpu.Usage = model.CPUAmountFromCores(value)
	} else {
		p.container.AddSample(&model.ContainerUsageSample{MeasureStart: at, Usage: model.MemoryAmountFromBytes(value), Resource: model.ResourceMemory})
	}
	p.container.AddSample(&cpu)
}

func (p *stockPolicy) oom(at time.Time, request float64) {
	// The only error is of a kill that is too old, and this one is now.
	_ = p.container.RecordOOM(at, model.MemoryAmountFromBytes(request))
}

// version: the VPA merges what all versions of a workload used.
func (p *stockPolicy) version(time.Time) {}

func (p *stockPolicy) recommend(time.Time) advice {
	if p.aggregate.TotalSamplesCount == 0 {
		return none()
	}
	r := p.recommender.GetRecommendedPodResources(p.states)["c"]
	if p.resource == recommender.CPU {
		return advice{
			true, model.CoresFromCPUAmount(r.Target[model.ResourceCPU]),
			model.CoresFromCPUAmount(r.LowerBound[model.ResourceCPU]), model.CoresFromCPUAmount(r.UpperBound[model.ResourceCPU]),
		}
	}
	return advice{
		true, model.BytesFromMemoryAmount(r.Target[model.ResourceMemory]),
		model.BytesFromMemoryAmount(r.LowerBound[model.ResourceMemory]), model.BytesFromMemoryAmount(r.UpperBound[model.ResourceMemory]),
	}
}
