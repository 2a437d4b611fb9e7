package discovery

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func pod(annotations map[string]string, ports ...int32) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "chat-1", UID: "u1", Annotations: annotations},
		Spec:       corev1.PodSpec{NodeName: "node-a", Containers: []corev1.Container{{Name: "side"}, {Name: "main"}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.1.2.3"},
	}
	for _, n := range ports {
		p.Spec.Containers[1].Ports = append(p.Spec.Containers[1].Ports, corev1.ContainerPort{ContainerPort: n})
	}
	return p
}

// annotations builds the map from "port=8000" pairs.
func annotations(pairs ...string) map[string]string {
	m := map[string]string{}
	for _, p := range pairs {
		key, value, _ := strings.Cut(p, "=")
		m[prefix+key] = value
	}
	return m
}

func TestURL(t *testing.T) {
	f := func(p *corev1.Pod, want string) {
		t.Helper()
		got, err := annotatedURL(p)
		require.NoError(t, err)
		assert.Equal(t, want, got)
		trimmed, err := Trim(p)
		require.NoError(t, err)
		again, err := annotatedURL(trimmed.(*corev1.Pod))
		require.NoError(t, err)
		assert.Equal(t, got, again, "a trimmed pod says the same")
	}
	f(pod(annotations("scrape=true", "port=8000")), "http://10.1.2.3:8000/metrics")
	f(pod(annotations("scrape=true"), 9090), "http://10.1.2.3:9090/metrics")
	f(pod(annotations("scrape=true", "port=1"), 9090, 9091), "http://10.1.2.3:1/metrics")
	f(pod(annotations("scrape=true", "port=65535", "scheme=https", "path=/a/b?x=1")), "https://10.1.2.3:65535/a/b?x=1")
	v6 := pod(annotations("scrape=true", "port=80", "scheme=http"))
	v6.Status.PodIP = "fd00::1"
	f(v6, "http://[fd00::1]:80/metrics")
	pending := pod(annotations("scrape=true", "port=80"))
	pending.Status.Phase = corev1.PodPending
	f(pending, "http://10.1.2.3:80/metrics")
}

func TestReasons(t *testing.T) {
	f := func(p *corev1.Pod, want string) {
		t.Helper()
		got, err := annotatedURL(p)
		require.EqualError(t, err, want)
		assert.Empty(t, got)
	}
	f(pod(nil, 80), `no annotation prometheus.io/scrape: "true"`)
	f(pod(annotations("scrape=false"), 80), `no annotation prometheus.io/scrape: "true"`)
	f(pod(annotations("scrape=yes"), 80), `annotation prometheus.io/scrape: "yes" is neither "true" nor "false"`)
	f(pod(annotations("scrape=true")), `annotation prometheus.io/port: "" is required: the containers declare 0 ports, not one`)
	f(pod(annotations("scrape=true"), 1, 2), `annotation prometheus.io/port: "" is required: the containers declare 2 ports, not one`)
	for _, bad := range []string{"", "http", "0", "65536", "-1", "80 "} {
		_, err := annotatedURL(pod(annotations("scrape=true", "port="+bad), 80))
		var mistake *AnnotationError
		require.ErrorAs(t, err, &mistake, bad)
		assert.Equal(t, AnnotationPort, mistake.Annotation)
	}
	for _, bad := range []string{"metrics", "//elsewhere/metrics", "http://elsewhere/", "/%zz", "@elsewhere", "//@", "/a#b"} {
		_, err := annotatedURL(pod(annotations("scrape=true", "port=80", "path="+bad)))
		var mistake *AnnotationError
		require.ErrorAs(t, err, &mistake, bad)
		assert.Equal(t, AnnotationPath, mistake.Annotation)
	}
	f(pod(annotations("scrape=true", "port=80", "scheme=ftp")), `annotation prometheus.io/scheme: "ftp" is neither "http" nor "https"`)

	p := pod(annotations("scrape=true", "port=80"))
	p.Status.PodIP = ""
	f(p, "the pod has no IP address yet")

	over := func(p *corev1.Pod, want string) {
		t.Helper()
		targets, reasons := (&surroundings{annotated: annotated()}).targets(p)
		assert.Empty(t, targets)
		assert.Equal(t, want, because(reasons))
	}
	p = pod(annotations("scrape=true", "port=80"))
	p.DeletionTimestamp = &metav1.Time{}
	over(p, "the pod is terminating")
	for _, phase := range []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed} {
		p = pod(annotations("scrape=true", "port=80"))
		p.Status.Phase = phase
		over(p, "the pod has ended")
	}
}

func TestTrimDropsTheRest(t *testing.T) {
	p := pod(annotations("scrape=true", "port=80"), 80)
	p.Labels = map[string]string{"app": "chat"}
	p.Annotations["kubectl.kubernetes.io/last-applied-configuration"] = strings.Repeat("x", 1000)
	p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	p.Spec.Containers[1].Env = []corev1.EnvVar{{Name: "SECRET", Value: "s"}}
	out, err := Trim(p)
	require.NoError(t, err)
	trimmed := out.(*corev1.Pod)
	assert.Equal(t, map[string]string{"app": "chat"}, trimmed.Labels)
	assert.Len(t, trimmed.Annotations, 2)
	assert.Empty(t, trimmed.ManagedFields)
	assert.Equal(t, []corev1.Container{{Name: "side"}, {Name: "main", Ports: p.Spec.Containers[1].Ports}}, trimmed.Spec.Containers)

	out, err = Trim("tombstone")
	require.NoError(t, err)
	assert.Equal(t, "tombstone", out)
}

// FuzzPath holds that whatever an annotation says, the request goes to the pod.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"/metrics", "//evil/x", "/\\evil", "/a?b=c", "/@evil", "/..//x", "http:/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		p := pod(annotations("scrape=true", "port=80"))
		p.Annotations[AnnotationPath] = path
		u, err := annotatedURL(p)
		if err != nil {
			return
		}
		requirePod(t, u)
	})
}

// requirePod holds that a request for the URL goes to the pod.
func requirePod(t *testing.T, address string) {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	require.Equal(t, "10.1.2.3", u.Hostname())
	require.Nil(t, u.User)
}
