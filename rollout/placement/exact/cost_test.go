package exact

import (
	"flag"
	"slices"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	"headroom.dev/headroom/bench/rollout/fleet"
	"headroom.dev/headroom/rollout/placement"
	"headroom.dev/headroom/rollout/placement/kube"
)

var costFlag = flag.Bool("cost", false, "time the scheduler's filters and ours over 5,000 nodes and 50,000 pods")

// cpu runs something so many times and returns the median time of the process' CPU.
func cpu(t *testing.T, times int, run func()) time.Duration {
	t.Helper()
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	all := make([]time.Duration, times)
	for i := range all {
		begun := used()
		run()
		all[i] = used() - begun
	}
	slices.Sort(all)
	return all[times/2]
}

// TestCost says what one more pod costs the stock scheduler (its snapshot once, then PreFilter and Filter on every node, for each pod
// anew), beside our snapshot and count of all that fit. It compares, and holds nothing to a limit.
func TestCost(t *testing.T) {
	if !*costFlag {
		t.Skip("a measurement; -cost runs it")
	}
	const times = 5
	f := fleet.New(1)
	bound := slices.DeleteFunc(slices.Clone(f.Pods), func(p *corev1.Pod) bool { return p.Spec.NodeName == "" })
	s := newScheduler(t)
	s.nodes, s.nominated = f.Nodes, map[string][]fwk.PodInfo{}
	theirs := cpu(t, times, func() { s.SharedLister = cache.NewSnapshot(bound, f.Nodes) })
	var cluster placement.Cluster
	var snapshot *placement.Snapshot
	ours := cpu(t, times, func() {
		var err error
		if cluster, err = kube.Cluster(f.Nodes, f.Pods, f.Namespaces, nil); err != nil {
			t.Fatal(err)
		}
		if snapshot, err = placement.NewSnapshot(cluster); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("from objects to a snapshot: theirs %v, ours %v", theirs, ours)
	for _, shape := range fleet.Shapes() {
		pod := &corev1.Pod{ObjectMeta: *shape.Template.ObjectMeta.DeepCopy(), Spec: *shape.Template.Spec.DeepCopy()}
		pod.Name, pod.Namespace = "new", "team-01"
		open := 0
		one := cpu(t, times, func() { open = s.pass(t, pod) })
		form, err := kube.Shape("team-01", &shape.Template, nil)
		if err != nil {
			t.Fatal(err)
		}
		var answer placement.Answer
		all := cpu(t, times, func() {
			if answer, err = snapshot.Fit(form, 512); err != nil {
				t.Fatal(err)
			}
		})
		t.Logf("%s: theirs %v for one pod (%d nodes pass), ours %v for %d that fit: %.0f times theirs for as many", shape.Name, one, open, all, answer.Count,
			float64(one)*float64(max(1, answer.Count))/float64(all))
	}
}

// pass asks the filters about every node, as the scheduler does where it is to look at all of them, and counts those that pass.
func (s *scheduler) pass(t *testing.T, pod *corev1.Pod) int {
	t.Helper()
	state := framework.NewCycleState()
	_, status, _ := s.framework.RunPreFilterPlugins(t.Context(), state, pod)
	if status.Code() == fwk.Error {
		t.Fatal(status.AsError())
	}
	if !status.IsSuccess() {
		return 0
	}
	open := 0
	infos, err := s.NodeInfos().List()
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range infos {
		if s.framework.RunFilterPluginsWithNominatedPods(t.Context(), state, pod, info).IsSuccess() {
			open++
		}
	}
	return open
}
