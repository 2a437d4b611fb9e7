package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/recommender"
	"headroom.dev/headroom/recommender/accelerator"
)

// The annotations of a pod template with what no metric tells of an inference engine, both for one GPU.
const (
	AnnotationWeights  = v1alpha1.Group + "/model-weights-bytes" // of the model: 15Gi
	AnnotationPerToken = v1alpha1.Group + "/kv-bytes-per-token"  // in the KV-cache: 128Ki
)

// stated is what people say of an engine; 0 for what they do not.
type stated struct {
	weights, perToken float64 // bytes
	wrong             string  // of the annotations
}

func statedBy(annotations map[string]string) (s stated) {
	for _, a := range []struct {
		name string
		into *float64
	}{{AnnotationWeights, &s.weights}, {AnnotationPerToken, &s.perToken}} {
		text, ok := annotations[a.name]
		if !ok {
			continue
		}
		v, ok := bytesOf(strings.TrimSpace(text))
		if !ok {
			s.wrong = joined(s.wrong, fmt.Sprintf("the annotation %s: %q is not a number of bytes, such as 15Gi", a.name, text))
			continue
		}
		*a.into = v
	}
	return s
}

// bytesForm are the quantities that are read. Others can be long to read: 1e-10000000 takes seconds, and anyone who makes a pod writes it.
const bytesForm = `^[0-9]{1,20}(\.[0-9]{1,9})?([KMGTPE]i|[kMGTPE]|[eE][0-9]{1,2})?$`

func bytesOf(text string) (v float64, ok bool) {
	if !regexp.MustCompile(bytesForm).MatchString(text) {
		return 0, false
	}
	q, err := resource.ParseQuantity(text)
	v = q.AsApproximateFloat64()
	return v, err == nil && v > 0 && v <= most
}

// place is a container on nodes of a class.
type place struct{ container, class string }

// running is an engine as one of a workload's pods runs it.
type running struct {
	created int64 // of the pod
	pod     string
	facts   accelerator.Facts
	args    []string // with which it was started: the facts of an old version do not go with the flags of a new one
}

// askEngines asks what the engines of the pods with GPUs say of their configuration.
func (c *Controller) askEngines(ctx context.Context) error {
	if c.opts.Engines == nil {
		return nil
	}
	var names []string
	for name, sp := range c.spaces {
		if sp.hasGPUs() {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	if len(names) > separate {
		names = []string{corev1.NamespaceAll}
	}
	slices.Sort(names)
	var errs []error
	for _, name := range names {
		facts, err := c.opts.Engines.Engines(ctx, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot ask inference engines for their configuration: %w", err))
		}
		ids := slices.SortedFunc(maps.Keys(facts), func(a, b recommender.ContainerID) int {
			return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Pod, b.Pod), strings.Compare(a.Container, b.Container))
		})
		for _, id := range ids {
			if sp := c.spaces[id.Namespace]; sp != nil && sp.pods[id.Pod] != nil {
				sp.pods[id.Pod].runs(id, facts[id])
			}
		}
	}
	return errors.Join(errs...)
}

func (sp *space) hasGPUs() bool {
	for _, p := range sp.pods {
		if slices.ContainsFunc(p.containers, func(co container) bool { return co.gpu }) {
			return true
		}
	}
	return false
}

// runs notes what an engine says. Of a workload's pods the newest counts, so that a new version is believed as soon as it speaks.
func (p *pod) runs(id recommender.ContainerID, facts accelerator.Facts) {
	co := p.find(id.Container)
	if id.Container == "" {
		co = p.engine()
	}
	if co == nil || p.ended {
		return
	}
	w := p.workload
	w.mu.Lock()
	defer w.mu.Unlock()
	at := place{co.name, p.class}
	had, ok := w.engines[at]
	now := running{created: p.created, pod: id.Pod, facts: facts, args: had.args}
	if ok && (had.created > p.created || had.created == p.created && had.pod > id.Pod) {
		return
	}
	if !ok || had.pod != id.Pod || had.created != p.created {
		if t := w.template(co.name); t != nil {
			now.args = t.args
		}
	}
	if w.engines == nil {
		w.engines = map[place]running{}
	}
	w.engines[at] = now
}

