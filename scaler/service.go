package scaler

import (
	"errors"
	"fmt"
	"math"
	"time"

	"headroom.dev/headroom/scaler/forecast"
)

// Config says what a Service is.
type Config struct {
	Policy Policy
	// Step is the grid of the series that forecasts rest on. Default 1 min.
	Step time.Duration
	// LatencyTarget is the largest latency that keeps the SLO, in the unit of Observation.Latency; 0: there is none.
	LatencyTarget float64
	// NoForecast leaves decisions to present demand; forecasts are made and scored all the same.
	NoForecast bool
}

// Observation is what was seen of a service at one time.
type Observation struct {
	Now      time.Time
	Replicas int32 // of the target's spec
	Pods     []Pod // those being deleted too
	Demand   Reading
	Queue    Reading
	Latency  Reading
}

// Pod is what the scaler knows of a pod. Times are zero where the thing has not happened yet.
type Pod struct {
	Name      string
	Version   string // its pod-template-hash, or what else tells versions apart
	GPU       string // the model; "" where it is unknown
	Created   time.Time
	Scheduled time.Time
	Started   time.Time // the last start of its containers
	Ready     time.Time // the last change to Ready
	Serving   bool      // it is Ready
	Deleting  bool
	Unhealthy bool    // a GPU that it holds is unfit
	InFlight  Reading // its load
}

// Service gathers what is seen of one service into Inputs, and learns from it. It is not safe for concurrent use.
type Service struct {
	config   Config
	model    *forecast.Model
	startUps startUps
	capacity map[kindOf]*capacity
	restored map[kindOf]Estimate

	last     Observation
	seen     bool
	growth   float64
	counts   PodCount
	settles  time.Time // until when observations of load do not count
	peak     float64   // the load that broke the SLO last
	serving  int32
	kinds    []kindCount
	memory   Memory
	step     accumulator
	forecast time.Time // the end of the last step that the model was given
}

type kindCount struct {
	kind  kindOf
	count int32
}

// NewService makes a Service. Errors name the field.
func NewService(c Config) (*Service, error) {
	if err := c.Policy.Validate(); err != nil {
		return nil, fmt.Errorf("cannot follow the policy: %w", err)
	}
	c.Policy = c.Policy.WithDefaults()
	if c.Step == 0 {
		c.Step = time.Minute
	}
	if c.Step < time.Second {
		return nil, fmt.Errorf("cannot forecast: step is %s, it must be at least 1s", c.Step)
	}
	if c.LatencyTarget < 0 || math.IsNaN(c.LatencyTarget) {
		return nil, fmt.Errorf("cannot judge latency: its target is %v", c.LatencyTarget)
	}
	model, err := forecast.New(forecast.Options{Step: c.Step, Horizons: horizons(c.Step)})
	if err != nil {
		return nil, err
	}
	return &Service{config: c, model: model, capacity: map[kindOf]*capacity{}, restored: map[kindOf]Estimate{}}, nil
}

// Replay feeds the mean demand of a past step, which ended at at, oldest first, before the first Observe. NaN is a gap.
func (s *Service) Replay(at time.Time, demand float64) error {
	if s.seen {
		return errors.New("cannot replay history: the service has been observed already")
	}
	if err := s.model.Observe(at, demand); err != nil {
		return err
	}
	s.forecast = at
	return nil
}

// Observe takes what was seen. Times must rise.
func (s *Service) Observe(o Observation) error {
	if s.seen && !o.Now.After(s.last.Now) {
		return fmt.Errorf("cannot take an observation of %s after one of %s", o.Now, s.last.Now)
	}
	s.growth = 0
	if s.seen && s.last.Queue.Missing == "" && o.Queue.Missing == "" {
		s.growth = (o.Queue.Value - s.last.Queue.Value) / o.Now.Sub(s.last.Now).Seconds()
	}
	s.startUps.observe(o.Now, o.Pods)
	s.count(o)
	s.judge(o)
	if err := s.sample(o); err != nil {
		return err
	}
	s.last, s.seen = o, true
	s.last.Pods = nil // the caller's, and counted already
	return nil
}

