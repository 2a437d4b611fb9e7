package rollout

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout/autoscaler"
	"headroom.dev/headroom/rollout/capacity"
	"headroom.dev/headroom/rollout/evidence"
	"headroom.dev/headroom/rollout/kube"
	"headroom.dev/headroom/rollout/route"
	"headroom.dev/headroom/rollout/traffic"
	"headroom.dev/headroom/rollout/workload"
)

// lookEvery is how often policies at rest are looked at, and the pace of the loop that stands for the watches.
const lookEvery = 300 * time.Millisecond

// setup is how a controller is run in this process.
type setup struct {
	config    *rest.Config
	namespace string // whose policies are reconciled
	// wrap stands between the controller and the API server, for tests that fail requests; nil: nothing does.
	wrap  func(http.RoundTripper) http.RoundTripper
	plane evidence.Plane
	log   *slog.Logger
}

// controller is a kube.Controller with what the manager does for it.
type controller struct {
	*kube.Controller

	namespace string
	api       client.Client
	events    chan string
}

func scheme(tb testing.TB) *runtime.Scheme {
	tb.Helper()
	s := runtime.NewScheme()
	require.NoError(tb, clientgoscheme.AddToScheme(s))
	require.NoError(tb, v1alpha1.AddToScheme(s))
	return s
}

// newClient makes a client without a cache.
func newClient(tb testing.TB, config *rest.Config, wrap func(http.RoundTripper) http.RoundTripper) client.Client {
	tb.Helper()
	c := rest.CopyConfig(config)
	c.ContentType, c.AcceptContentTypes = "", "" // custom resources have no protobuf
	c.QPS, c.Burst = 200, 400
	if wrap != nil {
		c.Wrap(wrap)
	}
	api, err := client.New(c, client.Options{Scheme: scheme(tb)})
	require.NoError(tb, err)
	return api
}

// newController makes a controller that has never seen anything, as after a restart.
func newController(tb testing.TB, s setup) *controller {
	tb.Helper()
	api := newClient(tb, s.config, s.wrap)
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	recorder := events.NewFakeRecorder(1000)
	c, err := kube.New(kube.Options{
		Client: api, Reader: api,
		Planner: &kube.Planner{
			Workloads: &workload.Client{Reader: api, Writer: api, Now: time.Now},
			Capacity:  &capacity.Client{Client: api, Now: time.Now},
			Evidence:  &evidence.Client{Plane: s.plane, Reader: api, Now: time.Now},
			Now:       time.Now,
		},
		Autoscalers: &autoscaler.Client{Reader: api, Writer: api},
		Routers:     routers(api),
		Period:      lookEvery, Now: time.Now, Recorder: recorder, Registerer: prometheus.NewRegistry(), Log: s.log,
	})
	require.NoError(tb, err)
	return &controller{c, s.namespace, api, recorder.Events}
}

// routers makes those that the lab can serve.
func routers(api client.Client) func(*v1alpha1.RolloutPolicy) (route.Router, error) {
	return func(p *v1alpha1.RolloutPolicy) (route.Router, error) {
		target := traffic.Target{Client: api, Namespace: p.Namespace, Service: p.Spec.Traffic.Service, Now: time.Now, Settle: time.Second}
		switch t := p.Spec.Traffic; {
		case t.HTTPRoute != nil:
			return traffic.HTTPRoute(target, traffic.RulesOptions{Name: t.HTTPRoute.Name}), nil
		case t.Switch:
			return traffic.NewSelector(target), nil
		}
		return nil, errors.New("this router is not tested here")
	}
}

// look has every policy of the namespace looked at once.
func (c *controller) look(ctx context.Context) error {
	var list v1alpha1.RolloutPolicyList
	if err := c.api.List(ctx, &list, client.InNamespace(c.namespace)); err != nil {
		return err
	}
	var errs []error
	for i := range list.Items {
		_, err := c.Reconcile(ctx, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// run looks again and again, in a controller that next gives for each look, until the test ends or the function returned is called.
// Errors are logged: a controller tries again.
func run(t *testing.T, next func() *controller) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			if err := next().look(ctx); err != nil && ctx.Err() == nil {
				t.Logf("look: %v", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(lookEvery):
			}
		}
	})
	once := sync.OnceFunc(func() { cancel(); done.Wait() })
	t.Cleanup(once)
	return once
}

// always gives the same controller.
func always(c *controller) func() *controller { return func() *controller { return c } }

// plane answers with the demand of the service, and with a score for each pod: what its label "score" says.
type plane struct {
	api    client.Client
	demand float64
	others map[string]float64 // demand in other namespaces
}

var _ evidence.Plane = (*plane)(nil)

func (p *plane) Query(ctx context.Context, namespace, expr string) ([]evidence.Sample, error) {
	now := time.Now()
	if expr == "demand" {
		value, ok := p.others[namespace]
		if !ok {
			value = p.demand
		}
		return []evidence.Sample{{Value: value, At: now}}, nil
	}
	var pods corev1.PodList
	if err := p.api.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	var out []evidence.Sample
	for i := range pods.Items {
		value := 1.0
		if pods.Items[i].Labels["score"] == "bad" {
			value = 9
		}
		out = append(out, evidence.Sample{Labels: map[string]string{"pod": pods.Items[i].Name}, Value: value, At: now})
	}
	return out, nil
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// logger writes to the test's log.
func logger(tb testing.TB) *slog.Logger {
	tb.Helper()
	return slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}
