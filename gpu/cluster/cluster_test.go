package cluster

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"headroom.dev/headroom/gpu"
)

// aPod is a pod of containers; those whose name ends in "!" have begun, and have their name as ID.
func aPod(name string, containers ...string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: name, UID: types.UID("uid-" + name),
			Annotations: map[string]string{"long": strings.Repeat("x", 10_000)},
		},
		Spec: corev1.PodSpec{NodeName: "node-1"},
	}
	for _, c := range containers {
		name, started := strings.CutSuffix(c, "!")
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: name, Image: "image", Env: []corev1.EnvVar{{Name: "A", Value: "b"}}})
		status := corev1.ContainerStatus{Name: name}
		if started {
			status.ContainerID = "containerd://id-" + name
		}
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, status)
	}
	return p
}

func owner(pod, container string) gpu.Owner {
	return gpu.Owner{Namespace: "ns", Pod: pod, Container: container}
}

func (r *running) owns(t *testing.T, uid, id string, want gpu.Owner) {
	t.Helper()
	eventually(t, func() bool {
		got, ok := r.Container(uid, id)
		return ok && got == want
	}, "%s %s is not %v", uid, id, want)
}

func (r *running) ownsNot(t *testing.T, uid, id string) {
	t.Helper()
	eventually(t, func() bool {
		got, ok := r.Container(uid, id)
		return !ok && got == gpu.Owner{}
	}, "%s %s has an owner", uid, id)
}

func TestOptions(t *testing.T) {
	_, err := New(Options{Config: &rest.Config{}})
	require.ErrorContains(t, err, "Options.Node")
	_, err = New(Options{Node: "node-1"})
	require.ErrorContains(t, err, "Options.Config")
	_, err = New(Options{Node: "node-1", Config: &rest.Config{Host: "https://x", TLSClientConfig: rest.TLSClientConfig{CAFile: "/nowhere"}}})
	require.ErrorContains(t, err, "cannot watch the node: ")
	_, err = NewAuthenticator(Options{})
	require.ErrorContains(t, err, "Options.Config")
}

// TestPods follows pods, with an API server that can begin a watch with all objects and with one that cannot.
func TestPods(t *testing.T) {
	for _, noLists := range []bool{false, true} {
		t.Run(fmt.Sprintf("lists=%t", noLists), func(t *testing.T) {
			s := newAPIServer(t)
			s.noLists = noLists
			s.put(podsPath, aPod("a", "main!"))
			n := s.run()
			n.works(t)
			n.owns(t, "uid-a", "id-main", owner("a", "main"))
			n.owns(t, "uid-a", "id-other", owner("a", "main"))
			n.owns(t, "uid-a", "", owner("a", "main"))
			n.ownsNot(t, "uid-b", "id-main")

			s.put(podsPath, aPod("b", "one!", "two"))
			n.owns(t, "uid-b", "id-one", owner("b", "one"))
			n.ownsNot(t, "uid-b", "id-two")
			n.owns(t, "uid-b", "", owner("b", ""))
			s.put(podsPath, aPod("b", "one!", "two!"))
			n.owns(t, "uid-b", "id-two", owner("b", "two"))

			restarted := aPod("b", "one!", "two!")
			restarted.Status.ContainerStatuses[0].ContainerID = "cri-o://id-again"
			s.put(podsPath, restarted)
			n.owns(t, "uid-b", "id-again", owner("b", "one"))
			n.ownsNot(t, "uid-b", "id-one")

			s.remove(podsPath, restarted)
			n.ownsNot(t, "uid-b", "id-again")
			n.ownsNot(t, "uid-b", "")
			n.owns(t, "uid-a", "id-main", owner("a", "main"))

			assert.Equal(t, "spec.nodeName=node-1", s.selected[podsPath])
			assert.Equal(t, "metadata.name=node-1", s.selected[nodesPath])
			assert.Equal(t, "spec.nodeName=node-1,spec.driver=gpu.nvidia.com", s.selected[slicesPath])
			assert.Zero(t, n.log.count("\n"), "nothing of note happened")
		})
	}
}

