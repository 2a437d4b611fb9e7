package simulate

import "sort"

// syncStateful is one pass of the StatefulSet controller: pods are made in order and given up in reverse, an ordinal at a time
// where they are in OrderedReady (Serial). Its 1.37 form, with maxUnavailable.
func (w *World) syncStateful() {
	w.observed = w.generation
	at := make([]*pod, w.Replicas)
	var condemned []*pod
	for _, p := range w.pods {
		if p.ordinal < w.Replicas {
			at[p.ordinal] = p
		} else {
			condemned = append(condemned, p)
		}
	}
	if w.fill(at) && w.retire(condemned) {
		w.replace(at)
	}
	w.completeStateful()
}

// fill makes the pods that are missing, and reports whether the controller goes on to what comes next.
func (w *World) fill(at []*pod) bool {
	for i, p := range at {
		switch {
		case p == nil:
			template := w.Template
			if i < w.Fields.Partition && !w.Fields.OnDelete {
				template = w.current
			}
			at[i] = w.add(template)
			at[i].ordinal = i
			if w.Serial {
				return false
			}
		case w.Serial && !w.available(p):
			// A pod that is broken stands in the way of everything, of its own replacement as well.
			return false
		}
	}
	return true
}

// retire gives up ordinals beyond replicas, the highest first.
func (w *World) retire(condemned []*pod) bool {
	sort.Slice(condemned, func(i, j int) bool { return condemned[i].ordinal > condemned[j].ordinal })
	for _, p := range condemned {
		if p.deleted < 0 {
			w.remove(p)
		}
		if w.Serial {
			return false
		}
	}
	return true
}

// replace gives up pods of other templates from the partition on, the highest ordinal first.
func (w *World) replace(at []*pod) {
	if w.Fields.OnDelete {
		return
	}
	left := max(1, amount(w.Fields.Unavailable, w.Replicas, false))
	for _, p := range at {
		if !w.available(p) {
			left--
		}
	}
	for i := len(at) - 1; i >= w.Fields.Partition; i-- {
		p := at[i]
		switch {
		case p.template == w.Template || p.deleted >= 0:
		case !w.Serial && !w.available(p):
			w.remove(p)
		case left > 0:
			left--
			w.remove(p)
		}
	}
}

// completeStateful makes the template the one that ordinals below the partition get, once all pods have it.
func (w *World) completeStateful() {
	n := 0
	for _, p := range w.pods {
		if p.template != w.Template || p.ready == -1 && p.deleted < 0 || p.deleted >= 0 {
			return
		}
		n++
	}
	if n == w.Replicas {
		w.current = w.Template
	}
}

// available says whether a pod has been Ready for the minReadySeconds that are in force for all pods.
func (w *World) available(p *pod) bool {
	return p.serves() && w.cluster.now-p.ready >= w.Fields.MinReadySeconds
}
