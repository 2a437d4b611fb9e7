package capacity

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/progress"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/capacity"
)

const (
	nodes = 3
	gpus  = 4 // of a node
	tick  = 50 * time.Millisecond
)

// room is a lab with the sources of capacity.
type room struct {
	*testing.T

	api    client.Client
	client *capacity.Client
}

// TestCapacity has a lab of its own: what fits is counted over all that is there.
func TestCapacity(t *testing.T) {
	log.SetLogger(logr.Discard())         // or controller-runtime complains that nobody has
	parent, err := os.MkdirTemp("", "hr") //nolint:usetesting // short, as unix sockets lie in it
	require.NoError(t, err)
	o := lab.DefaultOptions()
	o.Dir, o.Nodes, o.GPUs = filepath.Join(parent, "l"), nodes, gpus
	t.Cleanup(func() {
		_ = lab.DownAt(o.Dir, progress.New(io.Discard)) // what a test that failed has left
		assert.NoError(t, os.RemoveAll(parent))
	})
	l, err := lab.Up(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, l.Down()) })
	scheme := runtime.NewScheme()
	require.NoError(t, clientgoscheme.AddToScheme(scheme))
	require.NoError(t, v1alpha1.AddToScheme(scheme))
	config := rest.CopyConfig(l.Config)
	config.ContentType = runtime.ContentTypeJSON // custom resources have no other
	api, err := client.New(config, client.Options{Scheme: scheme})
	require.NoError(t, err)
	r := &room{T: t, api: api, client: &capacity.Client{Client: api, Now: time.Now}}
	for name, value := range map[string]int32{"serving": 1000, "peaceful": 1000, "batch": -5, "high": 5000} {
		k := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value}
		if name == "peaceful" || name == "batch" {
			k.PreemptionPolicy = new(corev1.PreemptNever)
		}
		r.create(k)
	}
	for _, part := range []struct {
		name string
		f    func(*room)
	}{
		{"what is free binds, and no more", (*room).free},
		{"what may go goes, and no more", (*room).preempt},
		{"without their APIs there are no nodes", (*room).missing},
		{"nodes are asked for", (*room).ensure},
	} {
		if !t.Run(part.name, func(t *testing.T) {
			part.f(&room{T: t, api: r.api, client: r.client})
		}) {
			return
		}
	}
}

func (r *room) create(o client.Object) {
	r.Helper()
	require.NoError(r, r.api.Create(r.Context(), o))
}

// namespace makes one of the test's own, whose pods are gone when it ends.
func (r *room) namespace() string {
	r.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "capacity-"}}
	r.create(ns)
	r.eventually(func(t require.TestingT) { // or the API server refuses pods
		require.NoError(t, r.api.Get(r.Context(), client.ObjectKey{Namespace: ns.Name, Name: "default"}, &corev1.ServiceAccount{}))
	})
	return ns.Name
}

func (r *room) clear(namespace string) {
	r.Helper()
	require.NoError(r, r.api.DeleteAllOf(r.Context(), &corev1.Pod{}, client.InNamespace(namespace), client.GracePeriodSeconds(0)))
	r.eventually(func(t require.TestingT) { require.Empty(t, r.pods(t, namespace, nil)) })
}

func (r *room) eventually(check func(require.TestingT)) {
	r.Helper()
	require.EventuallyWithT(r, func(c *assert.CollectT) { check(c) }, 30*time.Second, tick)
}

func (r *room) pods(t require.TestingT, namespace string, labels client.MatchingLabels) []corev1.Pod {
	var list corev1.PodList
	require.NoError(t, r.api.List(r.Context(), &list, client.InNamespace(namespace), labels))
	return list.Items
}

// template asks for GPUs; its pods keep apart by hostname as spread or anti-affinity say.
func template(class string, n int, apart string) *corev1.PodTemplateSpec {
	t := &corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "chat"}},
		Spec: corev1.PodSpec{PriorityClassName: class, TerminationGracePeriodSeconds: new(int64(1)), Containers: []corev1.Container{{
			Name: "c", Image: "registry.k8s.io/pause:3.10", Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"nvidia.com/gpu": *resource.NewQuantity(int64(n), resource.DecimalSI)}, Requests: corev1.ResourceList{"nvidia.com/gpu": *resource.NewQuantity(int64(n), resource.DecimalSI)}},
		}}},
	}
	own := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "chat"}}
	switch apart {
	case "spread":
		t.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: own}}
	case "anti-affinity":
		t.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: corev1.LabelHostname, LabelSelector: own}},
		}}
	}
	return t
}

