package kubelet_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/clientcmd"

	"headroom.dev/headroom/lab/process"
)

func configMap() *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "config", Namespace: "ns"}, Data: map[string]string{"rules.yaml": "rules"}}
}

// ownPod is a pod of ours as our manifests write them.
func ownPod(name string, change ...func(*corev1.PodSpec)) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "program"}}}
	pod.Spec = corev1.PodSpec{
		ServiceAccountName: "robot", TerminationGracePeriodSeconds: new(int64(5)),
		Containers: []corev1.Container{{
			Name: "main", Image: image + ":v1", Args: []string{"/etc/program/rules.yaml", "--node=$(NODE)"},
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
			Env: []corev1.EnvVar{
				{Name: "TEST_PROGRAM", Value: "1"},
				{Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
				{Name: "NODE", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}},
				{Name: "LISTEN", Value: "$(POD_IP):8080"},
				{Name: "RULES", Value: "/etc/program/rules.yaml"},
				{Name: "NVIDIA_VISIBLE_DEVICES", Value: "all"},
			},
			VolumeMounts: []corev1.VolumeMount{
				{Name: "config", MountPath: "/etc/program"},
				{Name: "kube-api-access", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"},
			},
			ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
				HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromString("http")},
			}},
		}},
		Volumes: []corev1.Volume{
			{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "config"}}}},
			{Name: "kube-api-access", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: new(int64(3607))}},
			}}}},
		},
	}
	for _, f := range change {
		f(&pod.Spec)
	}
	return pod
}

func env(p *corev1.PodSpec, name, value string) {
	p.Containers[0].Env = append(p.Containers[0].Env, corev1.EnvVar{Name: name, Value: value})
}

func address(pod *corev1.Pod, port int, path string) string {
	return "http://" + pod.Status.PodIP + ":" + strconv.Itoa(port) + path
}

func TestOwnPodFromReadyToGone(t *testing.T) {
	t.Parallel()
	l := start(t, configMap())
	l.create(ownPod("own"))
	pod := l.eventually("own", "ready", ready)
	require.Equal(t, corev1.PodRunning, pod.Status.Phase)
	require.Equal(t, []corev1.PodIP{{IP: pod.Status.PodIP}}, pod.Status.PodIPs)
	require.Equal(t, "127.0.0.1", pod.Status.HostIP)
	require.NotNil(t, pod.Status.StartTime)
	c := pod.Status.ContainerStatuses[0]
	require.NotNil(t, c.State.Running)
	require.True(t, c.Ready)
	require.True(t, *c.Started)
	require.NotEmpty(t, c.ContainerID)
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReadyToStartContainers} {
		require.Equal(t, corev1.ConditionTrue, condition(pod, kind).Status, kind)
	}

	t.Run("sees the world of its pod", func(t *testing.T) {
		code, body := get(t, address(pod, 8080, "/self"))
		require.Equal(t, 200, code, body)
		var got self
		require.NoError(t, json.Unmarshal([]byte(body), &got))
		folder := filepath.Join(l.dir, "pods", "uid-of-own")
		require.Equal(t, []string{filepath.Join(folder, "volumes/config/rules.yaml"), "--node=node-1"}, got.Args)
		require.ElementsMatch(t, []string{
			"TEST_PROGRAM=1", "POD_IP=" + pod.Status.PodIP, "NODE=node-1", "LISTEN=" + pod.Status.PodIP + ":8080",
			"RULES=" + filepath.Join(folder, "volumes/config/rules.yaml"), "NVIDIA_VISIBLE_DEVICES=all",
			"LD_LIBRARY_PATH=/nvml", "HEADROOM_NVMLTEST_FILE=" + l.kubelet.MachineFile("node-1"),
			"KUBERNETES_SERVICE_HOST=127.1.0.1", "KUBERNETES_SERVICE_PORT=6443", "KUBERNETES_SERVICE_PORT_HTTPS=6443",
			"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + folder, "HOSTNAME=own", "KUBECONFIG=" + filepath.Join(folder, "kubeconfig"),
		}, got.Env, "and nothing of ours")

		config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(folder, "kubeconfig"))
		require.NoError(t, err)
		require.Equal(t, "https://127.1.0.1:6443", config.Host)
		require.Equal(t, "the CA", string(config.CAData))
		token, err := os.ReadFile(config.BearerTokenFile)
		require.NoError(t, err)
		require.Equal(t, "a-token", string(token))
	})

	t.Run("restarts after a crash", func(t *testing.T) {
		get(t, address(pod, 8080, "/crash"))
		again := l.eventually("own", "ready after a crash", func(p *corev1.Pod) bool {
			return ready(p) && p.Status.ContainerStatuses[0].RestartCount == 1
		})
		last := again.Status.ContainerStatuses[0].LastTerminationState.Terminated
		require.NotNil(t, last)
		require.EqualValues(t, 3, last.ExitCode)
		require.Equal(t, "Error", last.Reason)
		require.Contains(t, last.Message, "crashing as told")
		require.NotEqual(t, c.ContainerID, again.Status.ContainerStatuses[0].ContainerID)
		require.Equal(t, pod.Status.PodIP, again.Status.PodIP)

		get(t, address(pod, 8080, "/crash"))
		backing := l.eventually("own", "in back-off", func(p *corev1.Pod) bool {
			waiting := p.Status.ContainerStatuses[0].State.Waiting
			return waiting != nil && waiting.Reason == "CrashLoopBackOff"
		})
		require.False(t, ready(backing))
		require.Equal(t, corev1.PodRunning, backing.Status.Phase)
		l.eventually("own", "ready after back-off", func(p *corev1.Pod) bool {
			return ready(p) && p.Status.ContainerStatuses[0].RestartCount == 2
		})
	})

	t.Run("goes by SIGTERM", func(t *testing.T) {
		l.remove("own", 5)
		l.gone("own")
		log, err := os.ReadFile(filepath.Join(l.dir, "logs/ns_own_main.log"))
		require.NoError(t, err)
		require.Contains(t, string(log), "got SIGTERM")
		require.Eventually(t, func() bool {
			_, err := os.Stat(filepath.Join(l.dir, "pods", "uid-of-own"))
			return os.IsNotExist(err)
		}, 5*time.Second, 5*time.Millisecond, "the pod's folder goes too")
	})
}

