package kube

import (
	"errors"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/recommender"
	"headroom.dev/headroom/recommender/accelerator"
)

func h200() *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "g", Labels: map[string]string{gpuProduct: "NVIDIA-H200", gpuCount: "2", gpuMemory: "143771"}}}
}

// server makes a pod one with a GPU, and with a command.
func server(command ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.NodeName = "g"
		p.Spec.Containers[0].Command = command
		p.Spec.Containers[0].Resources.Limits["nvidia.com/gpu"] = resource.MustParse("1")
	}
}

// states annotates a pod.
func states(weights, perToken string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Annotations = map[string]string{}
		if weights != "" {
			p.Annotations["headroom.dev/model-weights-bytes"] = weights
		}
		if perToken != "" {
			p.Annotations["headroom.dev/kv-bytes-per-token"] = perToken
		}
	}
}

// says is what a vLLM says of itself, and serve what one with a KV-cache that is used a tenth shows: metrics that do not name the container.
func (w *world) says(pod string, blocks int, fraction string) {
	if w.facts == nil {
		w.facts = map[recommender.ContainerID]accelerator.Facts{}
	}
	w.facts[recommender.ContainerID{Namespace: "prod", Pod: pod}] = accelerator.Facts{Kind: accelerator.VLLM, Config: map[string]string{
		"num_gpu_blocks": strconv.Itoa(blocks), "block_size": "16", "gpu_memory_utilization": fraction, "kv_cache_memory_bytes": "None",
	}}
}

func (w *world) serve() {
	const pod = "web-v1-a"
	w.samples = map[recommender.ContainerID]map[recommender.Resource]float64{
		{Namespace: "prod", Pod: pod, Container: "web"}: {recommender.GPUMemory: 0.92 * 143771 * (1 << 20), recommender.GPUCompute: 0.1},
		{Namespace: "prod", Pod: pod}:                   {recommender.KVCache: 0.1, recommender.Queue: 0, recommender.Preemptions: 0},
	}
}

func (w *world) gpu() *v1alpha1.GPUAdvice {
	w.t.Helper()
	list := w.rr("web").Status.Containers
	require.NotEmpty(w.t, list)
	require.NotNil(w.t, list[0].GPU)
	w.t.Logf("%s: %s", list[0].GPU.Reason, list[0].GPU.Message)
	return list[0].GPU
}

// TestVLLM is advised with a profile and the setting that goes with it, once what no metric tells is stated: either of the two will do.
func TestVLLM(t *testing.T) {
	for name, said := range map[string]func(*corev1.Pod){"weights": states("15Gi", ""), "tokens": states("", "128Ki")} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, h200(), deployment("web"), podOf("web", "web-v1-a", server("serve"), said), recommendationFor("web", "Deployment", "web"))
			// 54,000 blocks of 16 tokens of 128 KiB are 105.5 GiB.
			w.says("web-v1-a", 54_000, "0.9")
			w.serve()
			w.passes(8 * 60)
			g := w.gpu()
			require.Equal(t, string(accelerator.ReasonEngine), g.Reason)
			require.NotNil(t, g.Recommended)
			assert.Equal(t, v1alpha1.SharingMIG, g.Recommended.Sharing)
			require.Len(t, g.Settings, 1)
			assert.Equal(t, v1alpha1.EngineSetting{Engine: "vLLM", Name: "gpu_memory_utilization", Now: "0.90", Recommended: g.Settings[0].Recommended}, g.Settings[0])
			assert.NotEmpty(t, g.Settings[0].Recommended)
			assert.Contains(t, g.Message, unknownLongest)
			assert.Less(t, g.Memory.AsApproximateFloat64(), 40.0*(1<<30), "use of all memory shows the setting, not the need")
		})
	}
}

