package report

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// MonthHours is a month: a year's hours by twelve.
const MonthHours = 730

const gib = 1 << 30

// What is saved is sorted by money, or without prices by these weights: about what clouds ask, in cores.
const (
	coresPerGiB = 0.125
	coresPerGPU = 60
)

// Saving is how much less is requested; negative where more is.
type Saving struct {
	Cores  float64 `json:"cpuCores"`
	Memory float64 `json:"memoryBytes"`
	GPUs   float64 `json:"gpus"`
	// The same over a month of 730 hours.
	CoreHours float64 `json:"cpuCoreHoursPerMonth"`
	GiBHours  float64 `json:"memoryGiBHoursPerMonth"`
	GPUHours  float64 `json:"gpuHoursPerMonth"`
	// Money is in the prices' currency, of what has a price; missing without prices.
	Money *float64 `json:"moneyPerMonth,omitempty"`
}

func savingOf(cores, memory, gpus float64, money *float64) Saving {
	return Saving{
		Cores: cores, Memory: memory, GPUs: gpus, Money: money,
		CoreHours: cores * MonthHours, GiBHours: memory / gib * MonthHours, GPUHours: gpus * MonthHours,
	}
}

func (s *Saving) add(o *Saving) {
	money := s.Money
	if o.Money != nil {
		sum := *o.Money
		if money != nil {
			sum += *money
		}
		money = &sum
	}
	*s = savingOf(s.Cores+o.Cores, s.Memory+o.Memory, s.GPUs+o.GPUs, money)
}

func (s *Saving) negated() Saving {
	money := s.Money
	if money != nil {
		money = new(-*money)
	}
	return savingOf(-s.Cores, -s.Memory, -s.GPUs, money)
}

// parts splits a saving into what is freed and what is needed on top.
func (s *Saving) parts(p *Prices) (freed, added Saving) {
	most := func(v float64) float64 { return math.Max(0, v) }
	least := func(v float64) float64 { return math.Min(0, v) }
	split := func(side func(float64) float64) Saving {
		cores, memory, gpus := side(s.Cores), side(s.Memory), side(s.GPUs)
		var money *float64
		if s.Money != nil {
			// What CPU and memory are worth is known by itself; the rest is the GPUs'.
			own := p.worth(CPU, s.Cores) + p.worth(Memory, s.Memory)
			money = new(p.worth(CPU, cores) + p.worth(Memory, memory) + side(*s.Money-own))
		}
		return savingOf(cores, memory, gpus, money)
	}
	return split(most), split(least)
}

// weight is what savings are sorted by.
func (s *Saving) weight() float64 {
	switch {
	case s == nil:
		return math.Inf(-1)
	case s.Money != nil:
		return *s.Money
	}
	return s.Cores + s.Memory/gib*coresPerGiB + s.GPUs*coresPerGPU
}

// worth is the money for an amount of CPU or memory over a month; 0 without a price.
func (p *Prices) worth(resource string, amount float64) float64 {
	switch {
	case p != nil && resource == CPU && p.CPU != nil:
		return amount * *p.CPU * MonthHours
	case p != nil && resource == Memory && p.Memory != nil:
		return amount / gib * *p.Memory * MonthHours
	}
	return 0
}

// Finish computes verdicts, savings and the total, and sorts. It may be called again.
func (r *Report) Finish() {
	r.Kind = Kind
	r.Total = Total{Workloads: len(r.Workloads)}
	if r.Prices != nil {
		for _, s := range []*Saving{&r.Total.Saving, &r.Total.Freed, &r.Total.Added} {
			s.Money = new(float64)
		}
	}
	for i := range r.Workloads {
		w := &r.Workloads[i]
		r.finish(w)
		if w.recommended() {
			r.Total.Recommended++
		} else {
			r.Total.Waiting++
		}
		for j := range w.Containers {
			r.Total.Containers++
			if w.Containers[j].atRisk() {
				r.Total.AtRisk++
			}
		}
		if w.Saving != nil {
			freed, added := w.Saving.parts(r.Prices)
			r.Total.Saving.add(w.Saving)
			r.Total.Freed.add(&freed)
			r.Total.Added.add(&added)
		}
	}
	slices.SortStableFunc(r.Workloads, func(a, b Workload) int {
		return cmp.Or(cmp.Compare(b.Saving.weight(), a.Saving.weight()), strings.Compare(a.Namespace, b.Namespace),
			strings.Compare(a.WorkloadOf, b.WorkloadOf), strings.Compare(a.Name, b.Name))
	})
}

func (w *Workload) recommended() bool {
	for i := range w.Containers {
		c := &w.Containers[i]
		if c.GPU != nil && c.GPU.Recommended != nil {
			return true
		}
		for j := range c.Resources {
			if c.Resources[j].Recommended != nil {
				return true
			}
		}
	}
	return false
}

func (c *Container) atRisk() bool {
	if c.GPU != nil && c.GPU.Verdict == Short {
		return true
	}
	return slices.ContainsFunc(c.Resources, func(a Advice) bool { return a.Verdict == Short || a.Verdict == Unset })
}

