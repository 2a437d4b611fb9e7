package evidence

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"headroom.dev/headroom/rollout/judge"
)

const (
	nameLabel, namespaceLabel, podLabel, boundLabel = "__name__", "namespace", "pod", "le"

	// mostPods are judged of a version; of more it is always the same ones, by their names' hash. 250 pods, each with a histogram of
	// 30 buckets, tell as much as anybody needs, and the state stays within a ConfigMap.
	mostPods = 250
)

// arms are the pods that are compared.
type arms struct {
	now      time.Time
	new, old []*corev1.Pod
}

// judged leaves out pods that are being deleted: they get no new requests, and what they break off is not the version's fault.
func judged(pods []*corev1.Pod) []*corev1.Pod {
	var list []*corev1.Pod
	for _, p := range pods {
		if p != nil && p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning {
			list = append(list, p)
		}
	}
	if len(list) > mostPods {
		slices.SortFunc(list, func(a, b *corev1.Pod) int {
			if x, y := hash(a.Name), hash(b.Name); x != y {
				return int(int64(x) - int64(y))
			}
			return strings.Compare(a.Name, b.Name)
		})
		list = list[:mostPods]
	}
	return list
}

func hash(text string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(text)) // never fails
	return h.Sum32()
}

// age is for how long a pod has been Ready; 0 where it is not, so that a warm-up leaves it out. Without one it counts: what it
// served before is true.
func age(p *corev1.Pod, now time.Time) time.Duration {
	if ready, since := readySince(p); ready {
		return max(0, now.Sub(since))
	}
	return 0
}

// expression asks for the newest samples of all names, of all pods that may be meant: one selector is of one moment, where two
// may have a scrape between them. An instant selector ends where a scrape fails or a target goes; nothing is as good as that for
// telling absent from zero. Pods are named by what stands before the last dash, which does not grow with their number.
func expression(namespace string, names []string, pods ...[]*corev1.Pod) string {
	prefixes := map[string]bool{}
	for _, p := range slices.Concat(pods...) {
		prefix := p.Name
		if i := strings.LastIndexByte(p.Name, '-'); i > 0 {
			prefix = p.Name[:i]
		}
		prefixes[regexp.QuoteMeta(prefix)+"(-[^-]+)?"] = true
	}
	match := nameLabel + "=" + strconv.Quote(names[0])
	if len(names) > 1 {
		match = nameLabel + "=~" + strconv.Quote(strings.Join(names, "|"))
	}
	return fmt.Sprintf("{%s,%s=%q,%s=~%q}", match, namespaceLabel, namespace, podLabel, strings.Join(slices.Sorted(maps.Keys(prefixes)), "|"))
}

// readings are samples by pod and by metric name.
type readings map[string]map[string][]Sample

func byPod(samples []Sample, namespace string) readings {
	r := readings{}
	for _, s := range samples {
		pod := s.Labels[podLabel]
		if ns, said := s.Labels[namespaceLabel]; pod == "" || said && ns != namespace || overhead(s.Labels) {
			continue
		}
		if r[pod] == nil {
			r[pod] = map[string][]Sample{}
		}
		name := s.Labels[nameLabel]
		r[pod][name] = append(r[pod][name], s)
	}
	return r
}

// some says whether any pod reports anything.
func (r readings) some(pods []*corev1.Pod) bool {
	return slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return len(r[p.Name]) > 0 })
}

// has says whether any of the pods reports what a source needs.
func (r readings) has(s source, pods []*corev1.Pod) bool {
	needs := s.counts
	if s.histogram != "" {
		needs = s.all[0]
	}
	return slices.ContainsFunc(pods, func(p *corev1.Pod) bool {
		return slices.ContainsFunc(r[p.Name][needs.name], func(one Sample) bool { return needs.fits(one.Labels) })
	})
}

// value is what a pod reports; false where it does not.
func (r readings) value(s source, pod string) (judge.Value, bool) {
	if s.histogram != "" {
		return r.buckets(s.all[0], pod)
	}
	all, there := r.sum(s.all, pod)
	failed, _ := r.sum(s.failed, pod)
	return judge.Value{Requests: all, Errors: failed}, there
}

func (r readings) sum(of []series, pod string) (total float64, there bool) {
	for _, one := range of {
		for _, sample := range r[pod][one.name] {
			if one.fits(sample.Labels) {
				total += sample.Value
				there = true
			}
		}
	}
	return total, there
}

// buckets adds up the histograms of one pod: of several handlers, models or ranks. A pod whose buckets make no histogram gets what
// the judge calls invalid.
func (r readings) buckets(of series, pod string) (judge.Value, bool) {
	counts, there := map[float64]float64{}, false
	for _, sample := range r[pod][of.name] {
		if !of.fits(sample.Labels) {
			continue
		}
		there = true
		bound, err := strconv.ParseFloat(sample.Labels[boundLabel], 64)
		if err != nil || math.IsNaN(bound) {
			return judge.Value{}, true
		}
		if bound > 0 { // no request takes less than no time
			counts[bound] += sample.Value
		}
	}
	total, complete := counts[math.Inf(1)]
	if !there || !complete {
		return judge.Value{}, there
	}
	delete(counts, math.Inf(1))
	v := judge.Value{Bounds: slices.Collect(maps.Keys(counts))}
	sort.Float64s(v.Bounds)
	for _, b := range v.Bounds {
		v.Counts = append(v.Counts, counts[b])
	}
	v.Counts = append(v.Counts, total)
	return v, true
}

// requests is how many a value counts.
func requests(v judge.Value) float64 {
	if n := len(v.Counts); n > 0 {
		return v.Counts[n-1]
	}
	return v.Requests
}
