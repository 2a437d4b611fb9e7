// Package volumes puts a pod's volumes into a folder of this machine and keeps their contents up to date: configMap,
// secret, downwardAPI, projected with service account tokens, emptyDir and hostPath.
//
// It guarantees: a volume's files change all at once, by the kubelet's "..data" symlink, and only when their contents do;
// a token is replaced before it expires; what is missing and not optional is an error that names it. There are no mount
// namespaces: the caller tells the processes where the folders are.
package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"headroom.dev/headroom/lab/kubelet/podenv"
)

// Config says whose volumes and where.
type Config struct {
	Client   kubernetes.Interface
	Dir      string // of the pod's volumes; one folder each
	NodeRoot string // stands for the node's root folder in hostPath volumes
}

// Set is the volumes of one pod. It is not safe for concurrent use.
type Set struct {
	config Config
	hashes map[string]string // of each volume's last contents
	tokens map[tokenKey]token
	now    func() time.Time
}

// New returns the volumes of one pod, none of them made yet.
func New(config Config) *Set {
	return &Set{config: config, hashes: map[string]string{}, tokens: map[tokenKey]token{}, now: time.Now}
}

// Sync makes the pod's volumes and brings those that exist up to date. The pod's status must carry its addresses.
// Every volume is tried; the error joins all that is wrong.
func (s *Set) Sync(ctx context.Context, pod *corev1.Pod) error {
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if err := s.sync(ctx, pod, v); err != nil {
			errs = append(errs, fmt.Errorf("cannot set up volume %s: %w", v.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Path returns the folder (for some host paths, the file) in which a volume lies.
func (s *Set) Path(v *corev1.Volume) string {
	if v.HostPath != nil {
		return filepath.Join(s.config.NodeRoot, v.HostPath.Path)
	}
	return filepath.Join(s.config.Dir, v.Name)
}

// Mounts returns where a container's volumeMounts lie. Errors: a mount that the lab does not support.
func (s *Set) Mounts(pod *corev1.Pod, c *corev1.Container) ([]podenv.Mount, error) {
	var out []podenv.Mount
	for _, m := range c.VolumeMounts {
		from := filepath.Clean(m.MountPath)
		if m.SubPathExpr != "" || !filepath.IsAbs(from) || from == "/" || (m.SubPath != "" && !filepath.IsLocal(m.SubPath)) {
			return nil, fmt.Errorf("container %s: the lab does not support the mount of volume %s at %q", c.Name, m.Name, m.MountPath)
		}
		volume := find(pod, m.Name)
		if volume == nil {
			return nil, fmt.Errorf("container %s mounts volume %s, which the pod lacks", c.Name, m.Name)
		}
		out = append(out, podenv.Mount{From: from, To: filepath.Join(s.Path(volume), m.SubPath)})
	}
	return out, nil
}

func find(pod *corev1.Pod, name string) *corev1.Volume {
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Name == name {
			return &pod.Spec.Volumes[i]
		}
	}
	return nil
}

func (s *Set) sync(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) error {
	var files map[string]file
	var err error
	switch {
	case v.EmptyDir != nil:
		return os.MkdirAll(s.Path(v), 0o750)
	case v.HostPath != nil:
		return s.hostPath(v)
	case v.ConfigMap != nil:
		c := v.ConfigMap
		files, err = s.configMap(ctx, pod.Namespace, c.Name, c.Items, c.Optional, mode(c.DefaultMode))
	case v.Secret != nil:
		c := v.Secret
		files, err = s.secret(ctx, pod.Namespace, c.SecretName, c.Items, c.Optional, mode(c.DefaultMode))
	case v.DownwardAPI != nil:
		files, err = downward(pod, v.DownwardAPI.Items, mode(v.DownwardAPI.DefaultMode))
	case v.Projected != nil:
		files, err = s.projected(ctx, pod, v.Projected)
	default:
		return errors.New("the lab does not support this kind of volume")
	}
	if err != nil {
		return err
	}
	return s.publish(v.Name, files)
}

// publish writes a volume's files where they differ from what it wrote last.
func (s *Set) publish(volume string, files map[string]file) error {
	hash := hash(files)
	if s.hashes[volume] == hash {
		return nil
	}
	if err := replace(filepath.Join(s.config.Dir, volume), files); err != nil {
		return err
	}
	s.hashes[volume] = hash
	return nil
}

// hostPath checks the path, and makes it where it is missing and its type allows that. A path without type is made as a
// folder, as container runtimes do.
func (s *Set) hostPath(v *corev1.Volume) error {
	path := s.Path(v)
	var kind corev1.HostPathType
	if v.HostPath.Type != nil {
		kind = *v.HostPath.Type
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		switch kind {
		case corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate:
			return os.MkdirAll(path, 0o750)
		case corev1.HostPathFileOrCreate:
			return os.WriteFile(path, nil, 0o600)
		default:
			return fmt.Errorf("hostPath %s is not on the node (here: %s)", v.HostPath.Path, path)
		}
	}
	if err != nil {
		return err
	}
	right, err := isKind(info.Mode(), kind)
	if err == nil && !right {
		err = fmt.Errorf("hostPath %s is not a %s on the node (here: %s)", v.HostPath.Path, kind, path)
	}
	return err
}

func isKind(mode fs.FileMode, kind corev1.HostPathType) (bool, error) {
	switch kind {
	case corev1.HostPathUnset:
		return true, nil
	case corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate:
		return mode.IsDir(), nil
	case corev1.HostPathFile, corev1.HostPathFileOrCreate:
		return mode.IsRegular(), nil
	case corev1.HostPathSocket:
		return mode.Type() == fs.ModeSocket, nil
	default:
		return false, fmt.Errorf("the lab does not support hostPath type %s", kind)
	}
}

func mode(m *int32) fs.FileMode {
	if m == nil {
		return 0o644
	}
	return fs.FileMode(*m) & fs.ModePerm
}
