package capacity

import (
	"context"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// priority is what admission writes into a pod.
type priority struct {
	class string // "" for none
	value int32
	never bool // preemptionPolicy: Never
}

func (p *priority) String() string {
	if p.class == "" {
		return strconv.Itoa(int(p.value))
	}
	return fmt.Sprintf("%d (PriorityClass %s)", p.value, p.class)
}

// priorityOf is the priority of a template's pods: of the class it names, or the default one's, as the admission plugin Priority
// has it.
func (c *Client) priorityOf(ctx context.Context, spec *corev1.PodSpec) (*priority, error) {
	if spec.PriorityClassName != "" {
		p, err := c.classNamed(ctx, spec.PriorityClassName)
		if err != nil {
			return nil, fmt.Errorf("spec.template.spec.priorityClassName: %w", err)
		}
		return p, nil
	}
	var classes schedulingv1.PriorityClassList
	if err := c.Client.List(ctx, &classes, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("cannot list PriorityClasses: %w", err)
	}
	var def *priority
	for i := range classes.Items {
		// Of several defaults the lowest counts.
		if k := &classes.Items[i]; k.GlobalDefault && (def == nil || k.Value < def.value) {
			def = fromClass(k)
		}
	}
	if def != nil {
		return def, nil
	}
	return &priority{never: never(spec.PreemptionPolicy)}, nil
}

func (c *Client) classNamed(ctx context.Context, name string) (*priority, error) {
	var k schedulingv1.PriorityClass
	err := c.Client.Get(ctx, types.NamespacedName{Name: name}, &k)
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("the PriorityClass %s does not exist", name)
	case err != nil:
		return nil, fmt.Errorf("cannot read PriorityClass %s: %w", name, err)
	}
	return fromClass(&k), nil
}

func fromClass(k *schedulingv1.PriorityClass) *priority {
	return &priority{class: k.Name, value: k.Value, never: never(k.PreemptionPolicy)}
}

func never(p *corev1.PreemptionPolicy) bool { return p != nil && *p == corev1.PreemptNever }
