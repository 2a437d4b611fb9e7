package volumes

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"headroom.dev/headroom/lab/kubelet/podenv"
)

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name, Namespace: "ns"} }

func ref(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }

func podWith(volumes ...corev1.Volume) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "u", Labels: map[string]string{"a": "b"}},
		Spec: corev1.PodSpec{
			ServiceAccountName: "robot", Volumes: volumes,
			Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
				Limits: corev1.ResourceList{"memory": resource.MustParse("1Gi")},
			}}},
		},
	}
}

func set(t *testing.T, objects ...runtime.Object) (*Set, *fake.Clientset) {
	t.Helper()
	client := fake.NewClientset(objects...)
	return New(Config{Client: client, Dir: filepath.Join(t.TempDir(), "v"), NodeRoot: t.TempDir()}), client
}

// tree returns the files below a folder as a reader sees them, "path=content", without the machinery.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	var walk func(path string)
	walk = func(path string) {
		entries, err := os.ReadDir(filepath.Join(dir, path))
		require.NoError(t, err)
		for _, e := range entries {
			name := filepath.Join(path, e.Name())
			if strings.HasPrefix(e.Name(), "..") {
				continue
			}
			info, err := os.Stat(filepath.Join(dir, name))
			require.NoError(t, err)
			if info.IsDir() {
				walk(name)
				continue
			}
			raw, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			out[name] = fmt.Sprintf("%s %o", raw, info.Mode().Perm())
		}
	}
	walk("")
	return out
}

func TestContentsFollowTheirSource(t *testing.T) {
	s, client := set(t, &corev1.ConfigMap{ObjectMeta: named("cm"), Data: map[string]string{"a": "1", "b": "2"}, BinaryData: map[string][]byte{"c": {0xff}}})
	v := corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref("cm")}}}
	p := podWith(v)
	require.NoError(t, s.Sync(t.Context(), p))
	require.Equal(t, map[string]string{"a": "1 644", "b": "2 644", "c": "\xff 644"}, tree(t, s.Path(&v)))
	before, err := os.Readlink(filepath.Join(s.Path(&v), dataLink))
	require.NoError(t, err)
	require.NoError(t, s.Sync(t.Context(), p))
	after, err := os.Readlink(filepath.Join(s.Path(&v), dataLink))
	require.NoError(t, err)
	require.Equal(t, before, after, "nothing is written where nothing changed")

	_, err = client.CoreV1().ConfigMaps("ns").Update(t.Context(), &corev1.ConfigMap{ObjectMeta: named("cm"), Data: map[string]string{"a": "3"}}, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.NoError(t, s.Sync(t.Context(), p))
	require.Equal(t, map[string]string{"a": "3 644"}, tree(t, s.Path(&v)))
	entries, err := os.ReadDir(s.Path(&v))
	require.NoError(t, err)
	require.Len(t, entries, 3, "..data, what it points to, and a: former contents are gone")
}

