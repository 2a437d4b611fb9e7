package workload

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/internal/managedfields"
	"headroom.dev/headroom/rollout"
)

// unknownWriter stands for the writer of a field that nobody owns: a default of the API server, or a zero, which is not in the object.
const unknownWriter = "unknown"

// paths are where an object of the kind has the fields, by the names that rollout has for them.
func paths(kind rollout.Kind) map[string][]string {
	out := map[string][]string{"template": {"spec", "template"}}
	switch kind {
	case rollout.Deployment:
		out["paused"] = []string{"spec", "paused"}
		out["minReadySeconds"] = []string{"spec", "minReadySeconds"}
		out["progressDeadlineSeconds"] = []string{"spec", "progressDeadlineSeconds"}
		out["maxSurge"] = []string{"spec", "strategy", "rollingUpdate", "maxSurge"}
		out["maxUnavailable"] = []string{"spec", "strategy", "rollingUpdate", "maxUnavailable"}
		out["strategy.recreate"] = []string{"spec", "strategy", "type"}
	case rollout.StatefulSet:
		out["partition"] = []string{"spec", "updateStrategy", "rollingUpdate", "partition"}
		out["strategy.recreate"] = []string{"spec", "updateStrategy", "type"}
		out["updateStrategy.onDelete"] = []string{"spec", "updateStrategy", "type"}
	case rollout.DaemonSet:
		out["maxSurge"] = []string{"spec", "updateStrategy", "rollingUpdate", "maxSurge"}
		out["maxUnavailable"] = []string{"spec", "updateStrategy", "rollingUpdate", "maxUnavailable"}
		out["updateStrategy.onDelete"] = []string{"spec", "updateStrategy", "type"}
	}
	return out
}

// writers names by field who wrote it last, where that was not Manager.
func writers(entries []metav1.ManagedFieldsEntry, kind rollout.Kind) map[string]string {
	out := map[string]string{}
	for name, path := range paths(kind) {
		if w := writer(entries, path, name != "template"); w != "" {
			out[name] = w
		}
	}
	return out
}

// writer is who wrote a field, or something below it, last; "" is Manager. A single value that Manager owns is Manager's, since
// who changes one takes it from all its owners; of a template each may own a part, and the newest owner counts.
func writer(entries []metav1.ManagedFieldsEntry, path []string, single bool) string {
	manager, last := unknownWriter, time.Time{}
	for _, e := range entries {
		if e.Subresource != "" || e.FieldsV1 == nil || !managedfields.Own(e.FieldsV1.GetRawBytes(), path) {
			continue
		}
		if single && e.Manager == Manager {
			return ""
		}
		at := time.Time{}
		if e.Time != nil {
			at = e.Time.Time
		}
		// Times are whole seconds: others' names say more than that it was Manager.
		if manager == unknownWriter || at.After(last) || at.Equal(last) && manager == Manager {
			manager, last = e.Manager, at
		}
	}
	if manager == Manager {
		return ""
	}
	return manager
}