// sample adds present demand to the step it falls in. What a growing queue holds back is demand, too.
func (s *Service) sample(o Observation) error {
	value := math.NaN()
	if o.Demand.Missing == "" {
		value = Input{Demand: o.Demand, Growth: s.growing()}.offered()
	}
	end, mean, done := s.step.add(o.Now, value, s.config.Step)
	if !done || !end.After(s.forecast) {
		return nil
	}
	s.forecast = end
	return s.model.Observe(end, mean)
}

func (s *Service) growing() float64 {
	if s.config.Policy.Concurrency { // what waits is in flight already
		return 0
	}
	return s.growth
}

// count counts the pods by what they are good for.
func (s *Service) count(o Observation) {
	s.counts = PodCount{}
	s.kinds = s.kinds[:0]
	late := s.overdue()
	serving := int32(0)
	for i := range o.Pods {
		p := &o.Pods[i]
		switch {
		case p.Deleting:
			continue
		case p.Serving:
			s.counts.Ready++
			if !p.Unhealthy {
				serving++
				s.addKind(kindOf{p.Version, p.GPU})
			}
		case late > 0 && o.Now.Sub(p.Created) > late:
			s.counts.Overdue++
		default:
			s.counts.Loading++
		}
		if p.Unhealthy {
			s.counts.Unhealthy++
		}
	}
	if serving != s.serving {
		s.settles = later(s.settles, o.Now.Add(settle))
		s.serving = serving
	}
}

func (s *Service) addKind(k kindOf) {
	for i := range s.kinds {
		if s.kinds[i].kind == k {
			s.kinds[i].count++
			return
		}
	}
	s.kinds = append(s.kinds, kindCount{k, 1})
}

// overdue is the age at which a pod that does not serve is no longer expected to: twice what nine of ten take, and a minute.
func (s *Service) overdue() time.Duration {
	if e := s.startUp(); e.Source != Unknown {
		return time.Duration(2*e.Value*float64(time.Second)) + time.Minute
	}
	return 0
}

// judge learns from the load of a replica and whether the SLO held. Only where all serving pods are of one kind does the
// service's latency say something about it.
func (s *Service) judge(o Observation) {
	if s.config.Policy.Capacity > 0 || len(s.kinds) != 1 || o.Demand.Missing != "" || s.serving == 0 {
		return
	}
	held, known := s.held(o)
	if !known {
		return
	}
	load := Input{Demand: o.Demand, Growth: s.growing()}.offered() / float64(s.serving)
	settled := !o.Now.Before(s.settles)
	if !held {
		if !settled && load < s.peak { // a queue that formed at a higher load
			return
		}
		s.peak = load
		s.settles = later(s.settles, o.Now.Add(settle))
	} else if !settled {
		return
	}
	k := s.kinds[0].kind
	c := s.capacity[k]
	if c == nil {
		c = newCapacity()
		s.capacity[k] = c
	}
	c.observe(load, held)
}

