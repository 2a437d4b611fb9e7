package compare

import (
	_ "embed" // the scenario's manifests
	"errors"
	"fmt"
	"strings"
	"text/template"
	"time"

	"headroom.dev/headroom/lab/load"
)

//go:embed scenario.yaml.tmpl
var scenarioTemplate string

// Scenario is what both services live through. Start from DefaultScenario.
type Scenario struct {
	Day      time.Duration `json:"-"`
	Days     int           `json:"days"`
	Learning int           `json:"learningDays"` // the first days, which are shown and not judged
	Night    float64       `json:"nightRequestsPerSecond"`
	Peak     float64       `json:"peakRequestsPerSecond"`
	Noise    float64       `json:"noise"` // see load.Wave
	LoadTime time.Duration `json:"-"`     // from a container's start until it listens
	Target   float64       `json:"hpaTarget"`
	Window   time.Duration `json:"-"` // of both sides, before they give replicas away
	Seed     uint64        `json:"seed"`
}

// The services, of which the pods of a Scenario are made.
const (
	namespace = "headroom-scaler-demo"
	minimum   = 2
	maximum   = 12
	slots     = 8
	queue     = 32
	service   = time.Second // of a request, median
	sigma     = 0.2         // of its logarithm
	// LateAfter is the latency from which an answer is late: two and a half times what an unhurried one takes.
	LateAfter = 2500 * time.Millisecond
	// Capacity is what one replica serves with 99 of 100 answers in LateAfter, in requests/s: its slots serve 7.8/s at most,
	// and with Poisson arrivals it answers 0.3 % late at 6/s, 1.1 % at 6.4/s and 7 % at 7/s (TestCapacityIsWhatTheSLOGives).
	Capacity = 6.0
	// Utilization is the share of Capacity, in percent, at which both sides plan their replicas: the same margin for both,
	// and the middle of what HPA targets are usually set to.
	Utilization = 80
)

// DefaultScenario is seven days of five minutes, of which a forecaster needs the first five (see step). The HPA's target is the field's rule of thumb, 80 % of what a replica can
// serve, and the same share that the ScalePolicy plans with: neither side gets a margin that the other has not. No other target
// is better in both late requests and replica time (TestNoTargetIsBetterInBoth); a lower one trades one for the other. The
// window for scaling down is a load time on both sides, since Kubernetes' 300 s would be a whole one of so short days.
func DefaultScenario() Scenario {
	return Scenario{
		Day: 5 * time.Minute, Days: 7, Learning: 5, Night: 8, Peak: 44, Noise: 0.05,
		LoadTime: time.Minute, Target: Capacity * Utilization / 100, Window: time.Minute, Seed: 1,
	}
}

// GPUs is how many both services may hold at once, with a few that drain.
func GPUs() int { return 2*maximum + 4 }

// Limits of a Scenario.
const (
	minDay = 90 * time.Second
	maxDay = 24 * time.Hour
)

// Validate names every flag that cannot work.
func (s Scenario) Validate() error {
	var errs []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	require(s.Day >= minDay && s.Day <= maxDay, "--day must be %s to %s, not %s", minDay, maxDay, s.Day)
	require(s.Days >= 2, "--days must be at least 2, not %d: one to learn from and one to be judged", s.Days)
	require(s.Learning >= 1 && s.Learning < max(s.Days, 2), "--learning-days must be at least 1 and less than --days, not %d", s.Learning)
	require(s.LoadTime >= 0 && s.LoadTime < s.Day, "--load-time must not be negative and be less than --day, not %s", s.LoadTime)
	require(s.Target > 0 && s.Target <= 1000, "--hpa-target must be above 0 requests/s and at most 1000, not %g", s.Target)
	require(s.Window >= 0 && s.Window <= time.Hour, "--scale-down-window must be 0s to 1h, not %s", s.Window)
	require(s.Night > 0 && s.Peak >= s.Night, "--night must be above 0 requests/s and at most --peak, not %g and %g", s.Night, s.Peak)
	require(s.Peak <= 60, "--peak must be at most 60 requests/s, which is what %d replicas serve when all is well, not %g", maximum, s.Peak)
	if len(errs) == 0 {
		if _, err := s.pattern(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s Scenario) length() time.Duration { return s.Day * time.Duration(s.Days) }

// step is the forecast's grid and the time between the ScalePolicy's looks: a 150th of a day, in whole seconds. A day's shape is
// found after 2.2 to 2.6 days, and a forecaster must then prove itself over 300 steps before it is used: with so many steps a day it
// is in use before the end of the fifth. Fewer would take longer; more would ask for looks that the lab cannot keep up with.
func (s Scenario) step() time.Duration {
	return max(time.Second, (s.Day / 150).Truncate(time.Second))
}

// bin is the stretch of time that the plots count missed requests in.
func (s Scenario) bin() time.Duration { return max(time.Second, (s.Day / 96).Round(time.Second)) }

func (s Scenario) pattern() (load.Pattern, error) {
	return load.Waves(load.Wave{Night: s.Night, Peak: s.Peak, Day: s.Day, Days: s.Days, Noise: s.Noise, Seed: s.Seed})
}

// day returns the index of the day that a time falls in; what is after the end belongs to the last.
func (s Scenario) day(at time.Duration) int {
	return min(max(0, int(at/s.Day)), s.Days-1)
}

func (s Scenario) judged(day int) bool { return day >= s.Learning }

// hour is the clock of the compressed day, "07:12".
func (s Scenario) hour(at time.Duration) string {
	passed := float64(at%s.Day) / float64(s.Day)
	minutes := int(passed * 24 * 60)
	return fmt.Sprintf("%02d:%02d", minutes/60, minutes%60)
}

// Side is one of the two services.
type Side int

// The sides.
const (
	Stock  Side = iota // the stock HPA
	Policy             // a ScalePolicy
)

func sides() []Side { return []Side{Stock, Policy} }

// String names the side for people.
func (s Side) String() string {
	if s == Stock {
		return "stock HPA"
	}
	return "ScalePolicy"
}

// name is that of the Deployment, the Service and what scales them, and the pods' label app.
func (s Side) name() string {
	if s == Stock {
		return "chat-stock"
	}
	return "chat-policy"
}

// manifests writes the scenario as YAML for kubectl apply.
func (s Scenario) manifests() (string, error) {
	t, err := template.New("scenario").Parse(scenarioTemplate)
	if err != nil {
		return "", fmt.Errorf("cannot read the scenario's manifests: %w", err)
	}
	var out strings.Builder
	err = t.Execute(&out, map[string]any{
		"Namespace": namespace, "Services": []string{Stock.name(), Policy.name()}, "Stock": Stock.name(), "Policy": Policy.name(),
		"Min": minimum, "Max": maximum, "LoadTime": s.LoadTime, "Slots": slots, "Queue": queue, "Service": service, "Sigma": sigma,
		"Target": s.Target, "WindowSeconds": int(s.Window.Seconds()), "StepSeconds": int(s.step().Seconds()),
		"Capacity": Capacity, "Utilization": Utilization,
	})
	if err != nil {
		return "", fmt.Errorf("cannot write the scenario's manifests: %w", err)
	}
	return out.String(), nil
}
