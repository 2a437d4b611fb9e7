// Package report shows what requests are recommended, and why: as a table for terminals, as JSON, CSV and Markdown, as patches for
// manifests, and as one HTML page that needs nothing else (no font, picture or script from elsewhere).
//
// It is pure: it takes plain structs and writes to an io.Writer. What is not known is nil, missing from JSON and CSV, and "-" for
// people, never 0. Every name that comes from outside is escaped.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"time"
)

// Kind is what the JSON says that it is.
const Kind = "RecommendationReport"

// Report is what is recommended for some workloads. Its JSON form is stable: fields may be added, none is renamed. CPU is in
// cores, memory in bytes, GPUs in whole ones. Who makes one fills in all but what Finish computes, and calls that.
type Report struct {
	Kind   string    `json:"kind"`
	At     time.Time `json:"at"`
	Prices *Prices   `json:"prices,omitempty"`
	// Total is computed by Finish.
	Total Total `json:"total"`
	// Workloads are sorted by Finish: by what is saved, the most first.
	Workloads []Workload `json:"workloads"`
	Notes     []string   `json:"notes,omitempty"`
}

// Total sums a report up.
type Total struct {
	Workloads   int `json:"workloads"`
	Recommended int `json:"recommended"` // workloads with a recommendation
	Waiting     int `json:"waiting"`     // those without
	Containers  int `json:"containers"`
	// AtRisk counts the containers that want more of a resource than they request, or request none of it.
	AtRisk int `json:"atRisk"`
	// Saving is the balance of Freed and Added: what the over-provisioned give back and what the others need on top.
	Saving Saving `json:"saving"`
	Freed  Saving `json:"freed"`
	Added  Saving `json:"added"` // negative
}

// Workload is about one workload.
type Workload struct {
	Namespace  string `json:"namespace"`
	APIVersion string `json:"apiVersion"`
	WorkloadOf string `json:"workloadKind"`
	Name       string `json:"name"`
	// Source is the object that recommends, Kind/name.
	Source   string     `json:"source"`
	Replicas *int32     `json:"replicas,omitempty"`
	Ready    bool       `json:"ready"`
	Reason   string     `json:"reason"`
	Message  string     `json:"message"`
	ReadyAt  *time.Time `json:"readyAt,omitempty"` // when there will be a recommendation, where there is none
	Changed  *time.Time `json:"changed,omitempty"`

	Containers []Container `json:"containers,omitempty"`
	Autoscaler *Autoscaler `json:"autoscaler,omitempty"`

	// Saving is that of all replicas; missing where their number is not known or nothing is recommended. Computed by Finish.
	Saving *Saving `json:"saving,omitempty"`
}

// Types of containers.
const (
	TypeContainer = "Container"
	TypeInit      = "Init"
	TypeSidecar   = "Sidecar"
)

// Container is about a container of a workload; of a DaemonSet about it on one class of nodes.
type Container struct {
	Name      string   `json:"name"`
	Type      string   `json:"type"`
	NodeClass string   `json:"nodeClass,omitempty"`
	Resources []Advice `json:"resources,omitempty"`
	GPU       *GPU     `json:"gpu,omitempty"`
}

// Resources of Advice.
const (
	CPU    = "cpu"    // cores
	Memory = "memory" // bytes
)

// Verdict says in a word how a request fares against its recommendation.
type Verdict string

// The verdicts.
const (
	Over    Verdict = "Over"    // more is requested than the upper end of the range
	Fits    Verdict = "Fits"    // within the range
	Short   Verdict = "Short"   // less is requested than the lower end of the range
	Unset   Verdict = "Unset"   // nothing is requested
	Waiting Verdict = "Waiting" // there is no recommendation yet
)

// Advice is about CPU or memory of a container.
type Advice struct {
	Resource         string   `json:"resource"`
	Request          *float64 `json:"request,omitempty"`
	Limit            *float64 `json:"limit,omitempty"`
	Recommended      *float64 `json:"recommended,omitempty"`
	RecommendedLimit *float64 `json:"recommendedLimit,omitempty"`
	Lower            *float64 `json:"lower,omitempty"`
	Upper            *float64 `json:"upper,omitempty"`
	Startup          *float64 `json:"startup,omitempty"`

	Verdict Verdict    `json:"verdict"` // computed by Finish
	Reason  string     `json:"reason"`
	Message string     `json:"message"`
	ReadyAt *time.Time `json:"readyAt,omitempty"`

	// Now and Then are what the last days would have been like at the present and at the recommended size.
	Now      *Replay   `json:"now,omitempty"`
	Then     *Replay   `json:"then,omitempty"`
	Evidence *Evidence `json:"evidence,omitempty"`
	Usage    *Usage    `json:"usage,omitempty"`

	// Saved is what all replicas together request less, and Money what that is worth in a month. Computed by Finish; missing for
	// init containers, which run while nothing else does, and where node classes differ.
	Saved *float64 `json:"saved,omitempty"`
	Money *float64 `json:"moneyPerMonth,omitempty"`
}

