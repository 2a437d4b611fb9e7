package discovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"headroom.dev/headroom/adapter/metric"
)

// live is a Watcher on fake clients, in a bubble of synctest.
type live struct {
	*Watcher
	t       *testing.T
	client  *fake.Clientset
	kinds   *kinds
	dynamic *dynamicfake.FakeDynamicClient
	sink    *recorder
	log     *lockedBuffer
}

// kinds is the fake discovery of a cluster in which monitors come and go.
type kinds struct {
	discovery.DiscoveryInterfaces
	mu        sync.Mutex
	installed []string
}

func (k *kinds) ServerResourcesForGroupVersionWithContext(_ context.Context, version string) (*metav1.APIResourceList, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if version != "monitoring.coreos.com/v1" || len(k.installed) == 0 {
		return nil, apierrors.NewNotFound(schema.GroupResource{}, version)
	}
	list := &metav1.APIResourceList{GroupVersion: version}
	for _, name := range k.installed {
		list.APIResources = append(list.APIResources, metav1.APIResource{Name: name})
	}
	return list, nil
}

func (k *kinds) install(names ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.installed = names
}

type clientWithKinds struct {
	*fake.Clientset // which knows itself to have no streaming lists
	kinds           *kinds
}

func (c clientWithKinds) Discovery() discovery.DiscoveryInterfaces { return c.kinds }

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (r *recorder) urls() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, target := range r.targets {
		out = append(out, target.URL)
	}
	return slices.Sorted(slices.Values(out))
}

// inBubble runs the story with a Watcher, of which prepare may change the clients before it starts.
func inBubble(t *testing.T, prepare func(*live), story func(*live), objects ...runtime.Object) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		lists := map[schema.GroupVersionResource]string{
			monitoringv1.SchemeGroupVersion.WithResource(monitoringv1.PodMonitorName):     "PodMonitorList",
			monitoringv1.SchemeGroupVersion.WithResource(monitoringv1.ServiceMonitorName): "ServiceMonitorList",
		}
		l := &live{
			t: t, client: fake.NewClientset(objects...), dynamic: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), lists),
			sink: newRecorder(t), log: &lockedBuffer{}, kinds: &kinds{},
		}
		prepare(l)
		var err error
		l.Watcher, err = NewWatcher(Options{
			Client: clientWithKinds{l.client, l.kinds}, Dynamic: l.dynamic, Sink: l.sink, Trusted: []string{"headroom-system"},
			Logger: slog.New(slog.NewTextHandler(l.log, nil)),
		})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.Run(ctx)
		}()
		defer func() {
			cancel()
			<-done
		}()
		rest(time.Second)
		story(l)
	})
}

// rest lets the bubble's time pass, and waits for what is due then.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (l *live) forbid(resource string) {
	refuse := func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: resource}, "", errors.New("no"))
	}
	l.client.PrependReactor("*", resource, refuse)
	l.dynamic.PrependReactor("*", resource, refuse)
}

// podMonitor writes a PodMonitor of namespace demo for all pods.
func (l *live) podMonitor(name string, endpoint map[string]any) {
	l.t.Helper()
	_, err := l.dynamic.Resource(monitoringv1.SchemeGroupVersion.WithResource(monitoringv1.PodMonitorName)).Namespace("demo").Create(l.t.Context(),
		&unstructured.Unstructured{Object: map[string]any{
			"apiVersion": monitoringv1.SchemeGroupVersion.String(), "kind": monitoringv1.PodMonitorsKind,
			"metadata": map[string]any{"namespace": "demo", "name": name},
			"spec":     map[string]any{"selector": map[string]any{}, "podMetricsEndpoints": []any{endpoint}},
		}}, metav1.CreateOptions{})
	require.NoError(l.t, err)
}

func livePod(name, ip string) *corev1.Pod {
	pod := readyPod(corev1.ConditionTrue, 5, running("main", 1, true))
	pod.Name, pod.Labels = name, map[string]string{"app": "chat"}
	pod.Annotations = map[string]string{AnnotationScrape: "true", AnnotationPort: "8000"}
	pod.Spec.Containers = []corev1.Container{{Name: "main", Ports: []corev1.ContainerPort{{Name: "metrics", ContainerPort: 9090}}}}
	pod.Status.PodIP = ip
	return pod
}

func demo(name string) metric.Object {
	return metric.Object{Resource: metric.Pods, Namespace: "demo", Name: name}
}

