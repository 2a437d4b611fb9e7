package screen

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"headroom.dev/headroom/api/v1alpha1"
)

// The phases of a RolloutPolicy, as package rollout has them.
const (
	resting   = "Resting"
	planning  = "Planning"
	moving    = "Moving"
	settled   = "Settled"
	goingBack = "GoingBack"
	restoring = "Restoring"
)

// Underway says that an update is between its template's being seen and its end.
func Underway(p *v1alpha1.RolloutPolicy) bool {
	switch p.Status.Phase {
	case planning, moving, settled, goingBack:
		return true
	}
	return false
}

func ago(t *metav1.Time, now time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return duration.HumanDuration(max(0, now.Sub(t.Time))) + " ago"
}

func span(d time.Duration) string { return duration.HumanDuration(d) }

func spanOf(d *metav1.Duration) string {
	if d == nil {
		return ""
	}
	return span(d.Duration)
}

// amount is a quantity to three digits, as a person reads it.
func amount(q *resource.Quantity) string {
	if q == nil {
		return ""
	}
	v := q.AsApproximateFloat64()
	if v >= 1000 || v <= -1000 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

func plural(n int32, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func percent(text string) string {
	if text == "" {
		return ""
	}
	return strings.TrimSuffix(text, "%") + "%"
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func number(n int32) string { return strconv.Itoa(int(n)) }

// some is a number that matters only when it is not 0.
func some(n int32) string {
	if n == 0 {
		return "-"
	}
	return number(n)
}

func revision(n int64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

// brief writes versions' images by their last path element where that tells them apart, as "vllm:v0.11"; else in full.
func brief(versions ...map[string]string) func(map[string]string) string {
	full := map[string]string{} // by short form
	short := true
	for _, images := range versions {
		for _, image := range images {
			name := base(image)
			if other, ok := full[name]; ok && other != image {
				short = false
			}
			full[name] = image
		}
	}
	return func(images map[string]string) string {
		var list []string
		for _, container := range slices.Sorted(maps.Keys(images)) {
			image := images[container]
			if short {
				image = base(image)
			}
			list = append(list, image)
		}
		return strings.Join(list, ", ")
	}
}

// base is an image less its registry and path; of a digest twelve digits are left.
func base(image string) string {
	name := image[strings.LastIndex(image, "/")+1:]
	if at := strings.Index(name, "@"); at >= 0 {
		algorithm, digits, ok := strings.Cut(name[at+1:], ":")
		if ok && algorithm != "" && len(digits) > 12 {
			name = name[:at+1] + digits[:12]
		}
	}
	return name
}

// state is one word for where a policy stands: the reason of the condition that tells most.
func state(p *v1alpha1.RolloutPolicy) string {
	if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady); c != nil && c.Status == metav1.ConditionFalse {
		return c.Reason
	}
	if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionCompleted); c != nil {
		return c.Reason
	}
	return "Pending"
}

// reason is the present one in a sentence.
func reason(p *v1alpha1.RolloutPolicy) string {
	c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case c != nil && c.Status == metav1.ConditionFalse && c.Message != "":
		return c.Message
	case p.Status.Message != "":
		return p.Status.Message
	case c == nil && p.Status.Phase == "":
		return "headroom-controller has not looked at it yet"
	}
	return ""
}
