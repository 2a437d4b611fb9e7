package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/scaler/policy"
)

const (
	checkpointKey  = "history"
	demandKey      = "demand" // what the history is of
	checkpointName = "headroom-history-"
	maxName        = 253
)

// Historian has the demand of the past, in a Prometheus-compatible server.
type Historian interface {
	// History returns demand at each step from Start to End, oldest first, as far as it is known.
	History(ctx context.Context, of Past) ([]Value, error)
}

// Past is what a Historian is asked for.
type Past struct {
	Namespace  string
	Target     Target
	Metric     string // of pods, to be summed over the target's; or
	Query      string
	Start, End time.Time // multiples of Step
	Step       time.Duration
}

// checkpointOf is the name of a policy's ConfigMap. A policy's name may be as long as a ConfigMap's: then its end is a hash.
func checkpointOf(of string) string {
	name := checkpointName + of
	if len(name) <= maxName {
		return name
	}
	hash := sha256.Sum256([]byte(of))
	end := "-" + hex.EncodeToString(hash[:8])
	return name[:maxName-len(end)] + end
}

// past finds the history of a policy's demand, nil where there is none.
func (c *Controller) past(ctx context.Context, p *v1alpha1.ScalePolicy, s *policy.Settings, t *Target, now time.Time) (*history, string, error) {
	log := c.opts.Log.With("namespace", p.Namespace, "scalepolicy", p.Name)
	if c.opts.Historian != nil {
		h, err := c.remember(ctx, p.Namespace, s, t, now)
		if err == nil && h.known() > 0 {
			return h, sourcePrometheus, nil
		}
		log.Warn("no history from the Prometheus server", "err", err)
	}
	var found corev1.ConfigMap
	err := c.opts.Client.Get(ctx, client.ObjectKey{Namespace: p.Namespace, Name: checkpointOf(p.Name)}, &found)
	switch {
	case apierrors.IsNotFound(err):
		return nil, "", nil
	case err != nil: // to begin anew would overwrite it
		return nil, "", fmt.Errorf("cannot read the checkpoint: %w", err)
	case !metav1.IsControlledBy(&found, p) || found.Data[demandKey] != s.Demand():
		log.Info("the checkpoint is not of this policy's demand and is not used", "configmap", found.Name)
		return nil, "", nil
	}
	h, err := decodeHistory(found.BinaryData[checkpointKey])
	if err == nil && h.end().After(now.Add(s.Step())) {
		err = fmt.Errorf("it ends in the future, at %s", h.end())
	}
	if err != nil {
		log.Warn("the checkpoint cannot be used: the history begins anew", "configmap", found.Name, "err", err)
		return nil, "", nil
	}
	return h, sourceCheckpoint, nil
}

// remember asks the Historian.
func (c *Controller) remember(ctx context.Context, namespace string, s *policy.Settings, t *Target, now time.Time) (*history, error) {
	h := newHistory(s.Step())
	end := now.Truncate(h.step)
	span := min(historySpan, maxSteps*h.step)
	values, err := c.opts.Historian.History(ctx, Past{
		Namespace: namespace, Target: *t, Metric: s.Metric, Query: s.Query, Start: end.Add(-span), End: end, Step: h.step,
	})
	if err != nil {
		return h, err
	}
	for _, v := range values {
		h.add(v.At.Add(-1), v.Value) // a value at the end of a step is of that step
	}
	return h, nil
}

// save writes the checkpoint of a history. A ConfigMap of its name that is not the policy's is left alone.
func (c *Controller) save(ctx context.Context, p *v1alpha1.ScalePolicy, v *service) error {
	if len(v.history.values) == 0 {
		return nil
	}
	encoded, err := v.history.encode()
	if err != nil {
		return err
	}
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: checkpointOf(p.Name)}}
	_, err = controllerutil.CreateOrUpdate(ctx, c.opts.Client, m, func() error {
		if !m.CreationTimestamp.IsZero() && !metav1.IsControlledBy(m, p) {
			return fmt.Errorf("ConfigMap %s is not the policy's", m.Name)
		}
		m.Data = map[string]string{demandKey: v.settings.Demand()}
		m.BinaryData = map[string][]byte{checkpointKey: encoded}
		return controllerutil.SetControllerReference(p, m, c.opts.Client.Scheme(), controllerutil.WithBlockOwnerDeletion(false))
	})
	if err != nil {
		return fmt.Errorf("cannot write the checkpoint: %w", err)
	}
	return nil
}