func TestPodsComeAndGoAtOnce(t *testing.T) {
	inBubble(t, func(*live) {}, func(l *live) {
		require.True(t, l.HasSynced())
		require.Equal(t, []string{"http://10.0.0.1:8000/metrics"}, l.sink.urls())
		require.Empty(t, l.Why(demo("chat-1")))
		pods := l.client.CoreV1().Pods("demo")
		began := time.Now()
		version := l.Version()

		_, err := pods.Create(t.Context(), livePod("chat-2", "10.0.0.2"), metav1.CreateOptions{})
		require.NoError(t, err)
		synctest.Wait()
		require.Len(t, l.sink.urls(), 2)
		require.NotEqual(t, version, l.Version())

		_, err = l.client.CoreV1().Services("demo").Create(t.Context(), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "chat"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "chat"}},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		terminating := livePod("chat-1", "10.0.0.1")
		terminating.DeletionTimestamp = new(metav1.Now())
		_, err = pods.Update(t.Context(), terminating, metav1.UpdateOptions{})
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, []string{"http://10.0.0.2:8000/metrics"}, l.sink.urls())
		pod, ok := l.Pod("demo", "chat-1")
		require.True(t, ok)
		require.Equal(t, metric.Pod{Services: []string{"chat"}, Over: "the pod is terminating"}, pod)
		require.Equal(t, "not scraped: the pod is terminating", l.Why(demo("chat-1")))

		require.NoError(t, pods.Delete(t.Context(), "chat-1", metav1.DeleteOptions{}))
		require.NoError(t, pods.Delete(t.Context(), "chat-2", metav1.DeleteOptions{}))
		synctest.Wait()
		require.Empty(t, l.sink.urls())
		require.Equal(t, "the pod is not known", l.Why(demo("chat-2")))
		require.Equal(t, began, time.Now(), "no timer was needed")
		listed, err := l.Pods().List(labels.Everything())
		require.NoError(t, err)
		require.Empty(t, listed)
	}, livePod("chat-1", "10.0.0.1"))
}

func TestMonitorsAreInstalledLater(t *testing.T) {
	inBubble(t, func(*live) {}, func(l *live) {
		require.True(t, l.HasSynced())
		require.Equal(t, []string{"http://10.0.0.1:8000/metrics"}, l.sink.urls())

		l.podMonitor("chat", map[string]any{"port": "metrics"})
		l.kinds.install(monitoringv1.PodMonitorName)
		rest(installedInterval + time.Second)
		require.Equal(t, []string{"http://10.0.0.1:8000/metrics", "http://10.0.0.1:9090/metrics"}, l.sink.urls())

		l.podMonitor("more", map[string]any{"port": "metrics", "path": "/more"})
		synctest.Wait()
		require.Len(t, l.sink.urls(), 3)

		// One that does not fit our types harms none of the others, then or later.
		l.podMonitor("odd", map[string]any{"port": []any{"metrics"}})
		l.podMonitor("fine", map[string]any{"port": "metrics", "path": "/fine"})
		synctest.Wait()
		require.Len(t, l.sink.urls(), 4)
		require.Contains(t, l.log.String(), "PodMonitor demo/odd")

		l.kinds.install()
		rest(installedInterval + time.Second)
		require.Equal(t, []string{"http://10.0.0.1:8000/metrics"}, l.sink.urls())
		l.kinds.install(monitoringv1.PodMonitorName, monitoringv1.ServiceMonitorName)
		rest(installedInterval + time.Second)
		require.Len(t, l.sink.urls(), 4)
	}, livePod("chat-1", "10.0.0.1"))
}

func TestMonitorsAreThereFirst(t *testing.T) {
	inBubble(t, func(l *live) {
		l.kinds.install(monitoringv1.PodMonitorName, monitoringv1.ServiceMonitorName)
		l.podMonitor("chat", map[string]any{"port": "metrics", "relabelings": []any{map[string]any{
			"targetLabel": "__address__", "replacement": "10.0.0.1:8000",
		}}})
	}, func(l *live) {
		require.True(t, l.HasSynced())
		require.Equal(t, []string{"add demo/chat-1 http://10.0.0.1:8000/metrics"}, l.sink.events, "not for its annotation first")
		require.Equal(t, "demo/chat", l.sink.targets["demo/chat-1 http://10.0.0.1:8000/metrics"].Labels.Get("job"))
		require.Empty(t, l.log.String())
	}, livePod("chat-1", "10.0.0.1"))
}

