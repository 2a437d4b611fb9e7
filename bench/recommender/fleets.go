package main

import (
	"encoding/json"
	"fmt"
	"time"

	vpatypes "k8s.io/autoscaler/vertical-pod-autoscaler/pkg/apis/autoscaling.k8s.io/v1"
	"k8s.io/autoscaler/vertical-pod-autoscaler/pkg/recommender/logic"
	"k8s.io/autoscaler/vertical-pod-autoscaler/pkg/recommender/model"

	"headroom.dev/headroom/recommender"
	"headroom.dev/headroom/recommender/vpa"
)

// fleet is what a recommender knows of n containers, each of its own label set, so that none shares an aggregate.
type fleet interface {
	sample(i int, at time.Time, cpu, memory float64) // one of each resource
	// recommend returns requests for both resources.
	recommend(i int, now time.Time) (cpu, memory float64, err error)
	checkpoint(i int, now time.Time) ([]byte, error) // in the bytes that go to the API server
}

// contestant makes fleets.
type contestant struct {
	name    string
	goal    bool // it is held to a quarter of the library's
	make    func(n int) fleet
	restore func(checkpoints [][]byte) (fleet, error) // after a restart
}

func contestants() ([]contestant, error) {
	m, err := vpa.New(vpa.DefaultConfig())
	if err != nil {
		return nil, err
	}
	return []contestant{
		{"VPA", false, newLibraryFleet, restoreLibrary},
		{"recommender/vpa", true, func(n int) fleet { return newTwinFleet(m, n) }, func(c [][]byte) (fleet, error) { return restoreTwin(m, c) }},
		{"recommender", true, newOurFleet, restoreOurs},
	}, nil
}

// libraryFleet is the VPA's own: an aggregate and a container state for each container.
type libraryFleet struct {
	recommender logic.PodResourceRecommender
	containers  []libraryContainer
}

type libraryContainer struct {
	aggregate *model.AggregateContainerState
	state     *model.ContainerState
}

func newLibraryFleet(n int) fleet {
	config := vpaDefault()
	config.floors = true
	f := &libraryFleet{recommender: logic.CreatePodResourceRecommender(config.logic()), containers: make([]libraryContainer, n)}
	for i := range f.containers {
		a := library.make(config.halfLife)
		f.containers[i] = libraryContainer{a, model.NewContainerState(nil, a)}
	}
	return f
}

func (f *libraryFleet) sample(i int, at time.Time, cpu, memory float64) {
	c := f.containers[i].state
	c.AddSample(&model.ContainerUsageSample{MeasureStart: at, Usage: model.CPUAmountFromCores(cpu), Resource: model.ResourceCPU})
	c.AddSample(&model.ContainerUsageSample{MeasureStart: at, Usage: model.MemoryAmountFromBytes(memory), Resource: model.ResourceMemory})
}

func (f *libraryFleet) recommend(i int, _ time.Time) (cpu, memory float64, err error) {
	r := f.recommender.GetRecommendedPodResources(model.ContainerNameToAggregateStateMap{"c": f.containers[i].aggregate})
	target := r["c"].Target
	if target[model.ResourceCPU] <= 0 {
		return 0, 0, fmt.Errorf("the VPA recommends nothing for container %d", i)
	}
	return model.CoresFromCPUAmount(target[model.ResourceCPU]), model.BytesFromMemoryAmount(target[model.ResourceMemory]), nil
}

func (f *libraryFleet) checkpoint(i int, _ time.Time) ([]byte, error) {
	status, err := f.containers[i].aggregate.SaveToCheckpoint()
	if err != nil {
		return nil, err
	}
	return json.Marshal(status)
}

