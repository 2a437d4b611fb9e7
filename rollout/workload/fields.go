package workload

import (
	"fmt"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	"headroom.dev/headroom/rollout"
)

const (
	typeRecreate      = "Recreate"
	typeRollingUpdate = "RollingUpdate"
	typeOnDelete      = "OnDelete"

	// noPartition is the Partition of a StatefulSet whose updateStrategy has no rollingUpdate.
	noPartition = -1
	// defaultDeadline is what the API server takes for no progressDeadlineSeconds.
	defaultDeadline = 600
)

// readFields returns the fields that rollout may hold of an object of the kind. Those that it does not hold are zero.
func readFields(spec map[string]any, kind rollout.Kind) rollout.Fields {
	var f rollout.Fields
	switch kind {
	case rollout.Deployment:
		f.Paused, _, _ = unstructured.NestedBool(spec, "paused")
		f.MinReadySeconds = number(spec, 0, "minReadySeconds")
		f.ProgressDeadline = number(spec, defaultDeadline, "progressDeadlineSeconds")
		strategy, _, _ := unstructured.NestedString(spec, "strategy", "type")
		f.Recreate = strategy == string(appsv1.RecreateDeploymentStrategyType)
		f.Surge, f.Unavailable = amount(spec, "strategy", "rollingUpdate", "maxSurge"), amount(spec, "strategy", "rollingUpdate", "maxUnavailable")
	case rollout.StatefulSet:
		strategy, _, _ := unstructured.NestedString(spec, "updateStrategy", "type")
		f.OnDelete, f.Recreate = strategy == typeOnDelete, strategy == typeRecreate
		f.Partition = noPartition
		if rolling, _, _ := unstructured.NestedMap(spec, "updateStrategy", "rollingUpdate"); rolling != nil {
			f.Partition = number(rolling, 0, "partition")
		}
	case rollout.DaemonSet:
		strategy, _, _ := unstructured.NestedString(spec, "updateStrategy", "type")
		f.OnDelete = strategy == typeOnDelete
		f.Surge, f.Unavailable = amount(spec, "updateStrategy", "rollingUpdate", "maxSurge"), amount(spec, "updateStrategy", "rollingUpdate", "maxUnavailable")
	}
	return f
}

// Serial says that a StatefulSet's pods are replaced one at a time, whatever its partition: its maxUnavailable, which the API server
// takes for 1 where it is absent, does not exceed one pod.
func (s *Seen) Serial() bool {
	u, ok := s.Object.(*unstructured.Unstructured)
	if !ok || u == nil || s.Kind != rollout.StatefulSet {
		return false
	}
	text := amount(u.Object, "spec", "updateStrategy", "rollingUpdate", "maxUnavailable")
	if text == "" {
		return true
	}
	// Percentages are rounded down, to 1 at least (getStatefulSetMaxUnavailable of Kubernetes 1.37).
	most := intstr.Parse(text)
	n, err := intstr.GetScaledValueFromIntOrPercent(&most, s.Workload.Replicas, false)
	return err != nil || n <= 1
}

// writeFields makes the fields those of the object. What its kind has not is not written, nor is what else the strategy has; what is
// absent by default becomes absent again, so that fields which were read and are written back leave no trace.
func writeFields(spec map[string]any, kind rollout.Kind, f rollout.Fields) error {
	switch kind {
	case rollout.Deployment:
		return writeDeployment(spec, f)
	case rollout.StatefulSet:
		return writeStatefulSet(spec, f)
	case rollout.DaemonSet:
		return writeDaemonSet(spec, f)
	}
	return fmt.Errorf("cannot write a %s", kind)
}

func writeDeployment(spec map[string]any, f rollout.Fields) error {
	delete(spec, "paused")
	if f.Paused {
		spec["paused"] = true
	}
	delete(spec, "minReadySeconds")
	if f.MinReadySeconds != 0 {
		spec["minReadySeconds"] = int64(f.MinReadySeconds)
	}
	spec["progressDeadlineSeconds"] = int64(f.ProgressDeadline)
	strategy := child(spec, "strategy")
	if f.Recreate {
		strategy["type"] = typeRecreate
		delete(strategy, "rollingUpdate")
		return nil
	}
	strategy["type"] = typeRollingUpdate
	return writeAmounts(strategy, f)
}

func writeStatefulSet(spec map[string]any, f rollout.Fields) error {
	strategy := child(spec, "updateStrategy")
	switch {
	case f.OnDelete:
		strategy["type"] = typeOnDelete
	case f.Recreate:
		strategy["type"] = typeRecreate
	default:
		strategy["type"] = typeRollingUpdate
		if f.Partition != noPartition {
			child(strategy, "rollingUpdate")["partition"] = int64(f.Partition)
			return nil
		}
	}
	delete(strategy, "rollingUpdate")
	return nil
}

func writeDaemonSet(spec map[string]any, f rollout.Fields) error {
	strategy := child(spec, "updateStrategy")
	strategy["type"] = typeRollingUpdate
	if f.OnDelete {
		strategy["type"] = typeOnDelete
	}
	return writeAmounts(strategy, f)
}

// writeAmounts writes maxSurge and maxUnavailable, where there are any.
func writeAmounts(strategy map[string]any, f rollout.Fields) error {
	rolling := child(strategy, "rollingUpdate")
	for name, text := range map[string]string{"maxSurge": f.Surge, "maxUnavailable": f.Unavailable} {
		delete(rolling, name)
		if text == "" {
			continue
		}
		if n, err := strconv.ParseInt(text, 10, 32); err == nil {
			rolling[name] = n
		} else if len(text) > 1 && text[len(text)-1] == '%' {
			rolling[name] = text
		} else {
			return fmt.Errorf("cannot write %s %q: neither a number nor a percentage", name, text)
		}
	}
	if len(rolling) == 0 {
		delete(strategy, "rollingUpdate")
	}
	return nil
}

// child is an object below another, made where it is missing.
func child(of map[string]any, name string) map[string]any {
	c, ok := of[name].(map[string]any)
	if !ok {
		c = map[string]any{}
		of[name] = c
	}
	return c
}

// number reads an integer; absent is what it is where there is none.
func number(from map[string]any, absent int, path ...string) int {
	v, _, _ := unstructured.NestedFieldNoCopy(from, path...)
	switch v := v.(type) {
	case int64:
		return int(v)
	case float64:
		return int(v)
	}
	return absent
}

// amount reads what is a number or a percentage as it is written; "" where there is none.
func amount(from map[string]any, path ...string) string {
	v, _, _ := unstructured.NestedFieldNoCopy(from, path...)
	switch v := v.(type) {
	case int64:
		return strconv.FormatInt(v, 10)
	case string:
		return v
	}
	return ""
}
