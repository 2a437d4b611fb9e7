package kubelet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/lab/kubelet/probe"
)

// The back-off between restarts. The real kubelet's is 10 s to 5 min; nobody watches a lab for that long.
const (
	backOffFirst = time.Second
	backOffMost  = 10 * time.Second
)

// instance is one run of a container.
type instance interface {
	// Done is closed when it has ended.
	Done() <-chan struct{}
	// Exit returns the exit code and a message for people; valid once Done is closed.
	Exit() (code int, message string)
	// Stop asks it to end, and makes it end after grace; it returns when that is so.
	Stop(grace time.Duration)
}

// refusal says why a container cannot start: the reason of its waiting state, and the message.
type refusal struct {
	reason string
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// Reasons of refusals, as the kubelet's.
const (
	reasonConfig = "CreateContainerConfigError"
	reasonRun    = "RunContainerError"
	reasonImage  = "ErrImageNeverPull"
)

// container runs one container of a pod, again and again as the restart policy has it.
type container struct {
	w      *worker
	pod    *corev1.Pod // as first seen: its identity and what never changes
	spec   *corev1.Container
	first  bool                   // the first of the pod with a port: the one that a simulated server answers for
	status corev1.ContainerStatus // under w.mu
}

func newContainer(w *worker, index int) *container {
	spec := &w.pod.Spec.Containers[index]
	c := &container{w: w, pod: w.pod, spec: spec, first: len(spec.Ports) > 0, status: corev1.ContainerStatus{
		Name: spec.Name, Image: spec.Image, Started: new(false),
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}},
	}}
	for i := range index {
		c.first = c.first && len(w.pod.Spec.Containers[i].Ports) == 0
	}
	return c
}

// change changes the container's status and has it reported.
func (c *container) change(f func(*corev1.ContainerStatus)) {
	c.w.mu.Lock()
	f(&c.status)
	c.w.mu.Unlock()
	c.w.poke()
}

// run runs the container until life ends or it has ended for good.
func (c *container) run(life context.Context) {
	back := backOff{}
	for life.Err() == nil {
		run, err := c.start(life)
		if err != nil {
			if life.Err() == nil {
				c.refuse(err)
			}
			if !pause(life, retryEvery) {
				return
			}
			continue
		}
		began := time.Now()
		c.began()
		c.attend(life, run)
		code, message := run.Exit()
		c.ended(began, code, message)
		if life.Err() != nil || !restarts(c.pod.Spec.RestartPolicy, code != 0) {
			return
		}
		if wait := back.next(time.Since(began)); wait > 0 {
			c.wait(wait)
			if !pause(life, wait) {
				return
			}
		}
		c.change(func(s *corev1.ContainerStatus) { s.RestartCount++ })
	}
}

// backOff is the time before each restart: none before the first, then doubling; a run of twice the longest back-off
// starts it anew.
type backOff struct {
	any  bool
	last time.Duration
}

func (b *backOff) next(ran time.Duration) time.Duration {
	switch {
	case !b.any || ran >= 2*backOffMost:
		b.any, b.last = true, 0
	case b.last == 0:
		b.last = backOffFirst
	default:
		b.last = min(2*b.last, backOffMost)
	}
	return b.last
}

func (c *container) start(life context.Context) (instance, error) {
	pod := c.w.view()
	if err := unsupported(pod, c.spec); err != nil {
		return nil, &refusal{reasonConfig, err}
	}
	if c.w.simulated {
		return c.w.simulate(life, pod, c)
	}
	return c.w.spawn(life, pod, c)
}

// unsupported names what a container asks for and the lab cannot do; to go on without it would test something else.
func unsupported(pod *corev1.Pod, c *corev1.Container) error {
	if len(pod.Spec.InitContainers) > 0 {
		return errors.New("the lab runs no init containers")
	}
	if l := c.Lifecycle; l != nil {
		if l.PostStart != nil {
			return errors.New("the lab runs no postStart hooks")
		}
		if l.PreStop != nil && l.PreStop.Sleep == nil {
			return errors.New("the lab runs no preStop hooks other than sleep")
		}
	}
	return probe.Validate(c)
}

