package update

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"headroom.dev/headroom/lab/inference"
	"headroom.dev/headroom/lab/kubelet"
	"headroom.dev/headroom/lab/load"
)

// Every version's annotation is what the lab's kubelet reads.
func TestBehavioursAreRead(t *testing.T) {
	versions := []Version{first(), second()}
	for _, tr := range trials() {
		versions = append(versions, tr.Version)
	}
	for _, v := range versions {
		template := v.template()
		spec, err := inference.ParseSpec(template.Annotations[kubelet.SimulateAnnotation])
		require.NoError(t, err, v.Name)
		require.Equal(t, v.Name, spec.Version)
		require.Equal(t, v.StartUp, spec.Startup.Median)
		require.InDelta(t, v.ErrorRate, spec.ErrorRate, 0)
		require.Equal(t, v.NeverReady, spec.FaultHealth)
		require.Equal(t, v.CrashAfter, time.Duration(spec.CrashAfter))
		slower := max(1, v.SlowerBy)
		require.Equal(t, time.Duration(slower*float64(v.Engine.Median)), spec.ServiceTime.Median)
	}
}

func TestTrialsDifferInWhatTheySay(t *testing.T) {
	good, names := 0, map[string]bool{}
	for _, tr := range trials() {
		require.False(t, names[tr.Name], tr.Name)
		names[tr.Name] = true
		if tr.want == "Completed" {
			good++
		}
	}
	require.Equal(t, 1, good)
	require.Len(t, names, 6)
}

func pod(uid, version, node string, ready bool) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), Labels: map[string]string{"app": Name, versionLabel: version}}}
	p.Spec.NodeName = node
	if ready {
		p.Status.PodIP = "127.1.0.9"
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	return p
}

func TestWatcherCounts(t *testing.T) {
	w := &watcher{pods: map[types.UID]*corev1.Pod{}, addresses: map[string][]address{}, changed: make(chan struct{})}
	s := service()
	began := time.Now()
	w.see(s, false)
	w.see(pod("a", "v1", "n", true), false)
	_, changed := w.now()
	w.see(pod("b", "v2", "n", false), false)
	<-changed
	w.see(pod("c", "v2", "", false), false)
	leaving := pod("d", "v1", "n", true)
	leaving.DeletionTimestamp = &metav1.Time{Time: began}
	w.see(leaving, false)
	c, _ := w.now()
	require.Equal(t, Count{
		Ready: map[string]int{"v1": 1}, Pods: map[string]int{"v1": 2, "v2": 2}, Serving: 1, Loading: 1, Pending: 1, Leaving: 1, GPUs: 3,
	}, c)

	s = s.DeepCopy()
	s.Spec.Selector[versionLabel] = "v2" // a switch before anything of it is Ready
	w.see(s, false)
	c, _ = w.now()
	require.Zero(t, c.Serving)

	require.Equal(t, "v1", w.version("127.1.0.9:8000", time.Now()))
	require.Empty(t, w.version("127.1.0.9:8000", began.Add(-time.Second)))
	w.see(leaving, true)
	w.see(pod("e", "v2", "n", true), false)
	require.Equal(t, "v2", w.version("127.1.0.9:8000", time.Now()), "an address is used again")
	c, _ = w.now()
	require.Equal(t, 1, c.Serving)
	require.Equal(t, 1, c.Pods["v1"])
}

func TestBetweenBeginsWithWhatStood(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	w := &watcher{}
	for _, s := range []int{1, 3, 5, 7} {
		w.samples = append(w.samples, Sample{At: at(s), Count: Count{Serving: s}})
	}
	f := func(from, to int, want ...int) {
		t.Helper()
		var got []int
		for _, s := range w.between(at(from), at(to)) {
			require.False(t, s.At.Before(at(from)))
			got = append(got, s.Serving)
		}
		require.Equal(t, want, got, fmt.Sprint(from, to))
	}
	f(4, 6, 3, 5)
	f(3, 5, 3, 5)
	f(0, 9, 1, 3, 5, 7)
	f(8, 9, 7)
	f(0, 0)
}

func TestOutcomeCountsWhatWasDue(t *testing.T) {
	s := time.Second
	results := []load.Result{
		{Scheduled: 1 * s, Code: 500},                                      // before
		{Scheduled: 2 * s, Code: 200, Latency: s},                          // in time, just
		{Scheduled: 3 * s, Code: 200, Latency: s + 1},                      // late
		{Scheduled: 4 * s, Class: load.ClassNoEndpoint},                    // failed
		{Scheduled: 5 * s, Code: 503, Latency: 2 * s},                      // failed, not late as well
		{Scheduled: 5 * s, Class: load.ClassCanceled},                      // the load was ended
		{Scheduled: 6 * s, Code: 200, Latency: 10 * s, Class: "", Wait: 0}, // after
	}
	var o Outcome
	o.judge(results, 2*s, 5*s)
	require.Equal(t, []int{4, 2, 1}, []int{o.Requests, o.Failed, o.Late})
	began := time.Now()
	o.count([]Sample{{At: began, Count: Count{Serving: 8, GPUs: 8}}, {At: began.Add(s), Count: Count{Serving: 6, GPUs: 9}}}, began, began.Add(3*s))
	require.Equal(t, []int{6, 9}, []int{o.Least, o.Held})
	require.InDelta(t, 3, o.Seconds, 1e-9)
	require.Len(t, o.Samples, 2)
}

func TestReportSaysWhatWasJudgedWrong(t *testing.T) {
	var out bytes.Buffer
	r := Report{Verdicts: []Verdict{
		{Version: "v2", Outcome: "Completed", Want: "Completed", Right: true, Requests: 200, Exposed: 50, Failed: 1, Late: 1, Decided: 31},
		{Version: "v3", Outcome: "Completed", Want: "Failed"},
	}}
	require.NoError(t, r.Print(&out))
	require.Regexp(t, `v2 .* Completed +right +31 s +0 s +25 % +1\.0 %`, out.String())
	require.Contains(t, out.String(), "WRONG: not Failed")
}
