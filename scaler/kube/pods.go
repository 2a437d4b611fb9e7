package kube

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/scaler"
)

// The labels by which controllers tell the versions of their pods apart.
const (
	templateHash = "pod-template-hash"        // Deployments
	revisionHash = "controller-revision-hash" // StatefulSets and DaemonSets
)

// podOf is what the scaler knows of a pod from its object alone; false for one that has ended for good.
func podOf(pod *corev1.Pod) (scaler.Pod, bool) {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return scaler.Pod{}, false
	}
	p := scaler.Pod{
		Name: pod.Name, Version: pod.Labels[templateHash], Created: pod.CreationTimestamp.Time, Deleting: pod.DeletionTimestamp != nil,
		Started: started(pod), InFlight: scaler.Reading{Missing: "not asked for"},
	}
	if p.Version == "" {
		p.Version = pod.Labels[revisionHash]
	}
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case corev1.PodScheduled:
			p.Scheduled = c.LastTransitionTime.Time
		case corev1.PodReady:
			p.Ready, p.Serving = c.LastTransitionTime.Time, true
		default: // tells nothing of when it serves
		}
	}
	return p, true
}

// started is when the last of the pod's containers began its present run; zero while one does not run.
func started(pod *corev1.Pod) time.Time {
	var last time.Time
	if len(pod.Status.ContainerStatuses) < len(pod.Spec.Containers) {
		return last
	}
	for i := range pod.Status.ContainerStatuses {
		running := pod.Status.ContainerStatuses[i].State.Running
		if running == nil {
			return time.Time{}
		}
		if running.StartedAt.After(last) {
			last = running.StartedAt.Time
		}
	}
	return last
}

// ofReplicaSet says whether the pod's controller honours pod-deletion-cost: that of ReplicaSets alone does.
func ofReplicaSet(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	return owner != nil && owner.Kind == "ReplicaSet" && strings.HasPrefix(owner.APIVersion, "apps/")
}

// Value is a number of the metric plane with the time of the data behind it.
type Value struct {
	Value float64
	At    time.Time
}

// young is for how long a pod that has become Ready may lack a value without any word: a rate needs two scrapes, and what the
// pod serves meanwhile still shows in the rates of the pods that it relieves, which look back 10 s.
const young = 30 * time.Second

// sum adds a metric up over the pods that serve. Pods without a value are counted with the mean of the others, and named in
// the note; where fewer than half have one, the sum is missing.
func sum(pods []scaler.Pod, values map[string]Value, now time.Time) (r scaler.Reading, note string) {
	total, known, serving := 0.0, 0, 0
	oldest := now
	var missing []string
	for i := range pods {
		p := &pods[i]
		if !p.Serving || p.Deleting {
			continue
		}
		v, ok := values[p.Name]
		switch {
		case ok:
			total += v.Value
			known++
			if v.At.Before(oldest) {
				oldest = v.At
			}
		case now.Sub(p.Ready) < young:
			continue
		default:
			missing = append(missing, p.Name)
		}
		serving++
	}
	switch {
	case known == 0 && serving == 0:
		return scaler.Reading{Missing: "no pod serves, or none for long enough"}, ""
	case 2*known < serving:
		return scaler.Reading{Missing: fmt.Sprintf("%d of %d pods have no value: %s", len(missing), serving, some(missing))}, ""
	case len(missing) > 0:
		note = fmt.Sprintf("%d of %d pods have no value and count as the mean of the others: %s", len(missing), serving, some(missing))
		total *= float64(serving) / float64(known)
	}
	return scaler.Reading{Value: total, Age: now.Sub(oldest)}, note
}

// some names at most three.
func some(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:most], ", ") + ", …"
}

// middle is the median over the pods that serve: what does not add up has no sum, and one sick pod says nothing of a service.
func middle(pods []scaler.Pod, values map[string]Value, now time.Time) scaler.Reading {
	var list []float64
	oldest := now
	for i := range pods {
		v, ok := values[pods[i].Name]
		if !ok || !pods[i].Serving || pods[i].Deleting {
			continue
		}
		list = append(list, v.Value)
		if v.At.Before(oldest) {
			oldest = v.At
		}
	}
	if len(list) == 0 {
		return scaler.Reading{Missing: "no pod that serves has a value"}
	}
	slices.Sort(list)
	return scaler.Reading{Value: (list[(len(list)-1)/2] + list[len(list)/2]) / 2, Age: now.Sub(oldest)}
}

// load tells each pod its requests in flight.
func load(pods []scaler.Pod, values map[string]Value, why string, now time.Time) {
	if why == "" {
		why = "the pod has no value"
	}
	for i := range pods {
		pods[i].InFlight = scaler.Reading{Missing: why}
		if v, ok := values[pods[i].Name]; ok {
			pods[i].InFlight = scaler.Reading{Value: v.Value, Age: now.Sub(v.At)}
		}
	}
}

// fitness marks the pods that hold an unfit GPU: gpu_healthy is 1 or 0.
func fitness(pods []scaler.Pod, values map[string]Value) {
	for i := range pods {
		v, ok := values[pods[i].Name]
		pods[i].Unhealthy = ok && v.Value < 1
	}
}

// stale returns the pods' deletion costs that differ from what their annotations say.
func stale(costs map[string]int, pods map[string]*corev1.Pod) map[string]int {
	changed := maps.Clone(costs)
	maps.DeleteFunc(changed, func(name string, cost int) bool {
		pod, ok := pods[name]
		return !ok || !ofReplicaSet(pod) || pod.DeletionTimestamp != nil || pod.Annotations[corev1.PodDeletionCost] == strconv.Itoa(cost)
	})
	return changed
}
