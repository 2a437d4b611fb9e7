package hold

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"headroom.dev/headroom/lab/kubelet/devices"
	"headroom.dev/headroom/lab/network"
)

const (
	// held is the minReadySeconds of a hold: no pod is Ready for a day without a judgement.
	held = 86400
	// brief is what a pod of minReadySeconds is waited for: users' own values are below it, a hold's is above.
	brief = 3600
	// settleDeadline covers the user's 60 s of minReadySeconds on top of what the others need (seen: 3 to 20 s).
	settleDeadline = 150 * time.Second
	pollEvery      = 100 * time.Millisecond
)

// tally counts one version's pods.
type tally struct{ pods, ready int }

// standing is what stands at one moment.
type standing struct {
	versions    map[string]tally
	available   int32
	unavailable bool // the Deployment's condition Available is not True
	paused      bool
	pending     int
	moving      string // what is still under way; empty when nothing is
	trace       string // changes with everything a controller does
}

func (s standing) String() string {
	var names []string
	for name := range s.versions {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		if v := s.versions[name]; v.pods > 0 {
			fmt.Fprintf(&b, "%s %d/%d ", name, v.ready, v.pods)
		}
	}
	text := strings.TrimSpace(b.String())
	if text == "" {
		text = "no pods"
	}
	text += fmt.Sprintf(", %d available", s.available)
	if s.pending > 0 {
		text += fmt.Sprintf(", %d Pending", s.pending)
	}
	if s.unavailable {
		text += ", Available=False"
	}
	if s.paused {
		text += ", paused"
	}
	return text
}

// workload is what observe needs of a Deployment, a StatefulSet or a DaemonSet.
type workload struct {
	generation, observed int64
	minReady             int32
	wants, available     int32
	paused, unavailable  bool
}

func (p *player) workload(ctx context.Context) (workload, error) {
	api := p.c.Client.AppsV1()
	switch p.kind {
	case "statefulset":
		s, err := api.StatefulSets(p.namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return workload{}, err
		}
		return workload{
			s.Generation, s.Status.ObservedGeneration, s.Spec.MinReadySeconds, *s.Spec.Replicas, s.Status.AvailableReplicas, false, false,
		}, nil
	case "daemonset":
		s, err := api.DaemonSets(p.namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return workload{}, err
		}
		return workload{s.Generation, s.Status.ObservedGeneration, s.Spec.MinReadySeconds, groupNodes, s.Status.NumberAvailable, false, false}, nil
	}
	d, err := api.Deployments(p.namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return workload{}, err
	}
	w := workload{d.Generation, d.Status.ObservedGeneration, d.Spec.MinReadySeconds, *d.Spec.Replicas, d.Status.AvailableReplicas, d.Spec.Paused, true}
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentAvailable && c.Status == corev1.ConditionTrue {
			w.unavailable = false
		}
	}
	return w, nil
}

// observe looks once.
func (p *player) observe(ctx context.Context) (standing, error) {
	w, err := p.workload(ctx)
	if err != nil {
		return standing{}, err
	}
	s := standing{versions: map[string]tally{}, available: w.available, unavailable: w.unavailable, paused: w.paused}
	list, err := p.c.Client.CoreV1().Pods(p.namespace).List(ctx, metav1.ListOptions{LabelSelector: "name=" + name})
	if err != nil {
		return standing{}, err
	}
	if w.observed < w.generation {
		s.moving = "the controller has not seen the last change"
	}
	owners := map[types.UID]int32{} // to minReadySeconds
	if p.kind == "deployment" {
		if err := p.replicaSets(ctx, &s, owners); err != nil {
			return standing{}, err
		}
	} else if len(list.Items) != int(w.wants) {
		s.moving = fmt.Sprintf("%d pods of %d", len(list.Items), w.wants)
	}
	bound := 0
	for i := range list.Items {
		if list.Items[i].Spec.NodeName != "" {
			bound += gpus(&list.Items[i])
		}
	}
	ripe := int32(0)
	for i := range list.Items {
		pod := &list.Items[i]
		minReady := w.minReady
		if owner := metav1.GetControllerOf(pod); owner != nil && p.kind == "deployment" {
			minReady = owners[owner.UID]
		}
		p.look(&s, pod, groupNodes*gpusPerNode-bound)
		if network.Ready(pod) && minReady < brief {
			ripe++
		}
	}
	if s.moving == "" && ripe > w.available {
		s.moving = fmt.Sprintf("%d pods will be available, %d are", ripe, w.available)
	}
	return s, nil
}

