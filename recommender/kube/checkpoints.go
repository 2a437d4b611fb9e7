package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/recommender"
)

const (
	checkpointKey  = "usage"
	workloadKey    = "workload" // what the usage is of
	checkpointName = "headroom-usage-"
	maxName        = 253
)

// keeping is how the checkpoint of a workload fares. All but due is under the workload's lock.
type keeping struct {
	due     atomic.Int64 // when the next checkpoint is to be written, in nanoseconds since 1970; 0 until the first was read
	dirty   bool         // something was learnt since the last one
	since   time.Time    // of the checkpoint that was read: kills before it are in it
	foreign error        // why the ConfigMap that there is must not be overwritten
	failed  error        // why the last checkpoint was not written
}

// problem is why what is learnt is not kept, nil if it is.
func (k *keeping) problem() error { return errors.Join(k.foreign, k.failed) }

// checkpointOf is the name of a workload's ConfigMap. Names of workloads may be as long as a ConfigMap's: then its end is a hash,
// as it is where kinds of several groups could be meant.
func checkpointOf(id workloadID) string { return limited(checkpointName + nameOf(id)) }

// nameOf is a name for what belongs to a workload: its kind and its name.
func nameOf(id workloadID) string {
	name := strings.ToLower(id.Kind) + "-" + id.Name
	if !wellKnown(id) && id.Group != "" {
		name = strings.ToLower(id.Kind) + "." + id.Group + "-" + id.Name
	}
	return limited(name)
}

func limited(name string) string {
	if len(name) <= maxName {
		return name
	}
	hash := sha256.Sum256([]byte(name))
	end := "-" + hex.EncodeToString(hash[:8])
	return name[:maxName-len(end)] + end
}

// text is how a checkpoint names its workload.
func (id workloadID) text() string { return id.Group + "/" + id.Kind + "/" + id.Name }

// open begins with workloads: with their checkpoints. It marks those that are to be filled from the past.
func (c *Controller) open(ctx context.Context, fresh []*workload, now time.Time) error {
	var group errgroup.Group
	group.SetLimit(readers)
	errs := make([]error, len(fresh))
	for i, w := range fresh {
		group.Go(func() error {
			errs[i] = c.restore(ctx, w, now)
			return nil
		})
	}
	_ = group.Wait() // none returns an error
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, w := range fresh {
		if errs[i] != nil { // to begin anew would overwrite it: it is tried again in the next pass
			delete(c.workloads, w.id)
			for _, p := range c.spaces[w.id.Namespace].podsOf(w) {
				delete(c.spaces[w.id.Namespace].pods, p)
			}
		}
	}
	return errors.Join(errs...)
}

func (sp *space) podsOf(w *workload) []string {
	var names []string
	if sp != nil {
		for name, p := range sp.pods {
			if p.workload == w {
				names = append(names, name)
			}
		}
	}
	return names
}

// restore reads a workload's checkpoint. The error is that of the API server.
func (c *Controller) restore(ctx context.Context, w *workload, now time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found corev1.ConfigMap
	err := c.opts.Client.Get(ctx, client.ObjectKey{Namespace: w.id.Namespace, Name: checkpointOf(w.id)}, &found)
	from := time.Time{}
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("cannot read the checkpoint of %s: %w", w.id, err)
	default:
		from = w.load(&found)
		if w.keep.foreign != nil {
			c.opts.Log.Warn("a checkpoint is kept as it is: what is learnt from now on is not", "namespace", w.id.Namespace, "configmap", found.Name, "err", w.keep.foreign)
		}
	}
	switch {
	case !from.IsZero() && w.young() && c.wantsPast(w.id, time.Time{}, now):
		// It may have begun before there was a server to ask: the whole past is asked for.
		w.filling, w.keep.since = true, time.Time{}
	case c.wantsPast(w.id, from, now):
		w.filling = true
		if !from.IsZero() {
			w.restored = found.BinaryData[checkpointKey]
		}
	}
	return nil
}

// young says whether less than a day is known of each of a workload's usages.
func (w *workload) young() bool {
	for _, u := range w.usages {
		if knownHours(u) >= 24 {
			return false
		}
	}
	return true
}

// knownHours is the number of hours of which a usage knows something.
func knownHours(u *recommender.Usage) int {
	n := 0
	for h := range u.Hours() {
		if h.Known {
			n++
		}
	}
	return n
}

