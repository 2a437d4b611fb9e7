package hpa

import (
	"fmt"
	"slices"
	"time"
)

// The API's bounds, of pkg/apis/autoscaling/validation: a window and a period.
const (
	maxWindow = time.Hour
	maxPeriod = 30 * time.Minute
)

// Default sets what is unset, as the API server does (SetDefaults_HorizontalPodAutoscaler): one replica at least, 80 % of the
// CPU request, and where there is a behavior, those of its fields that are "" or nil.
func (a *Autoscaler) Default() {
	if a.Min == nil {
		a.Min = new(int32(1))
	}
	if len(a.Metrics) == 0 {
		a.Metrics = []Metric{{Source: Resource, Name: "cpu", Kind: Utilization, Target: 80}}
	}
	if a.Behavior != nil {
		a.Behavior.Up.fill(DefaultScaleUp())
		a.Behavior.Down.fill(DefaultScaleDown())
	}
}

func (r *Rules) fill(with Rules) {
	if r.Window == nil {
		r.Window = with.Window
	}
	if r.Select == "" {
		r.Select = with.Select
	}
	if r.Policies == nil {
		r.Policies = with.Policies
	}
}

// DefaultScaleUp are the rules that the API server writes where behavior says nothing of scaling up.
func DefaultScaleUp() Rules {
	const period = 15 * time.Second
	return Rules{
		Window: new(time.Duration), Select: MaxChange,
		Policies: []Policy{{Value: 4, Period: period}, {Percent: true, Value: 100, Period: period}},
	}
}

// DefaultScaleDown are the same for scaling down. Their window is the controller's flag.
func DefaultScaleDown() Rules {
	return Rules{Select: MaxChange, Policies: []Policy{{Percent: true, Value: 100, Period: 15 * time.Second}}}
}

// Validate names the first field, by its path in a manifest, that the API server would refuse.
func (a *Autoscaler) Validate(cfg *Config) error {
	least := int32(1)
	if cfg.ScaleToZero {
		least = 0
	}
	switch {
	case a.Min != nil && *a.Min < least:
		return fmt.Errorf("spec.minReplicas: is %d, must be at least %d", *a.Min, least)
	case a.Max < 1:
		return fmt.Errorf("spec.maxReplicas: is %d, must be at least 1", a.Max)
	case a.Max < a.least():
		return fmt.Errorf("spec.maxReplicas: is %d, below minReplicas, which is %d", a.Max, a.least())
	case a.least() == 0 && !a.readsWithoutPods():
		return fmt.Errorf("spec.metrics: scaling to 0 needs an %s or %s metric", Object, External)
	}
	for i := range a.Metrics {
		if err := a.Metrics[i].validate(); err != nil {
			return fmt.Errorf("spec.metrics[%d]: %w", i, err)
		}
	}
	if b := a.Behavior; b != nil {
		if err := b.Up.validate(); err != nil {
			return fmt.Errorf("spec.behavior.scaleUp.%w", err)
		}
		if err := b.Down.validate(); err != nil {
			return fmt.Errorf("spec.behavior.scaleDown.%w", err)
		}
	}
	return nil
}

func (m *Metric) validate() error {
	kinds := []Kind{Value, AverageValue}
	switch m.Source {
	case Object:
		kinds = append(kinds, "") // which the API server lets pass, and the controller fails
	case External:
	case Pods:
		kinds = []Kind{AverageValue}
	case Resource, ContainerResource:
		kinds = []Kind{Utilization, AverageValue}
	default:
		return fmt.Errorf("type: is %q, must be one of %s, %s, %s, %s, %s", m.Source, Resource, ContainerResource, Pods, Object, External)
	}
	switch {
	case m.Name == "":
		return fmt.Errorf("has no name")
	case !slices.Contains(kinds, m.Kind):
		return fmt.Errorf("target.type: is %q, must be one of %v for a metric of type %s", m.Kind, kinds, m.Source)
	case m.Kind != "" && m.Target <= 0:
		return fmt.Errorf("target: is %d, must be above 0", m.Target)
	}
	return nil
}

func (r *Rules) validate() error {
	switch {
	case r.Window != nil && (*r.Window < 0 || *r.Window > maxWindow):
		return fmt.Errorf("stabilizationWindowSeconds: is %s, must be from 0 to %s", *r.Window, maxWindow)
	case !slices.Contains([]Select{"", MaxChange, MinChange, Disabled}, r.Select):
		return fmt.Errorf("selectPolicy: is %q, must be %s, %s or %s", r.Select, MaxChange, MinChange, Disabled)
	case r.Policies != nil && len(r.Policies) == 0:
		return fmt.Errorf("policies: is empty, must have one at least")
	case r.Tolerance != nil && !(*r.Tolerance >= 0):
		return fmt.Errorf("tolerance: is %g, must not be negative", *r.Tolerance)
	}
	for i := range r.Policies {
		switch p := &r.Policies[i]; {
		case p.Value <= 0:
			return fmt.Errorf("policies[%d].value: is %d, must be above 0", i, p.Value)
		case p.Period <= 0 || p.Period > maxPeriod:
			return fmt.Errorf("policies[%d].periodSeconds: is %s, must be above 0 and at most %s", i, p.Period, maxPeriod)
		}
	}
	return nil
}
