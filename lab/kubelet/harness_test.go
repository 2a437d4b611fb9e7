package kubelet_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"headroom.dev/headroom/lab/kubelet"
	"headroom.dev/headroom/lab/network"
	"headroom.dev/headroom/lab/process"
)

// TestMain lets the test binary be the program of an own pod: the pod's environment says so.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_PROGRAM") != "" {
		os.Exit(program())
	}
	os.Exit(m.Run())
}

// program is an own pod: /ready is 200 while the file named by the first argument can be read, /self tells arguments and
// environment, /crash ends it with 3, SIGTERM with 0 unless DEAF is set.
func program() int {
	exit := make(chan int)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	go func() {
		for range signals {
			fmt.Println("got SIGTERM")
			if os.Getenv("DEAF") == "" {
				exit <- 0
			}
		}
	}()
	http.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := os.ReadFile(os.Args[1]); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("/self", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(self{Args: os.Args[1:], Env: os.Environ()})
	})
	http.HandleFunc("/crash", func(http.ResponseWriter, *http.Request) {
		fmt.Println("crashing as told")
		exit <- 3
	})
	go func() {
		fmt.Println(http.ListenAndServe(os.Getenv("LISTEN"), nil))
		exit <- 1
	}()
	return <-exit
}

type self struct {
	Args []string
	Env  []string
}

const image = "headroom.test/program"

type lab struct {
	t       *testing.T
	client  *fake.Clientset
	kubelet *kubelet.Kubelet
	dir     string
	stop    func()
}

// start runs a kubelet for node-1 with four GPUs against a fake API server.
func start(t *testing.T, objects ...runtime.Object) *lab {
	t.Helper()
	lease, err := network.Acquire(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = lease.Release() })
	dir, err := os.MkdirTemp("", "kl") //nolint:usetesting // t.TempDir is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	self, err := os.Executable()
	require.NoError(t, err)
	client := fake.NewClientset(objects...)
	client.PrependReactor("create", "serviceaccounts", func(a clienttesting.Action) (bool, runtime.Object, error) {
		return true, &authv1.TokenRequest{Status: authv1.TokenRequestStatus{
			Token: "a-token", ExpirationTimestamp: metav1.NewTime(time.Now().Add(time.Hour)),
		}}, nil
	})
	var gpus []kubelet.GPU
	for i := range 4 {
		gpus = append(gpus, kubelet.GPU{UUID: fmt.Sprintf("GPU-%d", i), MemoryBytes: 80 << 30, Model: "NVIDIA H100 80GB HBM3"})
	}
	k, err := kubelet.New(kubelet.Config{
		Client: client, APIServer: "https://127.1.0.1:6443", CA: []byte("the CA"),
		Nodes:  []kubelet.Node{{Name: "node-1", GPUs: gpus}},
		Images: map[string]string{image: self}, PodCIDR: lease.Pods, Dir: dir, NVMLLibraryDir: "/nvml",
		Registry: process.NewRegistry(filepath.Join(dir, "processes.json")), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	stopped := false
	l := &lab{t: t, client: client, kubelet: k, dir: dir}
	l.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(l.stop)
	return l
}

func (l *lab) create(pod *corev1.Pod) {
	l.t.Helper()
	pod.Namespace, pod.UID = "ns", types.UID("uid-of-"+pod.Name)
	pod.Spec.NodeName = "node-1"
	pod.Status.Phase = corev1.PodPending
	_, err := l.client.CoreV1().Pods("ns").Create(l.t.Context(), pod, metav1.CreateOptions{})
	require.NoError(l.t, err)
}

// patch changes a pod's metadata as an API client or the API server would.
func (l *lab) patch(name, metadata string) {
	l.t.Helper()
	_, err := l.client.CoreV1().Pods("ns").Patch(l.t.Context(), name, types.MergePatchType,
		fmt.Appendf(nil, `{"metadata":%s}`, metadata), metav1.PatchOptions{})
	require.NoError(l.t, err)
}

// remove does what the API server does on a graceful deletion: it marks the pod.
func (l *lab) remove(name string, graceSeconds int) {
	l.t.Helper()
	l.patch(name, fmt.Sprintf(`{"deletionTimestamp":%q,"deletionGracePeriodSeconds":%d}`, time.Now().UTC().Format(time.RFC3339), graceSeconds))
}

// eventually waits until the pod is as asked and returns it.
func (l *lab) eventually(name, what string, is func(*corev1.Pod) bool) *corev1.Pod {
	l.t.Helper()
	var pod *corev1.Pod
	ok := func() bool {
		var err error
		pod, err = l.client.CoreV1().Pods("ns").Get(context.Background(), name, metav1.GetOptions{})
		return err == nil && is(pod)
	}
	if deadline := time.Now().Add(20 * time.Second); !poll(deadline, ok) {
		raw, _ := json.MarshalIndent(pod.Status, "", " ")
		l.t.Fatalf("%s is not %s: %s", name, what, raw)
	}
	return pod
}

func (l *lab) gone(name string) {
	l.t.Helper()
	require.True(l.t, poll(time.Now().Add(20*time.Second), func() bool {
		_, err := l.client.CoreV1().Pods("ns").Get(context.Background(), name, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	}), "%s is still there", name)
}

func poll(deadline time.Time, ok func() bool) bool {
	for !ok() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
	return true
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return &corev1.PodCondition{}
}

func ready(pod *corev1.Pod) bool {
	return condition(pod, corev1.PodReady).Status == corev1.ConditionTrue
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}
