package main

import (
	"time"

	"headroom.dev/headroom/recommender"
	"headroom.dev/headroom/recommender/vpa"
)

// twin is recommender/vpa at the VPA's defaults, which must do on every trace what the library does.
func twin(model *vpa.Model) setting {
	return setting{group: groupTwin, name: "recommender/vpa", named: true, make: func(r recommender.Resource) policy {
		return &twinPolicy{resource: r, model: model, aggregate: model.NewAggregate()}
	}}
}

// twinModel is the default without floors, as the library is tried first.
func twinModel() (*vpa.Model, error) {
	c := vpa.DefaultConfig()
	c.PodMinCPU, c.PodMinMemoryMB = 0, 0
	return vpa.New(c)
}

type twinPolicy struct {
	resource  recommender.Resource
	model     *vpa.Model
	aggregate *vpa.Aggregate
	instance  vpa.Instance
}

// add gives the same as stockPolicy.add does.
func (p *twinPolicy) add(at time.Time, value float64) {
	if p.resource == recommender.Memory && value == 0 {
		return
	}
	cpu := int64(1)
	if p.resource == recommender.CPU {
		cpu, _ = vpa.FromCores(value)
	} else {
		bytes, _ := vpa.FromBytes(value)
		p.instance.AddMemory(p.aggregate, at, bytes)
	}
	p.instance.AddCPU(p.aggregate, at, cpu)
}

func (p *twinPolicy) oom(at time.Time, request float64) {
	bytes, _ := vpa.FromBytes(request)
	_ = p.instance.AddOOM(p.aggregate, at, bytes) // too old: it is not
}

func (p *twinPolicy) version(time.Time) {}

func (p *twinPolicy) recommend(time.Time) advice {
	if p.aggregate.Empty() {
		return none()
	}
	e := p.model.Estimate(p.aggregate, 1)
	if p.resource == recommender.CPU {
		return advice{true, float64(e.Target.CPU) / 1000, float64(e.Lower.CPU) / 1000, float64(e.Upper.CPU) / 1000}
	}
	return advice{true, float64(e.Target.Memory), float64(e.Lower.Memory), float64(e.Upper.Memory)}
}
