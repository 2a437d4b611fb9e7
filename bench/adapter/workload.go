package main

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"headroom.dev/headroom/bench/adapter/targets"
)

// writers write objects at once; the API server takes about 500 pods a second then, on two cores.
const writers = 8

// grow writes the objects of pods from..to and of their agents: a Deployment with its ReplicaSet and a Service for each 50
// pods, and the pods themselves, Ready at the addresses of the plan.
func (c *cluster) grow(ctx context.Context, plan targets.Plan, from, to int) error {
	step := c.progress.Step(fmt.Sprintf("%d pods", to))
	for _, namespace := range []string{targets.Namespace, targets.AgentNamespace} {
		if err := c.namespace(ctx, namespace); err != nil {
			return err
		}
	}
	for a := targets.Apps(from); a < targets.Apps(to); a++ {
		if err := c.app(ctx, targets.App(a), plan.Port); err != nil {
			return err
		}
	}
	type one struct {
		pod *corev1.Pod
		at  netip.Addr
	}
	work := make(chan one)
	errs := make(chan error, writers)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for w := range work {
				if _, err := c.pod(ctx, w.pod, w.at); err != nil {
					errs <- err
					cancel()
					return
				}
			}
		})
	}
	send := func(pod *corev1.Pod, at netip.Addr) {
		select {
		case work <- one{pod, at}:
		case <-ctx.Done():
		}
	}
	for i := from; i < to; i++ {
		if i%100 == 0 {
			step.Update(fmt.Sprintf("%d written", i-from))
		}
		send(inferencePod(i, plan.Port), plan.PodAddress(i))
	}
	for j := targets.Agents(from); j < targets.Agents(to); j++ {
		send(agentPod(j, plan.Port), plan.AgentAddress(j))
	}
	close(work)
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	step.Done(fmt.Sprintf("and %d agents", targets.Agents(to)))
	return nil
}

// namespace makes a namespace and the service account that the controller manager would put into it.
func (c *cluster) namespace(ctx context.Context, name string) error {
	_, err := c.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("cannot make namespace %s: %w", name, err)
	}
	_, err = c.client.CoreV1().ServiceAccounts(name).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("cannot make the service account of namespace %s: %w", name, err)
	}
	return nil
}

func (c *cluster) app(ctx context.Context, name string, port int) error {
	labels := map[string]string{"app": name}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec(port, "")}
	deployment, err := c.client.AppsV1().Deployments(targets.Namespace).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       appsv1.DeploymentSpec{Replicas: new(int32(targets.PodsPerApp)), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("cannot create deployment %s: %w", name, err)
	}
	_, err = c.client.AppsV1().ReplicaSets(targets.Namespace).Create(ctx, &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: name + "-" + templateHash, Labels: labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(deployment, appsv1.SchemeGroupVersion.WithKind("Deployment"))},
		},
		Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(targets.PodsPerApp)), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("cannot create the replica set of %s: %w", name, err)
	}
	_, err = c.client.CoreV1().Services(targets.Namespace).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec:       corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("cannot create service %s: %w", name, err)
	}
	return nil
}

// templateHash is the one of targets.Pod's names.
const templateHash = "6d9f7c5b8"

// replicaSet stands in for the UID that the API server gives: nobody collects garbage here, and whoever looks for a pod's
// Deployment goes by the owner's name.
func replicaSet(app string) types.UID { return types.UID("replicaset-" + app) }

func podSpec(port int, node string) corev1.PodSpec {
	return corev1.PodSpec{
		NodeName: node, AutomountServiceAccountToken: new(false),
		Containers: []corev1.Container{{
			Name: "vllm", Image: "vllm/vllm-openai:v0.11.0", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: int32(port)}},
		}},
	}
}

func scraped(port int) map[string]string {
	return map[string]string{"prometheus.io/scrape": "true", "prometheus.io/port": strconv.Itoa(port), "prometheus.io/path": "/metrics"}
}

func inferencePod(i, port int) *corev1.Pod {
	app := targets.App(i / targets.PodsPerApp)
	_, node := targets.Agent(targets.Agents(i+1) - 1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: targets.Namespace, Name: targets.Pod(i), Annotations: scraped(port),
			Labels: map[string]string{"app": app, "pod-template-hash": templateHash},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: app + "-" + templateHash, UID: replicaSet(app), Controller: new(true),
			}},
		},
		Spec: podSpec(port, node),
	}
}

func agentPod(j, port int) *corev1.Pod {
	name, node := targets.Agent(j)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: targets.AgentNamespace, Name: name, Annotations: scraped(port), Labels: map[string]string{"app.kubernetes.io/name": "headroom-agent"},
		},
		Spec: podSpec(port, node),
	}
}
