// Package explain says why a HorizontalPodAutoscaler wants what it wants: it composes what the API server and the adapter
// tell into one report, and writes reports for people.
//
// Guarantees: everything here is a pure function of its arguments. The arithmetic is scaler/hpa's, which is the
// controller's own; what only the controller knows (its earlier recommendations, the changes within a policy's period) is
// taken from the conditions that it wrote, and said to be. What could not be read is told, and never guessed to be zero.
package explain

import (
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"

	"headroom.dev/headroom/api/query"
	"headroom.dev/headroom/scaler/hpa"
	"headroom.dev/headroom/scaler/hpa/kube"
)

// Input is all that is known of an autoscaler at one moment.
type Input struct {
	Now      time.Time
	HPA      *autoscalingv2.HorizontalPodAutoscaler
	Scale    *autoscalingv1.Scale // of its target; nil where it cannot be read
	ScaleErr string
	Pods     []corev1.Pod // that the scale's selector means
	PodsErr  string       // why they could not be listed
	Metrics  []Source     // for each of the HPA's metrics, in its order
}

// Source is what the adapter tells of one metric. All fields are empty for metrics that are not the adapter's.
type Source struct {
	Explanation *query.Explanation
	// Partial says why the explanation has values alone: the metrics APIs gave it, which tell neither rules nor reasons.
	Partial string
	// Absent is the error that the HPA gets, too: there is no value.
	Absent string
	// Unread says why it could not be found out whether there is a value.
	Unread string
}

// HPA is the report about one HorizontalPodAutoscaler. Numbers of replicas are pods, times are as in package query.
type HPA struct {
	At         time.Time   `json:"at"`
	Namespace  string      `json:"namespace"`
	Name       string      `json:"name"`
	Target     Target      `json:"target"`
	Min        int32       `json:"minReplicas"`
	Max        int32       `json:"maxReplicas"`
	Status     Status      `json:"status"`
	Metrics    []Metric    `json:"metrics"`
	Behavior   Behavior    `json:"behavior"`
	Conditions []Condition `json:"conditions"`
	Notes      []string    `json:"notes,omitempty"` // what could not be told, and why
	Verdict    Verdict     `json:"verdict"`
}

// Target is what is scaled.
type Target struct {
	Kind     string `json:"kind"`
	Name     string `json:"name"`
	Selector string `json:"selector,omitempty"`
	Replicas int32  `json:"replicas"` // of the scale's spec
	Created  int32  `json:"created"`  // of the scale's status
	Pods     *Pods  `json:"pods,omitempty"`
}

// Pods counts those that the target's selector means.
type Pods struct {
	All     int `json:"all"`
	Ready   int `json:"ready"`
	Pending int `json:"pending"` // their phase: no container runs yet
	Over    int `json:"over"`    // being deleted, or failed
}

// Status is what the HPA did at its last look.
type Status struct {
	Current   int32      `json:"currentReplicas"`
	Desired   int32      `json:"desiredReplicas"`
	LastScale *time.Time `json:"lastScaleTime,omitempty"`
}

// Condition is one of the HPA's own.
type Condition struct {
	Type    string    `json:"type"`
	Status  string    `json:"status"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Since   time.Time `json:"lastTransitionTime"`
}

// composer is a report in the making.
type composer struct {
	in     *Input
	out    *HPA
	cfg    hpa.Config // the flags of the controller cannot be seen: they are taken to be the defaults
	spec   hpa.Autoscaler
	tol    hpa.Tolerances
	exists map[string]bool // the pods; nil where they are not known
}

// OfHPA composes the report.
func OfHPA(in *Input) *HPA {
	c := &composer{in: in, out: &HPA{
		At: in.Now.UTC(), Namespace: in.HPA.Namespace, Name: in.HPA.Name, Min: 1, Max: in.HPA.Spec.MaxReplicas,
		Metrics: []Metric{}, Conditions: []Condition{},
	}}
	if in.HPA.Spec.MinReplicas != nil {
		c.out.Min = *in.HPA.Spec.MinReplicas
	}
	c.target()
	c.status()
	c.cfg, c.spec = hpa.DefaultConfig(), kube.Autoscaler(&in.HPA.Spec)
	c.spec.Default()
	c.out.Behavior, c.tol = behaviorOf(&c.spec, &c.cfg), c.spec.Tolerances(&c.cfg)
	for i := range in.HPA.Spec.Metrics {
		var source Source
		if i < len(in.Metrics) {
			source = in.Metrics[i]
		}
		c.out.Metrics = append(c.out.Metrics, c.metric(&in.HPA.Spec.Metrics[i], &c.spec.Metrics[i], &source))
	}
	c.verdict()
	return c.out
}

func (c *composer) note(text string) { c.out.Notes = append(c.out.Notes, text) }

func (c *composer) target() {
	ref, t := c.in.HPA.Spec.ScaleTargetRef, &c.out.Target
	t.Kind, t.Name = ref.Kind, ref.Name
	t.Replicas, t.Created = c.in.HPA.Status.CurrentReplicas, c.in.HPA.Status.CurrentReplicas
	if s := c.in.Scale; s != nil {
		t.Selector, t.Replicas, t.Created = s.Status.Selector, s.Spec.Replicas, s.Status.Replicas
	} else {
		c.note("the replicas are those of the HPA's last look: " + c.in.ScaleErr)
	}
	if c.in.PodsErr != "" {
		c.note("the pods are those that have a value: " + c.in.PodsErr)
		return
	}
	t.Pods = &Pods{All: len(c.in.Pods)}
	c.exists = map[string]bool{}
	for i := range c.in.Pods {
		p := &c.in.Pods[i]
		c.exists[p.Name] = true
		switch {
		case ignored(p):
			t.Pods.Over++
		case p.Status.Phase == corev1.PodPending:
			t.Pods.Pending++
		case p.Status.Phase == corev1.PodRunning && ready(p):
			t.Pods.Ready++
		}
	}
}

// ignored is for pods that the HPA leaves out of its arithmetic.
func ignored(p *corev1.Pod) bool {
	return p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodFailed
}

func ready(p *corev1.Pod) bool {
	for _, condition := range p.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// readyPods is what the HPA multiplies a ratio with; deleted pods that are still ready count there.
func (c *composer) readyPods() int {
	if c.exists == nil {
		return int(c.out.Target.Created)
	}
	n := 0
	for i := range c.in.Pods {
		if p := &c.in.Pods[i]; p.Status.Phase == corev1.PodRunning && ready(p) {
			n++
		}
	}
	return n
}

func (c *composer) status() {
	s := c.in.HPA.Status
	c.out.Status = Status{Current: s.CurrentReplicas, Desired: s.DesiredReplicas}
	if s.LastScaleTime != nil {
		c.out.Status.LastScale = new(s.LastScaleTime.UTC())
	}
	for _, condition := range s.Conditions {
		c.out.Conditions = append(c.out.Conditions, Condition{
			Type: string(condition.Type), Status: string(condition.Status), Reason: condition.Reason, Message: condition.Message,
			Since: condition.LastTransitionTime.UTC(),
		})
	}
	if s.ObservedGeneration != nil && *s.ObservedGeneration < c.in.HPA.Generation {
		c.note("the HPA has not looked since its spec was changed; its conditions are from before")
	}
}

// condition returns the HPA's condition of a type; an empty one where there is none.
func (c *composer) condition(kind autoscalingv2.HorizontalPodAutoscalerConditionType) Condition {
	for _, condition := range c.out.Conditions {
		if condition.Type == string(kind) {
			return condition
		}
	}
	return Condition{}
}