// TestWhatAnEngineLacksIsNamed, and how to give it.
func TestWhatAnEngineLacksIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		pod   []func(*corev1.Pod)
		speak bool
		says  []string
	}{
		"nothing stated": {
			[]func(*corev1.Pod){server("serve")},
			true,
			[]string{"the cache holds 864000 tokens", "headroom.dev/model-weights-bytes (15Gi), or what a token takes in its KV-cache in headroom.dev/kv-bytes-per-token (128Ki)"},
		},
		"no metrics": {
			[]func(*corev1.Pod){server("vllm", "serve")},
			false,
			[]string{"number of blocks", "headroom.dev/model-weights-bytes (15Gi); or have its metrics scraped"},
		},
		"nonsense stated": {
			[]func(*corev1.Pod){server("serve"), states("15 GB", "-1")},
			true,
			[]string{`the annotation headroom.dev/model-weights-bytes: "15 GB" is not a number of bytes`, `the annotation headroom.dev/kv-bytes-per-token: "-1" is not`},
		},
		"a cache in bytes": {
			[]func(*corev1.Pod){server("vllm", "serve", "--kv-cache-memory-bytes=20G")},
			false,
			[]string{"its KV-cache was set in bytes", "state the model's weights"},
		},
		"SGLang": {[]func(*corev1.Pod){server("sh", "-c", "python -m sglang.launch_server --context-length 8192"), states("", "128Ki")}, false, []string{
			"its setting mem_fraction_static is not known", "state mem_fraction_static with its flag, and the model's weights",
		}},
		"a flag that cannot be read": {
			[]func(*corev1.Pod){server("vllm", "serve", "--gpu-memory-utilization=$(SHARE)"), states("15Gi", "")},
			false,
			[]string{"cannot read --gpu-memory-utilization", "its setting gpu_memory_utilization is not known", "state gpu_memory_utilization with its flag"},
		},
		"an unknown engine": {[]func(*corev1.Pod){server("serve")}, false, []string{"allocates ahead", "have its metrics scraped"}},
		"all there is but time": {
			[]func(*corev1.Pod){server("vllm"), states("15Gi", "")}, false, []string{"the use of its KV-cache is known for 0 hours"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, h200(), deployment("web"), podOf("web", "web-v1-a", c.pod...), recommendationFor("web", "Deployment", "web"))
			w.serve()
			if c.speak {
				w.says("web-v1-a", 54_000, "0.9")
			}
			if name == "all there is but time" {
				delete(w.samples, recommender.ContainerID{Namespace: "prod", Pod: "web-v1-a"})
			}
			w.passes(6 * 60)
			g := w.gpu()
			assert.Nil(t, g.Recommended)
			assert.Equal(t, string(accelerator.ReasonPreallocated), g.Reason)
			for _, says := range c.says {
				assert.Contains(t, g.Message, says)
			}
			if name == "all there is but time" {
				assert.NotContains(t, g.Message, "annotation")
			}
		})
	}
}

// TestANewVersionOfAnEngine is believed when it speaks; until then the flags of the new one are not mixed with the facts of the old.
func TestANewVersionOfAnEngine(t *testing.T) {
	w := newWorld(t, h200(), deployment("web"), podOf("web", "web-v1-a", server("vllm", "serve"), states("", "128Ki")), recommendationFor("web", "Deployment", "web"))
	w.says("web-v1-a", 54_000, "0.92")
	w.serve()
	w.passes(6 * 60)
	require.Equal(t, "0.92", w.gpu().Settings[0].Now)
	w.create(podOf("web", "web-v2-b", server("vllm", "serve", "--gpu-memory-utilization=0.7"), states("", "128Ki"), func(p *corev1.Pod) {
		p.CreationTimestamp, p.Labels[templateHash] = metav1.NewTime(w.now), "v2"
	}))
	w.passes(10)
	assert.Equal(t, "0.92", w.gpu().Settings[0].Now)
	w.says("web-v2-b", 38_000, "0.7")
	w.failing = errors.New("connection refused")
	w.now = w.now.Add(time.Minute)
	require.ErrorContains(t, w.pass(t.Context(), true), "cannot ask inference engines for their configuration: connection refused")
	w.failing = nil
	w.passes(10)
	assert.Equal(t, "0.70", w.gpu().Settings[0].Now)
}

