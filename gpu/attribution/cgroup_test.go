package attribution

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	uid1    = "0ad80fa0-3a1c-4f3f-8d3c-6c1b8bd0b3de"
	uid1_   = "0ad80fa0_3a1c_4f3f_8d3c_6c1b8bd0b3de"
	uid2    = "b1e5c7a2-99d4-4f0e-a1b2-0c3d4e5f6a7b"
	uid2_   = "b1e5c7a2_99d4_4f0e_a1b2_0c3d4e5f6a7b"
	static1 = "3fcc9a3e1b6d0d1fbd7a2a1b0a6c1f5e" // the hash of a static pod's file
	id1     = "4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970"
	id2     = "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d"
)

func TestParseCgroup(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want Container // zero: no pod
	}{
		// cgroup v2, systemd
		"containerd burstable":  {"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uid1_ + ".slice/cri-containerd-" + id1 + ".scope\n", Container{uid1, id1}},
		"containerd besteffort": {"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + uid1_ + ".slice/cri-containerd-" + id1 + ".scope\n", Container{uid1, id1}},
		"containerd guaranteed": {"0::/kubepods.slice/kubepods-pod" + uid1_ + ".slice/cri-containerd-" + id1 + ".scope\n", Container{uid1, id1}},
		"CRI-O":                 {"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uid1_ + ".slice/crio-" + id1 + ".scope\n", Container{uid1, id1}},
		"CRI-O with crun":       {"0::/kubepods.slice/kubepods-pod" + uid1_ + ".slice/crio-" + id1 + ".scope/container\n", Container{uid1, id1}},
		"CRI-O conmon":          {"0::/kubepods.slice/kubepods-pod" + uid1_ + ".slice/crio-conmon-" + id1 + ".scope\n", Container{uid1, ""}},
		"docker":                {"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + uid1_ + ".slice/docker-" + id1 + ".scope\n", Container{uid1, id1}},
		"static pod":            {"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + static1 + ".slice/cri-containerd-" + id1 + ".scope\n", Container{static1, id1}},
		"kind":                  {"0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod" + uid1_ + ".slice/cri-containerd-" + id1 + ".scope\n", Container{uid1, id1}},
		"kind from its host":    {"0::/system.slice/docker-" + id2 + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + uid1_ + ".slice/cri-containerd-" + id1 + ".scope\n", Container{uid1, id1}},
		"systemd in container":  {"0::/kubepods.slice/kubepods-pod" + uid1_ + ".slice/cri-containerd-" + id1 + ".scope/init.scope\n", Container{uid1, id1}},
		"removed":               {"0::/kubepods.slice/kubepods-pod" + uid1_ + ".slice/cri-containerd-" + id1 + ".scope (deleted)\n", Container{uid1, id1}},
		"no line end":           {"0::/kubepods.slice/kubepods-pod" + uid1_ + ".slice/cri-containerd-" + id1 + ".scope", Container{uid1, id1}},
		// cgroup v2, cgroupfs
		"cgroupfs burstable":  {"0::/kubepods/burstable/pod" + uid1 + "/" + id1 + "\n", Container{uid1, id1}},
		"cgroupfs guaranteed": {"0::/kubepods/pod" + uid1 + "/" + id1 + "\n", Container{uid1, id1}},
		"cgroupfs CRI-O":      {"0::/kubepods/besteffort/pod" + uid1 + "/crio-" + id1 + "\n", Container{uid1, id1}},
		"cgroupfs static pod": {"0::/kubepods/burstable/pod" + static1 + "/" + id1 + "\n", Container{static1, id1}},
		"cgroupfs kind":       {"0::/kubelet/kubepods/burstable/pod" + uid1 + "/" + id1 + "\n", Container{uid1, id1}},
		// cgroup v1
		"v1 docker": {
			"11:memory:/kubepods/burstable/pod" + uid1 + "/" + id1 + "\n" +
				"1:name=systemd:/kubepods/burstable/pod" + uid1 + "/" + id1 + "\n", Container{uid1, id1},
		},
		"v1 hybrid":      {"3:cpu,cpuacct:/kubepods.slice/kubepods-pod" + uid1_ + ".slice/crio-" + id1 + ".scope\n0::/system.slice/containerd.service\n", Container{uid1, id1}},
		"v1 misc line":   {"13:misc:/\n12:rdma:/\n4:devices:/kubepods/besteffort/pod" + uid1 + "/" + id1 + "\n0::/\n", Container{uid1, id1}},
		"v1 pod line":    {"5:pids:/kubepods/pod" + uid1 + "\n4:devices:/kubepods/pod" + uid1 + "/" + id1 + "\n", Container{uid1, id1}},
		"v1 containerd":  {"2:cpuset:/system.slice/containerd.service/kubepods-burstable-pod" + uid1_ + ".slice:cri-containerd:" + id1 + "\n", Container{uid1, id1}},
		"v1 colons last": {"2:cpuset:/kubepods-pod" + uid1_ + ".slice:cri-containerd:" + id1 + "\n1:cpu:/\n", Container{uid1, id1}},
		// sandboxes
		"Kata":             {"0::/kubepods/burstable/pod" + uid1 + "/kata_" + id1 + "\n", Container{uid1, ""}},
		"Kata systemd":     {"0::/kubepods.slice/kubepods-pod" + uid1_ + ".slice/kata_" + id1 + ".scope\n", Container{uid1, ""}},
		"gVisor":           {"0::/kubepods/burstable/pod" + uid1 + "\n", Container{uid1, ""}},
		"gVisor systemd":   {"0::/kubepods.slice/kubepods-pod" + uid1_ + ".slice\n", Container{uid1, ""}},
		"Kata of its own":  {"0::/kata_overhead/" + id1 + "\n", Container{}},
		"vcpu of a sandbx": {"0::/kubepods/pod" + uid1 + "/kata_" + id1 + "/" + id2 + "\n", Container{uid1, ""}},
		// Kubernetes in a pod
		"nested":               {"0::/kubepods/burstable/pod" + uid1 + "/" + id1 + "/kubepods/besteffort/pod" + uid2 + "/" + id2 + "\n", Container{uid1, id1}},
		"nested systemd":       {"0::/kubepods.slice/kubepods-pod" + uid1_ + ".slice/cri-containerd-" + id1 + ".scope/kubelet.slice/kubelet-kubepods-pod" + uid2_ + ".slice/crio-" + id2 + ".scope\n", Container{uid1, id1}},
		"nested in a sandbox":  {"0::/kubepods/pod" + uid1 + "/kata_" + id1 + "/kubepods/pod" + uid2 + "/" + id2 + "\n", Container{uid1, ""}},
		"Docker in a pod":      {"0::/kubepods/pod" + uid1 + "/" + id1 + "/docker/" + id2 + "\n", Container{uid1, id1}},
		"a vcluster's pod, v1": {"7:devices:/kubepods/pod" + uid1 + "/" + id1 + "/kubepods/pod" + uid2 + "/" + id2 + "\n0::/\n", Container{uid1, id1}},
		// private cgroup namespaces
		"other pod":                   {"0::/../../pod" + uid1 + "/" + id1 + "\n", Container{uid1, id1}},
		"other pod systemd":           {"0::/../../kubepods-burstable-pod" + uid1_ + ".slice/cri-containerd-" + id1 + ".scope\n", Container{uid1, id1}},
		"other class":                 {"0::/../../../besteffort/pod" + uid1 + "/" + id1 + "\n", Container{uid1, id1}},
		"other class systemd":         {"0::/../../../kubepods-besteffort.slice/kubepods-besteffort-pod" + uid1_ + ".slice/crio-" + id1 + ".scope\n", Container{uid1, id1}},
		"own process":                 {"0::/\n", Container{}},
		"own pod's other":             {"0::/../" + id1 + "\n", Container{}},
		"own pod's other systemd":     {"0::/../cri-containerd-" + id1 + ".scope\n", Container{}},
		"host's from within":          {"0::/../../../../system.slice/nvidia-persistenced.service\n", Container{}},
		"host's service":              {"0::/system.slice/nvidia-persistenced.service\n", Container{}},
		"user's session":              {"0::/user.slice/user-1000.slice/session-3.scope\n", Container{}},
		"kubelet":                     {"0::/system.slice/kubelet.service\n", Container{}},
		"docker without Kubernetes":   {"0::/system.slice/docker-" + id1 + ".scope\n", Container{}},
		"podman pod":                  {"0::/machine.slice/machine-libpod_pod_" + id1 + ".slice/libpod-" + id2 + ".scope\n", Container{}},
		"Slurm":                       {"0::/system.slice/slurmstepd.scope/job_42/step_0/user/task_0\n", Container{}},
		"all pods' folder":            {"0::/kubepods.slice/kubepods-burstable.slice\n", Container{}},
		"short UID":                   {"0::/kubepods/pod" + uid1[1:] + "/" + id1 + "\n", Container{}},
		"upper case":                  {"0::/kubepods/pod" + strings.ToUpper(uid1) + "/" + id1 + "\n", Container{}},
		"underscores in cgroupfs":     {"0::/kubepods/pod" + uid1_ + "/" + id1 + "\n", Container{}},
		"short ID":                    {"0::/kubepods/pod" + uid1 + "/" + id1[1:] + "\n", Container{uid1, ""}},
		"long ID":                     {"0::/kubepods/pod" + uid1 + "/0" + id1 + "\n", Container{uid1, ""}},
		"not Kubernetes' slice":       {"0::/user-pod" + uid1_ + ".slice/docker-" + id1 + ".scope\n", Container{}},
		"empty":                       {"", Container{}},
		"no path":                     {"0:\n0::\n::\n\n", Container{}},
		"a pod without a line's head": {"/kubepods/pod" + uid1 + "/" + id1 + "\n", Container{}},
	} {
		got, ok := ParseCgroup([]byte(c.text))
		assert.Equal(t, c.want, got, name)
		assert.Equal(t, c.want != Container{}, ok, name)
		oracle, found := regexpCgroup(c.text)
		assert.Equal(t, got, oracle, name)
		assert.Equal(t, ok, found, name)
	}
}

func TestParseCgroupAllocatesItsResult(t *testing.T) {
	for text, want := range map[string]float64{
		"0::/system.slice/kubelet.service\n":                                                             0,
		"0::/kubepods/burstable/pod" + uid1 + "\n":                                                       1,
		"0::/kubepods/pod" + uid1 + "/kata_" + id1 + "\n":                                                1,
		"0::/kubepods/burstable/pod" + uid1 + "/" + id1 + "":                                             2,
		"9:cpu:/\n0::/kubepods.slice/kubepods-pod" + uid1_ + ".slice/cri-containerd-" + id1 + ".scope\n": 2,
	} {
		bytes := []byte(text)
		assert.Equal(t, want, testing.AllocsPerRun(100, func() { ParseCgroup(bytes) }), text)
	}
}

var (
	podPattern = regexp.MustCompile(`^(?:pod((?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}))` +
		`|[^:]*kubepods(?:-burstable|-besteffort)?-pod((?:[0-9a-f]{8}_[0-9a-f]{4}_[0-9a-f]{4}_[0-9a-f]{4}_[0-9a-f]{12}|[0-9a-f]{32}))\.slice(?::(.*))?)$`)
	idPattern     = regexp.MustCompile(`^(?:.*[-:])?([0-9a-f]{64})(?:\.scope)?$`)
	conmonPattern = regexp.MustCompile(`conmon`)
	uidPattern    = regexp.MustCompile(`^(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32})$`)
)

// regexpCgroup is ParseCgroup, slow and plain.
func regexpCgroup(text string) (best Container, found bool) {
	for line := range strings.SplitSeq(text, "\n") {
		fields := strings.SplitN(line, ":", 3)
		if len(fields) < 3 {
			continue
		}
		segments := append(strings.Split(strings.TrimSuffix(fields[2], " (deleted)"), "/"), "")
		for i, segment := range segments {
			m := podPattern.FindStringSubmatch(segment)
			if m == nil {
				continue
			}
			c := Container{PodUID: strings.ReplaceAll(m[1]+m[2], "_", "-")}
			where := m[3]
			if where == "" && !strings.HasSuffix(segment, ":") {
				where = segments[i+1]
			}
			if id := idPattern.FindStringSubmatch(where); id != nil && !conmonPattern.MatchString(where) {
				c.ID = id[1]
			}
			if !found || best.ID == "" && c.ID != "" {
				best, found = c, true
			}
			break
		}
	}
	return best, found
}

// TestParseCgroupAgainstRegexp compares the two on paths that are put together of what occurs in cgroups, and of what nearly does.
func TestParseCgroupAgainstRegexp(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	hex := func(n int) string {
		var b strings.Builder
		for range n {
			b.WriteByte("0123456789abcdef"[r.IntN(16)])
		}
		return b.String()
	}
	pick := func(choices ...string) string { return choices[r.IntN(len(choices))] }
	uid := func(separator string) string {
		if r.IntN(4) == 0 {
			return hex(32)
		}
		if r.IntN(10) == 0 {
			separator = pick("-", "_")
		}
		return strings.Join([]string{hex(8), hex(4), hex(4), hex(4), hex(12 - r.IntN(12)/11)}, separator)
	}
	id := func() string {
		return pick("", "", "cri-containerd-", "crio-", "docker-", "crio-conmon-", "kata_", "cri-containerd:") + hex(64-r.IntN(10)/9+r.IntN(10)/9) + pick("", ".scope", ".scope", ".slice")
	}
	segment := func() string {
		switch r.IntN(8) {
		case 0, 1:
			return "pod" + uid("-")
		case 2, 3:
			return pick("", "", "kubelet-", "-pod") + pick("kubepods", "kubepods", "user") + pick("", "-burstable", "-besteffort", "-burstable-besteffort") +
				"-pod" + uid("_") + pick(".slice", ".slice", ".scope") + pick("", "", "", ":", ":cri-containerd:"+id(), ":"+id())
		case 4, 5, 6:
			return id()
		default:
			return pick("..", "", "kubepods", "kubepods.slice", "burstable", "system.slice", "container", "init.scope")
		}
	}
	found, whole := 0, 0
	for range 20000 {
		var text strings.Builder
		for range 1 + r.IntN(3) {
			text.WriteString(pick("0::", "0::", "4:devices:", "1:name=systemd:", "0:"))
			for range r.IntN(5) {
				text.WriteString("/" + segment())
			}
			text.WriteString(pick("", "", "", " (deleted)") + pick("\n", "\n", "\n", "\n\n", ""))
		}
		want, wantOK := regexpCgroup(text.String())
		got, ok := ParseCgroup([]byte(text.String()))
		require.Equal(t, want, got, "seed %d: %q", seed, text.String())
		require.Equal(t, wantOK, ok, "seed %d: %q", seed, text.String())
		if ok {
			found++
		}
		if got.ID != "" {
			whole++
		}
	}
	assert.Greater(t, found, 2000, "the paths are too wild to test anything")
	assert.Greater(t, whole, 500)
}

func FuzzParseCgroup(f *testing.F) {
	for _, text := range []string{
		"", "0::/", "0::/kubepods/burstable/pod" + uid1 + "/" + id1 + "\n",
		"0::/kubepods.slice/kubepods-pod" + uid1_ + ".slice/crio-conmon-" + id1 + ".scope\n",
		"2:cpuset:/system.slice/containerd.service/kubepods-pod" + uid1_ + ".slice:cri-containerd:" + id1 + "\n0::/\n",
		"0::/../../pod" + static1 + "/kata_" + id1 + "/pod" + uid2 + "/" + id2 + " (deleted)",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := ParseCgroup([]byte(text))
		if !ok {
			require.Equal(t, Container{}, got)
			return
		}
		require.Regexp(t, uidPattern, got.PodUID)
		if got.ID != "" {
			require.Regexp(t, idPattern, got.ID)
			require.Len(t, got.ID, idLength)
		}
	})
}

func BenchmarkParseCgroup(b *testing.B) {
	for name, text := range map[string]string{
		"v2": "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uid1_ + ".slice/cri-containerd-" + id1 + ".scope\n",
		"v1": strings.Repeat("9:none:/\n", 12) + "0::/kubepods/pod" + uid1 + "/" + id1 + "\n",
	} {
		b.Run(name, func(b *testing.B) {
			bytes := []byte(text)
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := ParseCgroup(bytes); !ok {
					b.Fatalf("no pod in %q", text)
				}
			}
		})
	}
}
