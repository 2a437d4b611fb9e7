package kubelet

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"headroom.dev/headroom/lab/inference"
)

// simulatedInstance is a container that a goroutine of ours plays.
type simulatedInstance struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // of the server, once done
}

func (i *simulatedInstance) Done() <-chan struct{} { return i.done }

func (i *simulatedInstance) Exit() (code int, message string) {
	select {
	case <-i.done:
	default:
		return 137, "" // abandoned by Stop: what SIGKILL would have left
	}
	if i.err != nil {
		return 1, i.err.Error()
	}
	return 0, ""
}

func (i *simulatedInstance) Stop(grace time.Duration) {
	i.cancel()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-i.done:
	case <-timer.C:
	}
}

// simulate starts the server of a simulated pod for its first container with a port; other containers just run.
func (w *worker) simulate(life context.Context, pod *corev1.Pod, c *container) (instance, error) {
	spec, err := inference.ParseSpec(pod.Annotations[SimulateAnnotation])
	if err != nil {
		return nil, &refusal{reasonConfig, fmt.Errorf("annotation %s: %w", SimulateAnnotation, err)}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(life)) // like a process, it ends by Stop
	i := &simulatedInstance{cancel: cancel, done: make(chan struct{})}
	if !c.first {
		if len(pod.Spec.Containers) == 1 {
			cancel()
			return nil, &refusal{reasonConfig, errors.New("a simulated pod needs a containerPort to listen on")}
		}
		go func() { defer close(i.done); <-ctx.Done() }()
		return i, nil
	}
	w.mu.Lock()
	restarts := c.status.RestartCount
	w.mu.Unlock()
	server := inference.New(spec, seed(pod, restarts), w.grace())
	address := net.JoinHostPort(w.address.String(), strconv.Itoa(int(c.spec.Ports[0].ContainerPort)))
	w.server.Store(server)
	go func() {
		defer close(i.done)
		defer w.server.CompareAndSwap(server, nil)
		i.err = server.Run(ctx, address)
	}()
	if now, _ := w.state(); now.Annotations[SimulateAnnotation] != pod.Annotations[SimulateAnnotation] {
		w.respecify(now) // changed before there was a server to tell
	}
	return i, nil
}

// seed makes each pod, and each restart of it, another draw.
func seed(pod *corev1.Pod, restarts int32) uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s/%d", pod.UID, restarts) // a hash takes everything
	return h.Sum64()
}

// respecify changes the running server to what the pod's annotation says now. A bad annotation leaves it as it is.
func (w *worker) respecify(pod *corev1.Pod) {
	server := w.server.Load()
	if server == nil {
		return // it will start with the new annotation
	}
	spec, err := inference.ParseSpec(pod.Annotations[SimulateAnnotation])
	if err == nil {
		err = server.Update(spec)
	}
	if err != nil {
		w.complain("Failed", fmt.Errorf("annotation %s is ignored: %w", SimulateAnnotation, err))
	}
}
