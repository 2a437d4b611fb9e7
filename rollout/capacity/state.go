package capacity

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// conditionsOf reads an object's conditions. Those that cannot be read are told, as they may be the ones that matter.
func conditionsOf(o *unstructured.Unstructured) ([]metav1.Condition, error) {
	var out struct {
		Status struct {
			Conditions []metav1.Condition `json:"conditions"`
		} `json:"status"`
	}
	status, ok := o.Object["status"]
	if !ok {
		return nil, nil
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(map[string]any{"status": status}, &out); err != nil {
		return nil, fmt.Errorf("cannot read status.conditions of %s: %w", describe(o), err)
	}
	return out.Status.Conditions, nil
}

// because is a condition's reason and message, behind a colon.
func because(c *metav1.Condition) string {
	switch {
	case c == nil || c.Reason == "" && c.Message == "":
		return ""
	case c.Message == "":
		return ": " + c.Reason
	case c.Reason == "":
		return ": " + c.Message
	}
	return ": " + c.Reason + ": " + c.Message
}

// stateOfRequest says what a ProvisioningRequest has come to.
func stateOfRequest(_ context.Context, o *unstructured.Unstructured) (string, error) {
	conditions, err := conditionsOf(o)
	if err != nil {
		return "", err
	}
	if o.GetDeletionTimestamp() != nil {
		return describe(o) + " is being deleted, and is made again when it is gone", nil
	}
	for _, end := range []struct{ kind, text string }{
		{"Failed", " failed"},
		{"CapacityRevoked", " has had its nodes taken back"},
		{"BookingExpired", " has nodes that are no longer booked: others may take them"},
	} {
		if c := meta.FindStatusCondition(conditions, end.kind); c != nil && c.Status == metav1.ConditionTrue {
			return describe(o) + end.text + because(c), nil
		}
	}
	provisioned, accepted := meta.FindStatusCondition(conditions, "Provisioned"), meta.FindStatusCondition(conditions, "Accepted")
	switch {
	case provisioned != nil && provisioned.Status == metav1.ConditionTrue:
		return "", nil
	case provisioned != nil && provisioned.Status == metav1.ConditionFalse:
		return describe(o) + " waits for nodes" + because(provisioned), nil
	case accepted != nil && accepted.Status == metav1.ConditionTrue:
		return describe(o) + " is accepted and waits for nodes", nil
	case accepted != nil && accepted.Status == metav1.ConditionFalse:
		return describe(o) + " is not accepted" + because(accepted), nil
	}
	return describe(o) + " is not accepted yet", nil
}

// stateOfBuffer says what a CapacityBuffer has come to. None of its conditions says that there is room now (Provisioning says that the
// autoscaler has looked at it): that is counted.
func (m *maker) stateOfBuffer(ctx context.Context, o *unstructured.Unstructured) (string, error) {
	conditions, err := conditionsOf(o)
	if err != nil {
		return "", err
	}
	n := m.n
	n.Most = m.a.replicas
	if fits, _ := m.c.newLook(ctx, &m.p.Spec, n).free(); fits >= m.a.replicas {
		return "", nil
	}
	ready, making := meta.FindStatusCondition(conditions, "ReadyForProvisioning"), meta.FindStatusCondition(conditions, "Provisioning")
	limited := meta.FindStatusCondition(conditions, "LimitedByQuotas")
	switch {
	case o.GetDeletionTimestamp() != nil:
		return describe(o) + " is being deleted, and is made again when it is gone", nil
	case ready != nil && ready.Status == metav1.ConditionFalse:
		return describe(o) + " is not ready for provisioning" + because(ready), nil
	case limited != nil && limited.Status == metav1.ConditionTrue:
		return describe(o) + " is limited by quotas" + because(limited), nil
	case making != nil && making.Status == metav1.ConditionFalse:
		return describe(o) + " gets no nodes" + because(making), nil
	case making != nil && making.Status == metav1.ConditionTrue:
		return describe(o) + " waits for nodes" + because(making), nil
	case ready != nil && ready.Status == metav1.ConditionTrue:
		return describe(o) + " is ready for provisioning, and no autoscaler has taken it up yet", nil
	}
	return describe(o) + " has been seen by no autoscaler yet", nil
}

// stateOfPlaceholders says how many placeholder pods have no node.
func (m *maker) stateOfPlaceholders(its map[string]string) func(context.Context, *unstructured.Unstructured) (string, error) {
	return func(ctx context.Context, o *unstructured.Unstructured) (string, error) {
		var list corev1.PodList
		err := m.c.Client.List(ctx, &list, client.InNamespace(m.p.Namespace), client.MatchingLabels(its), client.UnsafeDisableDeepCopy)
		if err != nil {
			return "", fmt.Errorf("cannot list placeholder pods: %w", err)
		}
		bound, why := 0, ""
		for i := range list.Items {
			p := &list.Items[i]
			switch {
			case p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed:
			case p.Spec.NodeName != "":
				bound++
			case why == "":
				why = unschedulable(p)
			}
		}
		if bound >= m.a.replicas {
			return "", nil
		}
		conditions, err := conditionsOf(o)
		if err != nil {
			return "", err
		}
		if c := meta.FindStatusCondition(conditions, "ReplicaFailure"); c != nil && c.Status == metav1.ConditionTrue {
			why = because(c)
		}
		return fmt.Sprintf("%d of %d placeholder pods of %s wait for nodes%s", m.a.replicas-bound, m.a.replicas, describe(o), why), nil
	}
}

func unschedulable(p *corev1.Pod) string {
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Message != "" {
			return ": " + c.Message
		}
	}
	return ""
}
