package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// line is one line of a table: a resource of a container, or a workload of which nothing is known yet.
type line struct {
	report    *Report
	workload  *Workload
	container *Container // nil: the workload has none
	advice    *Advice    // nil: it is about the GPU, or nothing
}

func (r *Report) lines() []line {
	var list []line
	for i := range r.Workloads {
		w := &r.Workloads[i]
		some := false
		for j := range w.Containers {
			c := &w.Containers[j]
			for k := range c.Resources {
				list = append(list, line{r, w, c, &c.Resources[k]})
				some = true
			}
			if c.GPU != nil {
				list = append(list, line{r, w, c, nil})
				some = true
			}
		}
		if !some {
			list = append(list, line{report: r, workload: w})
		}
	}
	return list
}

func (l *line) gpu() *GPU {
	if l.container == nil || l.advice != nil {
		return nil
	}
	return l.container.GPU
}

// column is one of a table's. What it is sorted by is a number where there is one; NaN is not known and comes last.
type column struct {
	key, head, hint string
	number          bool
	cell            func(*line) string
	by              func(*line) float64
}

const (
	keyNamespace = "namespace"
	keyMoney     = "money"
	keyWhy       = "why"
)

// columns are those of the tables for people; wide adds to them. Without prices there is no money.
func (r *Report) columns(wide bool) []column {
	list := []column{
		{key: keyNamespace, head: "NAMESPACE", cell: func(l *line) string { return clean(l.workload.Namespace) }},
		{key: "workload", head: "WORKLOAD", cell: func(l *line) string { return clean(strings.ToLower(l.workload.WorkloadOf) + "/" + l.workload.Name) }},
		{key: "container", head: "CONTAINER", hint: "with the class of nodes, where a DaemonSet's differ", cell: containerCell},
		{key: "resource", head: "RESOURCE", cell: resourceCell},
		{key: "now", head: "NOW", hint: "what one container requests", number: true, cell: nowCell, by: nowOf},
		{key: "recommended", head: "RECOMMENDED", hint: "what it should request", number: true, cell: recommendedCell, by: recommendedOf},
		{key: "range", head: "RANGE", hint: "holds the need over the time that the recommendation is meant to stand", number: true, cell: rangeCell, by: upperOf},
		{key: "verdict", head: "VERDICT", hint: "Over: more is requested than the range holds; Short: less; Unset: nothing", cell: verdictCell},
		{key: "risk-now", head: "RISK NOW", hint: "the last days as they were: the share of time above the request, and hours in which memory would have been killed for", number: true, cell: riskNow, by: overNow},
		{key: "risk-then", head: "RISK THEN", hint: "the same days at the recommended size", number: true, cell: riskThen, by: overThen},
		{key: "saves", head: "SAVES", hint: "of all replicas; negative where more is needed", number: true, cell: savesCell, by: savesOf},
	}
	if r.Prices != nil {
		list = append(list, column{
			key: keyMoney, head: "A MONTH", hint: "what that is worth in a month of 730 hours", number: true,
			cell: func(l *line) string { return r.Prices.money(l.money()) }, by: func(l *line) float64 { return orNaN(l.money()) },
		})
	}
	if wide {
		list = append(list,
			column{key: "replicas", head: "REPLICAS", number: true, cell: replicasCell, by: replicasOf},
			column{key: "limit", head: "LIMIT", number: true, cell: func(l *line) string { return l.adviceCell(func(a *Advice) *float64 { return a.Limit }) }},
			column{key: "recommended-limit", head: "NEW LIMIT", number: true, cell: func(l *line) string { return l.adviceCell(func(a *Advice) *float64 { return a.RecommendedLimit }) }},
			column{key: "startup", head: "START-UP", hint: "the most that was used while starting", number: true, cell: func(l *line) string { return l.adviceCell(func(a *Advice) *float64 { return a.Startup }) }},
			column{key: "evidence", head: "EVIDENCE", hint: "hours of which something is known, and how far the samples are known to be this container's", number: true, cell: evidenceCell},
			column{key: "covered", head: "COVERED", hint: "share of past ranges that held what was needed then", number: true, cell: coveredCell},
		)
	}
	return append(list, column{key: keyWhy, head: "WHY", cell: whyCell})
}

func containerCell(l *line) string {
	if l.container == nil {
		return none
	}
	text := clean(l.container.Name)
	switch l.container.Type {
	case TypeInit:
		text += " (init)"
	case TypeSidecar:
		text += " (sidecar)"
	}
	if l.container.NodeClass != "" {
		text += " on " + clean(l.container.NodeClass)
	}
	return text
}

func resourceCell(l *line) string {
	switch {
	case l.advice != nil:
		return clean(l.advice.Resource)
	case l.gpu() != nil:
		return "gpu"
	}
	return none
}

func (l *line) adviceCell(of func(*Advice) *float64) string {
	if l.advice == nil {
		return none
	}
	return amount(l.advice.Resource, of(l.advice))
}

func nowCell(l *line) string {
	if g := l.gpu(); g != nil {
		return g.Now.cell()
	}
	return l.adviceCell(func(a *Advice) *float64 { return a.Request })
}

func recommendedCell(l *line) string {
	if g := l.gpu(); g != nil {
		return g.Recommended.cell()
	}
	return l.adviceCell(func(a *Advice) *float64 { return a.Recommended })
}

func (q *GPURequest) cell() string {
	if q == nil {
		return none
	}
	text := fmt.Sprintf("%d %s", q.Count, clean(q.Resource))
	if q.Sharing == "TimeSlicing" {
		text += fmt.Sprintf(" (%s of a GPU)", digits(q.Share))
	}
	return text
}

