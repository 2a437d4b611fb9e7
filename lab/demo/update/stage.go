package update

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/load"
	"headroom.dev/headroom/lab/network"
)

const (
	// readyDeadline bounds the wait for the first pods, which load for a second.
	readyDeadline = 40 * time.Second
	// goneDeadline bounds the wait for pods that were deleted, and for a policy that puts fields back first.
	goneDeadline = time.Minute
	pollEvery    = 200 * time.Millisecond
)

// Stage is a lab in which updates are played, one at a time.
type Stage struct {
	cluster lab.Cluster
	client  client.Client
	kube    kubernetes.Interface
	watcher *watcher
	gpus    int // of the lab
	seed    uint64
}

// NewStage prepares a lab that has so many GPUs. It watches until ctx ends.
func NewStage(ctx context.Context, cluster lab.Cluster, gpus int, seed uint64) (*Stage, error) {
	config, err := clientcmd.BuildConfigFromFlags("", cluster.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("cannot read the lab's kubeconfig: %w", err)
	}
	config.QPS = -1
	types := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(types), v1alpha1.AddToScheme(types)); err != nil {
		return nil, fmt.Errorf("cannot make a client for the lab: %w", err)
	}
	s := &Stage{cluster: cluster, gpus: gpus, seed: seed}
	if s.client, err = client.New(config, client.Options{Scheme: types}); err != nil {
		return nil, fmt.Errorf("cannot make a client for the lab: %w", err)
	}
	if s.kube, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("cannot make a client for the lab: %w", err)
	}
	for _, object := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace + "-tenants"}},
		tenants(0), service(),
	} {
		if err := s.client.Create(ctx, object); err != nil && !apierrors.IsAlreadyExists(err) {
			return nil, fmt.Errorf("cannot create %s: %w", object.GetName(), err)
		}
	}
	s.watcher, err = watch(ctx, s.kube)
	return s, err
}

// leave has tenants hold all GPUs but so many.
func (s *Stage) leave(ctx context.Context, gpus int) error {
	if gpus < 0 || gpus > s.gpus {
		return fmt.Errorf("cannot leave %d GPUs free of %d", gpus, s.gpus)
	}
	want := s.gpus - gpus
	if err := s.client.Patch(ctx, tenants(want), client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, want))); err != nil {
		return fmt.Errorf("cannot scale the tenants: %w", err)
	}
	bound := 0
	return s.await(ctx, goneDeadline, func(ctx context.Context) (bool, error) {
		list, err := s.kube.CoreV1().Pods(Namespace+"-tenants").List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		bound = 0
		for i := range list.Items {
			if list.Items[i].Spec.NodeName != "" {
				bound++
			}
		}
		return bound == want && len(list.Items) == want, nil
	}, func() string { return fmt.Sprintf("%d tenants on nodes; there are %d", want, bound) })
}

// await polls until done, and says what it waited for where it gives up.
func (s *Stage) await(ctx context.Context, within time.Duration, done wait.ConditionWithContextFunc, what func() string) error {
	if err := wait.PollUntilContextTimeout(ctx, pollEvery, within, true, done); err != nil {
		return fmt.Errorf("cannot wait any longer than %s for %s: %w", within, what(), err)
	}
	return nil
}

// install makes the service with its first version, and the policy where there is one, and waits until it serves and the policy is in force.
func (s *Stage) install(ctx context.Context, d *appsv1.Deployment, policy *v1alpha1.RolloutPolicy) error {
	if err := s.client.Create(ctx, d); err != nil {
		return fmt.Errorf("cannot create the Deployment: %w", err)
	}
	replicas, ready := int(*d.Spec.Replicas), 0
	err := s.await(ctx, readyDeadline, func(context.Context) (bool, error) {
		c, _ := s.watcher.now()
		ready = c.Serving
		return ready == replicas, nil
	}, func() string { return fmt.Sprintf("%d replicas; %d serve", replicas, ready) })
	if err != nil || policy == nil {
		return err
	}
	if err := s.client.Create(ctx, policy); err != nil {
		return fmt.Errorf("cannot create the RolloutPolicy: %w", err)
	}
	return s.await(ctx, readyDeadline, func(ctx context.Context) (bool, error) {
		if err := s.client.Get(ctx, client.ObjectKeyFromObject(policy), policy); err != nil {
			return false, client.IgnoreNotFound(err)
		}
		return policy.Status.Phase == "Resting", nil
	}, func() string { return "the policy to rest; it is " + describe(policy) })
}

