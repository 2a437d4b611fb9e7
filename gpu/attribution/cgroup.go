package attribution

import "bytes"

const (
	idLength   = 64 // of a container ID, a SHA-256 in hexadecimal digits
	hashLength = 32 // of a static pod's UID, an MD5 in hexadecimal digits
)

// Container names a container, or a pod where more is not known, as its cgroup does.
type Container struct {
	// PodUID is the pod's UID as the API writes it, with dashes; for a static pod the 32 hexadecimal digits that the kubelet
	// hashed from its file, which the API has in the annotation kubernetes.io/config.hash and not as the UID.
	PodUID string
	// ID is the container's ID, 64 hexadecimal digits; empty where only the pod is known. It can be the ID of the pod's
	// sandbox, which the API does not name: that of the pause container, and under gVisor that of all containers.
	ID string
}

// ParseCgroup reads a /proc/PID/cgroup and returns the container that the process is in; false: it names no pod. It knows
// cgroup v1 and v2, the kubelet's drivers systemd and cgroupfs, and the names that containerd, CRI-O and Docker give. Of
// several lines the first with a container counts, else the first with a pod. Of Kubernetes within a pod the outer one
// counts, as its API is the one that knows the GPUs' owners.
//
// Only the pod is returned where the process runs beside the containers (conmon) or around them (Kata). Nothing is where a
// path was cut: a process sees paths relative to its own cgroup namespace, so where that is private (the default with
// cgroup v2), other pods appear as /../../pod…, and only the containers of its own pod, as /../ID, have lost the pod.
//
// Apart from the strings that it returns it allocates nothing.
func ParseCgroup(text []byte) (Container, bool) {
	var uid, id []byte
	for len(text) > 0 && id == nil {
		var line []byte
		line, text = cut(text, '\n')
		_, line = cut(line, ':')  // the hierarchy's number, 0 for v2
		_, path := cut(line, ':') // the controllers; the path can have colons of its own
		path = bytes.TrimSuffix(path, []byte(" (deleted)"))
		if pod, container := findPod(path); pod != nil && (uid == nil || container != nil) {
			uid, id = pod, container
		}
	}
	if uid == nil {
		return Container{}, false
	}
	return Container{PodUID: uidString(uid), ID: string(id)}, true
}

// findPod returns the UID of the path's outermost pod as it is written there, and the ID of that pod's container; nil where
// there is none.
func findPod(path []byte) (uid, id []byte) {
	for len(path) > 0 {
		var name []byte
		name, path = cut(path, '/')
		if uid, container := podOf(name); uid != nil {
			if container == nil {
				container, _ = cut(path, '/')
			}
			return uid, containerOf(container)
		}
	}
	return nil, nil
}

// podOf returns the UID in a folder's name: "podUID" by the driver cgroupfs, "kubepods-burstable-podUID.slice" by systemd,
// with a UID whose dashes are underscores there. The latter may be followed by ":cri-containerd:ID", the container, when a
// runtime that is set to cgroupfs is told to use such a slice.
func podOf(name []byte) (uid, container []byte) {
	if uid, ok := bytes.CutPrefix(name, []byte("pod")); ok && isPodUID(uid, '-') {
		return uid, nil
	}
	slice, container := cut(name, ':')
	slice, ok := bytes.CutSuffix(slice, []byte(".slice"))
	root := bytes.LastIndex(slice, []byte("kubepods")) // kubelet-kubepods in kind, which has a cgroup root of its own
	if !ok || root < 0 {
		return nil, nil
	}
	slice = slice[root+len("kubepods"):]
	burstable, ok := bytes.CutPrefix(slice, []byte("-burstable")) // guaranteed pods have no class in their path
	if slice = burstable; !ok {
		slice = bytes.TrimPrefix(slice, []byte("-besteffort"))
	}
	uid, ok = bytes.CutPrefix(slice, []byte("-pod"))
	if !ok || !isPodUID(uid, '_') {
		return nil, nil
	}
	return uid, container
}

// containerOf returns the ID at the end of a folder's name: "ID", "crio-ID", "cri-containerd-ID.scope", "cri-containerd:ID".
// Kata's "kata_ID" is a sandbox, and "crio-conmon-ID.scope" has the process that watches the container.
func containerOf(name []byte) (id []byte) {
	name = bytes.TrimSuffix(name, []byte(".scope"))
	start := len(name) - idLength
	if start < 0 || !areHex(name[start:]) || bytes.Contains(name[:start], []byte("conmon")) {
		return nil
	}
	if start > 0 && name[start-1] != '-' && name[start-1] != ':' {
		return nil
	}
	return name[start:]
}

func isPodUID(text []byte, separator byte) bool {
	return isUUID(text, separator) || len(text) == hashLength && areHex(text)
}

// uidString returns the UID with dashes.
func uidString(uid []byte) string {
	var buffer [uuidLength]byte
	n := copy(buffer[:], uid)
	for i, c := range buffer[:n] {
		if c == '_' {
			buffer[i] = '-'
		}
	}
	return string(buffer[:n])
}

func areHex(text []byte) bool {
	for _, c := range text {
		if !isHex(c) {
			return false
		}
	}
	return true
}

// cut returns what is before the first separator and what is after it, which is nil where there is none.
func cut(text []byte, separator byte) (before, after []byte) {
	i := bytes.IndexByte(text, separator)
	if i < 0 {
		return text, nil
	}
	return text[:i], text[i+1:]
}
