package kube

import (
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/recommender"
)

// maxHeld is how many observations are held back for a workload while its past is fetched: ten minutes of 100 replicas.
const maxHeld = 10_000

// template is a container as the workload's newest pod has it.
type template struct {
	name      string
	kind      v1alpha1.ContainerType
	image     string
	args      []string // the command and its arguments
	resources corev1.ResourceRequirements
	stated    stated
}

// workload is what is known of one. Its lock is held for everything but its identity.
type workload struct {
	id  workloadID
	top link
	// seen and pods belong to the pass alone: when the workload was last asked for, and its pods.
	seen uint64

	mu        sync.Mutex
	usages    map[recommender.Key]*recommender.Usage
	policy    func(recommender.Key) recommender.Policy
	stock     *stock // nil unless the VPA's estimator is asked for
	templates []template
	model     time.Time // when the pod was made that templates are from
	version   string
	versioned bool
	replicas  int32
	nodes     map[string]device // by node class
	engines   map[place]running
	keep      keeping
	filling   bool   // from the past; what is observed meanwhile is held back
	restored  []byte // the checkpoint that was read, until the past has been added to it
	// restoredStock is the VPA's part of the checkpoint, until somebody asks for it.
	restoredStock []byte
	held          []observation
	overflown     bool
}

// newWorkload makes one of which nothing is known.
func newWorkload(top link) *workload {
	return &workload{id: top.id, top: top, usages: map[recommender.Key]*recommender.Usage{}, policy: (&wishes{}).risk}
}

// what an observation is of.
type what byte

const (
	ofSample what = iota
	ofStartup
	ofKill
	ofVersion
)

// observation is something that a usage is told.
type observation struct {
	what      what
	key       recommender.Key
	at        time.Time
	value     float64
	certainty float64
}

// tell gives an observation to the usages, and holds it back for those that are being made from the past. It reports whether the
// observation was taken.
func (w *workload) tell(o observation, now time.Time) bool {
	if w.filling {
		if len(w.held) < maxHeld {
			w.held = append(w.held, o)
		} else {
			w.overflown = true
		}
	}
	w.keep.dirty = true
	return w.pass(w.usages, o, now)
}

func (w *workload) pass(to map[recommender.Key]*recommender.Usage, o observation, now time.Time) bool {
	if o.what == ofVersion {
		for _, u := range to {
			u.NewVersion(o.at)
		}
		return true
	}
	u := to[o.key]
	if u == nil {
		u = recommender.NewUsage(o.key.Resource, w.policy(o.key))
		to[o.key] = u
	}
	switch o.what {
	case ofStartup:
		return u.AddStartup(o.at, o.value)
	case ofKill:
		return u.AddOOM(o.at, o.value, now)
	default:
		return u.Add(o.at, o.value, o.certainty, now)
	}
}

// filled puts usages in the place of what is known, where they know more, and tells them what was held back meanwhile.
func (w *workload) filled(usages map[recommender.Key]*recommender.Usage, now time.Time) {
	for key, u := range w.usages {
		if usages[key] == nil || knownHours(usages[key]) < knownHours(u) {
			usages[key] = u
		}
	}
	for _, o := range w.held {
		w.pass(usages, o, now)
	}
	w.usages, w.held, w.restored, w.filling, w.keep.dirty = usages, nil, nil, false, true
}

// describe takes the containers from a pod if it is the newest.
func (w *workload) describe(o *corev1.Pod) {
	if o.CreationTimestamp.Time.Before(w.model) && w.templates != nil {
		return
	}
	w.model = o.CreationTimestamp.Time
	w.templates = w.templates[:0]
	said := statedBy(o.Annotations)
	each(o, func(c *corev1.Container, kind v1alpha1.ContainerType) {
		w.templates = append(w.templates, template{name: c.Name, kind: kind, image: c.Image, args: append(slices.Clone(c.Command), c.Args...), resources: c.Resources, stated: said})
	})
}

// recall takes the containers from what was said of them, or is known, while there are no pods that tell: between the runs of a
// CronJob.
func (w *workload) recall(s *v1alpha1.ResourceRecommendationStatus) {
	if w.templates != nil {
		return
	}
	seen := map[string]bool{}
	for i := range s.Containers {
		c := &s.Containers[i]
		if seen[c.Name] {
			continue
		}
		seen[c.Name] = true
		t := template{name: c.Name, kind: c.Type, resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}}
		for _, a := range c.Resources {
			if a.Request != nil {
				t.resources.Requests[a.Resource] = *a.Request
			}
			if a.Limit != nil {
				t.resources.Limits[a.Resource] = *a.Limit
			}
		}
		w.templates = append(w.templates, t)
	}
	var more []string
	for key := range w.usages {
		if !seen[key.Container] {
			seen[key.Container] = true
			more = append(more, key.Container)
		}
	}
	slices.Sort(more)
	for _, name := range more {
		w.templates = append(w.templates, template{name: name, kind: v1alpha1.TypeContainer})
	}
}

// classes are the node classes of which something is known of a container; "" where there are none.
func (w *workload) classes(name string) []string {
	found := map[string]bool{}
	for key := range w.usages {
		if key.Container == name {
			found[key.Class] = true
		}
	}
	if len(found) == 0 {
		return []string{""}
	}
	return slices.Sorted(maps.Keys(found))
}

// perNode says whether a workload's pods differ by the nodes they are on.
func (id workloadID) perNode() bool { return id.Kind == kindDaemonSet && id.Group == "apps" }

// claim says who asks about a workload.
type claim struct {
	rr    types.NamespacedName // the ResourceRecommendation that is about it; its name is empty if there is none
	vpas  []types.NamespacedName
	stock bool // the VPA's own numbers are asked for
	// restarts says that a VPA is about it, and that none of them resizes pods in place.
	restarts bool
	// stockVPAs are the VPAs that ask for them.
	stockVPAs []vpaObject
}

// vpaObject is a VerticalPodAutoscaler.
type vpaObject struct {
	types.NamespacedName
	uid types.UID
}