func (r *room) start(namespace, prefix string, n int, t *corev1.PodTemplateSpec) {
	r.Helper()
	for i := range n {
		r.create(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s-%d", prefix, i), Labels: t.Labels}, Spec: t.Spec})
	}
}

// bound waits until as many pods with a prefix have a node, and all others were refused.
func (r *room) bound(namespace, prefix string, want, refused int) {
	r.Helper()
	r.eventually(func(t require.TestingT) {
		var bound, unschedulable int
		for _, p := range r.pods(t, namespace, nil) {
			if !strings.HasPrefix(p.Name, prefix) {
				continue
			}
			for _, c := range p.Status.Conditions {
				switch {
				case c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue:
					bound++
				case c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonUnschedulable && p.Status.NominatedNodeName == "":
					unschedulable++
				}
			}
		}
		require.Equal(t, []int{want, refused}, []int{bound, unschedulable}, "pods %s that are bound, and refused", prefix)
	})
}

// fill binds pods of one or two GPUs to nodes by chance, leaving some room.
func (r *room) fill(namespace, prefix, class string, chance *rand.Rand) {
	r.Helper()
	n := 0
	for node := range nodes {
		for left := chance.IntN(gpus + 1); left > 0; n++ {
			t := template(class, 1+chance.IntN(min(left, 2)), "")
			t.Labels = map[string]string{"app": prefix}
			t.Spec.NodeSelector = map[string]string{corev1.LabelHostname: fmt.Sprintf("gpu-%d", node)}
			left -= int(t.Spec.Containers[0].Resources.Requests.Name("nvidia.com/gpu", resource.DecimalSI).Value())
			r.start(namespace, fmt.Sprintf("%s-%d", prefix, n), 1, t)
		}
	}
	r.bound(namespace, prefix, n, 0)
}

func (r *room) look(n capacity.Need, kinds ...string) *capacity.Report {
	r.Helper()
	spec := &v1alpha1.RolloutPolicySpec{TargetRef: v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "chat"}}
	for _, k := range kinds {
		s := v1alpha1.CapacitySource{Kind: k}
		if k == "Provision" {
			s.Provision = &v1alpha1.ProvisionSource{ProvisioningRequest: &v1alpha1.ProvisioningRequestSource{}, MaxReplicas: 2}
		}
		spec.Sources = append(spec.Sources, s)
	}
	out, err := r.client.Look(r.Context(), spec, n)
	require.NoError(r, err)
	return out
}

func (r *room) chance() *rand.Rand {
	seed := rand.Uint64()
	r.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func (r *room) free() {
	chance := r.chance()
	namespace := r.namespace()
	for i := range 6 {
		r.fill(namespace, "filler", "batch", chance)
		t := template("peaceful", 1+chance.IntN(3), []string{"", "spread", "anti-affinity"}[i%3])
		report := r.look(capacity.Need{Namespace: namespace, Template: t, Most: nodes*gpus + 1}, "Free")
		k := report.Sources[0].Replicas
		r.Logf("%d fit of %d GPUs, %d free: %s", k, report.GPUs, report.Free, report.Messages[0])
		require.LessOrEqual(r, k*report.GPUs, report.Free)
		r.start(namespace, "surge", k+1, t)
		r.bound(namespace, "surge", k, 1)
		require.Zero(r, r.look(capacity.Need{Namespace: namespace, Template: t, Most: 1}, "Free").Sources[0].Replicas)
		r.clear(namespace)
	}
}

func (r *room) preempt() {
	chance := r.chance()
	namespace, others := r.namespace(), r.namespace()
	for i := range 6 {
		r.fill(others, "batch", "batch", chance)
		if i%2 == 1 { // what nobody preempts
			t := template("high", 1, "")
			t.Labels = map[string]string{"app": "high"}
			r.start(others, "high", 2, t)
			r.bound(others, "high", 2, 0) // they preempt themselves
		}
		t := template("serving", 1+chance.IntN(3), []string{"", "anti-affinity", ""}[i%3])
		report := r.look(capacity.Need{Namespace: namespace, Template: t, Most: nodes*gpus + 1}, "Free", "Preempt")
		k := report.Sources[0].Replicas + report.Sources[1].Replicas
		r.Logf("%d free and %d after %s: %s", report.Sources[0].Replicas, report.Sources[1].Replicas, report.Sources[1].Delay, report.Messages[1])
		r.start(namespace, "surge", k+1, t)
		r.bound(namespace, "surge", k, 1)
		r.clear(namespace)
		r.clear(others)
	}
}

func (r *room) missing() {
	report := r.look(capacity.Need{Namespace: "default", Template: template("serving", 1, ""), Most: 1}, "Provision")
	require.Zero(r, report.Sources[0].Replicas)
	require.Equal(r, []string{"ProvisioningRequest of autoscaling.x-k8s.io is not installed"}, report.Messages)
}

// install makes CRDs, and waits until they are served.
func (r *room) install(paths ...string) {
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(r, err)
		for document := range strings.SplitSeq(string(text), "\n---\n") {
			u := &unstructured.Unstructured{}
			require.NoError(r, yaml.Unmarshal([]byte(document), &u.Object))
			r.create(u)
			r.eventually(func(t require.TestingT) {
				require.NoError(t, r.api.Get(r.Context(), client.ObjectKeyFromObject(u), u))
				conditions, _, err := unstructured.NestedSlice(u.Object, "status", "conditions")
				require.NoError(t, err)
				established := false
				for _, c := range conditions {
					m, ok := c.(map[string]any)
					established = established || ok && m["type"] == "Established" && m["status"] == "True"
				}
				require.True(t, established)
			})
		}
	}
}

