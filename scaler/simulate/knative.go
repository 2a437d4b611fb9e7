package simulate

import (
	"fmt"

	"headroom.dev/headroom/scaler/kpa"
)

// KPA is Knative's pod autoscaler on requests in flight, with Knative's defaults: a decision every 2 s, by means over 60 s, and
// over 6 s in panic. Requests that wait are in flight as well, since Knative's proxy holds them in the pod.
type KPA struct {
	Utilization float64 // of a replica's slots: target-utilization-percentage

	scaler *kpa.Autoscaler
	err    error
}

// Name is the policy's.
func (k *KPA) Name() string { return "kpa" }

// Setting is what is tuned.
func (k *KPA) Setting() string {
	return fmt.Sprintf("%.0f%% of the slots in flight", 100*k.Utilization)
}

// Period is Knative's tick.
func (k *KPA) Period() int { return 2 }

// Prepare checks the settings; the autoscaler itself begins with the pods that are ready in the first second.
func (k *KPA) Prepare(l *Load, p Plant) error {
	k.scaler, k.err = nil, nil
	return k.config(l.slots, &p).Validate()
}

func (k *KPA) config(slots float64, p *Plant) kpa.Config {
	c := kpa.DefaultConfig()
	c.Metric, c.Target, c.TargetUtilizationPercentage = kpa.Concurrency, slots, 100*k.Utilization
	c.MinScale, c.MaxScale, c.EnableScaleToZero = int(p.Min), int(p.Max), p.Min == 0
	return c
}

// Observe records a second, as Knative's collector does.
func (k *KPA) Observe(v *View) {
	if k.scaler == nil {
		k.scaler, k.err = kpa.New(k.config(v.Slots(), &v.run.plant), v.Now(), v.Ready())
	}
	if k.err == nil && v.Known() {
		k.err = k.scaler.Record(v.Now(), v.Running()+v.Waiting())
	}
}

// Decide is a tick.
func (k *KPA) Decide(v *View) int32 {
	if k.err != nil {
		return v.Replicas()
	}
	return int32(k.scaler.Scale(v.Now(), v.Ready()).Replicas)
}