// TestReadersSeeOneVersion reads two files through one look at "..data" while they change: they never differ.
func TestReadersSeeOneVersion(t *testing.T) {
	dir := t.TempDir()
	content := func(n int) map[string]file {
		return map[string]file{"a": {fmt.Append(nil, n), 0o644}, "b": {fmt.Append(nil, n), 0o644}}
	}
	require.NoError(t, replace(dir, content(0)))
	done := make(chan error, 1)
	go func() {
		for n := range 500 {
			if err := replace(dir, content(n)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		select {
		case err := <-done:
			require.NoError(t, err)
			return
		default:
		}
		folder, err := os.OpenRoot(filepath.Join(dir, dataLink))
		if err != nil {
			continue // the folder that the link named a moment ago has just been removed
		}
		a, errA := folder.ReadFile("a")
		b, errB := folder.ReadFile("b")
		require.NoError(t, folder.Close())
		if errA == nil && errB == nil {
			require.Equal(t, string(a), string(b))
		}
		_, err = os.Lstat(filepath.Join(dir, "a"))
		require.NoError(t, err, "names stay")
	}
}

func TestItemsModesAndOptional(t *testing.T) {
	s, _ := set(t, &corev1.Secret{ObjectMeta: named("s"), Data: map[string][]byte{"tls.crt": []byte("crt"), "tls.key": []byte("key")}})
	secret := func(change func(*corev1.SecretVolumeSource)) corev1.Volume {
		src := &corev1.SecretVolumeSource{SecretName: "s", DefaultMode: new(int32(0o440))}
		change(src)
		return corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{Secret: src}}
	}
	v := secret(func(s *corev1.SecretVolumeSource) {
		s.Items = []corev1.KeyToPath{{Key: "tls.key", Path: "deep/er/k", Mode: new(int32(0o400))}, {Key: "tls.crt", Path: "deep/c"}}
	})
	require.NoError(t, s.Sync(t.Context(), podWith(v)))
	require.Equal(t, map[string]string{"deep/er/k": "key 400", "deep/c": "crt 440"}, tree(t, s.Path(&v)))

	missingKey := func(s *corev1.SecretVolumeSource) { s.Items = []corev1.KeyToPath{{Key: "x", Path: "x"}} }
	require.ErrorContains(t, s.Sync(t.Context(), podWith(secret(missingKey))), `cannot set up volume v: Secret s has no key "x"`)
	missing := func(s *corev1.SecretVolumeSource) { s.SecretName = "none" }
	require.ErrorContains(t, s.Sync(t.Context(), podWith(secret(missing))), `"none" not found`)
	escape := func(s *corev1.SecretVolumeSource) { s.Items = []corev1.KeyToPath{{Key: "tls.key", Path: "../x"}} }
	require.ErrorContains(t, s.Sync(t.Context(), podWith(secret(escape))), "leads out")
	optional := secret(func(s *corev1.SecretVolumeSource) { missing(s); s.Optional = new(true) })
	require.NoError(t, s.Sync(t.Context(), podWith(optional)))
	require.Empty(t, tree(t, s.Path(&optional)))
}

func TestProjectedTokenIsBoundToThePodAndRefreshed(t *testing.T) {
	s, client := set(t, &corev1.ConfigMap{ObjectMeta: named("kube-root-ca.crt"), Data: map[string]string{"ca.crt": "CA"}})
	now := time.Unix(1_000_000, 0)
	s.now = func() time.Time { return now }
	issued := 0
	client.PrependReactor("create", "serviceaccounts", func(a clienttesting.Action) (bool, runtime.Object, error) {
		create, ok := a.(clienttesting.CreateActionImpl)
		require.True(t, ok)
		require.Equal(t, "token", create.Subresource)
		require.Equal(t, "robot", create.Name)
		request, ok := create.Object.(*authv1.TokenRequest)
		require.True(t, ok)
		require.Equal(t, &authv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "p", UID: "u"}, request.Spec.BoundObjectRef)
		require.Equal(t, []string{"vault"}, request.Spec.Audiences)
		issued++
		out := request.DeepCopy()
		out.Status = authv1.TokenRequestStatus{
			Token:               fmt.Sprintf("token-%d", issued),
			ExpirationTimestamp: metav1.NewTime(now.Add(time.Duration(*request.Spec.ExpirationSeconds) * time.Second)),
		}
		return true, out, nil
	})
	v := corev1.Volume{Name: "kube-api-access-x", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", Audience: "vault", ExpirationSeconds: new(int64(1000))}},
		{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: ref("kube-root-ca.crt")}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}},
			{Path: "memory", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "c", Resource: "limits.memory", Divisor: resource.MustParse("1Mi")}},
		}}},
	}}}}
	p := podWith(v)
	require.NoError(t, s.Sync(t.Context(), p))
	want := map[string]string{"token": "token-1 644", "ca.crt": "CA 644", "namespace": "ns 644", "memory": "1024 644"}
	require.Equal(t, want, tree(t, s.Path(&v)))
	now = now.Add(799 * time.Second)
	require.NoError(t, s.Sync(t.Context(), p))
	require.Equal(t, want, tree(t, s.Path(&v)))
	now = now.Add(time.Second)
	require.NoError(t, s.Sync(t.Context(), p))
	require.Equal(t, "token-2 644", tree(t, s.Path(&v))["token"], "after 80 % of its life")
}

