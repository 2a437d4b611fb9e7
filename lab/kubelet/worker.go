package kubelet

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"headroom.dev/headroom/lab/inference"
	"headroom.dev/headroom/lab/kubelet/volumes"
)

const (
	retryEvery    = time.Second      // of what failed: an API call, a volume, a container's configuration
	refreshEvery  = 10 * time.Second // of volumes' contents; the real kubelet takes up to a minute and more
	defaultGrace  = 30 * time.Second
	vanishedGrace = 2 * time.Second // for the containers of a pod whose object was deleted by force
)

// worker runs one pod from its binding to its end. run owns the API object: it alone writes status and deletes. The
// containers run beside it and leave their state under mu.
type worker struct {
	k          *Kubelet
	node       *node
	log        *slog.Logger
	simulated  bool
	uid        types.UID
	dir        string
	volumes    *volumes.Set
	start      metav1.Time
	address    netip.Addr
	reported   corev1.PodStatus // as last written
	removed    bool             // the object was deleted by us
	wake       chan struct{}    // capacity 1: there is something to report or to do
	containers []*container
	server     atomic.Pointer[inference.Server] // of a simulated pod while it runs

	mu       sync.Mutex
	pod      *corev1.Pod // as last seen
	gone     bool        // the object is
	prepared bool        // devices and volumes are there
	problem  string      // last event of the kind that repeats
}

func newWorker(k *Kubelet, n *node, pod *corev1.Pod) *worker {
	dir := filepath.Join(k.config.Dir, "pods", string(pod.UID))
	w := &worker{
		k: k, node: n, pod: pod, uid: pod.UID, simulated: isSimulated(pod), dir: dir,
		log:      k.config.Log.With("pod", pod.Namespace+"/"+pod.Name),
		volumes:  volumes.New(volumes.Config{Client: k.config.Client, Dir: filepath.Join(dir, "volumes"), NodeRoot: n.root}),
		start:    metav1.Now(),
		reported: *pod.Status.DeepCopy(),
		wake:     make(chan struct{}, 1),
	}
	for i := range pod.Spec.Containers {
		w.containers = append(w.containers, newContainer(w, i))
	}
	return w
}

// update is told of the pod's new state.
func (w *worker) update(pod *corev1.Pod) {
	w.mu.Lock()
	before := w.pod.Annotations[SimulateAnnotation]
	w.pod = pod
	w.mu.Unlock()
	if w.simulated && before != pod.Annotations[SimulateAnnotation] {
		w.respecify(pod)
	}
	w.poke()
}

// lose is told that the pod's object is gone.
func (w *worker) lose() {
	w.mu.Lock()
	w.gone = true
	w.mu.Unlock()
	w.poke()
}

func (w *worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *worker) state() (pod *corev1.Pod, gone bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod, w.gone
}

// view returns the pod with the addresses that its containers may ask for.
func (w *worker) view() *corev1.Pod {
	pod, _ := w.state()
	pod = pod.DeepCopy()
	w.setAddresses(&pod.Status)
	return pod
}

func (w *worker) setAddresses(s *corev1.PodStatus) {
	s.PodIP, s.HostIP = w.address.String(), w.node.Address.String()
	s.PodIPs, s.HostIPs = []corev1.PodIP{{IP: s.PodIP}}, []corev1.HostIP{{IP: s.HostIP}}
}

// grace returns how long the pod's containers may take to end.
func (w *worker) grace() time.Duration {
	pod, gone := w.state()
	switch {
	case gone:
		return vanishedGrace
	case pod.DeletionGracePeriodSeconds != nil:
		return time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		return time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second
	}
	return defaultGrace
}

func (w *worker) event(kind, reason, format string, args ...any) {
	pod, _ := w.state()
	w.k.events.Eventf(pod, kind, reason, format, args...)
}

// complain makes an event of a problem, once for as long as it stays the same.
func (w *worker) complain(reason string, err error) {
	w.mu.Lock()
	same := w.problem == err.Error()
	w.problem = err.Error()
	w.mu.Unlock()
	if !same {
		w.log.Warn("pod has a problem", "reason", reason, "err", err)
		w.event(corev1.EventTypeWarning, reason, "%v", err)
	}
}

// run returns when the pod's object is gone and its containers have ended, or, when ctx ends, once they have.
func (w *worker) run(ctx context.Context) {
	if !w.takeAddress(ctx) {
		return
	}
	defer w.k.addresses.release(w.address)
	defer w.clean()
	defer context.AfterFunc(ctx, w.poke)()
	life, end := context.WithCancel(ctx)
	defer end()
	if w.over(ctx) {
		end() // before anything was started
	}
	ended := make(chan struct{})
	go func() { defer close(ended); w.live(life) }()
	for finished := false; ; {
		if w.over(ctx) {
			end()
		}
		if finished && w.left(ctx) {
			return
		}
		retry := w.upkeep(ctx, finished)
		select {
		case <-w.wake:
		case <-retry:
		case <-ended:
			finished, ended = true, nil
			w.node.devices.Finish(w.uid)
		}
	}
}

