package workload

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
)

// changeCause is where kubectl, and Kubernetes with it, keeps why a revision was made.
const changeCause = "kubernetes.io/change-cause"

// Description is what a person knows a version by.
type Description struct {
	Images map[string]string // by container
	Model  string            // from headroom.dev/model-version, or the engine's arguments
	Reason string            // from headroom.dev/change-reason or kubernetes.io/change-cause
}

// Describe tells what a person knows a version by.
func (v *Version) Describe() Description {
	d := Description{Images: map[string]string{}}
	for i := range v.Template.Spec.Containers {
		c := &v.Template.Spec.Containers[i]
		d.Images[c.Name] = c.Image
	}
	own := v.Template.Annotations
	for _, reason := range []string{own[v1alpha1.AnnotationChangeReason], v.annotations[v1alpha1.AnnotationChangeReason], own[changeCause], v.annotations[changeCause]} {
		d.Reason = orElse(d.Reason, reason)
	}
	d.Model = orElse(own[v1alpha1.AnnotationModelVersion], v.Template.Labels[v1alpha1.AnnotationModelVersion])
	for i := range v.Template.Spec.Containers {
		d.Model = orElse(d.Model, model(&v.Template.Spec.Containers[i]))
	}
	return d
}

// Name is a version in messages: "revision 5 (7f9b8c6d4)", "new template (1a2b3c4d5e)".
func (v *Version) Name() string {
	if v.Hash == "" {
		return fmt.Sprintf("new template (%s)", v.ID)
	}
	// A StatefulSet's revision is called by the StatefulSet's name and the hash.
	hash := v.Hash[strings.LastIndexByte(v.Hash, '-')+1:]
	if v.Revision == 0 {
		return fmt.Sprintf("lost revision (%s)", hash)
	}
	return fmt.Sprintf("revision %d (%s)", v.Revision, hash)
}

// model is what an inference engine's container serves, "" where neither its arguments nor its environment tells.
func model(c *corev1.Container) string {
	// A shell's command is one argument.
	words := strings.Fields(expand(strings.Join(slices.Concat(c.Command, c.Args), " "), c.Env))
	if name := orElse(byFlag(words), byPosition(words)); name != "" {
		return name
	}
	for _, name := range []string{"MODEL_ID", "MODEL_NAME", "MODEL_PATH", "MODEL", "HF_MODEL_ID", "NIM_MODEL_NAME"} {
		for _, e := range c.Env {
			if e.Name == name && e.Value != "" {
				return e.Value
			}
		}
	}
	return ""
}

// byFlag reads --model (vLLM and others), --model-path (SGLang), --model-id (TGI), and --hf-repo and -m (llama.cpp).
func byFlag(words []string) string {
	for i, word := range words {
		name, value, ok := strings.Cut(word, "=")
		if !ok && i+1 < len(words) {
			value = words[i+1]
		}
		if name == "-m" && i > 0 && strings.HasPrefix(path.Base(words[i-1]), "python") {
			continue // a module of Python's
		}
		switch strings.ReplaceAll(name, "_", "-") {
		case "--model", "--model-path", "--model-id", "--hf-repo", "-m":
			if plain(value) {
				return value
			}
		}
	}
	return ""
}

// byPosition reads vllm serve MODEL and trtllm-serve [serve] MODEL.
func byPosition(words []string) string {
	for i, word := range words {
		served := word == "serve" && i > 0 && (path.Base(words[i-1]) == "vllm" || path.Base(words[i-1]) == "trtllm-serve") || path.Base(word) == "trtllm-serve"
		if served && i+1 < len(words) && plain(words[i+1]) && words[i+1] != "serve" {
			return words[i+1]
		}
	}
	return ""
}

// plain says whether a word is a value: no flag, and no variable that only the cluster knows.
func plain(word string) bool {
	return word != "" && !strings.HasPrefix(word, "-") && !strings.Contains(word, "$")
}

// expand replaces $(NAME), as the kubelet does, and $NAME and ${NAME}, as a shell does, by what the environment states.
func expand(text string, env []corev1.EnvVar) string {
	var pairs []string
	for _, e := range env {
		if e.ValueFrom == nil {
			pairs = append(pairs, "$("+e.Name+")", e.Value, "${"+e.Name+"}", e.Value)
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

const (
	// outlier is by how much a pod may exceed the median before it is taken for one that has lost its readiness since: its condition
	// tells the last time only.
	outlier = 4
	// defaultGrace is terminationGracePeriodSeconds where a template states none.
	defaultGrace = 30
)

// StartUp is how long the pods that there are took from being bound until they were Ready; false where none says. Those whose
// containers were restarted do not say. Where pods of the present template do, others are not asked.
func (s *Seen) StartUp() (rollout.Span, bool) {
	if s.Workload == nil {
		return rollout.Span{}, false
	}
	times := startUps(s.Versions[s.Workload.Template].Pods)
	if len(times) == 0 {
		for _, id := range slices.Sorted(maps.Keys(s.Versions)) {
			times = append(times, startUps(s.Versions[id].Pods)...)
		}
	}
	if len(times) == 0 {
		return rollout.Span{}, false
	}
	slices.Sort(times)
	median := quantile(times, 50)
	for len(times) > 1 && times[len(times)-1] > outlier*median {
		times = times[:len(times)-1]
	}
	return rollout.Span{P50: median, P90: quantile(times, 90)}, true
}

// quantile is the smallest of sorted values that so many percent do not exceed.
func quantile(sorted []time.Duration, percent int) time.Duration {
	return sorted[(len(sorted)*percent+99)/100-1]
}

func startUps(pods []*corev1.Pod) []time.Duration {
	var out []time.Duration
	for _, p := range pods {
		bound, ready := condition(p, corev1.PodScheduled), condition(p, corev1.PodReady)
		if bound == nil || ready == nil || bound.Status != corev1.ConditionTrue || ready.Status != corev1.ConditionTrue || restarted(p) {
			continue
		}
		if took := ready.LastTransitionTime.Sub(bound.LastTransitionTime.Time); took >= 0 {
			out = append(out, took)
		}
	}
	return out
}

func restarted(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool { return c.RestartCount > 0 })
}

// Drain is how long a pod is given to end: the most that it takes. How long pods really take they do not leave behind.
func (s *Seen) Drain() rollout.Span {
	grace := int64(defaultGrace)
	if s.Template != nil && s.Template.Spec.TerminationGracePeriodSeconds != nil {
		grace = *s.Template.Spec.TerminationGracePeriodSeconds
	}
	d := time.Duration(grace) * time.Second
	return rollout.Span{P50: d, P90: d}
}
