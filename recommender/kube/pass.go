package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	vpav1 "k8s.io/autoscaler/vertical-pod-autoscaler/pkg/apis/autoscaling.k8s.io/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
)

// space is a namespace that somebody asks about.
type space struct {
	pods map[string]*pod
}

// survey is what the cluster has, from the cache: nothing in it may be changed.
type survey struct {
	rrs    []v1alpha1.ResourceRecommendation
	vpas   []vpav1.VerticalPodAutoscaler // that name this recommender
	auto   map[string]bool               // namespaces that want a ResourceRecommendation for every workload
	spaces map[string]bool               // namespaces of interest
	claims map[workloadID]*claim
}

// pass goes once over objects and pods, and over the Source's samples if sample is set.
func (c *Controller) pass(ctx context.Context, sample bool) error {
	c.count++
	now := c.opts.Now()
	s, err := c.survey(ctx)
	if err != nil {
		return err // nothing is known, so nothing is forgotten
	}
	c.remember(s)
	var errs []error
	objects := map[string][]corev1.Pod{}
	for namespace := range s.spaces {
		var list corev1.PodList
		if err := c.opts.Client.List(ctx, &list, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
			return fmt.Errorf("cannot list pods: %w", err)
		}
		objects[namespace] = list.Items
	}
	c.resolve(ctx, objects, now)
	if err := c.attend(ctx, s, objects, now); err != nil {
		errs = append(errs, err)
	}
	if sample {
		errs = append(errs, c.sample(ctx, now), c.askEngines(ctx), c.listRoom(ctx))
	}
	c.forget(s)
	c.schedule(s, now, sample)
	return errors.Join(errs...)
}

// survey lists what there is.
func (c *Controller) survey(ctx context.Context) (*survey, error) {
	s := &survey{auto: map[string]bool{}, spaces: map[string]bool{}, claims: map[workloadID]*claim{}}
	var rrs v1alpha1.ResourceRecommendationList
	if err := c.opts.Client.List(ctx, &rrs, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("cannot list ResourceRecommendations: %w", err)
	}
	s.rrs = rrs.Items
	if err := c.listVPAs(ctx, s); err != nil {
		return nil, err
	}
	var namespaces metav1.PartialObjectMetadataList
	namespaces.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NamespaceList"))
	if err := c.opts.Client.List(ctx, &namespaces, client.MatchingLabels{v1alpha1.LabelRecommend: "true"}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("cannot list namespaces: %w", err)
	}
	for i := range namespaces.Items {
		if namespaces.Items[i].DeletionTimestamp == nil {
			s.auto[namespaces.Items[i].Name], s.spaces[namespaces.Items[i].Name] = true, true
		}
	}
	for i := range s.rrs {
		s.spaces[s.rrs[i].Namespace] = true
	}
	for i := range s.vpas {
		s.spaces[s.vpas[i].Namespace] = true
	}
	return s, c.listHPAs(ctx)
}

// listHPAs indexes the HPAs by what they scale: no look at a workload has to go over those of its namespace.
func (c *Controller) listHPAs(ctx context.Context) error {
	var list autoscalingv2.HorizontalPodAutoscalerList
	if err := c.opts.Client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("cannot list HorizontalPodAutoscalers: %w", err)
	}
	index := make(map[workloadID]*autoscalingv2.HorizontalPodAutoscaler, len(list.Items))
	for i := range list.Items {
		h := &list.Items[i]
		ref := h.Spec.ScaleTargetRef
		index[workloadID{h.Namespace, groupOf(ref.APIVersion), ref.Kind, ref.Name}] = h
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hpas = index
	return nil
}

// automatic says whether this controller made a ResourceRecommendation.
func automatic(r *v1alpha1.ResourceRecommendation) bool { return r.Labels[managedBy] == managedByUs }

