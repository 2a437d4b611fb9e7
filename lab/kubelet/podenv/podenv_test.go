package podenv_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"headroom.dev/headroom/lab/kubelet/podenv"
)

func TestExpand(t *testing.T) {
	env := map[string]string{"A": "a", "B": "$(A)", "EMPTY": ""}
	for in, want := range map[string]string{
		"":                  "",
		"plain":             "plain",
		"$(A)":              "a",
		"--x=$(A):$(A)":     "--x=a:a",
		"$$(A)":             "$(A)",
		"$$$(A)":            "$a",
		"$$$$(A)":           "$$(A)",
		"$(NONE)":           "$(NONE)",
		"$(EMPTY)":          "",
		"$(B)":              "$(A)", // values are not expanded again
		"$(A":               "$(A",
		"$(A $(A)":          "$(A $(A)", // the name is "A $(A"
		"$A":                "$A",
		"$":                 "$",
		"a$":                "a$",
		"$$":                "$",
		"$()":               "$()",
		"$(A)$":             "a$",
		"costs 5$ and $(A)": "costs 5$ and a",
	} {
		require.Equal(t, want, podenv.Expand(in, env), "%q", in)
	}
}

// reference is a byte-by-byte reading of the rules, as dumb as it gets.
func reference(s string, env map[string]string) string {
	out := ""
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '$' || i+1 == len(s):
			out += string(s[i])
		case s[i+1] == '$':
			out += "$"
			i++
		case s[i+1] == '(' && strings.Contains(s[i+2:], ")"):
			end := i + 2 + strings.Index(s[i+2:], ")")
			if v, ok := env[s[i+2:end]]; ok {
				out += v
			} else {
				out += s[i : end+1]
			}
			i = end
		default:
			out += "$"
		}
	}
	return out
}

func TestExpandAgainstADumbOracle(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	env := map[string]string{"A": "x", "AB": "$(A)", "": "e"}
	for range 20000 {
		var b strings.Builder
		for range r.IntN(12) {
			b.WriteByte("$()AB "[r.IntN(6)])
		}
		require.Equal(t, reference(b.String(), env), podenv.Expand(b.String(), env), "%q", b.String())
	}
}

func TestRewrite(t *testing.T) {
	mounts := []podenv.Mount{
		{From: "/etc/headroom", To: "/lab/p/config"},
		{From: "/etc/headroom/tls", To: "/lab/p/tls"},
		{From: "/lab", To: "/never"},
	}
	for in, want := range map[string]string{
		"/etc/headroom":                       "/lab/p/config",
		"--config=/etc/headroom/rules.yaml":   "--config=/lab/p/config/rules.yaml",
		"--cert=/etc/headroom/tls/tls.crt":    "--cert=/lab/p/tls/tls.crt",
		"/etc/headroom.d/x":                   "/etc/headroom.d/x",
		"/etc/headroom2":                      "/etc/headroom2",
		"/var/etc/headroom":                   "/var/etc/headroom",
		"http://host/etc/headroom":            "http://host/etc/headroom",
		"unix:///etc/headroom/s":              "unix:///lab/p/config/s",
		"/etc/headroom,/etc/headroom/tls:/x":  "/lab/p/config,/lab/p/tls:/x",
		"a /etc/headroom/ b":                  "a /lab/p/config/ b",
		"{\"file\":\"/etc/headroom/a.json\"}": "{\"file\":\"/lab/p/config/a.json\"}",
		"etc/headroom":                        "etc/headroom",
		"":                                    "",
	} {
		require.Equal(t, want, podenv.Rewrite(in, mounts), "%q", in)
	}
}

func pod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "p", Namespace: "ns", UID: "u-1",
			Labels:      map[string]string{"app": "x", "b": "two \"words\""},
			Annotations: map[string]string{"example.com/a": "an"},
		},
		Spec: corev1.PodSpec{
			NodeName: "node-1", ServiceAccountName: "robot",
			Containers: []corev1.Container{{
				Name: "main",
				Resources: corev1.ResourceRequirements{
					Requests: corev1.ResourceList{"cpu": resource.MustParse("250m")},
					Limits:   corev1.ResourceList{"cpu": resource.MustParse("1500m"), "memory": resource.MustParse("128Mi")},
				},
			}, {Name: "other"}},
		},
		Status: corev1.PodStatus{
			PodIP: "127.1.0.5", PodIPs: []corev1.PodIP{{IP: "127.1.0.5"}},
			HostIP: "127.0.0.1", HostIPs: []corev1.HostIP{{IP: "127.0.0.1"}},
		},
	}
}

