package rulewatch

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"headroom.dev/headroom/adapter/rules"
	"headroom.dev/headroom/api/v1alpha1"
)

const (
	// FieldManager owns the fields of a status.
	FieldManager = "headroom-adapter"

	tick         = time.Second
	writesATick  = 20 // a thousand statuses are refreshed in 50 s; changes go first
	writeTimeout = 5 * time.Second
)

// ReportOptions say what Report writes, and by whose leave. All are required.
type ReportOptions struct {
	Namespace string // of the Lease
	Lease     string // name of the Lease that all replicas share
	Identity  string // of this replica, unique: its pod's name
	// Statuses returns how rules fared in their last evaluation, those of Options.Changed among them. It must not block.
	Statuses func() []rules.Status
}

// Report writes how rules fare into the status of their MetricRules while this replica holds the Lease, until the context
// ends. Run must run beside it. It returns an error at once when the options cannot be used.
func (w *Watcher) Report(ctx context.Context, o ReportOptions) error {
	return w.lead(ctx, o, func(ctx context.Context) {
		w.o.Logger.Info("this replica writes the status of MetricRules")
		r := &reporter{
			watcher: w, statuses: o.Statuses, written: map[types.UID]written{}, faults: complaints{logger: w.o.Logger},
			client: w.o.Dynamic.Resource(v1alpha1.GroupVersion().WithResource(v1alpha1.ResourceMetricRules)),
		}
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		for ctx.Err() == nil {
			r.once(ctx, time.Now())
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	})
}

// reporter writes statuses for as long as one term of leadership lasts.
type reporter struct {
	watcher  *Watcher
	statuses func() []rules.Status
	client   dynamic.ResourceInterface
	written  map[types.UID]written
	faults   complaints
}

// written is what this replica last did about a status.
type written struct {
	at     time.Time // of the last try
	status v1alpha1.MetricRuleStatus
}

// write is a status that is due.
type write struct {
	object object
	have   v1alpha1.MetricRuleStatus
	want   v1alpha1.MetricRuleStatus
	last   time.Time // of the last try
}

// once writes what is due at now. The first failure that is not about one rule alone ends it until the next tick.
func (r *reporter) once(ctx context.Context, now time.Time) {
	for _, d := range r.due(now) {
		err := r.apply(ctx, d)
		done := written{at: now, status: d.want}
		if err != nil {
			done.status = d.have
		}
		r.written[d.object.uid] = done
		switch {
		case ctx.Err() != nil:
			return
		case err == nil, apierrors.IsNotFound(err), apierrors.IsConflict(err): // deleted or changed since: the watch will tell
		case apierrors.IsInvalid(err):
			r.faults.warn("cannot write the status of MetricRule "+d.object.name, err)
		default:
			r.faults.warn("cannot write the status of MetricRules", err)
			return
		}
	}
}

// due lists what to write at now: rules whose status knows least of them first, then the longest unwritten.
func (r *reporter) due(now time.Time) []write {
	objects, judged := r.watcher.judgements()
	evaluated := map[string]*rules.Status{}
	for _, s := range r.statuses() {
		evaluated[s.Rule.Name] = &s
	}
	present := make(map[types.UID]bool, len(objects))
	var list []write
	for name, o := range objects {
		present[o.uid] = true
		j, s := judged[name], evaluated[name]
		if j.object.uid != o.uid || j.object.generation != o.generation || j.err == nil && (s == nil || !sameRule(j.rule, s.Rule)) {
			continue // the adapter has not taken it up yet
		}
		if j.err != nil {
			s = nil
		}
		w := write{object: o, have: o.status()}
		if before, ok := r.written[o.uid]; ok {
			w.have, w.last = before.status, before.at // the watch may lag behind
		}
		w.want = status(&j, s, &w.have, now)
		if due(&w.have, &w.want, now.Sub(w.last)) {
			list = append(list, w)
		}
	}
	maps.DeleteFunc(r.written, func(uid types.UID, _ written) bool { return !present[uid] })
	slices.SortFunc(list, func(a, b write) int {
		return cmp.Or(cmp.Compare(a.staleness(), b.staleness()), a.last.Compare(b.last), cmp.Compare(a.object.name, b.object.name))
	})
	return list[:min(len(list), writesATick)]
}

func (w *write) staleness() int {
	switch {
	case w.have.ObservedGeneration != w.want.ObservedGeneration:
		return 0
	case notable(&w.have, &w.want):
		return 1
	}
	return 2
}

// apply writes one status by server-side apply. With the resource version it conflicts where the rule has changed since, so
// that a status is never about another spec.
func (r *reporter) apply(ctx context.Context, w write) error {
	body, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&w.want)
	if err != nil {
		return fmt.Errorf("cannot encode it: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err = r.client.ApplyStatus(ctx, w.object.name, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.GroupVersion().String(), "kind": v1alpha1.KindMetricRule,
		"metadata": map[string]any{"name": w.object.name, "resourceVersion": w.object.resourceVersion},
		"status":   body,
	}}, metav1.ApplyOptions{FieldManager: FieldManager, Force: true})
	return err
}

// judgements returns the MetricRules as they are now, and what became of them at the last look.
func (w *Watcher) judgements() (map[string]object, map[string]judgement) {
	objects, _ := w.rules.all()
	w.mu.Lock()
	defer w.mu.Unlock()
	return objects, w.judged // replaced as a whole, never changed
}

// status returns what stands in the object's status.
func (o *object) status() v1alpha1.MetricRuleStatus {
	if o.rule == nil {
		return v1alpha1.MetricRuleStatus{} // written once by each leader
	}
	return o.rule.Status
}
