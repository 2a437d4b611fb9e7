package e2e

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/kubelet/devices"
	"headroom.dev/headroom/lab/process"
)

// TestSecondLab has a lab of its own, with one GPU, beside the shared one, and does to it what the shared one is too good
// for. Its parts build on each other.
func TestSecondLab(t *testing.T) {
	dir := tempState(t)
	l, err := up(t.Context(), dir, 1, 1)
	require.NoError(t, err)
	down := false
	t.Cleanup(func() {
		if t.Failed() {
			printLogs(dir)
		}
		if !down {
			assert.NoError(t, l.Down())
		}
	})
	second, err := newCluster(l)
	require.NoError(t, err)
	require.NoError(t, l.Cluster().Install(t.Context(), l.Progress))
	here, there := shared.serving(t), second.serving(t)
	require.False(t, netip.MustParsePrefix(second.PodAddresses()).Overlaps(netip.MustParsePrefix(shared.PodAddresses())))
	require.NotEqual(t, second.Server, shared.Server)

	for _, part := range []struct {
		name string
		f    func(*testing.T)
	}{
		{"a frozen agent", func(t *testing.T) { frozenAgent(t, second) }},
		{"bystanders", func(t *testing.T) { bystanders(t, second) }},
		{"the adapter before the API server", func(t *testing.T) { adapterBeforeAPIServer(t, second, there) }},
		{"a component dies", func(t *testing.T) { componentDies(t, second) }},
	} {
		if !t.Run(part.name, part.f) {
			return
		}
	}

	_, processes, err := lab.ReadState(dir)
	require.NoError(t, err)
	require.Greater(t, len(processes), 4)
	require.NoError(t, l.Down())
	down = true
	assert.Empty(t, alive(processes))
	assert.NoDirExists(t, dir)
	shared.serves(t, here, 10*time.Second)
}

// serving deploys a pod, waits until it is Ready at one of the lab's own addresses and has a value, and returns it.
func (c *cluster) serving(t *testing.T) corev1.Pod {
	t.Helper()
	namespace := c.namespace(t)
	c.deploy(t, namespace, inference("one", "{startup: 0s}", 0))
	pod := c.ready(t, namespace, "app=service", 1)[0]
	require.True(t, netip.MustParsePrefix(c.PodAddresses()).Contains(netip.MustParseAddr(pod.Status.PodIP)))
	c.serves(t, pod, 15*time.Second)
	return pod
}

// serves waits until a pod has a fresh value.
func (c *cluster) serves(t *testing.T, pod corev1.Pod, within time.Duration) {
	t.Helper()
	ctx := t.Context()
	eventually(t, within, func(t require.TestingT) {
		a := c.get(ctx, t, ofPod(custom2, pod.Namespace, pod.Name, rps))
		values, err := a.values()
		require.NoError(t, err)
		require.Contains(t, values, pod.Name, a.body)
		require.LessOrEqual(t, a.began.Sub(values[pod.Name].Timestamp.Time), freshest+wholeSecond)
	})
}

// frozenAgent stops the agent as a hung driver would. The last GPU values are served until they are too old, and come back.
func frozenAgent(t *testing.T, second *cluster) {
	const most = 15 * time.Second
	ctx, namespace := t.Context(), second.namespace(t)
	second.deploy(t, namespace, inference("model", "{startup: 0s}", 1))
	path := ofPod(custom2, namespace, second.ready(t, namespace, "app=service", 1)[0].Name, gpu)
	served := func(t require.TestingT) { require.Equal(t, http.StatusOK, second.get(ctx, t, path).code) }
	eventually(t, 15*time.Second, served)

	agent, found := second.process(t, "headroom-agent")
	require.True(t, found)
	require.NoError(t, syscall.Kill(agent.PID, syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(agent.PID, syscall.SIGCONT) })
	oldest := time.Duration(0)
	eventually(t, most+5*time.Second, func(c require.TestingT) {
		a := second.get(ctx, c, path)
		values, err := a.values()
		require.NoError(c, err)
		for _, value := range values {
			oldest = max(oldest, a.began.Sub(value.Timestamp.Time))
		}
		require.Regexp(c, `(newest sample is .* old, at most 15s|no sample in 15s): agent headroom-system/headroom-agent-\w+: http://[\d.]+:9400/metrics: no full answer within 1s`,
			a.refusal(c, http.StatusNotFound))
	})
	require.LessOrEqual(t, oldest, most+wholeSecond)
	require.Greater(t, oldest, most-2*time.Second, "a value that is young enough is served")
	require.NoError(t, syscall.Kill(agent.PID, syscall.SIGCONT))
	eventually(t, 6*time.Second, served)
}