// over tells whether the containers are to end, left whether nobody waits for the pod's object any more.
func (w *worker) over(ctx context.Context) bool {
	pod, gone := w.state()
	return gone || pod.DeletionTimestamp != nil || ctx.Err() != nil
}

func (w *worker) left(ctx context.Context) bool {
	_, gone := w.state()
	return gone || ctx.Err() != nil
}

// upkeep brings the pod's object up to date, and deletes it once the containers of a pod that is to go have ended. It
// returns when to try again where that was refused, else nil.
func (w *worker) upkeep(ctx context.Context, finished bool) <-chan time.Time {
	pod, gone := w.state()
	if gone || w.removed || ctx.Err() != nil {
		return nil
	}
	err := w.report(ctx, pod)
	if err == nil && finished && pod.DeletionTimestamp != nil {
		err = w.remove(ctx, pod)
	}
	if err == nil || ctx.Err() != nil {
		return nil
	}
	w.log.Warn("cannot bring the pod's object up to date", "err", err)
	return time.After(retryEvery)
}

func (w *worker) clean() {
	if err := os.RemoveAll(w.dir); err != nil {
		w.log.Warn("cannot remove the pod's folder", "err", err)
	}
}

func (w *worker) takeAddress(ctx context.Context) bool {
	for {
		var err error
		if w.address, err = w.k.addresses.take(); err == nil {
			return true
		}
		w.complain("FailedCreatePodSandBox", err)
		if !pause(ctx, retryEvery) {
			return false
		}
		if _, gone := w.state(); gone {
			return false
		}
	}
}

// live waits for what the containers need, then runs them until life ends or all have ended for good.
func (w *worker) live(life context.Context) {
	pod := w.view()
	select {
	case <-life.Done():
		return
	case <-w.node.devices.Granted(pod.UID):
	}
	if !w.simulated && !w.mount(life) {
		return
	}
	w.mu.Lock()
	w.prepared = true
	w.mu.Unlock()
	var containers, refresh sync.WaitGroup
	refreshing, stop := context.WithCancel(life)
	if !w.simulated {
		refresh.Go(func() { w.refresh(refreshing) })
	}
	for _, c := range w.containers {
		containers.Go(func() { c.run(life) })
	}
	containers.Wait()
	stop()
	refresh.Wait()
}

// mount tries until all volumes are there; false when life has ended first.
func (w *worker) mount(life context.Context) bool {
	for {
		err := w.volumes.Sync(life, w.view())
		if err == nil {
			return life.Err() == nil
		}
		if life.Err() == nil {
			w.complain("FailedMount", err)
		}
		if !pause(life, retryEvery) {
			return false
		}
	}
}

func (w *worker) refresh(ctx context.Context) {
	for pause(ctx, refreshEvery) {
		if err := w.volumes.Sync(ctx, w.view()); err != nil && ctx.Err() == nil {
			w.complain("FailedMount", err)
		}
	}
}

// report writes the pod's status where it differs from what was written last.
func (w *worker) report(ctx context.Context, pod *corev1.Pod) error {
	next := w.status(pod)
	before, err := json.Marshal(corev1.Pod{Status: w.reported})
	if err != nil {
		return fmt.Errorf("cannot encode pod status: %w", err)
	}
	after, err := json.Marshal(corev1.Pod{Status: next})
	if err != nil {
		return fmt.Errorf("cannot encode pod status: %w", err)
	}
	diff, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Pod{})
	if err != nil {
		return fmt.Errorf("cannot compare pod status: %w", err)
	}
	if string(diff) == "{}" {
		return nil
	}
	// The UID makes the API server refuse the patch for another pod of the same name.
	patch := map[string]json.RawMessage{}
	if err := json.Unmarshal(diff, &patch); err != nil {
		return fmt.Errorf("cannot make a status patch: %w", err)
	}
	patch["metadata"] = fmt.Appendf(nil, `{"uid":%q}`, pod.UID)
	body, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("cannot make a status patch: %w", err)
	}
	_, err = w.k.config.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status")
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cannot write pod status: %w", err)
	}
	w.reported = next // gone with the object where that is not found; the watch will say so
	return nil
}

func (w *worker) status(pod *corev1.Pod) corev1.PodStatus {
	w.mu.Lock()
	in := observed{prepared: w.prepared, start: w.start, now: metav1.Now()}
	for _, c := range w.containers {
		in.containers = append(in.containers, *c.status.DeepCopy())
	}
	w.mu.Unlock()
	next := podStatus(w.reported, pod, in)
	w.setAddresses(&next)
	return next
}

// remove deletes the object of a pod whose containers have ended.
func (w *worker) remove(ctx context.Context, pod *corev1.Pod) error {
	err := w.k.config.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64(0)), Preconditions: metav1.NewUIDPreconditions(string(pod.UID)),
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("cannot delete the pod: %w", err)
	}
	w.removed = true
	return nil
}

// pause waits; false when ctx has ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
