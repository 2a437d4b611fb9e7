package exact

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/scheduler/metrics"

	"headroom.dev/headroom/rollout/placement"
	"headroom.dev/headroom/rollout/placement/kube"
)

var (
	seedFlag = flag.Uint64("seed", 0, "of the clusters; 0 draws one")
	clusters = flag.Int("clusters", 3000, "random clusters to compare on")
)

func TestMain(m *testing.M) {
	flag.Parse()
	klog.SetLogger(logr.Discard())
	metrics.Register()
	os.Exit(m.Run())
}

// tally is what many clusters came to.
type tally struct {
	clusters, unknown, coupled, zero     int
	comparisons                          int // answers of the scheduler about a pod on a node that were held against ours
	orders, exact, fewerSure, unfollowed int
	first                                []string
	reasons                              map[string]int
}

// differ notes a difference: what must never be.
func (y *tally) differ(format string, args ...any) {
	y.unfollowed++
	if len(y.first) < 5 {
		y.first = append(y.first, fmt.Sprintf(format, args...))
	}
}

type subject struct {
	t      *testing.T
	w      *world
	s      *scheduler
	seed   uint64
	answer placement.Answer
	y      *tally
}

// spoil makes ours another: by what it is given, or what it answers.
type spoil struct {
	given  func(*placement.Cluster, *placement.Shape)
	answer func(*placement.Answer)
}

// compare draws a cluster from the seed and compares.
func compare(t *testing.T, s *scheduler, seed uint64, y *tally, spoiled spoil) {
	t.Helper()
	d := dice{Rand: rand.New(rand.NewPCG(seed, 1))}
	w := newWorld(d)
	cluster, err := kube.Cluster(w.nodes, w.pods, namespaces(), nil)
	if err != nil {
		t.Fatal(err)
	}
	shape, err := kube.Shape(w.pod.Namespace, &corev1.PodTemplateSpec{ObjectMeta: w.pod.ObjectMeta, Spec: w.pod.Spec}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if spoiled.given != nil {
		spoiled.given(&cluster, &shape)
	}
	snapshot, err := placement.NewSnapshot(cluster)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := snapshot.Fit(shape, 0)
	if err != nil {
		t.Fatal(err)
	}
	if spoiled.answer != nil {
		spoiled.answer(&answer)
	}
	y.clusters++
	if !answer.Known {
		y.unknown++
		return
	}
	if answer.Most == 0 {
		y.zero++
	}
	if answer.Most != answer.Count {
		y.coupled++
	}
	u := subject{t: t, w: w, s: s, seed: seed, answer: answer, y: y}
	s.enter(t, w)
	u.follow()
	for range 2 {
		u.order(func(open []string) string { return pick(d, open...) })
	}
	u.order(func(open []string) string { return open[0] })
	u.order(func(open []string) string { return open[len(open)-1] })
}

func bound(pods []*corev1.Pod) []*corev1.Pod {
	return slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool { return p.Spec.NodeName == "" })
}

// on is the n-th new pod, bound to a node.
func (u *subject) on(node string, n int) *corev1.Pod {
	p := u.w.pod.DeepCopy()
	p.Name = fmt.Sprint("new", n)
	p.UID = types.UID(p.Name)
	p.Spec.NodeName = node
	return p
}

// follow goes the way of our placements.
func (u *subject) follow() {
	pods := bound(u.w.pods)
	n := 0
	for _, at := range u.answer.Placements {
		for range at.Pods {
			u.y.comparisons++
			if reasons := u.s.ask(u.t.Context(), u.t, u.w.pod, pods)[at.Node]; reasons != nil {
				u.y.differ("seed %d: pod %d on %s: the scheduler says %q", u.seed, n, at.Node, reasons)
				return
			}
			pods = append(pods, u.on(at.Node, n))
			n++
		}
	}
	theirs := map[string]int{}
	for node, reasons := range u.s.ask(u.t.Context(), u.t, u.w.pod, pods) {
		u.y.comparisons++
		if reasons == nil {
			u.y.differ("seed %d: after %d pods %s takes another, says the scheduler", u.seed, n, node)
		}
		for _, r := range reasons {
			theirs[r]++
			u.y.reasons[r]++
		}
	}
	ours := map[string]int{}
	for _, r := range u.answer.Reasons {
		ours[string(r.Text)] += r.Nodes
	}
	if !maps.Equal(theirs, ours) {
		u.y.differ("seed %d: after %d pods the scheduler refuses for %v, ours for %v", u.seed, n, theirs, ours)
	}
}

// order places pods as the scheduler might, one by one where it lets them pass, until it lets none.
func (u *subject) order(choose func([]string) string) {
	pods := bound(u.w.pods)
	n := 0
	for ; ; n++ {
		var open []string
		for node, reasons := range u.s.ask(u.t.Context(), u.t, u.w.pod, pods) {
			u.y.comparisons++
			if reasons == nil {
				open = append(open, node)
			}
		}
		if len(open) == 0 {
			break
		}
		slices.Sort(open)
		pods = append(pods, u.on(choose(open), n))
	}
	u.y.orders++
	switch {
	case n < u.answer.Count:
		u.y.fewerSure++
		u.y.differ("seed %d: %d fit in an order, %d are said to be sure", u.seed, n, u.answer.Count)
	case n == u.answer.Count:
		u.y.exact++
	}
}

func seed(t *testing.T) uint64 {
	t.Helper()
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64() >> 16
	}
	t.Logf("again with -seed=%d", s)
	return s
}

// TestScheduler is the proof.
func TestScheduler(t *testing.T) {
	first := seed(t)
	y := tally{reasons: map[string]int{}}
	s := newScheduler(t)
	for i := range *clusters {
		compare(t, s, first+uint64(i), &y, spoil{})
	}
	var reasons strings.Builder
	for _, r := range slices.Sorted(maps.Keys(y.reasons)) {
		fmt.Fprintf(&reasons, "%8d %s\n", y.reasons[r], r)
	}
	t.Logf("seeds %d to %d: %d clusters (%d unknown, %d full, %d where the order matters), %d answers of the scheduler compared, %d differences;\n"+
		"%d orders of placing: %d (%.1f%%) hold exactly Count pods, %d fewer\nreasons compared:\n%s",
		first, first+uint64(*clusters-1), y.clusters, y.unknown, y.zero, y.coupled, y.comparisons, y.unfollowed,
		y.orders, y.exact, 100*float64(y.exact)/float64(y.orders), y.fewerSure, reasons.String())
	for _, text := range y.first {
		t.Error(text)
	}
}