// remember finds out which object speaks for which workload. Of several ResourceRecommendations that is the oldest that a person
// wrote.
func (c *Controller) remember(s *survey) {
	order := make([]*v1alpha1.ResourceRecommendation, 0, len(s.rrs))
	for i := range s.rrs {
		if s.rrs[i].DeletionTimestamp == nil {
			order = append(order, &s.rrs[i])
		}
	}
	slices.SortFunc(order, func(a, b *v1alpha1.ResourceRecommendation) int {
		switch x, y := automatic(a), automatic(b); {
		case x != y && x:
			return 1
		case x != y:
			return -1
		}
		if d := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); d != 0 {
			return d
		}
		return slices.Compare([]string{a.Namespace, a.Name}, []string{b.Namespace, b.Name})
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range order {
		id := idOf(r.Namespace, r.Spec.TargetRef)
		cl := s.claimOf(id)
		duplicate := cl.rr.Name
		if duplicate == "" {
			cl.rr = client.ObjectKeyFromObject(r)
			cl.stock = cl.stock || r.Spec.Estimator == v1alpha1.EstimatorVPA
		}
		c.noted(job{kind: jobRecommendation, name: client.ObjectKeyFromObject(r)}, id, r.Generation, duplicate)
	}
	for i := range s.vpas {
		v := &s.vpas[i]
		id := idOf(v.Namespace, targetOf(v))
		cl := s.claimOf(id)
		cl.restarts = !inPlace(v) && (cl.restarts || len(cl.vpas) == 0)
		cl.vpas = append(cl.vpas, client.ObjectKeyFromObject(v))
		if v.Annotations[annotationEstimator] == estimatorVPA {
			cl.stock = true
			cl.stockVPAs = append(cl.stockVPAs, vpaObject{client.ObjectKeyFromObject(v), v.UID})
		}
		c.noted(job{kind: jobVPA, name: client.ObjectKeyFromObject(v)}, id, v.Generation, "")
	}
	maps.DeleteFunc(c.objects, func(_ job, o *object) bool { return o.seen != c.count })
}

func (s *survey) claimOf(id workloadID) *claim {
	cl := s.claims[id]
	if cl == nil {
		cl = &claim{}
		s.claims[id] = cl
	}
	return cl
}

// noted remembers an object; one that has changed is to be looked at again.
func (c *Controller) noted(j job, id workloadID, generation int64, duplicate string) {
	o := c.objects[j]
	if o == nil || o.id != id || o.generation != generation || o.duplicate != duplicate {
		o = &object{id: id, generation: generation, duplicate: duplicate}
		c.objects[j] = o
	}
	o.seen = c.count
}

// resolve climbs the chains of owners that are not known yet.
func (c *Controller) resolve(ctx context.Context, objects map[string][]corev1.Pod, now time.Time) {
	type found struct {
		uid types.UID
		o   *owned
	}
	var group errgroup.Group
	group.SetLimit(readers)
	results := make(chan found)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for f := range results {
			f.o.seen = c.count
			c.owners.known[f.uid] = f.o
		}
	}()
	asked := map[types.UID]bool{}
	var todo []*corev1.Pod
	for _, pods := range objects {
		for i := range pods {
			ref := controllerOf(&pods[i])
			if ref == nil || asked[ref.UID] {
				continue
			}
			asked[ref.UID] = true
			if o := c.owners.known[ref.UID]; o != nil {
				o.seen = c.count
				if o.again.IsZero() || now.Before(o.again) {
					continue
				}
			}
			todo = append(todo, &pods[i])
		}
	}
	for _, o := range todo {
		group.Go(func() error {
			results <- found{controllerOf(o).UID, c.owners.climb(ctx, o, now)}
			return nil
		})
	}
	_ = group.Wait() // none returns an error
	close(results)
	<-done
	maps.DeleteFunc(c.owners.known, func(_ types.UID, o *owned) bool { return o.seen != c.count })
}

