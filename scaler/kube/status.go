package kube

import (
	"math"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/scaler"
)

// Where a history comes from.
const (
	sourcePrometheus = "Prometheus"
	sourceCheckpoint = "Checkpoint"
	sourceObserved   = "Observed"
)

// fill writes what a look found into a status; conditions are not its business.
func fill(status *v1alpha1.ScalePolicyStatus, v *service, o *scaler.Observation, out *outcome) {
	status.CurrentReplicas = new(o.Replicas)
	status.DesiredReplicas = new(out.decision.Replicas)
	status.ReactiveReplicas = nil
	if out.decision.Valid {
		status.ReactiveReplicas = new(out.decision.Reactive)
	}
	status.Limit = out.decision.Limit.String()
	status.Demand = demandStatus(o, out)
	known := v.core.Knowledge()
	status.Forecasts = nil
	for _, s := range known.Forecast {
		f := v1alpha1.ForecastStatus{Horizon: metav1.Duration{Duration: s.Horizon}, Method: s.Method, Samples: int32(s.Samples), InUse: s.InUse}
		if !math.IsNaN(s.Score) && !math.IsInf(s.Score, 0) {
			f.ScorePercent = new(int32(math.Round(100 * max(s.Score, -100))))
		}
		status.Forecasts = append(status.Forecasts, f)
	}
	status.Capacity = capacityStatus(known.Capacity, out.input.Capacity)
	status.Startup = startupStatus(known.StartUp)
	status.History = nil
	if n := v.history.known(); n > 0 {
		status.History = &v1alpha1.HistoryStatus{Since: timeOf(v.history.start), Samples: int32(n), Source: v.source}
	}
	status.Decisions = v.records
	a := &v.account
	if !a.since.IsZero() {
		status.Account = &v1alpha1.AccountStatus{
			Since: timeOf(a.since), UsedReplicaHours: *quantity(a.used), PolicyReplicaHours: *quantity(a.policy),
			ShortReplicaHours: *quantity(a.short), PolicyShortReplicaHours: *quantity(a.wouldShort),
		}
	}
}

func demandStatus(o *scaler.Observation, out *outcome) *v1alpha1.DemandStatus {
	d := &v1alpha1.DemandStatus{Missing: o.Demand.Missing}
	if o.Demand.Missing == "" {
		d.Current = quantity(o.Demand.Value)
	}
	if o.Queue.Missing == "" {
		d.Queue = quantity(o.Queue.Value)
	}
	if e := out.input.Ahead; e.Valid && !math.IsNaN(e.Demand) {
		d.Predicted, d.PredictedFor = quantity(e.Demand), new(timeOf(out.now.Add(e.Horizon)))
	}
	if out.previously != nil {
		d.PreviouslyPredicted = quantity(*out.previously)
	}
	return d
}

func capacityStatus(learnt []scaler.LearntCapacity, used scaler.Estimate) []v1alpha1.CapacityStatus {
	if used.Source == scaler.Stated {
		return []v1alpha1.CapacityStatus{{PerReplica: *quantity(used.Value), Source: sourceName(used.Source)}}
	}
	var list []v1alpha1.CapacityStatus
	for _, c := range learnt {
		e := c.PerReplica
		list = append(list, v1alpha1.CapacityStatus{
			Version: c.Version, GPU: c.GPU, PerReplica: *quantity(e.Value), Source: sourceName(e.Source), Samples: int32(e.Samples),
		})
	}
	return list
}

func startupStatus(s scaler.LearntStartUp) *v1alpha1.StartupStatus {
	if s.Source == scaler.Unknown {
		return nil
	}
	of := func(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d.Round(time.Millisecond)} }
	out := &v1alpha1.StartupStatus{Source: sourceName(s.Source), P50: of(s.P50), P90: of(s.P90), Samples: int32(s.Samples)}
	if s.Samples > 0 {
		out.Scheduling, out.Starting, out.Loading = of(s.Scheduling), of(s.Starting), of(s.Loading)
	}
	return out
}

