package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/recommender"
)

const (
	// gap is the least time without samples that is worth a question about the past.
	gap = 10 * time.Minute
	// pastStep is between two samples of the past.
	pastStep = time.Minute
	// fillTries is how often the past of a workload is asked for; then it goes on without one.
	fillTries = 5
)

// ErrPartial is what a Source's error wraps if parts of the past could not be had and all others were yielded.
var ErrPartial = errors.New("parts of the past are missing")

// wantsPast says whether a workload whose usage is known until a time is to be filled from the past. DaemonSets are not: nobody
// knows on which nodes their pods were.
func (c *Controller) wantsPast(id workloadID, known, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !id.perNode() && c.opts.History > 0 && !c.noPast && now.Sub(known) > gap
}

// fillNext fills one workload from the past; false at the end.
func (c *Controller) fillNext(ctx context.Context) bool {
	id, stop := c.fills.Get()
	if stop {
		return false
	}
	defer c.fills.Done(id)
	w := c.workload(id)
	if w == nil || ctx.Err() != nil {
		c.fills.Forget(id)
		return true
	}
	samples, err := c.fill(ctx, w)
	log := c.opts.Log.With("namespace", id.Namespace, "workload", id.String(), "samples", samples, "left", c.fills.Len())
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, errors.ErrUnsupported):
		c.mu.Lock()
		c.noPast = true
		c.mu.Unlock()
		c.unfilled(w)
	case errors.Is(err, ErrPartial):
		log.Warn("the past of a workload has gaps", "err", err)
	case err != nil && c.fills.NumRequeues(id) < fillTries:
		c.metrics.errors.WithLabelValues("past").Inc()
		log.Warn("cannot fetch the past of a workload: it is tried again", "err", err)
		c.fills.AddRateLimited(id)
		return true
	case err != nil:
		log.Warn("cannot fetch the past of a workload: its usage begins now", "err", err)
		c.unfilled(w)
	default:
		log.Info("fetched the past of a workload")
	}
	c.fills.Forget(id)
	c.metrics.filling.Set(float64(c.fills.Len()))
	return true
}

// unfilled lets a workload go on without a past.
func (c *Controller) unfilled(w *workload) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held, w.restored, w.filling = nil, nil, false
}

// fill makes the usages of a workload anew: what its checkpoint has, and on top of it the past that the Source knows.
func (c *Controller) fill(ctx context.Context, w *workload) (samples int, err error) {
	now := c.opts.Now()
	w.mu.Lock()
	begin := now.Add(-c.opts.History)
	if w.keep.since.After(begin) {
		begin = w.keep.since
	}
	usages, err := w.copied()
	names := podNames(w.id)
	templates := slices.Clone(w.templates)
	w.mu.Unlock()
	if err != nil {
		return 0, err
	}
	known := map[string]bool{}
	for i := range templates {
		known[templates[i].name] = true
	}
	engine := engineOfTemplates(templates)
	var partial error
	for _, resource := range pastOf(templates, usages) {
		err := c.opts.Source.Past(ctx, recommender.Past{
			Namespace: w.id.Namespace, Pods: names, Resource: resource, Start: begin, End: now, Step: pastStep,
		}, func(list []recommender.Sample) error {
			for i := range list {
				s := &list[i]
				name := cmp.Or(s.Container.Container, engine)
				if len(known) > 0 && !known[name] || name == "" || s.Resource != resource {
					continue
				}
				o := observation{key: recommender.Key{Container: name, Resource: resource}, at: s.At, value: s.Value, certainty: s.Certainty}
				if w.pass(usages, o, now) {
					samples++
				} else {
					c.metrics.refused.WithLabelValues("past").Inc()
				}
			}
			return ctx.Err()
		})
		if err != nil && !errors.Is(err, ErrPartial) {
			err = fmt.Errorf("cannot fetch the %s of %s: %w", resource, names, err)
			if slices.Contains(controlled(), resource) || ctx.Err() != nil {
				return samples, err
			}
			err = fmt.Errorf("%w: %w", ErrPartial, err) // what is asked for of GPUs is harder: it does not cost CPU and memory theirs
		}
		partial = errors.Join(partial, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.filled(usages, c.opts.Now())
	return samples, partial
}

// gpuResources are those that only a workload with GPUs has.
func gpuResources() []recommender.Resource {
	return []recommender.Resource{
		recommender.GPUMemory, recommender.GPUCompute, recommender.GPUTensor, recommender.KVCache, recommender.Queue, recommender.Preemptions,
	}
}

// pastOf are the resources whose past a workload is asked for: those of GPUs where its pods have any, or its checkpoint knows of some.
func pastOf(templates []template, usages map[recommender.Key]*recommender.Usage) []recommender.Resource {
	gpu := slices.ContainsFunc(templates, func(t template) bool { return hasGPU(t.resources) })
	for key := range usages {
		gpu = gpu || slices.Contains(gpuResources(), key.Resource)
	}
	if gpu {
		return append(controlled(), gpuResources()...)
	}
	return controlled()
}

// engineOfTemplates is the name of the container with the inference engine, "" if that is not clear.
func engineOfTemplates(templates []template) string {
	i := engineAmong(len(templates), func(i int) (v1alpha1.ContainerType, bool) { return templates[i].kind, hasGPU(templates[i].resources) })
	if i < 0 {
		return ""
	}
	return templates[i].name
}

// copied returns the usages as the checkpoint had them, which are to be told of what was between then and now.
func (w *workload) copied() (map[recommender.Key]*recommender.Usage, error) {
	usages := map[recommender.Key]*recommender.Usage{}
	if w.restored == nil {
		return usages, nil
	}
	read, err := recommender.DecodeCheckpoint(w.restored, w.policy)
	if err != nil {
		return nil, err
	}
	maps.Copy(usages, read.Usages)
	return usages, nil
}

// podNames is an RE2 that the names of a workload's pods match.
func podNames(id workloadID) string {
	name := regexp.QuoteMeta(id.Name)
	switch id.Kind {
	case kindDeployment:
		return name + "-[a-z0-9]+-[a-z0-9]{5}"
	case kindStatefulSet:
		return name + "-[0-9]+"
	case kindReplicaSet, kindDaemonSet, kindJob:
		return name + "-[a-z0-9]{5}"
	case kindCronJob:
		return name + "-[0-9]+-[a-z0-9]{5}"
	case kindLWS:
		return name + "-[0-9]+(-[0-9]+)?"
	}
	return name + "-.+"
}