const crds = "../../../rollout/capacity/testdata/crds.yaml"

// ensure asks by each source in turn, each time again, and wants what the API server has to be as it was after the first.
func (r *room) ensure() {
	r.install("../../../manifests/crds/headroom.dev_rolloutpolicies.yaml", crds)
	namespace := r.namespace()
	p := &v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "chat"}, Spec: v1alpha1.RolloutPolicySpec{
		TargetRef: v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "chat"},
		Sources: []v1alpha1.CapacitySource{
			{Kind: "Provision", Name: "request", Provision: &v1alpha1.ProvisionSource{MaxReplicas: 9, ProvisioningRequest: &v1alpha1.ProvisioningRequestSource{Parameters: map[string]string{"ValidUntilSeconds": "60"}}}},
			{Kind: "Provision", Name: "buffer", Provision: &v1alpha1.ProvisionSource{MaxReplicas: 9, CapacityBuffer: &v1alpha1.CapacityBufferSource{}}},
			{Kind: "Provision", Name: "pods", Provision: &v1alpha1.ProvisionSource{MaxReplicas: 9, Placeholder: &v1alpha1.PlaceholderSource{PriorityClassName: "batch"}}},
		},
	}}
	r.create(p)
	n := capacity.Need{Namespace: namespace, Template: template("serving", gpus, "anti-affinity"), Labels: map[string]string{"pod-template-hash": "abc"}, Most: 9}
	use := func(name string, replicas int) []rollout.Use {
		return []rollout.Use{{Source: rollout.Source{Kind: rollout.Provision, Name: name}, Replicas: replicas}}
	}
	for _, uses := range [][]rollout.Use{use("request", 1), use("request", 2), use("buffer", 5), use("buffer", 4), use("pods", 4), use("pods", 3)} {
		message, err := r.client.Ensure(r.Context(), p, n, uses)
		require.NoError(r, err)
		r.Logf("%s %d: %q", uses[0].Source.Name, uses[0].Replicas, message)
		first := r.objects(namespace)
		_, err = r.client.Ensure(r.Context(), p, n, uses)
		require.NoError(r, err)
		require.Equal(r, first, r.objects(namespace), "the second time writes nothing")
	}
	r.eventually(func(t require.TestingT) { // the placeholders fill all three nodes: then there is nothing to wait for
		message, err := r.client.Ensure(r.Context(), p, n, use("pods", 3))
		require.NoError(t, err)
		require.Empty(t, message)
	})
	r.eventually(func(t require.TestingT) { // and a fourth has none
		message, err := r.client.Ensure(r.Context(), p, n, use("pods", 4))
		require.NoError(t, err)
		require.Contains(t, message, "1 of 4 placeholder pods")
		require.Contains(t, message, "Insufficient nvidia.com/gpu")
	})
	r.start(namespace, "surge", 2, n.Template) // which preempt placeholders
	r.bound(namespace, "surge", 2, 0)
	require.NoError(r, r.api.Delete(r.Context(), p))
	// By their owner. The garbage collector looks for new kinds, as the policy's and those of the lab's CRDs are, every 30 s only.
	require.EventuallyWithT(r, func(c *assert.CollectT) { require.Empty(c, r.objects(namespace)) }, 2*time.Minute, tick)
	fresh := &capacity.Client{Client: r.api, Now: time.Now}
	message, err := fresh.Ensure(r.Context(), p, n, nil)
	require.NoError(r, err)
	require.Empty(r, message)
}

// objects are kinds, names and generations of what Ensure makes.
func (r *room) objects(namespace string) []string {
	r.Helper()
	var out []string
	for kind, apiVersion := range map[string]string{"Deployment": "apps/v1", "PodTemplate": "v1", "ProvisioningRequest": "autoscaling.x-k8s.io/v1", "CapacityBuffer": "autoscaling.x-k8s.io/v1beta1"} {
		list := &unstructured.UnstructuredList{}
		list.SetAPIVersion(apiVersion)
		list.SetKind(kind + "List")
		require.NoError(r, r.api.List(context.WithoutCancel(r.Context()), list, client.InNamespace(namespace)))
		for i := range list.Items {
			o := &list.Items[i]
			manager := []string{}
			for _, m := range o.GetManagedFields() {
				if m.Subresource == "" {
					manager = append(manager, fmt.Sprint(m.Manager, m.Time))
				}
			}
			out = append(out, fmt.Sprint(kind, o.GetName(), o.GetGeneration(), o.GetUID(), manager))
		}
	}
	slices.Sort(out)
	return out
}
