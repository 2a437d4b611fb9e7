package kube

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta/testrestmapper"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/recommender"
)

// crowd is a cluster of many containers, as a cache shows it: lists are slices that are there already.
type crowd struct {
	client.Client
	pods    map[string][]corev1.Pod
	rrs     []v1alpha1.ResourceRecommendation
	samples []recommender.Sample
	now     time.Time
}

func (c *crowd) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	var o client.ListOptions
	o.ApplyOptions(opts)
	switch l := list.(type) {
	case *corev1.PodList:
		l.Items = append([]corev1.Pod(nil), c.pods[o.Namespace]...) // the cache copies as much
	case *v1alpha1.ResourceRecommendationList:
		l.Items = append([]v1alpha1.ResourceRecommendation(nil), c.rrs...)
	case *autoscalingv2.HorizontalPodAutoscalerList, *metav1.PartialObjectMetadataList:
	default:
		return fmt.Errorf("%T", list)
	}
	return nil
}

func (c *crowd) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	if m, ok := object.(*metav1.PartialObjectMetadata); ok && m.Kind == "Deployment" {
		m.Name, m.Namespace, m.UID = key.Name, key.Namespace, "uid"
		return nil
	}
	return notThere(key.Name)
}

func (c *crowd) Samples(context.Context, string) ([]recommender.Sample, error) { return c.samples, nil }

func (c *crowd) Past(context.Context, recommender.Past, func([]recommender.Sample) error) error {
	return nil
}

// newCrowd makes Deployments of ten pods with two containers, twenty in a namespace.
func newCrowd(containers int) *crowd {
	const replicas, perPod, perSpace = 10, 2, 20
	c := &crowd{pods: map[string][]corev1.Pod{}, now: noon}
	for n := range containers / (replicas * perPod) {
		namespace, name := fmt.Sprintf("team-%d", n/perSpace), fmt.Sprintf("web-%d", n)
		r := recommendationFor(name, "Deployment", name)
		r.Namespace, r.UID = namespace, ""
		c.rrs = append(c.rrs, *r)
		for i := range replicas {
			p := podOf(name, fmt.Sprintf("%s-v1-%d", name, i), func(p *corev1.Pod) {
				p.Namespace, p.ResourceVersion = namespace, "1"
				p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "side"})
			})
			c.pods[namespace] = append(c.pods[namespace], *p)
			for _, container := range []string{"web", "side"} {
				id := recommender.ContainerID{Namespace: namespace, Pod: p.Name, Container: container}
				c.samples = append(c.samples, recommender.Sample{Container: id, Resource: recommender.CPU, Value: 0.1, Certainty: 1},
					recommender.Sample{Container: id, Resource: recommender.Memory, Value: 100 << 20, Certainty: 1})
			}
		}
	}
	return c
}

// BenchmarkPass measures one pass: every pod looked at, every sample taken, and what is due queued.
func BenchmarkPass(b *testing.B) {
	for _, containers := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(containers), func(b *testing.B) {
			var before, after runtime.MemStats
			crowd := newCrowd(containers)
			known := newScheme(b, false)
			runtime.GC()
			runtime.ReadMemStats(&before)
			crowd.Client = nothing{}
			c, err := New(Options{
				Client: crowd, Reader: crowd, Mapper: testrestmapper.TestOnlyStaticRESTMapper(known), Source: crowd, Interval: time.Minute,
				Checkpoints: time.Hour, WritesPerSecond: 1, Now: func() time.Time { return crowd.now }, Recorder: events.NewFakeRecorder(1),
				Registerer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
			})
			require.NoError(b, err)
			step := func() {
				crowd.now = crowd.now.Add(time.Minute)
				for i := range crowd.samples {
					crowd.samples[i].At = crowd.now
				}
			}
			for range 3 * 60 { // hours have been closed
				step()
				require.NoError(b, c.pass(b.Context(), true))
				if containers > 10_000 {
					break
				}
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			for b.Loop() {
				b.StopTimer()
				step()
				b.StartTimer()
				if err := c.pass(b.Context(), true); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(containers), "B/container")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(containers), "ns/container")
			require.Len(b, c.workloads, containers/20)
		})
	}
}

// nothing is a client without subresources.
type nothing struct{ client.Client }

func (nothing) SubResource(string) client.SubResourceClient { return nil }