func TestHostPaths(t *testing.T) {
	s, _ := set(t)
	host := func(path string, kind corev1.HostPathType) corev1.Volume {
		return corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &kind}}}
	}
	sync := func(path string, kind corev1.HostPathType) error {
		return s.Sync(t.Context(), podWith(host(path, kind)))
	}

	require.NoError(t, sync("/a", corev1.HostPathUnset))
	require.DirExists(t, filepath.Join(s.config.NodeRoot, "a"))
	require.NoError(t, sync("/a", corev1.HostPathDirectory))
	require.NoError(t, sync("/b/c", corev1.HostPathDirectoryOrCreate))
	require.NoError(t, sync("/a/f", corev1.HostPathFileOrCreate))
	require.NoError(t, sync("/a/f", corev1.HostPathFile))
	require.ErrorContains(t, sync("/none", corev1.HostPathDirectory), "hostPath /none is not on the node")
	require.ErrorContains(t, sync("/a", corev1.HostPathFile), "not a File")
	require.ErrorContains(t, sync("/a/f", corev1.HostPathDirectoryOrCreate), "not a Directory")
	require.ErrorContains(t, sync("/a", corev1.HostPathSocket), "not a Socket")
	require.ErrorContains(t, sync("/a", corev1.HostPathBlockDev), "does not support")

	dir, err := os.MkdirTemp("", "hp") //nolint:usetesting // short enough for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	listener, err := new(net.ListenConfig).Listen(context.Background(), "unix", filepath.Join(dir, "s"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	s.config.NodeRoot = dir
	require.NoError(t, sync("/s", corev1.HostPathSocket))
}

func TestMounts(t *testing.T) {
	s, _ := set(t)
	p := podWith(
		corev1.Volume{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		corev1.Volume{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/lib/kubelet"}}},
	)
	require.NoError(t, s.Sync(t.Context(), p))
	info, err := os.Stat(filepath.Join(s.config.Dir, "tmp"))
	require.NoError(t, err)
	require.Equal(t, fs.ModeDir, info.Mode().Type())

	mounts := func(m ...corev1.VolumeMount) ([]podenv.Mount, error) {
		return s.Mounts(p, &corev1.Container{Name: "c", VolumeMounts: m})
	}
	got, err := mounts(corev1.VolumeMount{Name: "tmp", MountPath: "/cache/", SubPath: "x"}, corev1.VolumeMount{Name: "host", MountPath: "/k"})
	require.NoError(t, err)
	require.Equal(t, []podenv.Mount{
		{From: "/cache", To: filepath.Join(s.config.Dir, "tmp/x")},
		{From: "/k", To: filepath.Join(s.config.NodeRoot, "var/lib/kubelet")},
	}, got)
	for _, bad := range []corev1.VolumeMount{
		{Name: "tmp", MountPath: "/"},
		{Name: "tmp", MountPath: "relative"},
		{Name: "tmp", MountPath: "/a", SubPath: "../b"},
		{Name: "tmp", MountPath: "/a", SubPathExpr: "$(A)"},
		{Name: "none", MountPath: "/a"},
	} {
		_, err := mounts(bad)
		require.Error(t, err, "%+v", bad)
	}
	require.ErrorContains(t, s.Sync(t.Context(), podWith(corev1.Volume{Name: "pvc"})), "cannot set up volume pvc: the lab does not support")
}