func gpus(pod *corev1.Pod) int {
	q := pod.Spec.Containers[0].Resources.Limits[devices.Resource]
	return int(q.Value())
}

// replicaSets counts what the Deployment's ReplicaSets are to have.
func (p *player) replicaSets(ctx context.Context, s *standing, owners map[types.UID]int32) error {
	list, err := p.c.Client.AppsV1().ReplicaSets(p.namespace).List(ctx, metav1.ListOptions{LabelSelector: "name=" + name})
	if err != nil {
		return err
	}
	for i := range list.Items {
		rs := &list.Items[i]
		owners[rs.UID] = rs.Spec.MinReadySeconds
		v := s.versions[version(rs.Labels)]
		v.pods += int(*rs.Spec.Replicas)
		s.versions[version(rs.Labels)] = v
		s.trace += fmt.Sprintf("%s/%d ", rs.Name, rs.Generation)
		if rs.Status.ObservedGeneration < rs.Generation || rs.Status.Replicas != *rs.Spec.Replicas {
			s.moving = rs.Name + " is not at its scale"
		}
	}
	return nil
}

// look adds a pod to what stands. free are the group's GPUs that nobody has.
func (p *player) look(s *standing, pod *corev1.Pod, free int) {
	v := s.versions[version(pod.Labels)]
	defer func() { s.versions[version(pod.Labels)] = v }()
	s.trace += string(pod.UID) + " "
	if p.kind != "deployment" && pod.DeletionTimestamp == nil {
		v.pods++
	}
	switch {
	case pod.DeletionTimestamp != nil:
		s.moving = pod.Name + " is terminating"
	case network.Ready(pod):
		v.ready++
	case pod.Spec.NodeName == "":
		s.pending++
		if c := condition(pod, corev1.PodScheduled); c == nil || c.Reason != corev1.PodReasonUnschedulable || free >= gpus(pod) {
			s.moving = pod.Name + " is to be scheduled"
		}
	case closed(pod) || broken(version(pod.Labels)) && pod.Status.Phase == corev1.PodRunning:
		// not Ready, and nothing will change that
	default:
		s.moving = pod.Name + " is loading"
	}
}

// closed tells whether nothing but a readiness gate keeps a pod from being Ready.
func closed(pod *corev1.Pod) bool {
	if c := condition(pod, corev1.ContainersReady); c == nil || c.Status != corev1.ConditionTrue {
		return false
	}
	c := condition(pod, gate)
	return len(pod.Spec.ReadinessGates) > 0 && (c == nil || c.Status != corev1.ConditionTrue)
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// settle waits until nothing is under way and the controllers have been through the object twice without doing anything.
//
// A marker is a change of revisionHistoryLimit: it makes a new generation and nothing else. The controller never works on one object
// in two places, and writes observedGeneration at the end of a pass; so once a second marker is observed, a whole pass has begun and
// ended after the first. What that pass did stands in the trace. No wait of a chosen length is needed.
func (p *player) settle(t *testing.T) standing {
	t.Helper()
	deadline := time.Now().Add(settleDeadline)
	for {
		before, err := p.observe(t.Context())
		if err == nil && before.moving == "" {
			p.mark(t)
			p.mark(t)
			after, err := p.observe(t.Context())
			require.NoError(t, err)
			if after.moving == "" && after.trace == before.trace && after.String() == before.String() {
				return after
			}
		}
		require.True(t, time.Now().Before(deadline), "not settled after %s: %s; %s; %v", settleDeadline, before, before.moving, err)
		time.Sleep(pollEvery)
	}
}

// mark makes a new generation and waits until the controller has seen it.
func (p *player) mark(t *testing.T) {
	t.Helper()
	p.marks++
	p.patch(t, types.MergePatchType, fmt.Appendf(nil, `{"spec":{"revisionHistoryLimit":%d}}`, 10+p.marks%2), metav1.PatchOptions{FieldManager: "marker"})
	deadline := time.Now().Add(settleDeadline)
	for {
		w, err := p.workload(t.Context())
		if err == nil && w.observed >= w.generation {
			return
		}
		require.True(t, time.Now().Before(deadline), "the marker was not observed: %v", err)
		time.Sleep(pollEvery / 4)
	}
}
