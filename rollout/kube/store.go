package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
)

const (
	stateKey   = "state"  // rollout.State as JSON
	stableKey  = "stable" // the template that routers and records have as the stable one
	notesKey   = "notes"  // notes as JSON
	judgeKey   = "judge"  // what evidence.Judge returned
	recordName = "headroom-rollout-"
	maxName    = 253
)

// errChanged means that another process has written the record since it was read: nothing of this look may be carried out.
var errChanged = errors.New("the record of the rollout has changed in the meantime")

// record is all that the controller remembers of a policy: one ConfigMap, written as a whole under its resourceVersion.
type record struct {
	State  rollout.State
	Stable string
	Judge  []byte
	Notes  notes

	found *corev1.ConfigMap // as it was read or written last; nil where there is none
	// unreadable says why what was found counts as lost.
	unreadable error
}

// notes are what the controller remembers beside rollout's own state.
type notes struct {
	// Announced is the Seq of the last event that was published.
	Announced int `json:"announced,omitempty"`
	// Ensured says that objects that ask for capacity may exist, Held that the HPA may be.
	Ensured bool `json:"ensured,omitempty"`
	Held    bool `json:"held,omitempty"`
	// Traffic is what the router is of that was set and not put back yet; Reasserted counts how often it was, in this update.
	Traffic    *v1alpha1.TrafficRouting `json:"traffic,omitempty"`
	Reasserted int                      `json:"reasserted,omitempty"`
	// Kept is a template that waits for its turn, and that Workloads.Keep keeps meanwhile.
	Kept string `json:"kept,omitempty"`
	// Resource is that of the GPUs which the present update takes.
	Resource string `json:"resource,omitempty"`
	// Target is the workload that all this is about, Rules what the policy last said that made sense.
	Target *target         `json:"target,omitempty"`
	Rules  *rollout.Policy `json:"rules,omitempty"`
	// Run is the present update, History those that have ended, newest first.
	Run     *v1alpha1.RolloutRecord  `json:"run,omitempty"`
	History []v1alpha1.RolloutRecord `json:"history,omitempty"`
}

// recordOf is the name of a policy's ConfigMap. A policy's name may be as long as a ConfigMap's: then its end is a hash.
func recordOf(policy string) string {
	name := recordName + policy
	if len(name) <= maxName {
		return name
	}
	hash := sha256.Sum256([]byte(policy))
	end := "-" + hex.EncodeToString(hash[:8])
	return name[:maxName-len(end)] + end
}

// load reads a policy's record from the API server. One that cannot be understood counts as lost, and says so.
func (c *Controller) load(ctx context.Context, p *v1alpha1.RolloutPolicy) (*record, error) {
	var found corev1.ConfigMap
	err := c.opts.Reader.Get(ctx, client.ObjectKey{Namespace: p.Namespace, Name: recordOf(p.Name)}, &found)
	switch {
	case apierrors.IsNotFound(err):
		return &record{}, nil
	case err != nil:
		return nil, fmt.Errorf("cannot read the record of the rollout: %w", err)
	}
	// A policy of the same name may be gone without having let its workload go: its finalizer was taken away by force.
	if owner := metav1.GetControllerOf(&found); owner == nil || owner.Kind != kindName || owner.Name != p.Name {
		return nil, fmt.Errorf("ConfigMap %s is not the policy's: remove it, or rename the policy", found.Name)
	}
	r := decode(&found)
	r.found = &found
	return r, nil
}

// decode reads what encode wrote. The bytes may be anybody's.
func decode(m *corev1.ConfigMap) *record {
	r := &record{Stable: m.Data[stableKey], Judge: m.BinaryData[judgeKey]}
	if text := m.Data[notesKey]; text != "" {
		if err := json.Unmarshal([]byte(text), &r.Notes); err != nil {
			r.Notes = notes{Ensured: true, Held: true} // to be on the safe side
		}
	}
	if text := m.Data[stateKey]; text != "" {
		if err := unmarshalState(text, &r.State); err != nil {
			return &record{Notes: notes{Ensured: true, Held: true, History: r.Notes.History}, Stable: r.Stable, unreadable: err}
		}
	}
	return r
}

