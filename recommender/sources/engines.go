package sources

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"headroom.dev/headroom/recommender"
	"headroom.dev/headroom/recommender/accelerator"
)

// told is a series with which engines tell of their configuration. Where name is set its value is the fact of that name; else its
// labels are facts, which is how info series have it.
type told struct {
	series string
	kind   accelerator.EngineKind
	name   string
	block  string // the value of the label kv_cache_block_type, where the series has several
}

// tellers lists them. SGLang has its cache's size as labels up to 0.5.10, as gauges after. The blocks of TensorRT-LLM's older cache manager
// include those that it keeps in the host's memory, if it is told to.
func tellers() []told {
	return []told{
		{series: "vllm:cache_config_info", kind: accelerator.VLLM},
		{series: "sglang:cache_config_info", kind: accelerator.SGLang},
		{series: "sglang:max_total_num_tokens", kind: accelerator.SGLang, name: "max_total_num_tokens"},
		{series: "sglang:page_size", kind: accelerator.SGLang, name: "page_size"},
		{series: "sglang:num_pages", kind: accelerator.SGLang, name: "num_pages"},
		{series: "sglang:context_len", kind: accelerator.SGLang, name: "context_len"},
		{series: "nv_trt_llm_kv_cache_block_metrics", kind: accelerator.TensorRTLLM, name: "max_blocks", block: "max"},
		{series: "nv_trt_llm_kv_cache_block_metrics", kind: accelerator.TensorRTLLM, name: "tokens_per_block", block: "tokens_per"},
		{series: "trtllm_kv_cache_max_blocks", kind: accelerator.TensorRTLLM, name: "max_blocks"},
		{series: "trtllm_kv_cache_tokens_per_block", kind: accelerator.TensorRTLLM, name: "tokens_per_block"},
	}
}

// engineQuery selects all of them at once: an operator would drop the names, or join series that differ by them alone.
func engineQuery(namespace string) string {
	var names []string
	for _, t := range tellers() {
		if !slices.Contains(names, t.series) {
			names = append(names, t.series)
		}
	}
	selector := "__name__=~" + strconv.Quote(strings.Join(names, "|")) + `,pod!=""`
	if namespace != "" {
		selector += "," + labels.MustNewMatcher(labels.MatchEqual, "namespace", namespace).String()
	}
	return "{" + selector + "}"
}

// Engines returns what the inference engines of a namespace, of all for "", say of their configuration. Container is "" as in Samples.
func (p *Prometheus) Engines(ctx context.Context, namespace string) (map[recommender.ContainerID]accelerator.Facts, error) {
	v, err := p.server.Query(ctx, engineQuery(namespace), p.opts.Now())
	if err != nil {
		return nil, err
	}
	return factsOf(v, &p.counts), nil
}

// Engines returns what the inference engines of a namespace, of all for "", say of their configuration. Container is "" as in Samples.
func (q *QueryAPI) Engines(ctx context.Context, namespace string) (map[recommender.ContainerID]accelerator.Facts, error) {
	v, err := q.query(ctx, engineQuery(namespace))
	if err != nil {
		return nil, err
	}
	return factsOf(v, &q.counts), nil
}

// factsOf reads series. Of several of a name (ranks, engines of one pod) the first by its labels counts, of several kinds in one container
// the one whose series come first.
func factsOf(v promql.Vector, c *counts) map[recommender.ContainerID]accelerator.Facts {
	slices.SortFunc(v, func(a, b promql.Sample) int { return labels.Compare(a.Metric, b.Metric) })
	f := form{names: plain()}
	out := map[recommender.ContainerID]accelerator.Facts{}
	info := map[recommender.ContainerID]bool{} // an info series was read: labels of two must not be mixed
	for i := range v {
		id := f.id(v[i].Metric)
		if !c.named(id) || !usableSample(v[i], c) {
			continue
		}
		for _, t := range tellers() {
			if v[i].Metric.Get(model.MetricNameLabel) != t.series || v[i].Metric.Get("kv_cache_block_type") != t.block {
				continue
			}
			facts, ok := out[id]
			if !ok {
				facts = accelerator.Facts{Kind: t.kind, Config: map[string]string{}}
				out[id] = facts
			}
			if facts.Kind != t.kind || t.name == "" && info[id] {
				continue
			}
			info[id] = info[id] || t.name == ""
			t.tell(v[i], facts.Config)
		}
	}
	return out
}

// tell adds what a series says and none before it has said.
func (t told) tell(s promql.Sample, config map[string]string) {
	add := func(name, value string) {
		if _, ok := config[name]; !ok {
			config[name] = value
		}
	}
	if t.name != "" {
		add(t.name, strconv.FormatFloat(s.F, 'g', -1, 64))
		return
	}
	s.Metric.Range(func(l labels.Label) {
		if l.Name != model.MetricNameLabel {
			add(l.Name, l.Value)
		}
	})
}

// engineSource is a source that knows engines.
type engineSource interface {
	Engines(ctx context.Context, namespace string) (map[recommender.ContainerID]accelerator.Facts, error)
}

// Engines returns what the inference engines of a namespace, of all for "", say of their configuration, by the first source that
// knows the engine. With an error there may be some.
func (j *Joined) Engines(ctx context.Context, namespace string) (map[recommender.ContainerID]accelerator.Facts, error) {
	ctx, cancel := context.WithTimeout(ctx, j.timeout)
	defer cancel()
	out := map[recommender.ContainerID]accelerator.Facts{}
	var errs []error
	for _, s := range j.sources {
		known, ok := s.Source.(engineSource)
		if !ok {
			continue
		}
		facts, err := known.Engines(ctx, namespace)
		if err != nil {
			errs = append(errs, &SourceError{Source: s.Name, Err: err})
		}
		for id, f := range facts {
			if _, ok := out[id]; !ok {
				out[id] = f
			}
		}
	}
	return out, errors.Join(errs...)
}
