package traffic

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/rollout/route"
)

// record is what the annotation says of one service.
type record struct {
	Wanted route.Split `json:"wanted"`
	// Before is the split until this one, which a router that has not followed yet still serves; nil where there was none.
	Before  *route.Split `json:"before,omitempty"`
	Written time.Time    `json:"written"`
	// Weights are the original weights of the backends, one entry for each rule that is changed, in their order.
	Weights []weights `json:"weights,omitempty"`
	// Hash is the original value of pod-template-hash in a selector; nil where there was none.
	Hash *string `json:"hash,omitempty"`
	// Pinned is the value of pod-template-hash that we wrote into a selector.
	Pinned string `json:"pinned,omitempty"`
}

// next is the record of a further split. The one before counts only while it is a different one.
func (r *record) next(s route.Split, now time.Time) *record {
	out := &record{Wanted: s, Written: now.UTC()}
	if r != nil {
		before := r.Wanted
		out.Before, out.Weights, out.Hash, out.Pinned = &before, r.Weights, r.Hash, r.Pinned
	}
	return out
}

// inForce is what is served while the router has not followed.
func (r *record) inForce() route.Split {
	if r.Before != nil {
		return *r.Before
	}
	return unknown(r.Wanted)
}

// records reads the annotation of an object, by service.
func records(u *unstructured.Unstructured) (map[string]*record, error) {
	text, ok := u.GetAnnotations()[Annotation]
	if !ok {
		return map[string]*record{}, nil
	}
	out := map[string]*record{}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return nil, fmt.Errorf("%w annotation %s of %s: %w", route.ErrInvalid, Annotation, describe(u), err)
	}
	for service, r := range out {
		if r == nil {
			return nil, fmt.Errorf("%w annotation %s of %s: nothing about %q", route.ErrInvalid, Annotation, describe(u), service)
		}
		if err := r.Wanted.Validate(); err != nil {
			return nil, fmt.Errorf("annotation %s of %s: %w", Annotation, describe(u), err)
		}
		if r.Before != nil {
			if err := r.Before.Validate(); err != nil {
				return nil, fmt.Errorf("annotation %s of %s: before: %w", Annotation, describe(u), err)
			}
		}
	}
	return out, nil
}

// recordOf returns what the annotation says of one service, nil where it says nothing.
func recordOf(u *unstructured.Unstructured, service string) (*record, error) {
	all, err := records(u)
	return all[service], err
}

// keep writes a service's record into the object; nil removes it, and the annotation with the last one.
func keep(u *unstructured.Unstructured, service string, r *record) error {
	all, err := records(u)
	if err != nil {
		return err
	}
	if r == nil {
		delete(all, service)
	} else {
		all[service] = r
	}
	annotations := u.GetAnnotations()
	if len(all) == 0 {
		delete(annotations, Annotation)
	} else {
		text, err := json.Marshal(all)
		if err != nil {
			return fmt.Errorf("cannot write annotation %s of %s: %w", Annotation, describe(u), err)
		}
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[Annotation] = string(text)
	}
	if len(annotations) == 0 {
		annotations = nil
	}
	u.SetAnnotations(annotations)
	return nil
}

// change reads an object, lets edit change it, and writes the difference only if nobody wrote in between; then it starts
// anew. An edit that changes nothing writes nothing. With client.DryRunAll the API server and its webhooks only say whether
// they would take the change.
func (t Target) change(ctx context.Context, k kind, name string, edit func(*unstructured.Unstructured) error, options ...client.PatchOption) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		u, err := t.get(ctx, k, name)
		if err != nil {
			return err
		}
		before := u.DeepCopy()
		if err := edit(u); err != nil {
			return err
		}
		patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
		if same, err := unchanged(before, u); same || err != nil {
			return err
		}
		err = t.Client.Patch(ctx, u, patch, append(options, client.FieldOwner(Manager))...)
		if apierrors.IsConflict(err) {
			return err // as it is, for RetryOnConflict
		}
		if err != nil {
			return fmt.Errorf("cannot change %s: %w", describe(before), err)
		}
		return nil
	})
}

func unchanged(a, b *unstructured.Unstructured) (bool, error) {
	x, err := json.Marshal(a)
	if err != nil {
		return false, fmt.Errorf("cannot encode %s: %w", describe(a), err)
	}
	y, err := json.Marshal(b)
	if err != nil {
		return false, fmt.Errorf("cannot encode %s: %w", describe(b), err)
	}
	return string(x) == string(y), nil
}