func TestStaticPods(t *testing.T) {
	s := newAPIServer(t)
	mirror := func(name, hash string) *corev1.Pod {
		p := aPod(name, "main!", "side!")
		p.Annotations = map[string]string{"kubernetes.io/config.mirror": hash, "kubernetes.io/config.hash": hash, "kubernetes.io/config.source": "file"}
		return p
	}
	s.put(podsPath, mirror("static", "hash"))
	s.put(podsPath, mirror("victim", "other"))
	s.put(podsPath, mirror("thief", "other"))
	s.put(podsPath, mirror("liar", "uid-static"))
	n := s.run()
	n.works(t)
	n.owns(t, "hash", "id-side", owner("static", "side"))
	n.owns(t, "hash", "", owner("static", ""))
	n.owns(t, "uid-static", "id-main", owner("static", "main")) // not liar, which claims that hash
	n.ownsNot(t, "other", "id-main")                            // two claim it

	s.remove(podsPath, mirror("thief", "other"))
	n.owns(t, "other", "id-main", owner("victim", "main"))
	s.remove(podsPath, mirror("static", "hash"))
	n.ownsNot(t, "hash", "id-side")
	half := mirror("half", "half")
	delete(half.Annotations, "kubernetes.io/config.mirror") // a pod that merely says where it comes from
	s.put(podsPath, half)
	n.owns(t, "uid-half", "id-main", owner("half", "main"))
	n.ownsNot(t, "half", "id-main")
}

func TestInitAndEphemeralContainers(t *testing.T) {
	s := newAPIServer(t)
	n := s.run()
	n.works(t)
	p := aPod("a", "main!")
	p.Spec.InitContainers = []corev1.Container{{Name: "setup"}}
	p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "setup", ContainerID: "docker://id-setup"}}
	s.put(podsPath, p)
	n.owns(t, "uid-a", "id-setup", owner("a", "setup"))
	n.owns(t, "uid-a", "", owner("a", "")) // either may be running

	ended := func(code int32) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}
	}
	p.Status.InitContainerStatuses[0].State = ended(1) // it will be started again
	s.put(podsPath, p)
	p.Status.InitContainerStatuses[0].State = ended(0)
	s.put(podsPath, p)
	n.owns(t, "uid-a", "", owner("a", "main"))
	n.owns(t, "uid-a", "id-new", owner("a", "main"))

	p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug"}}}
	p.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{{Name: "debug", ContainerID: "containerd://id-debug"}}
	s.put(podsPath, p)
	n.owns(t, "uid-a", "id-debug", owner("a", "debug"))
	n.ownsNot(t, "uid-a", "id-new")
	p.Status.EphemeralContainerStatuses[0].State = ended(1) // never again
	s.put(podsPath, p)
	n.owns(t, "uid-a", "", owner("a", "main"))

	always := corev1.ContainerRestartPolicyAlways
	p.Spec.InitContainers[0].RestartPolicy = &always
	s.put(podsPath, p)
	n.owns(t, "uid-a", "", owner("a", ""))
	n.owns(t, "uid-a", "id-setup", owner("a", "setup"))

	assert.Empty(t, only(&pod{}), "a pod of no containers")
}

func TestHugeNames(t *testing.T) {
	s := newAPIServer(t)
	name := strings.Repeat("ü\"\\\n", 100_000)
	p := aPod("a", name+"!")
	p.Status.ContainerStatuses[0].ContainerID = "://"
	s.put(podsPath, p)
	n := s.run()
	n.works(t)
	n.owns(t, "uid-a", "", owner("a", name))
	n.owns(t, "uid-a", strings.Repeat("f", 1<<20), owner("a", name))
}

func TestLookupsDoNotAllocate(t *testing.T) {
	s := newAPIServer(t)
	s.put(podsPath, aPod("a", "one!", "two!"))
	s.put(nodesPath, aNode("success"))
	s.put(slicesPath, aSlice("s", "pool", 1, map[string]string{"gpu-0": "GPU-0"}))
	n := s.run()
	n.works(t)
	uid, id, pool := "uid-a", "id-two", "pool"
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = n.Container(uid, id)
		_, _ = n.Container(uid, "unknown")
		_, _ = n.Container("unknown", id)
		_ = n.MIGState()
		_, _ = n.ClaimedDevice(DefaultDRADriver, pool, "gpu-0")
	}))
}

func aNode(state string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", UID: "node", Labels: map[string]string{"a": "b"}}}
	if state != "" {
		n.Labels["nvidia.com/mig.config.state"] = state
	}
	return n
}

func TestMIGState(t *testing.T) {
	s := newAPIServer(t)
	n := s.run()
	n.works(t)
	assert.Empty(t, n.MIGState())
	for _, state := range []string{"pending", "success", "", "failed"} {
		s.put(nodesPath, aNode(state))
		eventually(t, func() bool { return n.MIGState() == state })
	}
	s.remove(nodesPath, aNode(""))
	eventually(t, func() bool { return n.MIGState() == "" })
}