// load takes what a ConfigMap has, and returns of when it is; zero where it has nothing to take.
func (w *workload) load(m *corev1.ConfigMap) time.Time {
	if of := m.Data[workloadKey]; of != w.id.text() {
		w.keep.foreign = fmt.Errorf("ConfigMap %s is not the checkpoint of this workload; delete or rename it", m.Name)
		return time.Time{}
	}
	read, err := recommender.DecodeCheckpoint(m.BinaryData[checkpointKey], w.policy)
	if err != nil {
		w.keep.foreign = fmt.Errorf("ConfigMap %s: %w; it is left as it is: delete it to begin anew", m.Name, err)
		return time.Time{}
	}
	w.usages, w.keep.since, w.restoredStock = read.Usages, read.At, m.BinaryData[stockKey]
	if w.usages == nil {
		w.usages = map[recommender.Key]*recommender.Usage{}
	}
	return read.At
}

// save writes the checkpoint of a workload, if there is something new in it.
func (c *Controller) save(ctx context.Context, w *workload, write writing) error {
	w.mu.Lock()
	points, whole := w.stock.encode(c.opts.Now())
	encoded, skip, err := w.encode(c.opts.Now())
	w.mu.Unlock()
	if !skip {
		failed := write(ctx, "checkpoint", func(ctx context.Context) error { return c.put(ctx, w, encoded, whole) })
		w.mu.Lock()
		w.keep.failed = failed
		w.keep.dirty = w.keep.dirty || failed != nil
		w.mu.Unlock()
		if failed != nil {
			err = fmt.Errorf("cannot write the checkpoint of %s: %w", w.id, failed)
		}
	}
	return errors.Join(err, c.saveStock(ctx, w, points, write))
}

// encode returns the bytes of a checkpoint; skip says that none is to be written.
func (w *workload) encode(now time.Time) (b []byte, skip bool, err error) {
	if !w.keep.dirty || len(w.usages) == 0 || w.filling {
		return nil, true, nil
	}
	b, err = (&recommender.Checkpoint{At: now, Usages: w.usages}).Encode()
	if err != nil {
		w.keep.failed = err
		return nil, true, fmt.Errorf("cannot encode the usage of %s: %w", w.id, err)
	}
	w.keep.dirty = false
	return b, false, nil
}

// put writes a ConfigMap, unless there is one that must be kept.
func (c *Controller) put(ctx context.Context, w *workload, encoded, whole []byte) error {
	key := client.ObjectKey{Namespace: w.id.Namespace, Name: checkpointOf(w.id)}
	owner := c.ownerOf(w)
	var found corev1.ConfigMap
	err := c.opts.Client.Get(ctx, key, &found)
	fresh := apierrors.IsNotFound(err)
	if err != nil && !fresh {
		return err
	}
	if fresh {
		w.mu.Lock()
		w.keep.foreign = nil // a person has deleted what could not be read
		w.mu.Unlock()
		found = corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Labels: map[string]string{managedBy: managedByUs}}}
	} else {
		w.mu.Lock()
		foreign := w.keep.foreign
		w.mu.Unlock()
		if foreign != nil {
			return nil //nolint:nilerr // it is said in the conditions
		}
		if found.Data[workloadKey] != w.id.text() {
			return fmt.Errorf("ConfigMap %s is not the checkpoint of this workload; delete or rename it", key.Name)
		}
	}
	found.Data = map[string]string{workloadKey: w.id.text()}
	found.BinaryData = map[string][]byte{checkpointKey: encoded}
	if len(whole) > 0 {
		found.BinaryData[stockKey] = whole
	}
	if owner != nil {
		found.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	if fresh {
		return c.opts.Client.Create(ctx, &found)
	}
	return c.opts.Client.Update(ctx, &found)
}

// ownerOf is with what a checkpoint goes: the workload, or whoever asked about it, if the workload's UID is not known.
func (c *Controller) ownerOf(w *workload) *metav1.OwnerReference {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.top.uid == "" {
		return nil
	}
	return &metav1.OwnerReference{APIVersion: w.top.apiVersion, Kind: w.id.Kind, Name: w.id.Name, UID: w.top.uid}
}

// saveAll writes the checkpoints of all that has changed, as many at a time as the API server is asked at once.
func (c *Controller) saveAll(ctx context.Context) error {
	c.mu.Lock()
	list := slices.Collect(maps.Values(c.workloads))
	c.mu.Unlock()
	var group errgroup.Group
	group.SetLimit(readers)
	errs := make([]error, len(list))
	for i, w := range list {
		group.Go(func() error {
			errs[i] = c.save(ctx, w, func(ctx context.Context, _ string, f func(ctx context.Context) error) error { return f(ctx) })
			return nil
		})
	}
	_ = group.Wait() // none returns an error
	return errors.Join(errs...)
}