func TestFields(t *testing.T) {
	for path, want := range map[string]string{
		"metadata.name": "p", "metadata.namespace": "ns", "metadata.uid": "u-1",
		"metadata.labels['app']": "x", "metadata.labels['none']": "", "metadata.annotations['example.com/a']": "an",
		"metadata.labels": "app=\"x\"\nb=\"two \\\"words\\\"\"",
		"spec.nodeName":   "node-1", "spec.serviceAccountName": "robot",
		"status.podIP": "127.1.0.5", "status.podIPs": "127.1.0.5", "status.hostIP": "127.0.0.1", "status.hostIPs": "127.0.0.1",
	} {
		got, err := podenv.Field(pod(), path)
		require.NoError(t, err, path)
		require.Equal(t, want, got, path)
	}
	for _, path := range []string{"status.phase", "metadata.labels['x", "", "spec.containers"} {
		_, err := podenv.Field(pod(), path)
		require.ErrorContains(t, err, "fieldPath", path)
	}
}

func TestResources(t *testing.T) {
	get := func(res, divisor, container string) (string, error) {
		ref := &corev1.ResourceFieldSelector{Resource: res, ContainerName: container}
		if divisor != "" {
			ref.Divisor = resource.MustParse(divisor)
		}
		p := pod()
		return podenv.Resource(p, &p.Spec.Containers[0], ref)
	}
	for _, c := range [][3]string{
		{"limits.cpu", "", "2"},
		{"limits.cpu", "1m", "1500"},
		{"requests.cpu", "", "1"},
		{"limits.memory", "", "134217728"},
		{"limits.memory", "1Mi", "128"},
		{"limits.memory", "1Gi", "1"},
		{"requests.memory", "", "0"},
	} {
		got, err := get(c[0], c[1], "")
		require.NoError(t, err, c)
		require.Equal(t, c[2], got, c)
	}
	_, err := get("limits.memory", "", "other")
	require.ErrorContains(t, err, "other sets no limits.memory")
	_, err = get("limits.memory", "", "absent")
	require.ErrorContains(t, err, "absent")
	_, err = get("capacity.cpu", "", "")
	require.ErrorContains(t, err, "capacity.cpu")
}

func TestEnvironment(t *testing.T) {
	objects := fake.NewClientset(
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cm", Namespace: "ns"}, Data: map[string]string{"k": "v", "A": "from-cm"}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "ns"}, Data: map[string][]byte{"k": []byte("hush")}},
	).CoreV1()
	name := func(n string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: n} }
	c := &corev1.Container{
		Name: "main",
		EnvFrom: []corev1.EnvFromSource{
			{Prefix: "P_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: name("cm")}},
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: name("cm")}},
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: name("none"), Optional: new(true)}},
		},
		Env: []corev1.EnvVar{
			{Name: "A", Value: "own"},
			{Name: "IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
			{Name: "ADDR", Value: "$(IP):80 $(LATER) $(KUBERNETES_SERVICE_HOST)"},
			{Name: "LATER", Value: "x"},
			{Name: "S", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: name("s"), Key: "k"}}},
			{Name: "GONE", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: name("cm"), Key: "x", Optional: new(true)}}},
		},
	}
	env, err := podenv.Environment(t.Context(), objects, pod(), c, map[string]string{"KUBERNETES_SERVICE_HOST": "h"})
	require.NoError(t, err)
	require.Equal(t, []string{
		"A=own", "ADDR=127.1.0.5:80 $(LATER) h", "IP=127.1.0.5", "KUBERNETES_SERVICE_HOST=h", "LATER=x",
		"P_A=from-cm", "P_k=v", "S=hush", "k=v",
	}, podenv.List(env))

	for want, from := range map[string]*corev1.EnvVarSource{
		`has no key "x"`:   {ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: name("cm"), Key: "x"}},
		`"none" not found`: {SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: name("none"), Key: "x"}},
		"not support":      {},
	} {
		bad := &corev1.Container{Name: "main", Env: []corev1.EnvVar{{Name: "X", ValueFrom: from}}}
		_, err := podenv.Environment(t.Context(), objects, pod(), bad, nil)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "variable X of container main")
	}
}