// finish computes what is saved by a workload. Containers of a class of nodes share one template, so a DaemonSet's is judged by
// the largest of its classes.
func (r *Report) finish(w *Workload) {
	single := !slices.ContainsFunc(w.Containers, func(c Container) bool { return c.NodeClass != "" })
	for i := range w.Containers {
		c := &w.Containers[i]
		for j := range c.Resources {
			r.finishAdvice(w, &c.Resources[j], single && c.Type != TypeInit)
		}
		if c.GPU != nil {
			r.finishGPU(w, c.GPU, single)
		}
	}
	w.Saving = nil
	if w.Replicas == nil || !w.recommended() {
		return
	}
	replicas := float64(*w.Replicas)
	cores := replicas * (podRequest(w.Containers, CPU, false) - podRequest(w.Containers, CPU, true))
	memory := replicas * (podRequest(w.Containers, Memory, false) - podRequest(w.Containers, Memory, true))
	gpus := 0.0
	var money *float64
	if r.Prices != nil {
		money = new(r.Prices.worth(CPU, cores) + r.Prices.worth(Memory, memory))
	}
	for i := range w.Containers {
		g := w.Containers[i].GPU
		if g == nil || g.Saved == nil {
			continue
		}
		gpus += *g.Saved
		if money != nil && g.Money != nil {
			*money += *g.Money
		}
	}
	w.Saving = new(savingOf(cores, memory, gpus, money))
}

// finishAdvice judges; counted tells whether what is saved adds up over replicas.
func (r *Report) finishAdvice(w *Workload, a *Advice, counted bool) {
	a.Verdict = a.judge()
	a.Saved, a.Money = nil, nil
	if a.Recommended == nil || w.Replicas == nil || !counted {
		return
	}
	a.Saved = new(float64(*w.Replicas) * (orZero(a.Request) - *a.Recommended))
	if r.Prices != nil {
		a.Money = new(r.Prices.worth(a.Resource, *a.Saved))
	}
}

func (r *Report) finishGPU(w *Workload, g *GPU, single bool) {
	g.Saved, g.Money = nil, nil
	g.Verdict = Waiting
	if g.Recommended == nil {
		return
	}
	now := 0.0
	if g.Now != nil {
		now = g.Now.Share
	}
	switch {
	case g.Now == nil:
		g.Verdict = Unset
	case g.Now.Resource == g.Recommended.Resource && g.Now.Count == g.Recommended.Count:
		g.Verdict = Fits
	case now < g.Recommended.Share || now == g.Recommended.Share && g.Now.Memory < g.Recommended.Memory:
		g.Verdict = Short
	default:
		g.Verdict = Over
	}
	if w.Replicas == nil || !single {
		return
	}
	g.Saved = new(float64(*w.Replicas) * (now - g.Recommended.Share))
	if r.Prices == nil {
		return
	}
	if price, ok := r.Prices.ofGPU(g.Model); ok {
		g.Money = new(*g.Saved * price * MonthHours)
	}
}

// judge compares what is requested with the range, or where there is none with the recommendation.
func (a *Advice) judge() Verdict {
	if a.Recommended == nil {
		return Waiting
	}
	if a.Request == nil || *a.Request == 0 {
		return Unset
	}
	lower, upper := *a.Recommended, *a.Recommended
	if a.Lower != nil {
		lower = min(lower, *a.Lower)
	}
	if a.Upper != nil {
		upper = max(upper, *a.Upper)
	}
	switch {
	case *a.Request < lower:
		return Short
	case *a.Request > upper:
		return Over
	}
	return Fits
}

// podRequest is what a pod is scheduled by, as in KEP-753: the sum of its containers and sidecars, or what an init container
// needs beside the sidecars before it, whichever is more. A container without a recommendation keeps its request; of several
// node classes the largest counts.
func podRequest(list []Container, resource string, recommended bool) float64 {
	type one struct {
		kind  string
		value float64
	}
	var order []string
	of := map[string]*one{}
	for i := range list {
		c := &list[i]
		key := c.Type + "/" + c.Name
		if of[key] == nil {
			of[key] = &one{kind: c.Type}
			order = append(order, key)
		}
		of[key].value = max(of[key].value, c.request(resource, recommended))
	}
	sum, sidecars, most := 0.0, 0.0, 0.0
	for _, key := range order {
		c := of[key]
		switch c.kind {
		case TypeInit:
			most = max(most, sidecars+c.value)
		case TypeSidecar:
			sidecars += c.value
			most = max(most, sidecars)
		default:
			sum += c.value
		}
	}
	return max(sum+sidecars, most)
}

func (c *Container) request(resource string, recommended bool) float64 {
	for i := range c.Resources {
		a := &c.Resources[i]
		if a.Resource != resource {
			continue
		}
		if recommended && a.Recommended != nil {
			return *a.Recommended
		}
		return orZero(a.Request)
	}
	return 0
}

func orZero(v *float64) float64 {
	if v == nil {
		return 0
	}
	return *v
}
