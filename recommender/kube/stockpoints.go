package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	vpav1 "k8s.io/autoscaler/vertical-pod-autoscaler/pkg/apis/autoscaling.k8s.io/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/recommender/vpa"
)

const (
	stockKey = "vpa" // of a ConfigMap: a JSON object of the VPA's checkpoints by container
	// page is how many checkpoint objects are asked for at once.
	page = 500
)

// stockPoint is a checkpoint to be written into an object of the VPA's.
type stockPoint struct {
	vpa       types.NamespacedName
	uid       types.UID
	container string
	status    []byte
}

func (p *stockPoint) object() string { return p.vpa.Name + "-" + p.container }

// openStock begins with the VPA's estimator for the workloads that it is asked for anew. The checkpoints of all VPAs are listed
// once for all of them.
func (c *Controller) openStock(ctx context.Context, s *survey) error {
	type todo struct {
		w  *workload
		cl *claim
	}
	var list []todo
	c.mu.Lock()
	for id, cl := range s.claims {
		if w := c.workloads[id]; w != nil && cl.stock {
			list = append(list, todo{w, cl})
		}
	}
	c.mu.Unlock()
	var index map[types.NamespacedName][]*vpav1.VerticalPodAutoscalerCheckpoint
	var errs []error
	for _, t := range list {
		t.w.mu.Lock()
		if t.w.stock == nil {
			if index == nil && len(t.cl.stockVPAs) > 0 {
				var err error
				if index, err = c.listStock(ctx); err != nil {
					t.w.mu.Unlock()
					return err // to begin anew would overwrite them: it is tried again in the next pass
				}
			}
			t.w.stock = newStock(c.model)
			errs = append(errs, t.w.stock.load(t.w.restoredStock))
			t.w.restoredStock = nil
		}
		errs = append(errs, t.w.stock.claim(t.cl, index))
		t.w.mu.Unlock()
	}
	return errors.Join(errs...)
}

// listStock lists the checkpoints of all VPAs, by VPA.
func (c *Controller) listStock(ctx context.Context) (map[types.NamespacedName][]*vpav1.VerticalPodAutoscalerCheckpoint, error) {
	index := map[types.NamespacedName][]*vpav1.VerticalPodAutoscalerCheckpoint{}
	next := ""
	for {
		var list vpav1.VerticalPodAutoscalerCheckpointList
		if err := c.opts.Client.List(ctx, &list, client.Limit(page), client.Continue(next)); err != nil {
			return nil, fmt.Errorf("cannot list VerticalPodAutoscalerCheckpoints: %w", err)
		}
		for i := range list.Items {
			key := types.NamespacedName{Namespace: list.Items[i].Namespace, Name: list.Items[i].Spec.VPAObjectName}
			index[key] = append(index[key], &list.Items[i])
		}
		if next = list.Continue; next == "" {
			return index, nil
		}
	}
}

// claim follows which VPAs ask, and takes what checkpoints have of containers of which nothing is known yet.
func (s *stock) claim(cl *claim, index map[types.NamespacedName][]*vpav1.VerticalPodAutoscalerCheckpoint) error {
	s.vpas, s.uids = s.vpas[:0], map[string]types.UID{}
	var errs []error
	for _, v := range cl.stockVPAs {
		s.vpas = append(s.vpas, v.NamespacedName)
		s.uids[v.Name] = v.uid
		for _, object := range index[v.NamespacedName] {
			container := object.Spec.ContainerName
			if s.of[container] != nil {
				continue
			}
			status, err := json.Marshal(&object.Status)
			if err == nil {
				err = s.take(container, status)
			}
			if err != nil {
				s.foreign[object.Name] = fmt.Errorf("VerticalPodAutoscalerCheckpoint %s: %w; it is left as it is: delete it to begin anew", object.Name, err)
				errs = append(errs, s.foreign[object.Name])
			}
		}
	}
	return errors.Join(errs...)
}