// TestPastOfGPUs fills a workload with GPUs from the past, and nobody asks for GPUs' past for one without.
func TestPastOfGPUs(t *testing.T) {
	side := func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "side"}) }
	w := newWorld(t, h200(), deployment("web"), podOf("web", "web-v1-a", server("sh", "-c", "exec serve --max-model-len 32k"), side, states("15Gi", "")), recommendationFor("web", "Deployment", "web"))
	w.opts.History = 24 * time.Hour
	w.restart()
	for at := noon.Add(-24 * time.Hour); at.Before(noon); at = at.Add(time.Minute) {
		add := func(container string, r recommender.Resource, v float64) {
			w.past = append(w.past, recommender.Sample{
				Container: recommender.ContainerID{Namespace: "prod", Pod: "web-v1-old", Container: container}, Resource: r, At: at, Value: v, Certainty: 1,
			})
		}
		add("web", recommender.GPUMemory, 0.92*143771*(1<<20))
		add("web", recommender.GPUCompute, 0.1)
		add("", recommender.KVCache, 0.1)
		add("", recommender.Queue, 0)
		add("gone", recommender.GPUMemory, 1)
	}
	w.says("web-v1-a", 54_000, "0.92")
	w.serve()
	w.passes(2)
	g := w.gpu()
	require.Equal(t, string(accelerator.ReasonEngine), g.Reason)
	require.NotNil(t, g.Recommended)
	assert.NotContains(t, g.Message, unknownLongest)
	assert.Len(t, w.asked, 8)
	known := w.workload(workloadID{"prod", "apps", "Deployment", "web"}).usages
	assert.NotNil(t, known[recommender.Key{Container: "web", Resource: recommender.KVCache}], "the container with the GPUs is the engine's")
	for key := range known {
		assert.NotContains(t, []string{"", "gone", "side"}, key.Container)
	}
}

// TestClaimsHaveAPast: a container that has something of a claim may have a GPU.
func TestClaimsHaveAPast(t *testing.T) {
	w := newWorld(t, deployment("web"), podOf("web", "web-v1-a", func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Claims = []corev1.ResourceClaim{{Name: "gpu"}}
	}), recommendationFor("web", "Deployment", "web"))
	w.opts.History = 24 * time.Hour
	w.restart()
	w.passes(1)
	assert.Len(t, w.asked, 8)
}

// TestPastOfGPUsThatFails costs CPU and memory nothing of theirs.
func TestPastOfGPUsThatFails(t *testing.T) {
	w := newWorld(t, h200(), deployment("web"), podOf("web", "web-v1-a", server("serve")), recommendationFor("web", "Deployment", "web"))
	w.opts.History, w.pastErr = 24*time.Hour, map[recommender.Resource]error{recommender.GPUMemory: errors.New("no such function")}
	w.restart()
	for at := noon.Add(-24 * time.Hour); at.Before(noon); at = at.Add(time.Minute) {
		w.past = append(w.past, recommender.Sample{
			Container: recommender.ContainerID{Namespace: "prod", Pod: "web-v1-old", Container: "web"}, Resource: recommender.CPU, At: at, Value: 0.1, Certainty: 1,
		})
	}
	w.passes(2)
	assert.Len(t, w.asked, 8, "once each: the server's own tries are the source's affair")
	assert.NotNil(t, w.rr("web").Status.Containers[0].Resources[0].Recommended)
}

func FuzzStated(f *testing.F) {
	f.Add("15Gi", "128Ki")
	f.Add("-1", "1e400")
	f.Add("1e-10000000", "1e10")
	f.Add("0.5", "15 GB")
	f.Fuzz(func(t *testing.T, weights, perToken string) {
		s := statedBy(map[string]string{AnnotationWeights: weights, AnnotationPerToken: perToken})
		if !(s.weights >= 0 && s.perToken >= 0) || math.IsInf(s.weights, 0) || math.IsInf(s.perToken, 0) {
			t.Fatalf("%+v", s)
		}
		if (s.weights == 0 || s.perToken == 0) && s.wrong == "" {
			t.Fatalf("%q and %q are dropped in silence", weights, perToken)
		}
	})
}