// unmarshalState reads a state, and refuses one that rollout.Next could not have returned.
func unmarshalState(text string, s *rollout.State) error {
	if err := json.Unmarshal([]byte(text), s); err != nil {
		return fmt.Errorf("cannot read the state of the rollout: %w", err)
	}
	switch s.Phase {
	case rollout.Moving, rollout.Settled:
		if s.Schedule == nil || s.Step < 0 || s.Step >= len(s.Schedule.Steps) || s.From == "" || s.To == "" {
			return fmt.Errorf("cannot read the state of the rollout: it is %s without a step", s.Phase)
		}
	case rollout.Resting, rollout.Planning, rollout.GoingBack, rollout.Restoring:
		if s.From == "" || s.Step < 0 {
			return fmt.Errorf("cannot read the state of the rollout: it is %s without a stable version", s.Phase)
		}
	case rollout.Adopting, rollout.Released, rollout.Gone:
	default:
		return fmt.Errorf("cannot read the state of the rollout: there is no phase %q", s.Phase)
	}
	return nil
}

// encode fills a ConfigMap.
func (r *record) encode(m *corev1.ConfigMap) error {
	state, err := json.Marshal(r.State)
	if err != nil {
		return fmt.Errorf("cannot write the state of the rollout: %w", err)
	}
	text, err := json.Marshal(r.Notes)
	if err != nil {
		return fmt.Errorf("cannot write the notes of the rollout: %w", err)
	}
	m.Data = map[string]string{stateKey: string(state), stableKey: r.Stable, notesKey: string(text)}
	m.BinaryData = nil
	if len(r.Judge) > 0 {
		m.BinaryData = map[string][]byte{judgeKey: r.Judge}
	}
	return nil
}

// save writes the record if it differs from what is stored.
func (c *Controller) save(ctx context.Context, p *v1alpha1.RolloutPolicy, r *record) error {
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: recordOf(p.Name)}}
	if r.found != nil {
		m = r.found.DeepCopy()
	}
	if err := r.encode(m); err != nil {
		return err
	}
	if owner := metav1.GetControllerOf(m); owner != nil && owner.UID != p.UID {
		m.OwnerReferences = nil
	}
	if err := controllerutil.SetControllerReference(p, m, c.opts.Client.Scheme(), controllerutil.WithBlockOwnerDeletion(false)); err != nil {
		return fmt.Errorf("cannot make the policy own the record of the rollout: %w", err)
	}
	if over := p.DeletionTimestamp != nil && !active(r.State.Phase); !over {
		// Foreground deletion of the policy deletes what it owns first: the record must outlive the hold.
		controllerutil.AddFinalizer(m, v1alpha1.FinalizerRollout)
	} else if r.found == nil {
		return nil // nothing to remember of what is over: a record made now would only have to be deleted again
	}
	var err error
	switch {
	case r.found == nil:
		err = c.opts.Client.Create(ctx, m, client.FieldOwner(FieldOwner))
	case equality.Semantic.DeepEqual(m, r.found):
		return nil
	default:
		err = c.opts.Client.Update(ctx, m, client.FieldOwner(FieldOwner))
	}
	if err != nil {
		return changed(err, "cannot store the record of the rollout")
	}
	r.found = m
	return nil
}

// drop deletes the record.
func (c *Controller) drop(ctx context.Context, p *v1alpha1.RolloutPolicy, r *record) error {
	if r.found == nil || !metav1.IsControlledBy(r.found, p) {
		return nil
	}
	m := r.found.DeepCopy()
	if controllerutil.RemoveFinalizer(m, v1alpha1.FinalizerRollout) {
		if err := c.opts.Client.Update(ctx, m, client.FieldOwner(FieldOwner)); client.IgnoreNotFound(err) != nil {
			return changed(err, "cannot let the record of the rollout go")
		}
	}
	if err := c.opts.Client.Delete(ctx, m, client.Preconditions{UID: &m.UID}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot delete the record of the rollout: %w", err)
	}
	r.found = nil
	return nil
}

// isConflict says that an object was written by somebody else, or made or deleted, since it was read.
func isConflict(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err)
}

// timeOf is to the second, as the API has it, so that a status read back is equal.
func timeOf(t time.Time) metav1.Time { return metav1.NewTime(t.UTC().Truncate(time.Second)) }