// bystanders: KWOK's pods run nothing, and take GPUs from the scheduler like any other.
func bystanders(t *testing.T, second *cluster) {
	ctx, namespace := t.Context(), second.namespace(t)
	_, err := second.Client.AppsV1().Deployments(namespace).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "nginx"},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "nginx"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "nginx"}},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "nginx", Image: "nginx:1.29",
					Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{devices.Resource: resource.MustParse("1")}},
				}}},
			},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	old := second.ready(t, namespace, "app=nginx", 1)[0]

	// The default strategy surges by a pod, for which there is no GPU.
	_, err = second.Client.AppsV1().Deployments(namespace).Patch(ctx, "nginx", types.StrategicMergePatchType,
		[]byte(`{"spec":{"template":{"spec":{"containers":[{"name":"nginx","image":"nginx:1.30"}]}}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	eventually(t, 20*time.Second, func(t require.TestingT) {
		pods, err := second.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		require.NoError(t, err)
		require.Len(t, pods.Items, 2)
		surge := pods.Items[slices.IndexFunc(pods.Items, func(p corev1.Pod) bool { return p.Name != old.Name })]
		require.Equal(t, corev1.PodPending, surge.Status.Phase)
		require.NotEmpty(t, surge.Status.Conditions)
		require.Equal(t, "Unschedulable", surge.Status.Conditions[0].Reason)
		require.Contains(t, surge.Status.Conditions[0].Message, "Insufficient nvidia.com/gpu")
	})
	require.Equal(t, old.Name, second.ready(t, namespace, "app=nginx", 1)[0].Name)
}

// adapterBeforeAPIServer stops the API server and kills one of the adapter's replicas: it starts, waits, and serves once
// there is an API server. The other goes on all the while.
func adapterBeforeAPIServer(t *testing.T, second *cluster, pod corev1.Pod) {
	ctx := t.Context()
	replicas := second.adapters(ctx, t)
	require.Len(t, replicas, 2)
	victim, survivor := replicas[0], replicas[1]
	old := second.processOf(t, victim)
	require.NoError(t, second.StopComponent("kube-apiserver"))
	stopped := time.Now()
	require.NoError(t, syscall.Kill(old.PID, syscall.SIGKILL))
	var again process.Entry
	eventually(t, 20*time.Second, func(c require.TestingT) {
		again = second.processOf(c, victim)
		require.NotEqual(c, old.PID, again.PID)
		// It is up and waiting: it answers probes.
		a, err := fetch(ctx, insecure(), "https://"+victim.Status.PodIP+":6443/readyz")
		require.NoError(c, err)
		require.Equal(c, http.StatusServiceUnavailable, a.code)
		require.Contains(c, a.body, "waiting for the API server's authentication configuration")
	})
	// A client certificate of the cluster needs no API server, nor does scraping the pods that are known.
	a, err := fetch(ctx, second.straight, "https://"+survivor.Status.PodIP+":6443"+ofPod(custom2, pod.Namespace, pod.Name, rps))
	require.NoError(t, err)
	values, err := a.values()
	require.NoError(t, err)
	require.Contains(t, values, pod.Name, a.body)
	age := a.began.Sub(values[pod.Name].Timestamp.Time)
	require.LessOrEqual(t, age, freshest+wholeSecond)
	t.Logf("%s after the API server stopped, a value that is %s old", time.Since(stopped).Round(tick), age.Round(tick))

	started := time.Now()
	require.NoError(t, second.StartComponent(ctx, "kube-apiserver"))
	_, err = second.kubectl(t, append([]string{"wait", "--for=condition=Available", "--timeout=30s"}, lab.APIServices()...)...)
	require.NoError(t, err)
	second.serves(t, pod, 30*time.Second)
	t.Logf("values through the API server %s after its start", time.Since(started).Round(tick))
	eventually(t, 30*time.Second, func(t require.TestingT) { require.Len(t, second.adapters(ctx, t), 2) })
	require.Equal(t, again.PID, second.processOf(t, victim).PID, "it has not been restarted once more")
	for _, after := range second.adapters(ctx, t) {
		restarts := int32(0)
		if after.Name == victim.Name {
			restarts = 1
		}
		require.Equal(t, restarts, after.Status.ContainerStatuses[0].RestartCount-restartsOf(replicas, after.Name))
	}
	select {
	case err := <-second.Failed():
		require.NoError(t, err, "the API server was stopped, and nothing else ends for it")
	default:
	}
}

func restartsOf(pods []corev1.Pod, name string) int32 {
	i := slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Name == name })
	if i < 0 || len(pods[i].Status.ContainerStatuses) == 0 {
		return 0
	}
	return pods[i].Status.ContainerStatuses[0].RestartCount
}

// componentDies kills etcd.
func componentDies(t *testing.T, second *cluster) {
	etcd, found := second.process(t, "etcd")
	require.True(t, found)
	require.NoError(t, syscall.Kill(etcd.PID, syscall.SIGKILL))
	select {
	case err := <-second.Failed():
		exit, ok := errors.AsType[*process.ExitError](err)
		require.True(t, ok, err)
		assert.Equal(t, "etcd", exit.Name)
		assert.Equal(t, "signal: killed", exit.Status)
		assert.NotEmpty(t, strings.TrimSpace(exit.Tail))
	case <-time.After(10 * time.Second):
		t.Fatal("nobody says that etcd has died")
	}
}

// process finds a running process of the lab by a part of its name.
func (c *cluster) process(t require.TestingT, name string) (process.Entry, bool) {
	_, all, err := lab.ReadState(c.Dir)
	require.NoError(t, err)
	i := slices.IndexFunc(all, func(e process.Entry) bool { return strings.Contains(e.Name, name) })
	if i < 0 {
		return process.Entry{}, false
	}
	return all[i], true
}

// processOf finds the process of a pod.
func (c *cluster) processOf(t require.TestingT, pod corev1.Pod) process.Entry {
	entry, found := c.process(t, pod.Namespace+"/"+pod.Name+"/")
	require.True(t, found, pod.Name)
	return entry
}