// template returns that of a container, nil if there is none. Caller holds the lock.
func (w *workload) template(name string) *template {
	for i := range w.templates {
		if w.templates[i].name == name {
			return &w.templates[i]
		}
	}
	return nil
}

// engineOf is the inference engine of a container, nil if it is none that allocates ahead: by what it says itself, its image and
// command, and what people say of it. The notes say what of that could not be read. Caller holds the lock.
func (w *workload) engineOf(t *template, class string) (e *accelerator.Engine, notes []string) {
	r, speaks := w.engines[place{t.name, class}]
	args := t.args
	if speaks {
		args = r.args
	} else {
		r.facts.Kind = kindOf(t)
	}
	if r.facts.Kind == "" {
		return nil, nil
	}
	note := func(err error) {
		if err != nil {
			notes = append(notes, err.Error())
		}
	}
	found, err := r.facts.Engine()
	note(err)
	// A shell's command is one argument.
	found, err = accelerator.FromFlags(found, strings.Fields(strings.Join(args, " ")))
	note(err)
	if t.stated.weights > 0 {
		found.Weights = t.stated.weights
	}
	if t.stated.perToken > 0 {
		found.BytesPerToken = t.stated.perToken
	}
	return &found, append(notes, t.stated.wrong)
}

// kindOf is an engine's kind by image and command.
func kindOf(t *template) accelerator.EngineKind {
	text := strings.ToLower(t.image + " " + strings.Join(t.args, " "))
	for _, k := range []struct {
		word string
		kind accelerator.EngineKind
	}{{"vllm", accelerator.VLLM}, {"sglang", accelerator.SGLang}, {"trtllm", accelerator.TensorRTLLM}, {"tensorrt-llm", accelerator.TensorRTLLM}, {"tensorrt_llm", accelerator.TensorRTLLM}} {
		if strings.Contains(text, k.word) {
			return k.kind
		}
	}
	return ""
}

// unknownLongest is the caution about an engine of which the longest request is not known: nobody checked that it fits.
const unknownLongest = "no flag bounds the length of a request (--max-model-len, --context-length, --max_seq_len): " +
	"an engine whose KV-cache cannot hold one of the longest does not start"

// caution is what people should know of an advice, "" if nothing.
func caution(a *accelerator.Advice, e *accelerator.Engine) string {
	switch {
	case a.Reason == accelerator.ReasonPreallocated:
		return howToTell(e)
	case a.Recommended != nil && e != nil && !(e.Longest > 0):
		return unknownLongest
	}
	return ""
}

// howToTell says how to give what is missing for an engine's need, "" if nothing that people could give.
func howToTell(e *accelerator.Engine) string {
	weights := "the model's weights on one GPU in the pod template's annotation " + AnnotationWeights + " (15Gi)"
	name := "its setting"
	if e != nil {
		name, _ = e.Kind.Setting()
	}
	switch {
	case e == nil:
		return "have its metrics scraped: they tell its kind, its KV-cache and how that is used"
	case e.KVSet && !(e.Weights > 0):
		return "state " + weights
	case math.IsNaN(e.Fraction) && e.Kind != accelerator.SGLang:
		return "state " + name + " with its flag"
	case math.IsNaN(e.Fraction) && !(e.Weights > 0 && e.KVTokens*e.BytesPerToken > 0):
		return "state " + name + " with its flag, and " + weights
	case e.KVBytes > 0 || e.Weights > 0 || e.KVTokens*e.BytesPerToken > 0:
		return ""
	case e.KVTokens > 0:
		return "state " + weights + ", or what a token takes in its KV-cache in " + AnnotationPerToken + " (128Ki)"
	}
	return "state " + weights + "; or have its metrics scraped, which tell how many tokens its KV-cache holds, and state what one takes in " +
		AnnotationPerToken + " (128Ki)"
}
