package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Patch is a strategic-merge patch of one object, with what a person should know of it.
type Patch struct {
	Comments []string // without the #
	// Object has the fields apiVersion, kind and metadata, by which kustomize finds what it is for, and those that change. It
	// is nil where nothing can be patched; the comments say why.
	Object map[string]any
}

// The lists of a pod's spec.
const (
	containers     = "containers"
	initContainers = "initContainers"
)

// templatePath is where a kind keeps its pods' spec.
func templatePath(kind string) []string {
	switch kind {
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job":
		return []string{"spec", "template", "spec"}
	case "CronJob":
		return []string{"spec", "jobTemplate", "spec", "template", "spec"}
	case "Pod":
		return []string{"spec"}
	}
	return nil
}

// Order are the names of a pod template's containers as they stand in it. A strategic merge moves what it changes to the front,
// and init containers start in their order: a patch therefore names all of them.
type Order struct{ Containers, InitContainers []string }

// Patch makes the workload's requests what is recommended. ok is false where nothing is recommended.
func (w *Workload) Patch(order Order) (patch Patch, ok bool) {
	if !w.recommended() {
		return Patch{}, false
	}
	patch.Comments = []string{fmt.Sprintf("%s %s/%s: by %s.", clean(w.WorkloadOf), clean(w.Namespace), clean(w.Name), clean(w.Source))}
	changed := map[string]map[string]any{containers: {}, initContainers: {}}
	names := map[string][]string{containers: order.Containers, initContainers: order.InitContainers}
	merged, several := w.merged()
	if several {
		patch.Comments = append(patch.Comments, "Its needs differ by class of nodes; a template has one size, so this is the largest.")
	}
	for i := range merged {
		c := &merged[i]
		resources := c.resources(&patch)
		if resources == nil {
			continue
		}
		list := containers
		if c.Type == TypeInit || c.Type == TypeSidecar {
			list = initContainers
		}
		changed[list][c.Name] = resources
		if !slices.Contains(names[list], c.Name) {
			names[list] = append(slices.Clone(names[list]), c.Name)
		}
	}
	path := templatePath(w.WorkloadOf)
	if path == nil {
		patch.Comments = append(patch.Comments, "A "+clean(w.WorkloadOf)+" has no strategic merge: put these resources into the pod template by hand.")
		for _, list := range []string{containers, initContainers} {
			for _, name := range names[list] {
				if resources, ok := changed[list][name]; ok {
					patch.Comments = append(patch.Comments, fmt.Sprintf("%s: %s: %s", list, clean(name), flow(resources)))
				}
			}
		}
		return patch, true
	}
	spec := podSpec(changed, names)
	if len(spec) == 0 {
		return Patch{}, false
	}
	inner := spec
	for _, field := range slices.Backward(path) {
		inner = map[string]any{field: inner}
	}
	patch.Object = inner
	patch.Object["apiVersion"], patch.Object["kind"] = w.APIVersion, w.WorkloadOf
	patch.Object["metadata"] = map[string]any{"name": w.Name, "namespace": w.Namespace}
	return patch, true
}

// podSpec lists all containers of a list of which one changes, in their order.
func podSpec(changed map[string]map[string]any, names map[string][]string) map[string]any {
	spec := map[string]any{}
	for list, those := range changed {
		if len(those) == 0 {
			continue
		}
		var entries []any
		for _, name := range names[list] {
			entry := map[string]any{"name": name}
			if resources, ok := those[name]; ok {
				entry["resources"] = resources
			}
			entries = append(entries, entry)
		}
		spec[list] = entries
	}
	return spec
}

// merged joins the entries of a container that differ by class of nodes: for each resource the largest recommendation.
func (w *Workload) merged() (list []Container, several bool) {
	at := map[string]int{}
	for i := range w.Containers {
		c := w.Containers[i]
		key := c.Type + "/" + c.Name
		j, known := at[key]
		if !known {
			at[key] = len(list)
			c.Resources = append([]Advice(nil), c.Resources...)
			list = append(list, c)
			continue
		}
		several = true
		for _, a := range c.Resources {
			list[j].grow(a)
		}
		if list[j].GPU == nil {
			list[j].GPU = c.GPU
		} else if c.GPU != nil && c.GPU.Recommended != nil && (list[j].GPU.Recommended == nil || c.GPU.Recommended.Memory > list[j].GPU.Recommended.Memory) {
			list[j].GPU = c.GPU
		}
	}
	return list, several
}

