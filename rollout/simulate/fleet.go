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
		if c, ok := s.Claim(other, f.Drivers[other].Request(), f.Drivers[other].observe(&s)); ok {
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
