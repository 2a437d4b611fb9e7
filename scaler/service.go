package scaler

import (
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

// Knowledge is what was learnt of a service.
type Knowledge struct {
	Capacity []LearntCapacity
	StartUp  LearntStartUp
	Forecast []forecast.Skill
}

// LearntCapacity is the demand that one replica of a version on a GPU model serves within the SLO.
type LearntCapacity struct {
	Version, GPU string
	PerReplica   Estimate
}

// LearntStartUp is how long pods take from their creation until they serve, and the medians of its parts.
type LearntStartUp struct {
	Source                        Source
	P50, P90                      time.Duration
	Scheduling, Starting, Loading time.Duration
	Samples                       int
}

// Service gathers observations of one service into Inputs.
type Service struct{}

// NewService makes a Service. Errors name the field.
func NewService(Config) (*Service, error) { return &Service{}, nil }

// Replay feeds the mean demand of a past step, oldest first, before the first Observe.
func (s *Service) Replay(time.Time, float64) error { return nil }

// Observe takes what was seen. Times must not go back.
func (s *Service) Observe(Observation) error { return nil }

// Input is what a decision at now rests on.
func (s *Service) Input(now time.Time) Input { return Input{Now: now} }

// Decide decides by what was observed, and remembers it.
func (s *Service) Decide(now time.Time) Decision { return Decide(s.Input(now)) }

// Knowledge is what was learnt so far.
func (s *Service) Knowledge() Knowledge { return Knowledge{} }

// Restore takes over what a former process had learnt.
func (s *Service) Restore(Knowledge) {}

// DeletionCosts returns each pod's cost of deletion, the least busy lowest.
func DeletionCosts(pods []Pod) map[string]int { return nil }