// aSlice has devices by name, with their UUIDs; a UUID that begins with "q" is given as a qualified attribute.
func aSlice(name, pool string, generation int64, devices map[string]string) *resourcev1.ResourceSlice {
	node := "node-1"
	s := &resourcev1.ResourceSlice{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: resourcev1.ResourceSliceSpec{
			Driver: DefaultDRADriver, NodeName: &node,
			Pool: resourcev1.ResourcePool{Name: pool, Generation: generation, ResourceSliceCount: 1},
		},
	}
	for device, uuid := range devices {
		kind, index := "gpu", int64(3)
		attributes := map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{"type": {StringValue: &kind}, "index": {IntValue: &index}}
		key := resourcev1.QualifiedName("uuid")
		if strings.HasPrefix(uuid, "q") {
			key = DefaultDRADriver + "/uuid"
		}
		if uuid != "" {
			attributes[key] = resourcev1.DeviceAttribute{StringValue: &uuid}
		}
		s.Spec.Devices = append(s.Spec.Devices, resourcev1.Device{Name: device, Attributes: attributes})
	}
	return s
}

func TestClaimedDevices(t *testing.T) {
	s := newAPIServer(t)
	s.put(slicesPath, aSlice("a", "pool", 1, map[string]string{"gpu-0": "GPU-old", "gpu-1": "GPU-1", "gpu-2": ""}))
	s.put(slicesPath, aSlice("b", "other", 7, map[string]string{"gpu-0": "q-0"}))
	foreign := aSlice("c", "pool", 9, map[string]string{"gpu-0": "FPGA-0"})
	foreign.Spec.Driver = "example.com"
	s.put(slicesPath, foreign)
	n := s.run()
	n.works(t)
	is := func(pool, device, want string) {
		t.Helper()
		eventually(t, func() bool {
			uuid, ok := n.ClaimedDevice(DefaultDRADriver, pool, device)
			return uuid == want && ok == (want != "")
		}, "%s %s is not %q", pool, device, want)
	}
	is("pool", "gpu-0", "GPU-old")
	is("pool", "gpu-2", "")
	is("other", "gpu-0", "q-0")
	is("none", "gpu-0", "")
	_, ok := n.ClaimedDevice("example.com", "pool", "gpu-0")
	assert.False(t, ok)

	next := aSlice("d", "pool", 2, map[string]string{"gpu-0": "GPU-new"})
	s.put(slicesPath, next)
	is("pool", "gpu-0", "GPU-new")
	is("pool", "gpu-1", "") // of an older generation
	is("other", "gpu-0", "q-0")

	s.put(slicesPath, aSlice("e", "pool", 2, map[string]string{"gpu-0": "GPU-newer", "gpu-3": "MIG-3"}))
	is("pool", "gpu-0", "") // two slices of a generation disagree
	is("pool", "gpu-3", "MIG-3")
	s.remove(slicesPath, aSlice("e", "pool", 2, nil))
	s.remove(slicesPath, next)
	is("pool", "gpu-0", "GPU-old")
	is("pool", "gpu-1", "GPU-1")
}

func TestWatchesAreApart(t *testing.T) {
	for _, code := range []int{http.StatusForbidden, http.StatusNotFound} {
		t.Run(http.StatusText(code), func(t *testing.T) {
			s := newAPIServer(t)
			s.faults[slicesPath] = code
			s.put(podsPath, aPod("a", "main!"))
			s.put(nodesPath, aNode("pending"))
			n := s.run()
			n.owns(t, "uid-a", "id-main", owner("a", "main"))
			eventually(t, func() bool { return n.MIGState() == "pending" })
			eventually(t, func() bool { return s.count(slicesPath+" list") >= 5 })
			why := "it said 403"
			if code == http.StatusNotFound {
				why = "the API server does not know the resource"
			}
			assert.Equal(t, []string{"cannot watch ResourceSlices: " + why}, trimmed(n.Problems()))
			assert.Equal(t, 1, n.log.count("\n"), "it is said once")

			s.with(false, func() { delete(s.faults, slicesPath) })
			n.works(t)
			assert.Equal(t, 1, n.log.count("the watch works again"))
		})
	}
}

// trimmed leaves of each problem what this package and the server say.
func trimmed(problems []string) []string {
	for i, p := range problems {
		if what, kindAndWhy, ok := strings.Cut(p, ": failed to list "); ok {
			_, why, _ := strings.Cut(kindAndWhy, ": ")
			problems[i] = what + ": " + why
		}
	}
	return problems
}