func describe(p *v1alpha1.RolloutPolicy) string {
	text := []string{"in phase " + p.Status.Phase}
	if p.Status.Phase == "" {
		text[0] = "without status"
	}
	for _, c := range p.Status.Conditions {
		text = append(text, fmt.Sprintf("%s=%s (%s: %s)", c.Type, c.Status, c.Reason, c.Message))
	}
	if v := p.Status.Verdict; v != nil {
		text = append(text, fmt.Sprintf("judged %s after %d looks: %s", v.Result, v.Looks, v.Message))
		for _, m := range v.Metrics {
			text = append(text, fmt.Sprintf("%s %s, %s: %s", m.Name, m.Result, m.Reason, m.Message))
		}
	}
	return strings.Join(text, ", ")
}

// refusal is why a policy does not begin, "" where it does.
func refusal(p *v1alpha1.RolloutPolicy) string {
	r := p.Status.Refusal
	if r == nil || p.Status.Phase != "Planning" {
		return ""
	}
	if len(r.Remedies) == 0 {
		return r.Message
	}
	return r.Message + "; possible: " + strings.Join(r.Remedies, ", or ")
}

// clear removes the service; the policy first, which puts the fields back.
func (s *Stage) clear(ctx context.Context, policy *v1alpha1.RolloutPolicy) error {
	objects := []client.Object{&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: Name, Namespace: Namespace}}}
	if policy != nil {
		objects = []client.Object{policy, objects[0]}
	}
	for _, object := range objects {
		if err := client.IgnoreNotFound(s.client.Delete(ctx, object, client.PropagationPolicy(metav1.DeletePropagationBackground))); err != nil {
			return fmt.Errorf("cannot delete the %T: %w", object, err)
		}
		err := s.await(ctx, goneDeadline, func(ctx context.Context) (bool, error) {
			err := s.client.Get(ctx, client.ObjectKeyFromObject(object), object)
			return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
		}, func() string { return fmt.Sprintf("%T to go", object) })
		if err != nil {
			return err
		}
	}
	// A Service whose selector a policy had pinned is as it was, or this one makes it so.
	if err := s.client.Delete(ctx, service()); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot delete the Service: %w", err)
	}
	if err := s.client.Create(ctx, service()); err != nil {
		return fmt.Errorf("cannot create the Service: %w", err)
	}
	return s.await(ctx, goneDeadline, func(context.Context) (bool, error) {
		c, _ := s.watcher.now()
		return c.GPUs+c.Pending+c.Leaving == 0, nil
	}, func() string { c, _ := s.watcher.now(); return fmt.Sprintf("pods to go; there are %v", c.Pods) })
}

// patch gives the Deployment another version, as kubectl apply or set image does.
func (s *Stage) patch(ctx context.Context, v Version) error {
	d := &appsv1.Deployment{}
	if err := s.client.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: Name}, d); err != nil {
		return fmt.Errorf("cannot read the Deployment: %w", err)
	}
	before := d.DeepCopy()
	d.Spec.Template = v.template()
	if err := s.client.Patch(ctx, d, client.StrategicMergeFrom(before), client.FieldOwner("user")); err != nil {
		return fmt.Errorf("cannot update the Deployment: %w", err)
	}
	return nil
}

// traffic is load under way.
type traffic struct {
	began     time.Time
	generator *load.Generator
	cancel    context.CancelFunc
	over      sync.WaitGroup
}

// send sends requests to the Service until stop, or most is over.
func (s *Stage) send(ctx context.Context, rate float64, most time.Duration) (*traffic, error) {
	targets, err := network.Endpoints(ctx, s.kube, Namespace, Name)
	if err != nil {
		return nil, err
	}
	pattern, err := load.Constant(rate, most)
	if err != nil {
		return nil, err
	}
	g, err := load.New(load.Options{Pattern: pattern, Seed: s.seed, Targets: targets, Timeout: 5 * time.Second})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	t := &traffic{began: time.Now(), generator: g, cancel: cancel}
	t.over.Go(func() { _ = g.Run(ctx) }) // it ends when it is told to, and says so
	return t, nil
}

// stop ends the load. What was still under way then counts for nothing.
func (t *traffic) stop() []load.Result {
	t.cancel()
	t.over.Wait()
	return t.generator.Record().Results()
}