// Replay is what the last days would have been like at some size.
type Replay struct {
	Since time.Time `json:"since"`
	Hours int       `json:"hours"` // of which something is known
	// Over is the share of time in which more was wanted than is requested, Excess the share of the use that lay above.
	Over   float64 `json:"overPercent"`
	Excess float64 `json:"excessPercent"`
	// Kills is in how many of the hours a memory limit of that size would have killed containers.
	Kills int `json:"kills"`
}

// Evidence is what a recommendation rests on.
type Evidence struct {
	Since     time.Time `json:"since"`
	Samples   int64     `json:"samples"`
	Hours     int       `json:"hours"`
	Certainty int       `json:"certaintyPercent"`
	// Covered is the share of past ranges that held what was needed then, Over the share of time in which use was above what was
	// recommended then.
	Covered *int     `json:"coveredPercent,omitempty"`
	Over    *float64 `json:"overPercent,omitempty"`
}

// Usage is the use in each step from Start on; all lists are of the same length. What is not known is null.
type Usage struct {
	Start time.Time `json:"start"`
	Step  float64   `json:"stepSeconds"`
	P50   []Number  `json:"p50"`
	P90   []Number  `json:"p90"`
	Max   []Number  `json:"max"`
}

// GPU is about the GPU of a container.
type GPU struct {
	Model       string      `json:"model"`
	Now         *GPURequest `json:"now,omitempty"`
	Recommended *GPURequest `json:"recommended,omitempty"`
	Memory      *float64    `json:"memory,omitempty"` // bytes that are needed
	Lower       *float64    `json:"memoryLower,omitempty"`
	Upper       *float64    `json:"memoryUpper,omitempty"`
	Peak        *float64    `json:"memoryPeak,omitempty"`
	Compute     *float64    `json:"computePercent,omitempty"` // of a whole GPU's SMs that is needed
	Risk        *float64    `json:"riskPercent,omitempty"`    // for a day, that the need exceeds what is recommended

	Settings  []EngineSetting `json:"settings,omitempty"`
	Claim     string          `json:"resourceClaim,omitempty"` // spec of a ResourceClaim, as YAML
	Placement string          `json:"placement,omitempty"`

	Verdict  Verdict    `json:"verdict"` // computed by Finish
	Reason   string     `json:"reason"`
	Message  string     `json:"message"`
	ReadyAt  *time.Time `json:"readyAt,omitempty"`
	Evidence *Evidence  `json:"evidence,omitempty"`
	Usage    *Usage     `json:"usage,omitempty"` // memory, in bytes

	Saved *float64 `json:"saved,omitempty"` // GPUs of all replicas; computed by Finish
	Money *float64 `json:"moneyPerMonth,omitempty"`
}

// GPURequest is a request of GPUs.
type GPURequest struct {
	Resource string  `json:"resource"`
	Count    int32   `json:"count"`
	Sharing  string  `json:"sharing"`
	Share    float64 `json:"gpus"`   // how much of GPUs that is
	Memory   float64 `json:"memory"` // bytes
}

// EngineSetting is a setting of an inference engine that goes with the size.
type EngineSetting struct {
	Engine      string `json:"engine"`
	Name        string `json:"name"`
	Now         string `json:"now,omitempty"`
	Recommended string `json:"recommended"`
}

// Autoscaler is an HPA whose targets must change with the requests.
type Autoscaler struct {
	Name    string             `json:"name"`
	Metrics []AutoscalerMetric `json:"metrics"`
	Message string             `json:"message"`
}

// AutoscalerMetric is one of the HPA's metrics of type Resource or ContainerResource; utilizations are in percent.
type AutoscalerMetric struct {
	Resource    string `json:"resource"`
	Container   string `json:"container,omitempty"`
	Now         int32  `json:"now"`
	Recommended int32  `json:"recommended"`
}

// Number is a value of a series; NaN is absent, null in JSON.
type Number float64

// MarshalJSON writes null for what is absent.
func (n Number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// UnmarshalJSON reads null as absent.
func (n *Number) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*n = Number(math.NaN())
		return nil
	}
	return json.Unmarshal(b, (*float64)(n))
}

// Check finds what cannot be shown: the error names the workload.
func (r *Report) Check() error {
	for i := range r.Workloads {
		w := &r.Workloads[i]
		for j := range w.Containers {
			c := &w.Containers[j]
			list := []*Usage{}
			for k := range c.Resources {
				list = append(list, c.Resources[k].Usage)
			}
			if c.GPU != nil {
				list = append(list, c.GPU.Usage)
			}
			for _, u := range list {
				if err := u.check(); err != nil {
					return fmt.Errorf("workloads[%d] (%s), container %s: %w", i, w.Name, c.Name, err)
				}
			}
		}
	}
	return nil
}

func (u *Usage) check() error {
	switch {
	case u == nil:
	case u.Step <= 0:
		return fmt.Errorf("the usage's step is %v s", u.Step)
	case len(u.P50) != len(u.Max) || len(u.P90) != len(u.Max):
		return fmt.Errorf("the usage's lists are of %d, %d and %d steps", len(u.P50), len(u.P90), len(u.Max))
	}
	return nil
}

// WriteJSON writes the report.
func (r *Report) WriteJSON(w io.Writer) error {
	if err := r.Check(); err != nil {
		return err
	}
	out := *r
	out.Kind = Kind
	if out.Workloads == nil {
		out.Workloads = []Workload{}
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(&out); err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	return nil
}
