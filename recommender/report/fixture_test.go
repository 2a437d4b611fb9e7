package report

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// wave is eight days of use, by the hour: a daily wave with noise up to high, and a night of which nothing is known.
func wave(r *rand.Rand, low, high float64) *Usage {
	const hours = 192
	u := &Usage{Start: noon.Add(-hours * time.Hour), Step: 3600}
	for h := range hours {
		mid := low + (high-low)*(0.35-0.3*math.Cos(2*math.Pi*float64(h)/24))*(0.9+0.2*r.Float64())
		p90, most := Number(mid+(high-mid)*0.4*r.Float64()), Number(mid+(high-mid)*(0.4+0.6*r.Float64()))
		p50 := Number(mid)
		if h >= 60 && h < 66 {
			p50, p90, most = Number(math.NaN()), Number(math.NaN()), Number(math.NaN())
		}
		u.P50, u.P90, u.Max = append(u.P50, p50), append(u.P90, p90), append(u.Max, most)
	}
	return u
}

const hostile = `<script>alert("x")</script>`

// advice is one of a recommendation at recommended where request is asked for now.
func advice(resource string, request, recommended float64, u *Usage) Advice {
	since := noon.Add(-192 * time.Hour)
	a := Advice{
		Resource: resource, Recommended: &recommended, Lower: new(0.8 * recommended), Upper: new(1.1 * recommended),
		Reason: "Daily", Message: "the same hours of the 8 days before needed at most " + amount(resource, &recommended) + ", 98 times in 100",
		Now: &Replay{Since: since, Hours: 186}, Then: &Replay{Since: since, Hours: 186, Over: 1.4, Excess: 0.2},
		Evidence: &Evidence{Since: since, Samples: 11160, Hours: 186, Certainty: 100, Covered: new(91), Over: new(1.7)}, Usage: u,
	}
	if request > 0 {
		a.Request = &request
	}
	if request < recommended {
		a.Now.Over, a.Now.Excess = 23.5, 8.1
	}
	if resource == Memory {
		a.Reason, a.RecommendedLimit, a.Then.Over, a.Then.Excess = "Peak", &recommended, 0, 0
		a.Message = "the highest of 8 days' peaks was " + amount(resource, new(0.9*recommended))
		if request > 0 {
			a.Limit = new(2 * request)
		}
		if request < recommended {
			a.Now.Kills = 3
		}
	}
	return a
}

