package e2e

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/metrics/pkg/apis/external_metrics/v1beta1"

	"headroom.dev/headroom/adapter/promapi"
	"headroom.dev/headroom/adapter/store"
	"headroom.dev/headroom/api/v1alpha1"
)

// prometheusServer speaks Prometheus' HTTP API over series that the test feeds: queue_length{queue="a"} is 25.
type prometheusServer struct {
	url     string
	address string
	store   *store.Store
	handler http.Handler
	server  *http.Server
	done    chan struct{}
}

func newPrometheus(t *testing.T) *prometheusServer {
	t.Helper()
	p := &prometheusServer{address: "127.0.0.1:0", store: store.New(store.Options{Keep: map[string]time.Duration{"queue_length": time.Minute}})}
	p.handler = promapi.NewServer(p.store, promapi.ServerOptions{}).Handler("")
	ctx, cancel := context.WithCancel(t.Context())
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			p.store.Append("queues", time.Now(), []store.Sample{{Labels: labels.FromStrings("__name__", "queue_length", "queue", "a"), Value: 25}})
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}()
	p.start(t)
	t.Cleanup(func() { cancel(); <-fed; p.stop() })
	return p
}

// start listens, at the address of the first time.
func (p *prometheusServer) start(t *testing.T) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", p.address)
	require.NoError(t, err)
	p.address = listener.Addr().String()
	p.url = "http://" + p.address
	p.server, p.done = &http.Server{Handler: p.handler, ReadHeaderTimeout: 10 * time.Second}, make(chan struct{})
	server, done := p.server, p.done
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the Prometheus-compatible server has ended: %v", err)
		}
	}()
}

// stop refuses connections from now on.
func (p *prometheusServer) stop() { _ = p.server.Close(); <-p.done }

// sourceDown: values of the server are served until they are too old; all else goes on.
func (s *scene) sourceDown(t *testing.T) {
	const most = 15 * time.Second
	ctx := t.Context()
	s.rule(t, "queue-length", v1alpha1.MetricRuleSpec{
		Metric: "queue_length", Expr: "sum by (queue) (queue_length)", External: &v1alpha1.ExternalTarget{Labels: []string{"queue"}},
		Source: v1alpha1.SourcePrometheus, MaxAge: &metav1.Duration{Duration: most},
	})
	s.deploy(t, s.namespace, inference("worker", "{startup: 0s}", 0))
	s.autoscaleOn(t, s.namespace, "worker", autoscalingv2.MetricSpec{
		Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
			Metric: autoscalingv2.MetricIdentifier{Name: "queue_length", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"queue": "a"}}},
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse("10"))},
		},
	})
	s.ready(t, s.namespace, "name=worker", 3) // 25 over 10
	s.awaitRule(t, "queue-length", metav1.ConditionTrue, v1alpha1.ReasonEvaluated, "")
	path := external + "/namespaces/" + s.namespace + "/queue_length?labelSelector=queue%3Da"

	good := map[string]corev1.Pod{"one": s.pods["one"], "two": s.pods["two"]}
	watch := s.newWatch(t, s.namespace, good, map[string]time.Duration{rps: mostRPS})
	available := s.sample(t, func(t require.TestingT) { s.available(ctx, t) })
	down := time.Now()
	s.source.stop()
	oldest := time.Duration(0)
	var why string
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		a := s.get(ctx, t, path)
		if a.code == http.StatusOK {
			oldest = max(oldest, a.began.Sub(externalValue(t, a).Timestamp.Time))
		}
		why = a.refusal(t, http.StatusNotFound)
	}, most+10*time.Second, tick)
	t.Logf("the source is down: values for %s, the oldest %s old; then %q", time.Since(down).Round(tick), oldest.Round(tick), why)
	assert.LessOrEqual(t, oldest, most+wholeSecond)
	assert.Greater(t, oldest, most-3*time.Second, "a value that is young enough is served")
	assert.Contains(t, why, "at most 15s")
	assert.Contains(t, why, "connection refused")
	eventually(t, 20*time.Second, func(t require.TestingT) {
		condition := s.scalingActive(ctx, t, s.namespace, "worker")
		require.Equal(t, corev1.ConditionFalse, condition.Status)
		require.Contains(t, condition.Message, "connection refused")
	})
	s.awaitRule(t, "queue-length", metav1.ConditionFalse, v1alpha1.ReasonEvaluationFailed, "connection refused")

	// A source that is down does not hold up the deletion of a namespace, as an API that is down would.
	namespaces := s.Client.CoreV1().Namespaces()
	_, err := namespaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "short-lived"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	began := time.Now()
	require.NoError(t, namespaces.Delete(ctx, "short-lived", metav1.DeleteOptions{}))
	eventually(t, 20*time.Second, func(t require.TestingT) {
		_, err := namespaces.Get(ctx, "short-lived", metav1.GetOptions{})
		require.True(t, apierrors.IsNotFound(err), "%v", err)
	})
	t.Logf("a namespace was deleted meanwhile in %s", time.Since(began).Round(tick))
	eventually(t, time.Minute, func(t require.TestingT) { require.Greater(t, time.Since(down), time.Minute) })
	assert.Zero(t, available.missing(), "the APIServices are Available all the while")
	s.ready(t, s.namespace, "name=worker", 3)
	watch.end(t)
	watch.assertFresh(t, rps, []string{"one", "two"}, down, 50*time.Second)

	s.source.start(t)
	back := time.Now()
	eventually(t, 20*time.Second, func(t require.TestingT) {
		v := externalValue(t, s.get(ctx, t, path))
		require.InDelta(t, 25, v.Value.AsApproximateFloat64(), 1e-9)
		require.Equal(t, map[string]string{"queue": "a"}, v.MetricLabels)
	})
	t.Logf("values %s after the source came back", time.Since(back).Round(tick))
	s.awaitRule(t, "queue-length", metav1.ConditionTrue, v1alpha1.ReasonEvaluated, "")
}

// externalValue is the one value of an answer.
func externalValue(t require.TestingT, a answer) v1beta1.ExternalMetricValue {
	list := externalValues(t, a)
	require.Len(t, list, 1, a.body)
	return list[0]
}