// knowledgeOf reads what a former process had learnt. What was stated is the spec's to say again.
func knowledgeOf(status *v1alpha1.ScalePolicyStatus) scaler.Knowledge {
	var k scaler.Knowledge
	for i := range status.Capacity {
		c := &status.Capacity[i]
		source, ok := sourceOf(c.Source)
		if !ok {
			continue
		}
		k.Capacity = append(k.Capacity, scaler.LearntCapacity{Version: c.Version, GPU: c.GPU, PerReplica: scaler.Estimate{
			Value: c.PerReplica.AsApproximateFloat64(), Source: source, Samples: int(c.Samples),
		}})
	}
	if s := status.Startup; s != nil && s.P50 != nil && s.P90 != nil {
		if source, ok := sourceOf(s.Source); ok {
			of := func(d *metav1.Duration) time.Duration {
				if d == nil {
					return 0
				}
				return d.Duration
			}
			k.StartUp = scaler.LearntStartUp{
				Source: source, P50: s.P50.Duration, P90: s.P90.Duration, Samples: int(max(s.Samples, 1)),
				Scheduling: of(s.Scheduling), Starting: of(s.Starting), Loading: of(s.Loading),
			}
		}
	}
	return k
}

// accountOf reads the account of a former process, so that it goes on.
func accountOf(status *v1alpha1.ScalePolicyStatus) account {
	s := status.Account
	if s == nil {
		return account{}
	}
	return account{
		since: s.Since.Time, used: s.UsedReplicaHours.AsApproximateFloat64(), policy: s.PolicyReplicaHours.AsApproximateFloat64(),
		short: s.ShortReplicaHours.AsApproximateFloat64(), wouldShort: s.PolicyShortReplicaHours.AsApproximateFloat64(),
	}
}

func sourceName(s scaler.Source) string {
	switch s {
	case scaler.Stated:
		return "Stated"
	case scaler.Learnt:
		return "Learnt"
	case scaler.AtLeast:
		return "AtLeast"
	default:
		return "Unknown"
	}
}

// sourceOf is the source of something learnt.
func sourceOf(name string) (scaler.Source, bool) {
	for _, s := range []scaler.Source{scaler.Learnt, scaler.AtLeast} {
		if sourceName(s) == name {
			return s, true
		}
	}
	return scaler.Unknown, false
}

// quantity is to a thousandth, the finest that the metrics API has as well; nil for what is no number.
func quantity(f float64) *resource.Quantity {
	const most = math.MaxInt64 / 2048
	if math.IsNaN(f) {
		return nil
	}
	f = min(max(f, -most), most)
	return resource.NewMilliQuantity(int64(math.Round(f*1000)), resource.DecimalSI)
}

// timeOf is to the second, as the API has it, so that a status read back is equal.
func timeOf(t time.Time) metav1.Time { return metav1.NewTime(t.UTC().Truncate(time.Second)) }

// notable says whether something changed that a reader should see at once: not a number that always moves.
func notable(before, after *v1alpha1.ScalePolicyStatus) bool {
	strip := func(s *v1alpha1.ScalePolicyStatus) *v1alpha1.ScalePolicyStatus {
		c := s.DeepCopy()
		c.Account, c.History, c.Startup = nil, nil, nil
		if c.Demand != nil {
			c.Demand = &v1alpha1.DemandStatus{Missing: c.Demand.Missing}
		}
		for i := range c.Forecasts {
			c.Forecasts[i].ScorePercent, c.Forecasts[i].Samples = nil, 0
		}
		for i := range c.Capacity {
			c.Capacity[i].PerReplica, c.Capacity[i].Samples = resource.Quantity{}, 0
		}
		for i := range c.Conditions {
			c.Conditions[i].Message = "" // it holds numbers
		}
		return c
	}
	return !equality.Semantic.DeepEqual(strip(before), strip(after))
}
