package hpa

// tally adds up pods.
type tally struct {
	values, requests int64 // thousandths; of the pods in the list
	entries          int   // the pods that are counted in, strangers among them
}

func (c *tally) add(value, request int64) {
	c.values += value
	c.requests += request
	c.entries++
}

// forPods is for Pods, Resource and ContainerResource metrics: GetResourceReplicas and calcPlainMetricReplicas.
func forPods(cfg *Config, m *Metric, obs *Observation, r *Reading, t Tolerances) Proposal {
	var p Proposal
	if len(obs.Pods) == 0 {
		p.Err = ErrNoPods
		return p
	}
	c := p.measure(cfg, m, obs, r)
	if c.entries == 0 {
		p.Err = ErrNoValues
		return p
	}
	if m.Kind == Utilization {
		switch {
		case r.RequestErr != nil:
			p.Err = r.RequestErr
			return p
		case c.requests == 0:
			p.Err = ErrNoMatch
			return p
		}
		p.Percent, p.Usage = percent(c), c.values/int64(p.Measured)
	} else {
		p.Usage = (c.values + total(r.Strangers)) / int64(c.entries)
	}
	p.Ratio = m.ratio(c, r)
	p.Replicas = obs.Replicas
	if p.Missing == 0 && (p.Unready == 0 || p.Ratio <= 1) {
		p.Verdict = WithinTolerance
		if !t.within(p.Ratio) {
			p.Verdict, p.Replicas = Scaled, ceil(p.Ratio*float64(p.Measured))
		}
		return p
	}
	p.cautious(cfg, m, obs, r, c, t)
	return p
}

// measure groups the pods, and adds up those that count.
func (p *Proposal) measure(cfg *Config, m *Metric, obs *Observation, r *Reading) tally {
	c := tally{entries: len(r.Strangers)}
	p.Strangers = len(r.Strangers)
	for i := range obs.Pods {
		s := r.sample(i)
		switch cfg.Group(obs.Now, m, &obs.Pods[i], &s) {
		case Measured:
			p.Measured++
			c.add(s.Milli, s.Request)
		case Missing:
			p.Missing++
		case Unready:
			p.Unready++
		case Ignored:
			p.Ignored++
		}
	}
	return c
}

// cautious counts the pods without a value against the change: missing ones at the target, or the request where that is
// more, when scaling down, at 0 when scaling up, unready ones at 0 when scaling up.
func (p *Proposal) cautious(cfg *Config, m *Metric, obs *Observation, r *Reading, c tally, t Tolerances) {
	p.Cautious = true
	if p.Ratio < 1 {
		p.Assumed = m.Target
		if m.Kind == Utilization {
			p.Assumed = max(100, m.Target)
		}
	}
	for i := range obs.Pods {
		s := r.sample(i)
		switch cfg.Group(obs.Now, m, &obs.Pods[i], &s) {
		case Missing:
			switch {
			case p.Ratio == 1:
			case m.Kind == Utilization:
				c.add(s.Request*p.Assumed/100, s.Request)
			default:
				c.add(p.Assumed, 0)
			}
		case Unready:
			if p.Ratio > 1 {
				c.add(0, s.Request)
			}
		case Measured, Ignored:
		}
	}
	ratio := m.ratio(c, r)
	p.CautiousRatio = ratio
	replicas := ceil(ratio * float64(c.entries))
	switch {
	case t.within(ratio):
		p.Verdict = WithinTolerance
	case p.Ratio < 1 && ratio > 1 || p.Ratio > 1 && ratio < 1,
		ratio < 1 && replicas > obs.Replicas, ratio > 1 && replicas < obs.Replicas:
		p.Verdict = WouldReverse
	default:
		p.Verdict, p.Replicas = Scaled, replicas
	}
}

// ratio of usage to target, by whole percents or whole thousandths.
func (m *Metric) ratio(c tally, r *Reading) float64 {
	if m.Kind == Utilization {
		return float64(percent(c)) / float64(m.Target)
	}
	return float64((c.values+total(r.Strangers))/int64(c.entries)) / float64(m.Target)
}

func percent(c tally) int32 { return int32(c.values * 100 / c.requests) }

func total(values []int64) int64 {
	var sum int64
	for _, v := range values {
		sum += v
	}
	return sum
}

// sample of the i-th pod.
func (r *Reading) sample(i int) Sample {
	if i < len(r.Samples) {
		return r.Samples[i]
	}
	return Sample{}
}