// held says whether the SLO held: by the latency where one is wanted and known, else by a queue of more than a request for
// each replica.
func (s *Service) held(o Observation) (held, known bool) {
	if s.config.LatencyTarget > 0 {
		return o.Latency.Value <= s.config.LatencyTarget, o.Latency.Missing == ""
	}
	return o.Queue.Value <= float64(s.serving), o.Queue.Missing == ""
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// perReplica is the capacity of a replica: stated, or the mean over the kinds that serve.
func (s *Service) perReplica() Estimate {
	if c := s.config.Policy.Capacity; c > 0 {
		return Estimate{Value: c, Source: Stated}
	}
	var sum, count float64
	result := Estimate{Source: Learnt}
	for _, k := range s.kinds {
		e := s.of(k.kind)
		if e.Source == Unknown {
			continue
		}
		if e.Source == AtLeast {
			result.Source = AtLeast
		}
		sum += e.Value * float64(k.count)
		count += float64(k.count)
		result.Samples += e.Samples
	}
	if count == 0 {
		return Estimate{}
	}
	result.Value = sum / count
	return result
}

// explore is how far past the highest load that it ever bore a replica is planned for while no limit is known. Forecasts keep
// margins: what replicas then bear is some tenths below the plan, and a smaller step would never be one.
const explore = 1.25

// of is what one replica of a kind serves. A kind that was never at its limit is planned for more than the highest load that
// it bore: so the bound rises, in steps that an SLO survives, until a limit is met.
func (s *Service) of(k kindOf) Estimate {
	if c := s.capacity[k]; c != nil {
		if e := c.estimate(); e.source != Unknown {
			if e.source == AtLeast {
				e.value *= explore / s.config.Policy.Utilization
			}
			if r, ok := s.restored[k]; ok && e.source == AtLeast && r.Value > e.value {
				return r
			}
			return Estimate{e.value, e.source, c.seen}
		}
	}
	return s.restored[k]
}

// startUp is the time after which a replica ordered now serves, in seconds.
func (s *Service) startUp() Estimate {
	if d := s.config.Policy.StartUp; d > 0 {
		return Estimate{Value: d.Seconds(), Source: Stated}
	}
	if s.startUps.p90 == 0 && len(s.startUps.ring) == 0 {
		return Estimate{}
	}
	return Estimate{Value: s.startUps.p90.Seconds(), Source: Learnt, Samples: len(s.startUps.ring)}
}

// Input is what a decision at now rests on.
func (s *Service) Input(now time.Time) Input {
	p := s.config.Policy
	in := Input{
		Now: now, Policy: p, Replicas: s.last.Replicas, Pods: s.counts, Demand: s.last.Demand, Queue: s.last.Queue,
		Growth: s.growing(), Capacity: s.perReplica(), StartUp: s.startUp(), Memory: s.memory,
	}
	switch {
	case !s.seen:
		in.Demand, in.Queue = Reading{Missing: "nothing was observed yet"}, Reading{Missing: "nothing was observed yet"}
	case now.Sub(s.last.Now) > 4*p.Period && in.Demand.Missing == "":
		in.Demand.Missing = fmt.Sprintf("the last observation is %s old", now.Sub(s.last.Now))
	}
	if s.config.NoForecast || in.StartUp.Source == Unknown {
		return in
	}
	ahead := time.Duration(in.StartUp.Value*float64(time.Second)) + p.Period
	in.Ahead = s.most(now, ahead, ahead+early*s.config.Step)
	in.Peak = s.most(now, 0, ahead)
	if in.Ahead.Demand > in.Peak.Demand {
		in.Peak = in.Ahead
	}
	return in
}

// early is by how many steps the forecast is looked at beyond the time at which a replica ordered now serves: a rise that recurs does
// so a minute earlier or later, and serving too early costs less than too late.
const early = 2

// most is the largest of the skilful forecasts for the time between two horizons, or what the first one has to say.
func (s *Service) most(now time.Time, from, to time.Duration) Expected {
	const looks = 4
	result := s.expect(now, from)
	for i := range looks {
		e := s.expect(now, from+(to-from)*time.Duration(i+1)/looks)
		if e.Valid && (e.Demand > result.Demand) {
			result = e
		}
	}
	return result
}

func (s *Service) expect(now time.Time, horizon time.Duration) Expected {
	e := Expected{Forecast: s.model.Forecast(now, horizon)}
	if e.Valid {
		e.Demand = e.Quantile(s.config.Policy.Quantile)
	}
	return e
}

// Decide decides by what was observed, and remembers it.
func (s *Service) Decide(now time.Time) Decision {
	d := Decide(s.Input(now))
	s.memory = d.Memory
	return d
}
