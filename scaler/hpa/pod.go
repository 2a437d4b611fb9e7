package hpa

import "time"

// Phase is a pod's.
type Phase uint8

// The phases. The controller tells apart only Pending, Running and Failed.
const (
	Running Phase = iota
	Pending
	Succeeded
	Failed
	UnknownPhase
)

// Readiness is the status of a pod's condition Ready.
type Readiness uint8

// The statuses; NoCondition is a pod that has none yet.
const (
	NoCondition Readiness = iota
	Ready
	NotReady
	UnknownReadiness
)

// Pod is what the controller looks at of a pod.
type Pod struct {
	Name       string
	Phase      Phase
	Deleted    bool // it has a deletion timestamp
	Ready      Readiness
	ReadySince time.Time // of the last change of Ready
	Started    time.Time // zero where the kubelet has not seen it
}

// Group is how a pod counts for a metric.
type Group uint8

// The groups.
const (
	Measured Group = iota // by its value
	Missing               // cautiously: at the target (or the request) when scaling down, at 0 when scaling up
	Unready               // at 0 when scaling up, else not at all
	Ignored               // not at all
)

// Group is groupPods of replica_calculator.go. Readiness counts for CPU alone: during the initialization period a ready pod
// counts once a whole window was measured since it became ready; after it, any that is not still as unready as it started.
func (c *Config) Group(now time.Time, m *Metric, p *Pod, s *Sample) Group {
	switch {
	case p.Deleted || p.Phase == Failed:
		return Ignored
	case p.Phase == Pending:
		return Unready
	case !s.Measured:
		return Missing
	case m.cpu() && c.initializing(now, p, s):
		return Unready
	}
	return Measured
}

func (c *Config) initializing(now time.Time, p *Pod, s *Sample) bool {
	switch {
	case p.Ready == NoCondition || p.Started.IsZero():
		return true
	case p.Started.Add(c.CPUInitialization).After(now):
		return p.Ready == NotReady || s.At.Before(p.ReadySince.Add(s.Window))
	}
	return p.Ready == NotReady && p.Started.Add(c.InitialReadinessDelay).After(p.ReadySince)
}

// ready counts the pods that a ratio is multiplied with; deleted pods that are still ready are among them.
func ready(pods []Pod) int {
	n := 0
	for i := range pods {
		if pods[i].Phase == Running && pods[i].Ready == Ready {
			n++
		}
	}
	return n
}
