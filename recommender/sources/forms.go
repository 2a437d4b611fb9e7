package sources

import (
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"headroom.dev/headroom/recommender"
)

// form is one way in which series tell of a resource. Of several forms the first that has a value for a container counts.
//
// In its expressions stand $sel for the matchers of the namespace and the pods, $by for the labels of a container, $w for the
// window, $r for the steps in which devices are summed up. A value is the most that any of exprs gives. testdata/scenarios has
// each expression as servers are asked it.
type form struct {
	names     names
	present   []string // instant selectors: where none has a series the form has nothing to say
	exprs     []string
	certainty string // "" for 1
}

// names are the labels that name a container.
type names struct{ namespace, pod, container string }

// scope is what a query is about.
type scope struct {
	namespace string // "" for all
	pods      string // RE2, of whole names; "" for all
	window    time.Duration
	sums      time.Duration // between the moments at which devices are summed up; 0 for what suits the window
}

func plain() names { return names{"namespace", "pod", "container"} }

// unknownCertainty is of readings whose certainty nothing tells.
const unknownCertainty = 0.5

// forms returns the ways to ask for a resource, nil for one that no series tells of.
func forms(r recommender.Resource) []form {
	switch r {
	case recommender.CPU:
		return cadvisor("container_cpu_usage_seconds_total", `,cpu=~"total|"`, "max by ($by) (rate($series[$w]))")
	case recommender.Memory:
		return cadvisor("container_memory_working_set_bytes", "", "max by ($by) (max_over_time($series[$w]))")
	case recommender.GPUMemory:
		return gpuMemory()
	case recommender.GPUCompute:
		return activity("gpu_pod_sm_active_ratio", "DCGM_FI_PROF_SM_ACTIVE")
	case recommender.GPUTensor:
		return activity("gpu_pod_tensor_active_ratio", "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE")
	case recommender.KVCache:
		return kvCache()
	case recommender.Queue:
		return queue()
	case recommender.Preemptions:
		return preemptions()
	}
	return nil
}

// resources are all that series tell of.
func resources() []recommender.Resource {
	return append([]recommender.Resource{recommender.CPU, recommender.Memory}, gpuResources()...)
}

// gpuResources are those of GPUs and of the engines on them.
func gpuResources() []recommender.Resource {
	return []recommender.Resource{
		recommender.GPUMemory, recommender.GPUCompute, recommender.GPUTensor, recommender.KVCache, recommender.Queue, recommender.Preemptions,
	}
}

// cadvisor reads the kubelet's container metrics. Series without a container are sums over a pod or a slice, "POD" is the pod's
// sandbox. Two replicas of a Prometheus, or a container before and after its restart, are two series: the higher one counts. The
// second form is that of Kubernetes before 1.16.
func cadvisor(series, more, expr string) []form {
	var list []form
	for _, n := range []names{plain(), {"namespace", "pod_name", "container_name"}} {
		selector := series + "{$sel," + n.container + `!="",` + n.container + `!="POD"` + more + "}"
		list = append(list, form{names: n, present: []string{selector}, exprs: []string{strings.ReplaceAll(expr, "$series", selector)}})
	}
	return list
}

// agentCertainty tells how headroom-agent knows a container's share, the worst of its devices.
func agentCertainty(shared float64) string {
	return `min by ($by) (gpu_pod_share_info{$sel,method="exclusive"} or ` + strconv.FormatFloat(shared, 'g', -1, 64) +
		` * gpu_pod_share_info{$sel,method!="exclusive"})`
}

// gpuMemory sums a container's devices at each moment before it takes the highest, so that a pod that comes back on another
// device does not count twice. The agent's own high-water mark is of all time: it is taken where it rose within the window.
func gpuMemory() []form {
	const (
		used   = "gpu_pod_memory_used_bytes{$sel}"
		high   = "gpu_pod_memory_peak_bytes{$sel}"
		peak   = "max by ($by, uuid) (" + high + ")"
		before = "max by ($by, uuid) (" + high + " offset $w)"
	)
	list := []form{{
		names: plain(), present: []string{used, high},
		exprs: []string{
			"max_over_time((sum by ($by) (max by ($by, uuid) (" + used + ")))[$w:$r])",
			"sum by ($by) (" + peak + " unless (" + before + " >= " + peak + "))",
		},
		certainty: agentCertainty(0.9),
	}}
	return append(list, dcgm("DCGM_FI_DEV_FB_USED", func(series string) string {
		// Framebuffer figures are in MiB.
		return "1048576 * max_over_time((sum by ($by) (max by ($by, UUID, GPU_I_ID) (" + series + ")))[$w:$r])"
	})...)
}

// A device is summed up every 15 s, the shortest interval at which servers commonly scrape, but at most so often in a window.
const (
	sumEvery = 15 * time.Second
	maxSums  = 240 // an hour's
)

// dcgm reads dcgm-exporter, whose labels of pods may have been renamed by the scrape (honor_labels: false). Each of a device's
// sharers is shown the whole device.
func dcgm(series string, expr func(series string) string) []form {
	var list []form
	for _, v := range []struct {
		names names
		own   string
	}{
		{names{"exported_namespace", "exported_pod", "exported_container"}, `exported_pod!=""`},
		{plain(), `pod!="",exported_pod=""`},
	} {
		selector := strings.Replace(series+"{"+v.own+"}", v.names.pod+`!=""`, "$sel", 1)
		sharers := "count by (UUID, GPU_I_ID) (group by ($by, UUID, GPU_I_ID) (" + series + "{" + v.own + "}))"
		list = append(list, form{
			names: v.names, present: []string{selector}, exprs: []string{expr(selector)},
			certainty: "min by ($by) (1 / (0 * " + selector + " + on (UUID, GPU_I_ID) group_left () " + sharers + "))",
		})
	}
	return list
}