func (c *Container) grow(a Advice) {
	for i := range c.Resources {
		b := &c.Resources[i]
		if b.Resource != a.Resource {
			continue
		}
		if a.Recommended != nil && (b.Recommended == nil || *a.Recommended > *b.Recommended) {
			b.Recommended, b.RecommendedLimit = a.Recommended, a.RecommendedLimit
		}
		return
	}
	c.Resources = append(c.Resources, a)
}

// resources is the patch of a container's; nil where nothing is recommended.
func (c *Container) resources(patch *Patch) map[string]any {
	requests, limits := map[string]any{}, map[string]any{}
	for i := range c.Resources {
		a := &c.Resources[i]
		if a.Recommended == nil {
			continue
		}
		requests[a.Resource] = quantity(a.Resource, *a.Recommended)
		if a.RecommendedLimit != nil {
			limits[a.Resource] = quantity(a.Resource, *a.RecommendedLimit)
		}
	}
	c.gpus(requests, limits, patch)
	out := map[string]any{}
	if len(requests) > 0 {
		out["requests"] = requests
	}
	if len(limits) > 0 {
		out["limits"] = limits
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// gpus asks for the recommended extended resource in place of the present one. Requests of extended resources must equal the
// limits. A device class is asked for by a claim, which is no field of the container's resources that a patch could compute.
func (c *Container) gpus(requests, limits map[string]any, patch *Patch) {
	g := c.GPU
	if g == nil || g.Recommended == nil {
		return
	}
	name := clean(c.Name)
	if strings.Contains(g.Recommended.Resource, "/") {
		for _, list := range []map[string]any{requests, limits} {
			if g.Now != nil && g.Now.Resource != g.Recommended.Resource && strings.Contains(g.Now.Resource, "/") {
				list[g.Now.Resource] = nil
			}
			list[g.Recommended.Resource] = strconv.Itoa(int(g.Recommended.Count))
		}
	} else {
		patch.Comments = append(patch.Comments, fmt.Sprintf("Container %s: %d devices of the class %s, by a ResourceClaim.", name, g.Recommended.Count, clean(g.Recommended.Resource)))
	}
	for _, s := range g.Settings {
		was := ""
		if s.Now != "" {
			was = " (now " + clean(s.Now) + ")"
		}
		patch.Comments = append(patch.Comments, fmt.Sprintf("Container %s: set %s of %s to %s%s along with it.", name, clean(s.Name), clean(s.Engine), clean(s.Recommended), was))
	}
	if g.Claim != "" {
		patch.Comments = append(patch.Comments, "Container "+name+": with dynamic resource allocation, the spec of the ResourceClaim is")
		for text := range strings.Lines(strings.TrimRight(g.Claim, "\n")) {
			patch.Comments = append(patch.Comments, "  "+strings.Map(printable, text))
		}
	}
}

// printable keeps a claim's indentation, and of what may end a comment nothing.
func printable(r rune) rune {
	if r < ' ' || r == 0x7f || r == 0x85 || r == '\u2028' || r == '\u2029' {
		return -1
	}
	return r
}

// quantity writes an amount as Kubernetes reads it, rounded up: 250m, 2, 512Mi, 1073741825.
func quantity(resource string, v float64) string {
	if resource == CPU {
		milli := int64(math.Ceil(v*1000 - 1e-6))
		if milli%1000 == 0 {
			return strconv.FormatInt(milli/1000, 10)
		}
		return strconv.FormatInt(milli, 10) + "m"
	}
	bytes := int64(math.Ceil(v - 1e-6))
	for _, unit := range []struct {
		size   int64
		suffix string
	}{{gib, "Gi"}, {1 << 20, "Mi"}, {1 << 10, "Ki"}} {
		if bytes != 0 && bytes%unit.size == 0 {
			return strconv.FormatInt(bytes/unit.size, 10) + unit.suffix
		}
	}
	return strconv.FormatInt(bytes, 10)
}

// flow writes a patch's part on one line, as YAML reads it.
func flow(v any) string {
	switch v := v.(type) {
	case map[string]any:
		parts := make([]string, 0, len(v))
		for _, key := range sortedKeys(v) {
			parts = append(parts, key+": "+flow(v[key]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case nil:
		return "null"
	}
	return clean(fmt.Sprint(v))
}