func TestWithoutRights(t *testing.T) {
	bare := livePod("bare-1", "10.0.0.2")
	bare.Annotations = nil
	inBubble(t, func(l *live) {
		l.kinds.install(monitoringv1.PodMonitorName, monitoringv1.ServiceMonitorName)
		l.forbid(monitoringv1.PodMonitorName)
		l.forbid("services")
	}, func(l *live) {
		require.True(t, l.HasSynced())
		require.Equal(t, []string{"http://10.0.0.1:8000/metrics"}, l.sink.urls())
		require.Equal(t, `not scraped: no annotation prometheus.io/scrape: "true", and no PodMonitor or ServiceMonitor selects it; cannot watch podmonitors: forbidden`,
			l.Why(demo("bare-1")))
		rest(time.Hour)
		said := strings.Count(l.log.String(), "cannot watch")
		require.LessOrEqual(t, said, 2*7, "every ten minutes for each of two kinds")
		require.GreaterOrEqual(t, said, 2)
	}, livePod("chat-1", "10.0.0.1"), bare)
}

func TestWithoutPods(t *testing.T) {
	inBubble(t, func(l *live) { l.forbid("pods") }, func(l *live) {
		rest(time.Minute)
		require.False(t, l.HasSynced())
		require.Contains(t, l.log.String(), "what=pods")
	})
}

func TestCredentialsAreReadAgain(t *testing.T) {
	pod := livePod("chat-1", "10.0.0.1")
	pod.Annotations = nil
	var status atomic.Value
	status.Store(metav1.StatusReasonForbidden)
	inBubble(t, func(l *live) {
		l.kinds.install(monitoringv1.PodMonitorName)
		l.client.PrependReactor("get", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
			if reason := status.Load().(metav1.StatusReason); reason != "" {
				return true, nil, &apierrors.StatusError{ErrStatus: metav1.Status{Reason: reason, Message: "no"}}
			}
			return false, nil, nil
		})
		l.podMonitor("chat", map[string]any{"port": "metrics", "bearerTokenSecret": map[string]any{"name": "token", "key": "t"}})
	}, func(l *live) {
		const at = "not scraped: PodMonitor demo/chat: podMetricsEndpoints[0].bearerTokenSecret: "
		require.Equal(t, at+"cannot read secret demo/token: forbidden", l.Why(demo("chat-1")))
		status.Store(metav1.StatusReason(""))
		rest(credentialsInterval)
		require.Equal(t, at+"cannot read secret demo/token: not found", l.Why(demo("chat-1")))

		secrets := l.client.CoreV1().Secrets("demo")
		token := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "token"}, Data: map[string][]byte{"t": []byte("one")}}
		_, err := secrets.Create(t.Context(), token, metav1.CreateOptions{})
		require.NoError(t, err)
		rest(credentialsInterval)
		require.Empty(t, l.Why(demo("chat-1")))
		credentials := func() []string {
			l.sink.mu.Lock()
			defer l.sink.mu.Unlock()
			var out []string
			for target := range maps.Values(l.sink.targets) {
				out = append(out, string(target.Settings.Auth.Credentials))
				assert.NotContains(t, fmt.Sprintf("%v %+v %#v", *target.Settings, *target.Settings, *target.Settings), string(target.Settings.Auth.Credentials))
			}
			return out
		}
		require.Equal(t, []string{"one"}, credentials())

		// While the API server is away what was read stays good; then the new value is seen soon.
		token.Data["t"] = []byte("two")
		_, err = secrets.Update(t.Context(), token, metav1.UpdateOptions{})
		require.NoError(t, err)
		status.Store(metav1.StatusReasonServiceUnavailable)
		rest(10 * credentialsInterval)
		require.Equal(t, []string{"one"}, credentials())
		status.Store(metav1.StatusReason(""))
		rest(credentialsRetry + time.Second)
		require.Equal(t, []string{"two"}, credentials())
	}, pod)
}

// FuzzRelabelledAddress holds that whatever a monitor's relabelings make of an address, the request goes to the pod.
func FuzzRelabelledAddress(f *testing.F) {
	for _, s := range [][3]string{{"10.1.2.3:80", "http", "/metrics"}, {"evil", "https", "//evil"}, {"10.1.2.3@evil", "http", "x"}, {"[10.1.2.3]:1", "http", "?"}, {"10.1.2.3:80/", "http", "/\\"}} {
		f.Add(s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, address, scheme, path string) {
		m := compilePodMonitor(&monitoringv1.PodMonitor{
			ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "m"},
			Spec: monitoringv1.PodMonitorSpec{PodMetricsEndpoints: []monitoringv1.PodMetricsEndpoint{{RelabelConfigs: []monitoringv1.RelabelConfig{
				setLabel("__address__", address), setLabel("__scheme__", scheme), setLabel("__metrics_path__", path), setLabel("__param_x", path),
			}}}},
		})
		m.resolve(nil)
		around := surroundings{annotated: annotated(), monitors: []*monitor{m}}
		targets, _ := around.targets(pod(nil, 80))
		for _, target := range targets {
			requirePod(t, target.URL)
		}
	})
}
