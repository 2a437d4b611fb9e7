// Package agent checks what the agent's kustomize components make of it. It is apart from the other checks of manifests
// because kustomize links Go's plugins, which a binary with NVML cannot: its symbols are bound when they are called.
package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// agentWith renders the agent with components, as `kubectl kustomize` would.
func agentWith(t *testing.T, components ...string) *appsv1.DaemonSet {
	t.Helper()
	fs := filesys.MakeFsInMemory()
	root, err := filepath.Abs(".")
	require.NoError(t, err)
	onDisk := filesys.MakeFsOnDisk()
	require.NoError(t, onDisk.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		text, err := onDisk.ReadFile(path)
		require.NoError(t, err)
		relative, err := filepath.Rel(root, path)
		require.NoError(t, err)
		return fs.WriteFile(filepath.Join("/agent", relative), text)
	}))
	overlay := "resources: [../agent]\ncomponents:\n"
	for _, c := range components {
		overlay += "- ../agent/" + c + "\n"
	}
	require.NoError(t, fs.WriteFile("/overlay/kustomization.yaml", []byte(overlay)))
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(fs, "/overlay")
	require.NoError(t, err)
	for _, r := range rendered.Resources() {
		if r.GetKind() == "DaemonSet" {
			text, err := r.AsYAML()
			require.NoError(t, err)
			var out appsv1.DaemonSet
			require.NoError(t, yaml.UnmarshalStrict(text, &out))
			return &out
		}
	}
	t.Fatal("no DaemonSet")
	return nil
}

// The default agent has no privilege beyond root for the kubelet's socket; what shared GPUs need is the host's PIDs alone.
func TestPrivilegesOfTheAgent(t *testing.T) {
	for _, hostPID := range []bool{false, true} {
		var components []string
		if hostPID {
			components = []string{"shared-gpus"}
		}
		spec := agentWith(t, components...).Spec.Template.Spec
		require.Equal(t, hostPID, spec.HostPID)
		require.False(t, spec.HostNetwork)
		require.False(t, spec.HostIPC)
		require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, spec.SecurityContext.SeccompProfile.Type)
		for _, c := range spec.Containers {
			require.Nil(t, c.SecurityContext.Privileged)
			require.False(t, *c.SecurityContext.AllowPrivilegeEscalation)
			require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
			require.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop)
			require.Empty(t, c.SecurityContext.Capabilities.Add)
			for _, m := range c.VolumeMounts {
				require.True(t, m.ReadOnly, m.Name)
			}
		}
	}
}

func TestAuthenticatedAgent(t *testing.T) {
	daemonSet := agentWith(t, "authenticated", "shared-gpus")
	require.Empty(t, daemonSet.Spec.Template.Annotations, "whoever scrapes has to bring a token")
	c := daemonSet.Spec.Template.Spec.Containers[0]
	require.Equal(t, corev1.URISchemeHTTPS, c.ReadinessProbe.HTTPGet.Scheme)
	require.Equal(t, corev1.URISchemeHTTPS, c.LivenessProbe.HTTPGet.Scheme)
	require.Contains(t, c.Args, "--authenticate")
	mounts := map[string]string{}
	for _, m := range c.VolumeMounts {
		mounts[m.Name] = m.MountPath
	}
	require.Equal(t, "/tls", mounts["tls"])
}
