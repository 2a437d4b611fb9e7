package screen

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/api/v1alpha1"
)

// End tells how an update ended.
type End struct {
	Over bool // nothing more happens unless somebody acts, or a refused update finds its capacity
	Good bool // every replica runs the newest template
	Why  string
}

// EndOf tells whether the update of a policy is over. seen is the workload's generation whose update is asked about: before the
// controller has seen it, what the status says is about an earlier one. A controller that tells no generation is trusted.
func EndOf(p *v1alpha1.RolloutPolicy, seen int64) End {
	st := &p.Status
	if st.ObservedGeneration != 0 && st.ObservedGeneration < p.Generation {
		return End{} // its spec, perhaps the target, is another by now
	}
	if st.TargetGeneration != 0 && st.TargetGeneration < seen {
		return End{}
	}
	if c := meta.FindStatusCondition(st.Conditions, v1alpha1.ConditionReady); c != nil && c.Status == metav1.ConditionFalse {
		return End{Over: true, Why: fmt.Sprintf("the policy is not in force (%s): %s", c.Reason, c.Message)}
	}
	completed := meta.FindStatusCondition(st.Conditions, v1alpha1.ConditionCompleted)
	switch {
	case st.Refusal != nil && st.Phase == planning:
		return End{Over: true, Why: "the update was refused: " + st.Refusal.Message}
	case st.Phase == "Gone":
		return End{Over: true, Why: "the workload is gone"}
	case st.Phase != resting || completed == nil:
		return End{}
	case completed.Status == metav1.ConditionTrue:
		return End{Over: true, Good: true, Why: "every replica runs the newest template"}
	}
	why := completed.Message
	if why == "" {
		why = reason(p)
	}
	return End{Over: true, Why: "the update went back: " + why}
}