func (c *container) refuse(err error) {
	reason := reasonConfig
	if r, ok := errors.AsType[*refusal](err); ok {
		reason = r.reason
	}
	c.change(func(s *corev1.ContainerStatus) {
		retire(s)
		s.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: err.Error()}}
	})
	c.w.complain("Failed", err)
}

func (c *container) began() {
	c.w.event(corev1.EventTypeNormal, "Started", "Started container %s", c.spec.Name)
	c.change(func(s *corev1.ContainerStatus) {
		retire(s)
		s.ContainerID = containerID(c.pod, s)
		s.ImageID = s.Image
		s.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
	})
}

func (c *container) ended(began time.Time, code int, message string) {
	reason := "Completed"
	if code != 0 {
		reason = "Error"
	}
	c.change(func(s *corev1.ContainerStatus) {
		s.Ready, s.Started = false, new(false)
		s.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: int32(code), Reason: reason, Message: message,
			StartedAt: metav1.NewTime(began), FinishedAt: metav1.Now(), ContainerID: s.ContainerID,
		}}
	})
}

func (c *container) wait(d time.Duration) {
	message := fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", d, c.spec.Name, c.pod.Name)
	c.w.event(corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s", c.spec.Name)
	c.change(func(s *corev1.ContainerStatus) {
		retire(s)
		s.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: message}}
	})
}

// retire makes a terminated state the last one, before another takes its place.
func retire(s *corev1.ContainerStatus) {
	if s.State.Terminated != nil {
		s.LastTerminationState = s.State
	}
}

func containerID(pod *corev1.Pod, s *corev1.ContainerStatus) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%d", pod.UID, s.Name, s.RestartCount))
	return "lab://" + hex.EncodeToString(sum[:])
}

// attend probes a running container and returns when it has ended: by itself, because a probe gave it up, or because
// life ended.
func (c *container) attend(life context.Context, run instance) {
	watching, stop := context.WithCancel(life)
	watched, dead := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		probe.Watch(watching, c.spec, probe.NewCheck(c.spec, c.w.address.String()), probe.Observer{
			Started: func() { c.change(func(s *corev1.ContainerStatus) { s.Started = new(true) }) },
			Ready:   func(ready bool) { c.change(func(s *corev1.ContainerStatus) { s.Ready = ready }) },
			Unhealthy: func(kind probe.Kind, err error) {
				c.w.event(corev1.EventTypeWarning, "Unhealthy", "%s probe failed: %v", kind, err)
			},
			Dead: func(kind probe.Kind, _ error) {
				c.w.event(corev1.EventTypeNormal, "Killing", "Container %s failed %s probe, will be restarted", c.spec.Name, kind)
				close(dead)
			},
		})
	}()
	select {
	case <-run.Done():
	case <-dead:
		run.Stop(c.afterPreStop(run))
	case <-life.Done():
		c.w.event(corev1.EventTypeNormal, "Killing", "Stopping container %s", c.spec.Name)
		grace := c.w.grace()
		if pod, gone := c.w.state(); pod.DeletionTimestamp != nil && !gone { // else the lab ends, or was told to hurry
			grace = c.afterPreStop(run)
		}
		run.Stop(grace)
	}
	stop()
	<-watched // so that no probe speaks about a container that has ended
}

// afterPreStop runs the preStop sleep and returns what it leaves of the grace period: at least 2 s, as with the kubelet.
func (c *container) afterPreStop(run instance) time.Duration {
	grace := c.w.grace()
	if c.spec.Lifecycle == nil || c.spec.Lifecycle.PreStop == nil || c.spec.Lifecycle.PreStop.Sleep == nil {
		return grace
	}
	began := time.Now()
	timer := time.NewTimer(min(time.Duration(c.spec.Lifecycle.PreStop.Sleep.Seconds)*time.Second, grace))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-run.Done():
	}
	return max(grace-time.Since(began), 2*time.Second)
}

// logPath returns where a process' output goes.
func (c *container) logPath() string {
	name := fmt.Sprintf("%s_%s_%s.log", c.pod.Namespace, c.pod.Name, c.spec.Name)
	return filepath.Join(c.w.k.config.Dir, "logs", name)
}
