package simulate

import "headroom.dev/headroom/rollout"

// Fleet takes rollouts of several workloads on one cluster through one budget of GPUs, as a controller does.
type Fleet struct {
	Cluster *Cluster
	// Budget is how many GPUs all rollouts together may use beyond their services' own.
	Budget  int
	Drivers map[string]*Driver
	// Order is in which they are looked at.
	Order []string
}

// Tick lets a second pass, and decides for each workload whose time it is.
func (f *Fleet) Tick() error {
	f.Cluster.Tick()
	for _, name := range f.Order {
		d := f.Drivers[name]
		if f.Cluster.now%max(1, d.Period) != 0 {
			continue
		}
		if err := f.admit(name, d); err != nil {
			return err
		}
		if err := d.decide(); err != nil {
			return err
		}
	}
	return nil
}

// admit asks the budget for one, beside what all others hold or wait for.
func (f *Fleet) admit(name string, d *Driver) error {
	var claims []rollout.Claim
	for _, other := range f.Order {
		s, err := f.Drivers[other].State()
		if err != nil {
			return err
		}
		if c, ok := f.Drivers[other].claim(other, &s); ok {
			claims = append(claims, c)
		}
	}
	d.Wait = ""
	for _, a := range rollout.Admit(f.Budget, claims) {
		if a.Name == name && !a.Admitted {
			d.Wait = a.Reason
		}
	}
	return nil
}

// phase is what the next look makes of the state's.
func (d *Driver) phase(s *rollout.State, template string) rollout.Phase {
	known := template == s.To || template == s.From || template == s.Queued
	if (s.Phase == rollout.Moving || s.Phase == rollout.Settled) && !known && d.Policy.OnNewTemplate != rollout.Queue {
		return rollout.Planning
	}
	return s.Phase
}

// claim is what a rollout asks of the budget, or holds of it; false where it does neither. Pods that end are not counted where no
// schedule says so: their GPUs are not placeable yet, so no plan rests on them, and going back is not delayed for a budget.
func (d *Driver) claim(name string, s *rollout.State) (rollout.Claim, bool) {
	r, o := d.Request(), d.observe(s)
	c := rollout.Claim{Name: name, Since: s.Since}
	if o.Workload == nil {
		return c, false
	}
	held, t := max(0, d.World.Held()-d.World.Replicas)*d.World.GPUs, o.Workload.Template
	switch d.phase(s, t) {
	case rollout.Moving, rollout.Settled, rollout.GoingBack:
		c.Running, c.Plans = true, []rollout.Schedule{{Extra: held}}
		if s.Schedule != nil {
			c.Plans[0] = *s.Schedule
		}
		return c, true
	case rollout.Resting, rollout.Planning:
		c.Held = held
		if t == s.From || t == s.Failed || d.World.Replicas == 0 {
			break
		}
		if s.Phase == rollout.Resting {
			c.Since = d.World.Now()
		}
		if plan, refusal := rollout.Plan(rollout.Untried(s, r, &o)); refusal == nil {
			c.Plans = []rollout.Schedule{plan}
			return c, true
		}
	case rollout.Adopting, rollout.Restoring, rollout.Released, rollout.Gone:
	}
	c.Running, c.Plans = true, []rollout.Schedule{{Extra: held}}
	return c, held > 0
}