// activity is the mean over the devices.
func activity(agent, exporter string) []form {
	selector := agent + "{$sel}"
	each := "max by ($by, uuid) (avg_over_time(" + selector + "[$w]))"
	var scale []string
	for _, s := range shares() {
		scale = append(scale, s.factor()+` * max by (uuid) (gpu_mig_info{profile=~"`+s.profiles+`"})`)
	}
	list := []form{{
		names: plain(), present: []string{selector},
		exprs:     []string{"avg by ($by) (" + each + " * on (uuid) group_left () (" + strings.Join(scale, " or ") + ") or " + each + ")"},
		certainty: agentCertainty(0.6),
	}}
	return append(list, dcgm(exporter, func(series string) string {
		var scaled []string
		open := strings.TrimSuffix(series, "}")
		for _, s := range shares() {
			scaled = append(scaled, s.factor()+" * avg_over_time("+open+`,GPU_I_PROFILE=~"`+s.profiles+`"}[$w])`)
		}
		scaled = append(scaled, "avg_over_time("+series+"[$w])")
		return "avg by ($by) (max by ($by, UUID, GPU_I_ID) (" + strings.Join(scaled, " or ") + "))"
	})...)
}

// share is what part of a whole GPU's multiprocessors MIG instances have.
type share struct {
	profiles      string // RE2, in the quotes of PromQL
	slices, total int
}

func (s share) factor() string {
	return "(" + strconv.Itoa(s.slices) + " / " + strconv.Itoa(s.total) + ")"
}

// shares lists them; the first that matches counts. GPUs with four slices (A30, RTX PRO 6000) are told from those with seven by
// the memory of a slice. A slice has a little less than a seventh of an A100's or H100's multiprocessors (14 of 108, 16 of 132),
// so these are upper bounds; so is 1g.24gb, a quarter of an RTX PRO 6000 and a seventh of a 96 GB H100.
func shares() []share {
	return []share{
		{`1g\\.(6|24)gb.*`, 1, 4},
		{`2g\\.(12|48)gb.*`, 2, 4},
		{`4g\\.(24|96)gb.*`, 4, 4},
		{`1g\\..*`, 1, 7},
		{`2g\\..*`, 2, 7},
		{`3g\\..*`, 3, 7},
		{`4g\\..*`, 4, 7},
	}
}

// engines is a form of what the engines on GPUs say, by the first of exprs that has a value for the container.
func engines(selectors []string, expr func(selector string) string) []form {
	var exprs []string
	for i, s := range selectors {
		if !strings.Contains(s, "{") {
			s += "{}"
		}
		selectors[i] = strings.Replace(strings.Replace(s, "{", "{$sel,", 1), ",}", "}", 1)
		exprs = append(exprs, expr(selectors[i]))
	}
	return []form{{names: plain(), present: selectors, exprs: []string{strings.Join(exprs, " or ")}}}
}

// kvCache is the fullest of an engine's caches: vLLM (the second name before 0.10), SGLang, TensorRT-LLM under Triton and by
// itself. All are 0 to 1, whatever their names say.
func kvCache() []form {
	return engines([]string{
		"vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage",
		`nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction"}`, "trtllm_kv_cache_utilization",
	}, func(s string) string { return "max by ($by) (max_over_time(" + s + "[$w]))" })
}

// each are the labels that tell an engine's own series apart: what else differs is who scraped them.
const each = "$by, engine, model_name, model, version, dp_rank, engine_type"

// queue sums the engines of a container.
func queue() []form {
	return engines([]string{
		"vllm:num_requests_waiting", "sglang:num_queue_reqs", `nv_trt_llm_request_metrics{request_type="waiting"}`,
		"trtllm_num_requests_waiting", "tgi_queue_size",
	}, func(s string) string { return "sum by ($by) (max by (" + each + ") (max_over_time(" + s + "[$w])))" })
}

// preemptions: vLLM's pre-emptions, SGLang's retractions.
func preemptions() []form {
	return engines([]string{"vllm:num_preemptions_total", "sglang:num_retracted_requests_total"}, func(s string) string {
		return "sum by ($by) (max by (" + each + ") (rate(" + s + "[$w])))"
	})
}

// fill returns a template as PromQL.
func (f *form) fill(template string, s scope) string {
	n := f.names
	selector := n.pod + `!=""`
	if s.namespace != "" {
		selector += "," + labels.MustNewMatcher(labels.MatchEqual, n.namespace, s.namespace).String()
	}
	if s.pods != "" {
		selector += "," + n.pod + "=~" + strconv.Quote(s.pods)
	}
	sums := s.sums
	if sums == 0 {
		sums = max(sumEvery, (s.window / maxSums).Truncate(time.Second))
	}
	return strings.NewReplacer(
		"$sel", selector, "$by", n.namespace+", "+n.pod+", "+n.container,
		"$w", model.Duration(s.window).String(), "$r", model.Duration(sums).String(),
	).Replace(template)
}

// presence counts the containers that the form may tell of within the window.
func (f *form) presence(s scope, by string) string {
	var parts []string
	for _, selector := range f.present {
		parts = append(parts, "group by ("+by+") (present_over_time("+selector+"[$w]))")
	}
	return f.fill(strings.Join(parts, " or "), s)
}

// id reads who a series is of.
func (f *form) id(ls labels.Labels) recommender.ContainerID {
	return recommender.ContainerID{Namespace: ls.Get(f.names.namespace), Pod: ls.Get(f.names.pod), Container: ls.Get(f.names.container)}
}
