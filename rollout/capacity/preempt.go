package capacity

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout/placement"
)

// Where nodes depend on each other, each pod for which room is made costs a fifth of a second on 5,000 nodes: of so many nodes, room
// for only so many pods is looked for.
const (
	manyNodes = 1000
	fewPods   = 4
)

// preempt counts what fits beyond what is free, and beyond the sources of this kind before, once pods that may go are gone. The
// delay is the longest grace period of these.
func (l *look) preempt(source *v1alpha1.PreemptSource) (replicas int, delay time.Duration, message string) {
	if why := l.preemptsNobody(); why != "" {
		return 0, 0, why
	}
	now, err := l.fit()
	switch {
	case err != nil:
		return 0, 0, fmt.Sprintf("cannot count what fits: %v", err)
	case !now.Known:
		return 0, 0, now.Why()
	case now.Count >= l.need.Most:
		return 0, 0, "what is free suffices"
	}
	if source == nil {
		source = &v1alpha1.PreemptSource{}
	}
	chosen, err := chooser(source)
	if err != nil {
		return 0, 0, fmt.Sprintf("preempt.selector: %v", err)
	}
	l.byKey()
	l.may = append(l.may, chosen)
	room, message, err := l.room(&now)
	if err != nil {
		return 0, 0, fmt.Sprintf("cannot tell which pods would have to go: %v", err)
	}
	replicas = max(0, room.Count-room.Now-l.made)
	l.made += replicas
	if replicas > 0 {
		for i := range room.Victims {
			delay = max(delay, graceOf(l.pods[room.Victims[i].Key]))
		}
	}
	return replicas, delay, join(message, l.tally(chosen).text(l, replicas))
}

// preemptsNobody says why the service's pods preempt nobody, "" where they may.
func (l *look) preemptsNobody() string {
	switch {
	case l.err != nil:
		return l.err.Error()
	case l.class.never:
		return fmt.Sprintf("the service's pods preempt nobody: preemptionPolicy of %s is Never", l.className())
	case l.need.Most < 1:
		return enough
	}
	return ""
}

// room is made by the pods that may go, and message says why there is not more.
func (l *look) room(now *placement.Answer) (room placement.Room, message string, err error) {
	most := l.need.Most
	if l.nodes > manyNodes && !l.snapshot.Independent(l.shape) {
		most = min(most, now.Count+fewPods)
	}
	room, err = l.snapshot.MakeRoom(l.shape, most, func(p *placement.Pod) bool { return l.mayGo(l.pods[p.Key()]) })
	switch {
	case err != nil:
		return room, "", err //nolint:wrapcheck // the caller says what was attempted
	case room.Count < most:
		why := placement.Answer{Known: true, Nodes: now.Nodes, Reasons: room.Reasons}
		message = why.Why()
	case most < l.need.Most:
		message = fmt.Sprintf("no more than %d are looked for, as topology spread or affinity makes %d nodes depend on each other", fewPods, l.nodes)
	}
	return room, message, nil
}

// mayGo reports whether a source so far lets a pod go.
func (l *look) mayGo(p *corev1.Pod) bool {
	return p != nil && !l.owns(p) && slices.ContainsFunc(l.may, func(f func(*corev1.Pod) bool) bool { return f(p) })
}

func (l *look) byKey() {
	if l.pods != nil {
		return
	}
	l.pods = make(map[placement.Key]*corev1.Pod, len(l.held))
	for _, p := range l.held {
		l.pods[placement.Key{Namespace: p.Namespace, Name: p.Name}] = p
	}
}

func (l *look) className() string {
	if l.class.class == "" {
		return "the pod template"
	}
	return "PriorityClass " + l.class.class
}

// chooser says which pods a source lets go, whatever their priority and whose they are.
func chooser(s *v1alpha1.PreemptSource) (func(*corev1.Pod) bool, error) {
	in := func(p *corev1.Pod) bool { return len(s.Namespaces) == 0 || slices.Contains(s.Namespaces, p.Namespace) }
	if s.Selector == nil {
		return func(p *corev1.Pod) bool { return priorityIn(p) < 0 && in(p) }, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(s.Selector)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller names the field
	}
	return func(p *corev1.Pod) bool { return in(p) && selector.Matches(labels.Set(p.Labels)) }, nil
}

// tally is what a reader might not expect of a source: in keys of pods, sorted.
type tally struct {
	high   []string // chosen, but of a priority that is not lower
	own    int      // chosen, but the service's own
	others []string // that may not go, of a lower priority, and holding what the service's pods want
	lower  int      // the service's own of a lower priority
}

func (l *look) tally(chosen func(*corev1.Pod) bool) tally {
	var t tally
	for _, p := range l.held {
		if p.DeletionTimestamp != nil || p.Spec.NodeName == "" {
			continue
		}
		mine, low := l.owns(p), priorityIn(p) < l.shape.Priority
		switch picks := chosen(p); {
		case mine && low:
			t.lower++
		case mine && picks:
			t.own++
		case mine:
		case picks && !low:
			t.high = append(t.high, p.Namespace+"/"+p.Name)
		case !l.mayGo(p) && low && l.wants(p):
			t.others = append(t.others, p.Namespace+"/"+p.Name)
		}
	}
	slices.Sort(t.high)
	slices.Sort(t.others)
	return t
}

// wants reports whether a pod holds the device that the service's pods ask for.
func (l *look) wants(p *corev1.Pod) bool {
	return l.resource != "" && requestsOf(p)[l.resource] > 0
}

func (t tally) text(l *look, replicas int) string {
	text := ""
	if len(t.high) > 0 {
		text = fmt.Sprintf("the scheduler would not preempt %s: their priority is not below the service's, %s", some(t.high), l.class)
	}
	if t.own > 0 {
		text = join(text, pods(t.own)+" of the service itself are left out")
	}
	if replicas == 0 {
		return text
	}
	if len(t.others) > 0 {
		text = join(text, "the scheduler chooses itself, and may as well preempt "+some(t.others))
	}
	if t.lower > 0 {
		text = join(text, fmt.Sprintf("the scheduler may as well preempt the service's own %s of a lower priority", pods(t.lower)))
	}
	return text
}