// attend follows the pods, and begins with workloads that are asked about for the first time.
func (c *Controller) attend(ctx context.Context, s *survey, objects map[string][]corev1.Pod, now time.Time) error {
	var fresh []*workload
	running := 0
	for namespace, list := range objects {
		sp := c.spaces[namespace]
		if sp == nil {
			sp = &space{pods: make(map[string]*pod, len(list))}
			c.spaces[namespace] = sp
		}
		for i := range list {
			if w, isNew := c.workloadOf(s, &list[i]); w != nil {
				if isNew {
					fresh = append(fresh, w)
				}
				sp.attend(c.count, w, &list[i])
			}
		}
	}
	for id := range s.claims { // workloads without pods
		if w, isNew := c.demand(link{id: id}); isNew {
			fresh = append(fresh, w)
		}
	}
	err := errors.Join(c.open(ctx, fresh, now), c.openStock(ctx, s))
	counts := map[*workload]int32{}
	for namespace, list := range objects {
		sp := c.spaces[namespace]
		for i := range list {
			if p := sp.pods[list[i].Name]; p != nil && p.seen == c.count {
				c.follow(ctx, p, &list[i], now)
				if !p.ended && list[i].DeletionTimestamp == nil {
					counts[p.workload]++
					running += len(p.containers)
				}
			}
		}
		maps.DeleteFunc(sp.pods, func(_ string, p *pod) bool {
			if p.seen == c.count {
				return false
			}
			p.workload.mu.Lock()
			defer p.workload.mu.Unlock()
			p.workload.stock.left(p.uid)
			return true
		})
	}
	c.startFills(fresh)
	c.recount(s, counts)
	c.metrics.containers.Set(float64(running))
	return err
}

// startFills asks for the past of those that want it, now that their pods have told whether they have GPUs.
func (c *Controller) startFills(fresh []*workload) {
	for _, w := range fresh {
		w.mu.Lock()
		filling := w.filling
		w.mu.Unlock()
		if filling {
			c.fills.Add(w.id)
		}
	}
}

// recount tells the workloads how many pods they have, and whether nobody has wishes any more.
func (c *Controller) recount(s *survey, counts map[*workload]int32) {
	c.mu.Lock()
	list := slices.Collect(maps.Values(c.workloads))
	c.mu.Unlock()
	for _, w := range list {
		w.mu.Lock()
		w.replicas = counts[w]
		if cl := s.claims[w.id]; cl == nil || cl.rr.Name == "" {
			w.policy = (&wishes{restarts: cl != nil && cl.restarts}).risk
		}
		w.mu.Unlock()
	}
}

// workloadOf returns the workload of a pod, nil if nobody asks about it.
func (c *Controller) workloadOf(s *survey, o *corev1.Pod) (w *workload, isNew bool) {
	ref := controllerOf(o)
	if ref == nil {
		return nil, false
	}
	known := c.owners.known[ref.UID]
	if known == nil || known.top.id.Name == "" || s.claims[known.top.id] == nil && !s.auto[o.Namespace] {
		return nil, false
	}
	return c.demand(known.top)
}

// demand returns a workload that is asked about.
func (c *Controller) demand(top link) (w *workload, isNew bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w = c.workloads[top.id]
	if w == nil {
		w, isNew = newWorkload(top), true
		c.workloads[top.id] = w
	}
	if top.uid != "" {
		w.top = top
	}
	w.seen = c.count
	return w, isNew
}

func (sp *space) attend(count uint64, w *workload, o *corev1.Pod) {
	p := sp.pods[o.Name]
	if p == nil || p.uid != o.UID {
		p = &pod{uid: o.UID}
		sp.pods[o.Name] = p
	}
	p.seen, p.workload = count, w
}

// forget lets go of what nobody asks about any more. What was learnt of it is in its checkpoint, as of the last interval.
func (c *Controller) forget(s *survey) {
	maps.DeleteFunc(c.spaces, func(name string, _ *space) bool { return !s.spaces[name] })
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.workloads, func(_ workloadID, w *workload) bool { return w.seen != c.count })
	maps.DeleteFunc(c.trouble, func(name string, _ string) bool { return !s.spaces[name] })
	c.metrics.workloads.Set(float64(len(c.workloads)))
}
