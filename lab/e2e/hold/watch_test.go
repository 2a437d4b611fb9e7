package hold

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"headroom.dev/headroom/lab/network"
)

// death is a pod that was deleted.
type death struct {
	version, state string
	after          time.Duration // since the directive began
}

// watch follows a namespace's pods event by event, so that no dip between two looks is missed.
type watch struct {
	mu     sync.Mutex
	pods   map[types.UID]*corev1.Pod
	began  time.Time
	least  int // Ready pods at any time since began
	most   int // bound pods, that is GPUs in use
	deaths []death
}

func newWatch(ctx context.Context, t *testing.T, client kubernetes.Interface, namespace string) *watch {
	t.Helper()
	w := &watch{pods: map[types.UID]*corev1.Pod{}}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
	pods := factory.Core().V1().Pods().Informer()
	_, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: w.see, UpdateFunc: func(_, now any) { w.see(now) }, DeleteFunc: w.lose,
	})
	require.NoError(t, err)
	factory.Start(ctx.Done())
	require.True(t, cache.WaitForCacheSync(ctx.Done(), pods.HasSynced))
	return w
}

func (w *watch) see(object any) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.pods[pod.UID]
	if pod.DeletionTimestamp != nil && before != nil && before.DeletionTimestamp == nil {
		w.died(before)
	}
	w.pods[pod.UID] = pod
	w.measure()
}

func (w *watch) lose(object any) {
	if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if before := w.pods[pod.UID]; before != nil && before.DeletionTimestamp == nil {
		w.died(before) // a pod without a node goes at once
	}
	delete(w.pods, pod.UID)
	w.measure()
}

func (w *watch) died(before *corev1.Pod) {
	w.deaths = append(w.deaths, death{version(before.Labels), podState(before), time.Since(w.began)})
}

func (w *watch) measure() {
	ready, bound := 0, 0
	for _, pod := range w.pods {
		if pod.Spec.NodeName != "" {
			bound++
		}
		if network.Ready(pod) {
			ready++
		}
	}
	w.least, w.most = min(w.least, ready), max(w.most, bound)
}

// begin starts a directive's account.
func (w *watch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began, w.least, w.most, w.deaths = time.Now(), 1<<30, 0, nil
	w.measure()
}

// account tells what happened since begin: deaths by version and state, the fewest Ready pods, and how long the last death took.
func (w *watch) account() (text string, last time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	counts := map[string]int{}
	for _, d := range w.deaths {
		counts[d.version+" "+d.state]++
		last = max(last, d.after)
	}
	if len(counts) == 0 {
		return fmt.Sprintf("nobody died; at least %d Ready", w.least), 0
	}
	parts := make([]string, 0, len(counts))
	for what, n := range counts {
		versionName, state, _ := strings.Cut(what, " ")
		parts = append(parts, fmt.Sprintf("%s×%d %s", versionName, n, state))
	}
	slices.Sort(parts)
	return fmt.Sprintf("died: %s; at least %d Ready", strings.Join(parts, ", "), w.least), last
}

// podState tells whether a pod served. Where one that did not had got to by then is a matter of milliseconds.
func podState(pod *corev1.Pod) string {
	if network.Ready(pod) {
		return "Ready"
	}
	return "not Ready"
}

// version is the version that a template's labels name.
func version(labels map[string]string) string { return labels["version"] }
