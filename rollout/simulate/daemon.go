package simulate

// syncDaemon is one pass of the DaemonSet controller: a pod on each node, replaced within maxUnavailable, or by whoever deletes it.
func (w *World) syncDaemon() {
	w.observed = w.generation
	w.Replicas = len(w.cluster.nodes)
	at := make([]*pod, w.Replicas)
	for _, p := range w.pods {
		at[p.home] = p
	}
	unavailable := 0
	var old []*pod
	for node, p := range at {
		switch {
		case p == nil:
			w.add(w.Template).home = node
			unavailable++
		case p.deleted >= 0:
			unavailable++
		case p.template == w.Template:
			if !w.available(p) {
				unavailable++
			}
		case w.Fields.OnDelete:
		case !w.available(p):
			unavailable++
			w.remove(p)
		default:
			old = append(old, p)
		}
	}
	if w.Fields.OnDelete {
		return
	}
	for _, p := range old[:min(len(old), max(0, amount(w.Fields.Unavailable, w.Replicas, true)-unavailable))] {
		w.remove(p)
	}
}