// take makes an aggregate of a checkpoint.
func (s *stock) take(container string, status []byte) error {
	c, err := vpa.ParseCheckpoint(status)
	if err != nil {
		return err
	}
	known, err := s.model.Load(c)
	if err != nil {
		return err
	}
	s.of[container] = &aggregate{model: s.model, known: known, instances: map[types.UID]*vpa.Instance{}}
	return nil
}

// load takes what a workload's ConfigMap has.
func (s *stock) load(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return fmt.Errorf("cannot read the VPA's part of a checkpoint: %w", err)
	}
	var errs []error
	for container, status := range all {
		if err := s.take(container, status); err != nil {
			errs = append(errs, fmt.Errorf("cannot read the VPA's part of a checkpoint: container %s: %w", container, err))
		}
	}
	return errors.Join(errs...)
}

// encode returns what is to be written: for the objects of VPAs, and for the ConfigMap where no VPA asks. Caller holds the lock.
func (s *stock) encode(now time.Time) (points []stockPoint, whole []byte) {
	if s == nil {
		return nil, nil
	}
	all := map[string]json.RawMessage{}
	for _, container := range s.containers() {
		c := s.of[container].checkpoint(now)
		b := c.AppendJSON(nil)
		all[container] = b
		if !s.dirty[container] {
			continue
		}
		for _, v := range s.vpas {
			p := stockPoint{v, s.uids[v.Name], container, b}
			if s.foreign[p.object()] == nil {
				points = append(points, p)
			}
		}
	}
	s.dirty = map[string]bool{}
	if len(s.vpas) == 0 && len(all) > 0 {
		whole, _ = json.Marshal(all) // of valid JSON
	}
	return points, whole
}

// saveStock writes the checkpoints of VPAs.
func (c *Controller) saveStock(ctx context.Context, w *workload, points []stockPoint, write writing) error {
	var errs []error
	for i := range points {
		p := &points[i]
		if err := write(ctx, "vpacheckpoint", func(ctx context.Context) error { return c.putStock(ctx, p) }); err != nil {
			w.mu.Lock()
			w.stock.dirty[p.container] = true
			w.mu.Unlock()
			errs = append(errs, fmt.Errorf("cannot write VerticalPodAutoscalerCheckpoint %s: %w", p.object(), err))
		}
	}
	return errors.Join(errs...)
}

// putStock writes the checkpoint of a container, as the stock recommender does. One that is made here goes with the VPA.
func (c *Controller) putStock(ctx context.Context, p *stockPoint) error {
	var found vpav1.VerticalPodAutoscalerCheckpoint
	err := c.opts.Client.Get(ctx, client.ObjectKey{Namespace: p.vpa.Namespace, Name: p.object()}, &found)
	fresh := apierrors.IsNotFound(err)
	if err != nil && !fresh {
		return err
	}
	base := found.DeepCopy()
	found.Status = vpav1.VerticalPodAutoscalerCheckpointStatus{}
	if err := json.Unmarshal(p.status, &found.Status); err != nil {
		return err
	}
	if !fresh {
		if found.Spec.VPAObjectName != p.vpa.Name || found.Spec.ContainerName != p.container {
			return errors.New("it is of another VerticalPodAutoscaler or container")
		}
		return c.opts.Client.Patch(ctx, &found, client.MergeFrom(base), client.FieldOwner(FieldOwner))
	}
	found.ObjectMeta = metav1.ObjectMeta{
		Namespace: p.vpa.Namespace, Name: p.object(),
		OwnerReferences: []metav1.OwnerReference{{APIVersion: vpav1.SchemeGroupVersion.String(), Kind: "VerticalPodAutoscaler", Name: p.vpa.Name, UID: p.uid}},
	}
	found.Spec = vpav1.VerticalPodAutoscalerCheckpointSpec{VPAObjectName: p.vpa.Name, ContainerName: p.container}
	return c.opts.Client.Create(ctx, &found, client.FieldOwner(FieldOwner))
}
