package kube

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"headroom.dev/headroom/recommender"
)

// separate is for how many namespaces the Source is asked one by one; for more it is asked for all at once.
const separate = 4

// sample takes the Source's newest samples of every namespace with pods that are asked about.
func (c *Controller) sample(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, max(c.opts.Interval, 10*time.Second))
	defer cancel()
	var names []string
	for name, sp := range c.spaces {
		if len(sp.pods) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if len(names) > separate {
		samples, err := c.opts.Source.Samples(ctx, "")
		for namespace, part := range byNamespace(samples) {
			c.take(namespace, part, now)
		}
		c.answered(names, err)
		return err
	}
	var errs []error
	for _, name := range names {
		samples, err := c.opts.Source.Samples(ctx, name)
		c.take(name, samples, now)
		c.answered([]string{name}, err)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// answered remembers why namespaces have no samples, for their objects.
func (c *Controller) answered(names []string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		delete(c.trouble, name)
		if err != nil {
			c.trouble[name] = oneLine(err)
		}
	}
}

// oneLine is an error in one line.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// byNamespace parts samples, which keep their order.
func byNamespace(samples []recommender.Sample) map[string][]recommender.Sample {
	sizes := map[string]int{}
	for i := range samples {
		sizes[samples[i].Container.Namespace]++
	}
	parts := make(map[string][]recommender.Sample, len(sizes))
	for i := range samples {
		name := samples[i].Container.Namespace
		if parts[name] == nil {
			parts[name] = make([]recommender.Sample, 0, sizes[name])
		}
		parts[name] = append(parts[name], samples[i])
	}
	return parts
}
