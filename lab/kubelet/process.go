package kubelet

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/gpu/nvmltest"
	"headroom.dev/headroom/lab/kubelet/podenv"
	"headroom.dev/headroom/lab/process"
)

// tokenFolder is where client-go looks for a pod's identity, in every container.
const tokenFolder = "/var/run/secrets/kubernetes.io/serviceaccount" //nolint:gosec // a folder, no credential

// maxMessage is how much of a log's end a termination message carries: the API server's limit is 4096 bytes for all.
const maxMessage = 2048

// processInstance is a container that runs as a process.
type processInstance struct{ p *process.Process }

func (i processInstance) Done() <-chan struct{} { return i.p.Done() }

func (i processInstance) Exit() (code int, message string) {
	if exit, ok := errors.AsType[*process.ExitError](i.p.Err()); ok && i.p.ExitCode() != 0 {
		message = exit.Tail[max(0, len(exit.Tail)-maxMessage):]
	}
	return i.p.ExitCode(), message
}

func (i processInstance) Stop(grace time.Duration) {
	_ = i.p.Stop(grace) // a process that cannot be signalled has ended
}

// spawn starts a container's binary as its image would start it.
func (w *worker) spawn(ctx context.Context, pod *corev1.Pod, c *container) (instance, error) {
	binary := w.k.config.Images[repository(c.spec.Image)]
	if binary == "" {
		return nil, &refusal{reasonImage, fmt.Errorf("the lab has no binary for image %s", c.spec.Image)}
	}
	mounts, err := w.volumes.Mounts(pod, c.spec)
	if err != nil {
		return nil, &refusal{reasonConfig, err}
	}
	known := map[string]string{
		"KUBERNETES_SERVICE_HOST": w.k.apiHost, "KUBERNETES_SERVICE_PORT": w.k.apiPort, "KUBERNETES_SERVICE_PORT_HTTPS": w.k.apiPort,
	}
	env, err := podenv.Environment(ctx, w.k.config.Client.CoreV1(), pod, c.spec, known)
	if err != nil {
		return nil, &refusal{reasonConfig, err}
	}
	args, err := arguments(c.spec, binary, env, mounts)
	if err != nil {
		return nil, &refusal{reasonConfig, err}
	}
	for name, value := range env {
		env[name] = podenv.Rewrite(value, mounts)
	}
	if err := w.complete(env, pod, mounts); err != nil {
		return nil, &refusal{reasonConfig, err}
	}
	// Last, as the file is a real one: its path is not to be looked for among the mounts'.
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "$(KUBECONFIG)", env["KUBECONFIG"])
	}
	dir := w.dir
	if inside := podenv.Rewrite(c.spec.WorkingDir, mounts); inside != c.spec.WorkingDir {
		dir = inside // else a folder of the image, which there is none of
	}
	p, err := process.Start(process.Options{
		Name: pod.Namespace + "/" + pod.Name + "/" + c.spec.Name,
		Path: binary, Args: args, Env: podenv.List(env), Dir: dir, LogPath: c.logPath(),
	}, w.k.config.Registry)
	if err != nil {
		return nil, &refusal{reasonRun, err}
	}
	return processInstance{p}, nil
}

// arguments returns what follows the binary. The image's entrypoint is the binary alone; a command replaces it and must
// name the same binary, as there is no other.
func arguments(c *corev1.Container, binary string, env map[string]string, mounts []podenv.Mount) ([]string, error) {
	var all []string
	if len(c.Command) > 0 {
		if filepath.Base(c.Command[0]) != filepath.Base(binary) {
			return nil, fmt.Errorf("command %q of container %s is not %s, the only program that the lab has for image %s",
				c.Command[0], c.Name, filepath.Base(binary), c.Image)
		}
		all = append(all, c.Command[1:]...)
	}
	all = append(all, c.Args...)
	for i := range all {
		all[i] = podenv.Rewrite(podenv.Expand(all[i], env), mounts)
	}
	return all, nil
}

// complete adds what the image, the container runtime and NVIDIA's hook in it would: variables with real paths.
func (w *worker) complete(env map[string]string, pod *corev1.Pod, mounts []podenv.Mount) error {
	if err := os.MkdirAll(w.dir, 0o750); err != nil {
		return fmt.Errorf("cannot make the pod's folder: %w", err)
	}
	for name, value := range map[string]string{"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": w.dir, "HOSTNAME": pod.Name} {
		if _, set := env[name]; !set {
			env[name] = value
		}
	}
	for _, m := range mounts {
		if _, set := env["KUBECONFIG"]; m.From == tokenFolder && !set {
			file := filepath.Join(w.dir, "kubeconfig")
			if err := w.k.writeKubeconfig(file, filepath.Join(m.To, "token"), pod.Namespace); err != nil {
				return err
			}
			env["KUBECONFIG"] = file
		}
	}
	if env["NVIDIA_VISIBLE_DEVICES"] == "all" {
		env["LD_LIBRARY_PATH"] = w.k.config.NVMLLibraryDir
		env[nvmltest.FileVariable] = w.node.machine
	}
	return nil
}

// writeKubeconfig writes the in-cluster configuration as a file: client-go's own way to it has the token's path and the
// CA's compiled in.
func (k *Kubelet) writeKubeconfig(path, tokenFile, namespace string) error {
	raw, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "lab",
		"clusters": []any{map[string]any{"name": "lab", "cluster": map[string]any{
			"server":                     "https://" + net.JoinHostPort(k.apiHost, k.apiPort),
			"certificate-authority-data": base64.StdEncoding.EncodeToString(k.config.CA),
		}}},
		"users":    []any{map[string]any{"name": "pod", "user": map[string]any{"tokenFile": tokenFile}}},
		"contexts": []any{map[string]any{"name": "lab", "context": map[string]any{"cluster": "lab", "user": "pod", "namespace": namespace}}},
	})
	if err != nil {
		return fmt.Errorf("cannot encode the pod's kubeconfig: %w", err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		return fmt.Errorf("cannot write the pod's kubeconfig: %w", err)
	}
	return nil
}