func rangeCell(l *line) string {
	lower, upper, resource := l.bounds()
	if lower == nil || upper == nil {
		return none
	}
	return amount(resource, lower) + "–" + amount(resource, upper)
}

func (l *line) bounds() (lower, upper *float64, resource string) {
	if g := l.gpu(); g != nil {
		return g.Lower, g.Upper, Memory
	}
	if l.advice != nil {
		return l.advice.Lower, l.advice.Upper, l.advice.Resource
	}
	return nil, nil, ""
}

func (l *line) verdict() Verdict {
	switch g := l.gpu(); {
	case g != nil:
		return g.Verdict
	case l.advice != nil:
		return l.advice.Verdict
	}
	return Waiting
}

func verdictCell(l *line) string { return dash(string(l.verdict())) }

func riskNow(l *line) string {
	if l.advice == nil {
		return none
	}
	return l.advice.Now.cell(l.advice.Resource)
}

func riskThen(l *line) string {
	if g := l.gpu(); g != nil {
		if g.Risk == nil {
			return none
		}
		return percent(*g.Risk) + " a day"
	}
	if l.advice == nil {
		return none
	}
	return l.advice.Then.cell(l.advice.Resource)
}

// cell says what would have gone wrong. Above a CPU request a container is throttled if the node is full, or if the limit is
// the request; memory is killed for.
func (p *Replay) cell(resource string) string {
	if p == nil || p.Hours == 0 {
		return none
	}
	if resource == Memory {
		return percent(p.Over) + " over, " + count(p.Kills, "kill", "kills")
	}
	return percent(p.Over) + " over"
}

func savesCell(l *line) string {
	if g := l.gpu(); g != nil {
		if g.Saved == nil {
			return none
		}
		return digits(*g.Saved) + " GPU"
	}
	return l.adviceCell(func(a *Advice) *float64 { return a.Saved })
}

func (l *line) money() *float64 {
	if g := l.gpu(); g != nil {
		return g.Money
	}
	if l.advice != nil {
		return l.advice.Money
	}
	return nil
}

func replicasCell(l *line) string {
	if l.workload.Replicas == nil {
		return none
	}
	return strconv.Itoa(int(*l.workload.Replicas))
}

func (l *line) evidence() *Evidence {
	if g := l.gpu(); g != nil {
		return g.Evidence
	}
	if l.advice != nil {
		return l.advice.Evidence
	}
	return nil
}

func evidenceCell(l *line) string {
	e := l.evidence()
	if e == nil {
		return none
	}
	return fmt.Sprintf("%dh at %d%%", e.Hours, e.Certainty)
}

func coveredCell(l *line) string {
	e := l.evidence()
	if e == nil || e.Covered == nil {
		return none
	}
	return fmt.Sprintf("%d%%", *e.Covered)
}

// whyCell ends with when there will be a recommendation, where there is none and the message does not say so.
func whyCell(l *line) string {
	text, at := l.workload.Message, l.workload.ReadyAt
	if g := l.gpu(); g != nil {
		parts := []string{g.Message}
		for _, s := range g.Settings {
			parts = append(parts, fmt.Sprintf("set %s of %s to %s", s.Name, s.Engine, s.Recommended))
		}
		if g.Placement != "" {
			parts = append(parts, g.Placement)
		}
		text, at = strings.Join(parts, "; "), g.ReadyAt
	} else if l.advice != nil {
		text, at = l.advice.Message, l.advice.ReadyAt
	}
	text = clean(text)
	if at != nil && !strings.Contains(text, at.UTC().Format("15:04")) {
		if text != "" {
			text += "; "
		}
		text += "there will be one at " + when(at) + " UTC"
	}
	return dash(text)
}

func nowOf(l *line) float64 {
	if g := l.gpu(); g != nil {
		if g.Now == nil {
			return math.NaN()
		}
		return g.Now.Share
	}
	return l.number(func(a *Advice) *float64 { return a.Request })
}

func recommendedOf(l *line) float64 {
	if g := l.gpu(); g != nil {
		if g.Recommended == nil {
			return math.NaN()
		}
		return g.Recommended.Share
	}
	return l.number(func(a *Advice) *float64 { return a.Recommended })
}

func upperOf(l *line) float64 {
	_, upper, _ := l.bounds()
	return orNaN(upper)
}

func overNow(l *line) float64 {
	if l.advice == nil || l.advice.Now == nil {
		return math.NaN()
	}
	return l.advice.Now.Over
}

func overThen(l *line) float64 {
	if g := l.gpu(); g != nil {
		return orNaN(g.Risk)
	}
	if l.advice == nil || l.advice.Then == nil {
		return math.NaN()
	}
	return l.advice.Then.Over
}

// savesOf makes cores, bytes and GPUs comparable by the weights that workloads are sorted by.
func savesOf(l *line) float64 {
	if g := l.gpu(); g != nil {
		return orNaN(g.Saved) * coresPerGPU
	}
	v := l.number(func(a *Advice) *float64 { return a.Saved })
	if l.advice != nil && l.advice.Resource == Memory {
		return v / gib * coresPerGiB
	}
	return v
}

func replicasOf(l *line) float64 {
	if l.workload.Replicas == nil {
		return math.NaN()
	}
	return float64(*l.workload.Replicas)
}

func (l *line) number(of func(*Advice) *float64) float64 {
	if l.advice == nil {
		return math.NaN()
	}
	return orNaN(of(l.advice))
}

func orNaN(v *float64) float64 {
	if v == nil {
		return math.NaN()
	}
	return *v
}
