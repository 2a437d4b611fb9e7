package exact

import (
	"context"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/testing/defaults"
	"k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
)

// scheduler is the stock filters over a cluster that changes.
type scheduler struct {
	fwk.SharedLister // of the last state

	framework framework.Framework
	nodes     []*corev1.Node
	nominated map[string][]fwk.PodInfo
}

// newScheduler makes one for all worlds: they have the same namespaces, and waiting for an informer takes 100 ms.
func newScheduler(t *testing.T) *scheduler {
	t.Helper()
	var objects []runtime.Object
	for _, ns := range namespaces() {
		objects = append(objects, ns)
	}
	informerFactory := informers.NewSharedInformerFactory(fake.NewClientset(objects...), 0)
	s := &scheduler{}
	plugged := defaults.PluginsV1.DeepCopy()
	plugged.MultiPoint.Enabled = slices.DeleteFunc(plugged.MultiPoint.Enabled, func(p config.Plugin) bool {
		return p.Name == names.DynamicResources || p.Name == names.DefaultPreemption
	})
	f, err := frameworkruntime.NewFramework(t.Context(), plugins.NewInTreeRegistry(),
		&config.KubeSchedulerProfile{SchedulerName: corev1.DefaultSchedulerName, Plugins: plugged, PluginConfig: defaults.PluginConfigsV1},
		frameworkruntime.WithSnapshotSharedLister(s), frameworkruntime.WithInformerFactory(informerFactory),
		frameworkruntime.WithClientSet(fake.NewClientset()), frameworkruntime.WithPodNominator(s))
	if err != nil {
		t.Fatal(err)
	}
	informerFactory.Start(t.Context().Done())
	informerFactory.WaitForCacheSync(t.Context().Done())
	s.framework = f
	return s
}

// enter turns to a world.
func (s *scheduler) enter(t *testing.T, w *world) {
	t.Helper()
	s.nodes, s.nominated = w.nodes, map[string][]fwk.PodInfo{}
	for _, p := range w.pods {
		if p.Spec.NodeName != "" {
			continue
		}
		info, err := framework.NewPodInfo(p)
		if err != nil {
			t.Fatal(err)
		}
		s.nominated[p.Status.NominatedNodeName] = append(s.nominated[p.Status.NominatedNodeName], info)
	}
}

// ask says of each node why the scheduler refuses it; nil where it lets the pod pass.
func (s *scheduler) ask(ctx context.Context, t *testing.T, pod *corev1.Pod, bound []*corev1.Pod) map[string][]string {
	t.Helper()
	s.SharedLister = cache.NewSnapshot(bound, s.nodes)
	state := framework.NewCycleState()
	out := make(map[string][]string, len(s.nodes))
	result, status, _ := s.framework.RunPreFilterPlugins(ctx, state, pod)
	if status.Code() == fwk.Error {
		t.Fatal(status.AsError())
	}
	for _, n := range s.nodes {
		if !status.IsSuccess() {
			out[n.Name] = status.Reasons()
			continue
		}
		if !result.AllNodes() && !result.NodeNames.Has(n.Name) {
			// The scheduler's words are "node(s) didn't satisfy plugin(s) [NodeAffinity]".
			out[n.Name] = []string{"node(s) didn't match Pod's node affinity/selector"}
			continue
		}
		info, err := s.NodeInfos().Get(n.Name)
		if err != nil {
			t.Fatal(err)
		}
		answer := s.framework.RunFilterPluginsWithNominatedPods(ctx, state, pod, info)
		if answer.Code() == fwk.Error {
			t.Fatal(answer.AsError())
		}
		out[n.Name] = nil
		if !answer.IsSuccess() {
			out[n.Name] = answer.Reasons()
		}
	}
	return out
}

// The framework's PodNominator, of which the filters read one method.

func (s *scheduler) NominatedPodsForNode(name string) []fwk.PodInfo { return s.nominated[name] }

func (s *scheduler) AddNominatedPod(_ klog.Logger, _ fwk.PodInfo, _ *fwk.NominatingInfo) {}
func (s *scheduler) DeleteNominatedPodIfExists(_ *corev1.Pod)                            {}
func (s *scheduler) UpdateNominatedPod(_ klog.Logger, _ *corev1.Pod, _ fwk.PodInfo)      {}