func restoreLibrary(checkpoints [][]byte) (fleet, error) {
	f := newLibraryFleet(len(checkpoints)).(*libraryFleet) //nolint:forcetypeassert // made above
	for i, b := range checkpoints {
		var status vpatypes.VerticalPodAutoscalerCheckpointStatus
		if err := json.Unmarshal(b, &status); err != nil {
			return nil, err
		}
		if err := f.containers[i].aggregate.LoadFromCheckpoint(&status); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// twinFleet is recommender/vpa.
type twinFleet struct {
	model      *vpa.Model
	containers []twinContainer
}

type twinContainer struct {
	aggregate *vpa.Aggregate
	instance  vpa.Instance
}

func newTwinFleet(m *vpa.Model, n int) fleet {
	f := &twinFleet{model: m, containers: make([]twinContainer, n)}
	for i := range f.containers {
		f.containers[i].aggregate = m.NewAggregate()
	}
	return f
}

func (f *twinFleet) sample(i int, at time.Time, cpu, memory float64) {
	c := &f.containers[i]
	millicores, _ := vpa.FromCores(cpu)
	bytes, _ := vpa.FromBytes(memory)
	c.instance.AddCPU(c.aggregate, at, millicores)
	c.instance.AddMemory(c.aggregate, at, bytes)
}

func (f *twinFleet) recommend(i int, _ time.Time) (cpu, memory float64, err error) {
	target := f.model.Estimate(f.containers[i].aggregate, 1).Target
	if target.CPU <= 0 {
		return 0, 0, fmt.Errorf("recommender/vpa recommends nothing for container %d", i)
	}
	return float64(target.CPU) / 1000, float64(target.Memory), nil
}

func (f *twinFleet) checkpoint(i int, now time.Time) ([]byte, error) {
	c := f.containers[i].aggregate.Checkpoint(now, nil)
	return c.AppendJSON(nil), nil
}

func restoreTwin(m *vpa.Model, checkpoints [][]byte) (fleet, error) {
	f := &twinFleet{model: m, containers: make([]twinContainer, len(checkpoints))}
	for i, b := range checkpoints {
		c, err := vpa.ParseCheckpoint(b)
		if err != nil {
			return nil, err
		}
		if f.containers[i].aggregate, err = m.Load(c); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// ourFleet is the default estimator: a Usage for each resource.
type ourFleet []ourContainer

type ourContainer struct{ cpu, memory *recommender.Usage }

func newOurFleet(n int) fleet {
	f := make(ourFleet, n)
	for i := range f {
		f[i] = ourContainer{
			recommender.NewUsage(recommender.CPU, recommender.DefaultPolicy(recommender.CPU)),
			recommender.NewUsage(recommender.Memory, recommender.DefaultPolicy(recommender.Memory)),
		}
	}
	return f
}

func (f ourFleet) sample(i int, at time.Time, cpu, memory float64) {
	f[i].cpu.Add(at, cpu, 1, at)
	f[i].memory.Add(at, memory, 1, at)
}

func (f ourFleet) recommend(i int, now time.Time) (cpu, memory float64, err error) {
	c, m := recommender.Estimate(f[i].cpu, now), recommender.Estimate(f[i].memory, now)
	for _, r := range []*recommender.Recommendation{&c, &m} {
		if !r.Valid {
			return 0, 0, fmt.Errorf("recommender recommends nothing for container %d: %s %s", i, r.Reason, r.Why())
		}
	}
	return c.Request, m.Request, nil
}

func (f ourFleet) checkpoint(i int, now time.Time) ([]byte, error) {
	c := recommender.Checkpoint{At: now, Usages: map[recommender.Key]*recommender.Usage{
		{Container: "c", Resource: recommender.CPU}: f[i].cpu, {Container: "c", Resource: recommender.Memory}: f[i].memory,
	}}
	return c.Encode()
}

func restoreOurs(checkpoints [][]byte) (fleet, error) {
	f := make(ourFleet, len(checkpoints))
	policy := func(k recommender.Key) recommender.Policy { return recommender.DefaultPolicy(k.Resource) }
	for i, b := range checkpoints {
		c, err := recommender.DecodeCheckpoint(b, policy)
		if err != nil {
			return nil, err
		}
		f[i] = ourContainer{c.Usages[recommender.Key{Container: "c", Resource: recommender.CPU}], c.Usages[recommender.Key{Container: "c", Resource: recommender.Memory}]}
	}
	return f, nil
}