// sample is a report with about everything that a report can have; names and messages try to be more than text.
func sample(seed uint64) *Report {
	r := rand.New(rand.NewPCG(seed, 1))
	cpu := func(request, recommended float64) Advice {
		return advice(CPU, request, recommended, wave(r, 0.1*recommended, 1.02*recommended))
	}
	memory := func(request, recommended float64) Advice {
		return advice(Memory, request, recommended, wave(r, 0.6*recommended, 0.95*recommended))
	}
	ready := noon.Add(19 * time.Hour)
	out := &Report{At: noon, Notes: []string{"replicas of " + hostile + " | are not known\nand *this* is `not` markup"}}
	out.Workloads = []Workload{
		{
			Namespace: "demo", APIVersion: "apps/v1", WorkloadOf: "Deployment", Name: "chat", Source: "ResourceRecommendation/chat", Replicas: new(int32(4)),
			Ready: true, Reason: "Recommended",
			Containers: []Container{
				{Name: "migrate", Type: TypeInit, Resources: []Advice{cpu(1, 0.2)}},
				{Name: "proxy", Type: TypeSidecar, Resources: []Advice{cpu(0.1, 0.18), memory(0, 96<<20)}},
				{
					Name: "vllm", Type: TypeContainer, Resources: []Advice{cpu(8, 1.62), memory(64<<30, 21.4*gib)},
					GPU: &GPU{
						Model: "NVIDIA H200", Now: &GPURequest{"nvidia.com/gpu", 1, "Whole", 1, 141 << 30},
						Recommended: &GPURequest{"nvidia.com/mig-3g.71gb", 1, "MIG", 0.5, 70 << 30}, Memory: new(52.5 * gib), Lower: new(45.0 * gib), Upper: new(55.0 * gib),
						Peak: new(129.0 * gib), Compute: new(31.0), Risk: new(0.4), Reason: "Peak", Message: "weights of 16Gi and 34Gi of KV-cache are used at most",
						Settings:  []EngineSetting{{"vLLM", "gpu_memory_utilization", "0.92", "0.88"}},
						Claim:     "devices:\n  requests:\n  - name: gpu\n    exactly:\n      deviceClassName: mig.nvidia.com\n",
						Placement: "2 nodes can hold it for 4 replicas", Usage: wave(r, 30*gib, 52*gib), Evidence: &Evidence{Hours: 186, Certainty: 98},
					},
				},
			},
			Autoscaler: &Autoscaler{Name: "chat", Metrics: []AutoscalerMetric{{CPU, "vllm", 50, 247}}, Message: "so that the number of replicas stays"},
		},
		{
			Namespace: "demo", APIVersion: "apps/v1", WorkloadOf: "StatefulSet", Name: "store", Source: "ResourceRecommendation/store", Replicas: new(int32(3)),
			Ready: true, Reason: "Recommended", Containers: []Container{{Name: "db", Type: TypeContainer, Resources: []Advice{cpu(0.5, 0.75), memory(1<<30, 1.6*gib)}}},
		},
		{
			Namespace: "demo", APIVersion: "apps/v1", WorkloadOf: "DaemonSet", Name: "logs", Source: "ResourceRecommendation/logs", Replicas: new(int32(12)),
			Ready: true, Reason: "Recommended", Containers: []Container{
				{Name: "agent", Type: TypeContainer, NodeClass: "p5.48xlarge", Resources: []Advice{cpu(0.4, 0.35)}},
				{Name: "agent", Type: TypeContainer, NodeClass: "m7i.large", Resources: []Advice{cpu(0.4, 0.06)}},
			},
		},
		{
			Namespace: "demo", APIVersion: "batch/v1", WorkloadOf: "CronJob", Name: "report", Source: "ResourceRecommendation/report",
			Reason: "NoHistory", Message: "2 of 24 hours are known", ReadyAt: &ready,
		},
		{
			Namespace: "demo", APIVersion: "apps/v1", WorkloadOf: "Deployment", Name: hostile, Source: `ResourceRecommendation/a"onload="x`, Replicas: new(int32(1)),
			Ready: true, Reason: "Recommended", Containers: []Container{{Name: `a|b"c`, Type: TypeContainer, Resources: []Advice{
				{Resource: CPU, Request: new(0.25), Recommended: new(0.25), Reason: "Recent", Message: `=HYPERLINK("http://x") ` + hostile + "\x1b[31m | `x` *y*\nnew line"},
			}}},
		},
	}
	return out
}

// many is a report of n containers with two resources each.
func many(n int) *Report {
	r := rand.New(rand.NewPCG(7, 7))
	out := &Report{At: noon}
	for i := range n {
		request := 0.2 + 4*r.Float64()
		out.Workloads = append(out.Workloads, Workload{
			Namespace: fmt.Sprintf("team-%d", i%40), APIVersion: "apps/v1", WorkloadOf: "Deployment", Name: fmt.Sprintf("service-%04d", i),
			Source: fmt.Sprintf("ResourceRecommendation/service-%04d", i), Replicas: new(int32(1 + r.IntN(9))), Ready: true, Reason: "Recommended",
			Containers: []Container{{Name: "main", Type: TypeContainer, Resources: []Advice{
				advice(CPU, request, request*(0.2+r.Float64()), wave(r, 0.1, request)),
				advice(Memory, request*gib, request*gib*(0.3+r.Float64()), wave(r, 0.5*gib, request*gib)),
			}}},
		})
	}
	out.Finish()
	return out
}