func TestDeafPodIsKilledAfterItsGracePeriodAndNotReadyMeanwhile(t *testing.T) {
	t.Parallel()
	l := start(t, configMap())
	l.create(ownPod("deaf", func(p *corev1.PodSpec) { env(p, "DEAF", "1") }))
	l.eventually("deaf", "ready", ready)
	began := time.Now()
	l.remove("deaf", 1)
	l.eventually("deaf", "unready", func(p *corev1.Pod) bool { return !ready(p) && p.Status.ContainerStatuses[0].State.Running != nil })
	l.gone("deaf")
	require.Greater(t, time.Since(began), 900*time.Millisecond)
}

func TestRunEndsItsProcesses(t *testing.T) {
	t.Parallel()
	l := start(t, configMap())
	l.create(ownPod("one"))
	l.create(ownPod("two", func(p *corev1.PodSpec) { env(p, "DEAF", "1"); p.TerminationGracePeriodSeconds = new(int64(1)) }))
	l.eventually("one", "ready", ready)
	l.eventually("two", "ready", ready)
	alive, err := process.Read(filepath.Join(l.dir, "processes.json"))
	require.NoError(t, err)
	require.Len(t, alive, 2)
	l.stop()
	for _, p := range alive {
		require.False(t, process.Alive(p), p.Name)
	}
}

func TestDeadLivenessProbeRestarts(t *testing.T) {
	t.Parallel()
	l := start(t, configMap())
	l.create(ownPod("sick", func(p *corev1.PodSpec) {
		p.Containers[0].LivenessProbe = &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 1, InitialDelaySeconds: 1, ProbeHandler: corev1.ProbeHandler{
			HTTPGet: &corev1.HTTPGetAction{Path: "/nothing-here", Port: intstr.FromInt32(8080)},
		}}
	}))
	pod := l.eventually("sick", "restarted", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].RestartCount > 0
	})
	require.NotNil(t, pod)
}

func TestWhatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	l := start(t, configMap())
	for name, c := range map[string]struct {
		change          func(*corev1.PodSpec)
		reason, message string
	}{
		"command": {func(p *corev1.PodSpec) { p.Containers[0].Command = []string{"/bin/sh", "-c"} }, "CreateContainerConfigError", `command "/bin/sh"`},
		"init":    {func(p *corev1.PodSpec) { p.InitContainers = []corev1.Container{{Name: "i"}} }, "CreateContainerConfigError", "no init containers"},
		"exec": {func(p *corev1.PodSpec) {
			p.Containers[0].ReadinessProbe.ProbeHandler = corev1.ProbeHandler{Exec: &corev1.ExecAction{}}
		}, "CreateContainerConfigError", "no exec probes"},
		"reference": {func(p *corev1.PodSpec) {
			p.Containers[0].EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "nix"}}}}
		}, "CreateContainerConfigError", `"nix" not found`},
		"sidecar": {func(p *corev1.PodSpec) {
			p.Containers = append([]corev1.Container{{Name: "a", Image: "docker.io/library/nginx:1"}}, p.Containers...)
		}, "ErrImageNeverPull", "no binary for image docker.io/library/nginx:1"},
	} {
		l.create(ownPod(name, c.change))
		pod := l.eventually(name, "refused", func(p *corev1.Pod) bool {
			return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Waiting.Reason == c.reason
		})
		require.Contains(t, pod.Status.ContainerStatuses[0].State.Waiting.Message, c.message)
		require.False(t, ready(pod))
		require.Equal(t, corev1.PodPending, pod.Status.Phase)
	}
}

func TestMissingVolumeIsWaitedFor(t *testing.T) {
	t.Parallel()
	l := start(t)
	l.create(ownPod("early"))
	l.eventually("early", "creating", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Waiting.Reason == "ContainerCreating"
	})
	_, err := l.client.CoreV1().ConfigMaps("ns").Create(t.Context(), configMap(), metav1.CreateOptions{})
	require.NoError(t, err)
	l.eventually("early", "ready", ready)
}

func TestRunToCompletion(t *testing.T) {
	t.Parallel()
	l := start(t, configMap())
	l.create(ownPod("job", func(p *corev1.PodSpec) {
		p.RestartPolicy = corev1.RestartPolicyNever
		env(p, "LISTEN", "256.0.0.1:1") // cannot be: exits with 1
	}))
	pod := l.eventually("job", "failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	require.EqualValues(t, 1, pod.Status.ContainerStatuses[0].State.Terminated.ExitCode)
	l.remove("job", 5)
	l.gone("job")
}
