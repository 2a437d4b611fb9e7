package simulate

import (
	"math"
	"sort"
	"strconv"
	"strings"

	"headroom.dev/headroom/rollout"
)

// replicaSet is one version's, with the annotations that scaling in proportion rests on.
type replicaSet struct {
	template  string
	spec      int
	minReady  int
	desired   int // deployment.kubernetes.io/desired-replicas
	most      int // deployment.kubernetes.io/max-replicas
	born      int
	available int // status, as its controller last wrote it
}

// amount resolves "1" or "25%" of n, up or down, as Kubernetes does.
func amount(text string, n int, up bool) int {
	p, percent := strings.CutSuffix(text, "%")
	v, err := strconv.Atoi(p)
	if err != nil {
		return 0
	}
	if !percent {
		return v
	}
	share := float64(v) * float64(n) / 100
	if up {
		return int(math.Ceil(share))
	}
	return int(math.Floor(share))
}

// fences are maxSurge and maxUnavailable in pods; both 0 would be a deadlock and becomes 0 and 1.
func fences(f rollout.Fields, n int) (surge, unavailable int) {
	surge, unavailable = amount(f.Surge, n, true), amount(f.Unavailable, n, false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, min(unavailable, n)
}

// syncDeployment is one pass of the Deployment controller: at most one direction of scaling.
func (w *World) syncDeployment() {
	fresh := w.find(w.Template)
	if fresh != nil {
		fresh.minReady = w.Fields.MinReadySeconds
	}
	w.observed = w.generation
	if w.Fields.Paused || w.scalingEvent() {
		w.scale(fresh)
		return
	}
	if w.Fields.Recreate {
		w.recreate(fresh)
		return
	}
	if fresh == nil {
		fresh = w.create()
	}
	if w.grow(fresh) {
		return
	}
	w.shrink(fresh)
}

func (w *World) find(template string) *replicaSet {
	for _, r := range w.sets {
		if r.template == template {
			return r
		}
	}
	return nil
}

func (w *World) create() *replicaSet {
	surge, _ := fences(w.Fields, w.Replicas)
	r := &replicaSet{template: w.Template, minReady: w.Fields.MinReadySeconds, born: w.cluster.now, desired: w.Replicas, most: w.Replicas + surge}
	w.sets = append(w.sets, r)
	return r
}

func (w *World) total() int {
	n := 0
	for _, r := range w.sets {
		n += r.spec
	}
	return n
}

// scalingEvent says whether an active ReplicaSet was last scaled for another number of replicas.
func (w *World) scalingEvent() bool {
	for _, r := range w.sets {
		if r.spec > 0 && r.desired != w.Replicas {
			return true
		}
	}
	return false
}

func (w *World) scaleTo(r *replicaSet, n int, force bool) {
	if r.spec == n && !force {
		return
	}
	surge, _ := fences(w.Fields, w.Replicas)
	r.spec, r.desired, r.most = n, w.Replicas, w.Replicas+surge
}

// room is how many pods the new version may get.
func (w *World) room(fresh *replicaSet) int {
	surge, _ := fences(w.Fields, w.Replicas)
	return max(0, min(w.Replicas+surge-w.total(), w.Replicas-fresh.spec))
}

func (w *World) grow(fresh *replicaSet) bool {
	if fresh.spec == w.Replicas {
		return false
	}
	before := fresh.spec
	if fresh.spec > w.Replicas {
		w.scaleTo(fresh, w.Replicas, false)
	} else {
		w.scaleTo(fresh, fresh.spec+w.room(fresh), false)
	}
	return fresh.spec != before
}

// olds are the other ReplicaSets that have pods, the oldest first.
func (w *World) olds(fresh *replicaSet) []*replicaSet {
	var out []*replicaSet
	for _, r := range w.sets {
		if r != fresh && r.spec > 0 {
			out = append(out, r)
		}
	}
	return out
}

// shrink takes unhealthy old pods first, then as many as available ones allow.
func (w *World) shrink(fresh *replicaSet) {
	_, unavailable := fences(w.Fields, w.Replicas)
	floor := w.Replicas - unavailable
	most := w.total() - floor - (fresh.spec - fresh.available)
	olds := w.olds(fresh)
	if len(olds) == 0 || most <= 0 {
		return
	}
	for _, r := range olds {
		n := max(0, min(most, r.spec-r.available))
		most -= n
		w.scaleTo(r, r.spec-n, false)
	}
	available := 0
	for _, r := range w.sets {
		available += min(r.available, max(r.spec, 0))
	}
	for _, r := range olds {
		n := max(0, min(available-floor, r.spec))
		available -= n
		w.scaleTo(r, r.spec-n, false)
	}
}

func (w *World) recreate(fresh *replicaSet) {
	olds := w.olds(fresh)
	for _, r := range olds {
		w.scaleTo(r, 0, false)
	}
	if len(olds) > 0 {
		return
	}
	for _, p := range w.pods {
		if p.template != w.Template && p.deleted < 0 {
			return
		}
	}
	if fresh == nil {
		fresh = w.create()
	}
	w.scaleTo(fresh, w.Replicas, false)
}

// scale is what happens to paused Deployments, and on scaling events: in proportion.
func (w *World) scale(fresh *replicaSet) {
	var active []*replicaSet
	for _, r := range w.sets {
		if r.spec > 0 {
			active = append(active, r)
		}
	}
	switch {
	case len(active) == 1:
		w.scaleTo(active[0], w.Replicas, false)
		return
	case len(active) == 0:
		w.revive(fresh)
		return
	case fresh != nil && fresh.spec == w.Replicas && fresh.desired == w.Replicas && fresh.available == w.Replicas:
		for _, r := range w.olds(fresh) {
			w.scaleTo(r, 0, false)
		}
		return
	case w.Fields.Recreate:
		return
	}
	w.proportional(active)
}

// revive scales the new version, or the newest old one, where none has pods.
func (w *World) revive(fresh *replicaSet) {
	last := fresh
	for _, r := range w.sets {
		if fresh == nil && (last == nil || r.born >= last.born) {
			last = r
		}
	}
	if last != nil {
		w.scaleTo(last, w.Replicas, false)
	}
}

func (w *World) proportional(active []*replicaSet) {
	surge, _ := fences(w.Fields, w.Replicas)
	allowed := 0
	if w.Replicas > 0 {
		allowed = w.Replicas + surge
	}
	add := allowed - w.total()
	sort.SliceStable(active, func(i, j int) bool {
		a, b := active[i], active[j]
		switch {
		case a.spec != b.spec:
			return a.spec > b.spec
		case add > 0:
			return a.born > b.born
		default:
			return a.born < b.born
		}
	})
	sizes, added := make([]int, len(active)), 0
	for i, r := range active {
		sizes[i] = r.spec
		if add == 0 || add == added {
			continue
		}
		part := -r.spec
		if w.Replicas > 0 {
			part = int(math.Round(float64(r.spec*(w.Replicas+surge))/float64(max(1, r.most)))) - r.spec
		}
		if add > 0 {
			part = min(part, add-added)
		} else {
			part = max(part, add-added)
		}
		sizes[i] += part
		added += part
	}
	for i, r := range active {
		if i == 0 && add != 0 {
			sizes[i] = max(0, sizes[i]+add-added)
		}
		w.scaleTo(r, sizes[i], true)
	}
}
