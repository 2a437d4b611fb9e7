package inference

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// Spec says how a simulated inference pod behaves. The zero value is of no use: start from DefaultSpec or ParseSpec.
// Its JSON form is what ParseSpec reads.
type Spec struct {
	Version     string       `json:"version"`     // echoed in every answer
	Model       string       `json:"model"`       // the model_name label of the vLLM metrics
	Startup     Distribution `json:"startup"`     // loading of the weights, before anything listens
	Slots       int          `json:"slots"`       // requests served at the same time
	ServiceTime Distribution `json:"serviceTime"` // of a request of ReferenceTokens output tokens
	Queue       int          `json:"queue"`       // requests that may wait for a slot; more are answered 503
	GPUMemory   Bytes        `json:"gpuMemory"`   // the weights
	KVCache     Bytes        `json:"kvCache"`     // the KV cache with every slot busy
	// GPUMemoryUtilization is vLLM's setting, which the metrics tell: a simulated server takes what it uses, not what it is allowed.
	GPUMemoryUtilization float64 `json:"gpuMemoryUtilization"`

	ErrorRate   float64     `json:"errorRate"`   // share of requests answered 500 after their service, 0 to 1
	Fault       Fault       `json:"fault"`       // what is wrong with /metrics
	FaultHealth bool        `json:"faultHealth"` // /health answers 500
	CrashAfter  Duration    `json:"crashAfter"`  // the process ends with an error, so long after its start; 0 = never
	MetricNames MetricNames `json:"metricNames"` // which families /metrics has
}

// ReferenceTokens is the number of output tokens that Spec.ServiceTime is for, and of a request that names none.
const ReferenceTokens = 100

// MetricNames selects the families of metrics that a server exposes.
type MetricNames string

// The families: vLLM's own, the plain http_… ones, or both.
const (
	MetricNamesAll  MetricNames = "all"
	MetricNamesHTTP MetricNames = "http"
	MetricNamesVLLM MetricNames = "vllm"
)

// Fault is what is wrong with a server's /metrics: one of the constants, or FaultSlow followed by a duration ("slow:2s").
type Fault string

// Faults of /metrics.
const (
	FaultNone     Fault = ""
	FaultHang     Fault = "hang"     // accepts the request and never answers
	FaultGarbage  Fault = "garbage"  // 200 with bytes that are no exposition
	FaultHuge     Fault = "huge"     // 10 MB of well-formed samples before the true ones
	FaultError500 Fault = "error500" // HTTP 500
	FaultSlow     Fault = "slow:"    // a prefix: answers rightly after the duration behind it
)

// delay returns how long a slow fault waits, and whether the fault is a slow one.
func (f Fault) delay() (time.Duration, bool) {
	text, ok := strings.CutPrefix(string(f), string(FaultSlow))
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d >= 0
}

func (f Fault) validate() error {
	if _, ok := f.delay(); ok {
		return nil
	}
	known := []Fault{FaultNone, FaultHang, FaultGarbage, FaultHuge, FaultError500}
	if !slices.Contains(known, f) {
		return fmt.Errorf(`fault: %q is none of "", hang, garbage, huge, error500, slow:DURATION`, string(f))
	}
	return nil
}

// DefaultSpec is the pod that an empty annotation asks for: an 8B model in 16-bit weights (16 GiB) that loads in 8 s and
// serves 4 × 20 requests/s.
func DefaultSpec() Spec {
	return Spec{
		Version:     "v1",
		Model:       "simulated",
		Startup:     Distribution{Median: 8 * time.Second, Sigma: 0.2},
		Slots:       4,
		ServiceTime: Distribution{Median: 50 * time.Millisecond, Sigma: 0.3},
		Queue:       64,
		GPUMemory:   16 << 30,
		KVCache:     8 << 30,

		GPUMemoryUtilization: 0.92,

		MetricNames: MetricNamesAll,
	}
}

// ParseSpec reads the value of the annotation headroom.dev/simulate, a YAML mapping of Spec's fields. A field that is
// absent has DefaultSpec's value. Every field that is unknown, given twice or out of range is an error that names it.
func ParseSpec(text string) (Spec, error) {
	spec := DefaultSpec()
	raw, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return Spec{}, fmt.Errorf("cannot read simulate spec: %w", err)
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal(raw, &given); err != nil {
		return Spec{}, errors.New("cannot read simulate spec: it must be a mapping of field to value")
	}
	fields := spec.fields()
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(given)) {
		target, ok := fields[name]
		if !ok {
			known := strings.Join(slices.Sorted(maps.Keys(fields)), ", ")
			problems = append(problems, fmt.Errorf("unknown field %q (known: %s)", name, known))
			continue
		}
		if err := json.Unmarshal(given[name], target); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, plainTypeError(err)))
		}
	}
	if len(problems) == 0 {
		problems = append(problems, spec.Validate())
	}
	if err := errors.Join(problems...); err != nil {
		return Spec{}, fmt.Errorf("invalid simulate spec: %w", err)
	}
	return spec, nil
}

// fields maps the JSON name of every field to where its value goes. A table and not one Unmarshal into the struct: the
// errors of a field's own decoder would not say which field they are about.
func (s *Spec) fields() map[string]any {
	return map[string]any{
		"version": &s.Version, "model": &s.Model, "startup": &s.Startup, "slots": &s.Slots,
		"serviceTime": &s.ServiceTime, "queue": &s.Queue, "gpuMemory": &s.GPUMemory, "kvCache": &s.KVCache,
		"gpuMemoryUtilization": &s.GPUMemoryUtilization,
		"errorRate":            &s.ErrorRate, "fault": &s.Fault, "faultHealth": &s.FaultHealth, "crashAfter": &s.CrashAfter, "metricNames": &s.MetricNames,
	}
}

// plainTypeError words a type error for someone who wrote YAML and knows nothing of Go.
func plainTypeError(err error) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s is no %s", wrong.Value, wrong.Type.Kind())
	}
	return err
}

// Limits that keep one pod from exhausting the process that simulates hundreds.
const (
	maxSlots   = 4096
	maxQueue   = 100_000
	maxStartup = 24 * time.Hour
	maxService = time.Hour
	maxSigma   = 3 // a p99 of a thousand medians; more is a typing error
)

// Validate reports every field that is out of range, each by name.
func (s Spec) Validate() error {
	var problems []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	require(s.Model != "", "model: must not be empty")
	require(s.Startup.Median >= 0 && s.Startup.Median <= maxStartup, "startup: %s is not in 0s to %s", s.Startup.Median, maxStartup)
	require(s.Startup.sigmaOK(), "startup: sigma %g is not in 0 to %d", s.Startup.Sigma, maxSigma)
	require(s.Slots >= 1 && s.Slots <= maxSlots, "slots: %d is not in 1 to %d", s.Slots, maxSlots)
	require(s.ServiceTime.Median > 0 && s.ServiceTime.Median <= maxService,
		"serviceTime: %s is not above 0s and at most %s", s.ServiceTime.Median, maxService)
	require(s.ServiceTime.sigmaOK(), "serviceTime: sigma %g is not in 0 to %d", s.ServiceTime.Sigma, maxSigma)
	require(s.Queue >= 0 && s.Queue <= maxQueue, "queue: %d is not in 0 to %d", s.Queue, maxQueue)
	require(s.GPUMemory >= 0 && s.GPUMemory <= maxBytes, "gpuMemory: %s is not in 0 to %s", s.GPUMemory, maxBytes)
	require(s.KVCache >= 0 && s.KVCache <= maxBytes, "kvCache: %s is not in 0 to %s", s.KVCache, maxBytes)
	require(s.GPUMemoryUtilization > 0 && s.GPUMemoryUtilization <= 1, "gpuMemoryUtilization: %g is not above 0 and at most 1", s.GPUMemoryUtilization)
	require(s.ErrorRate >= 0 && s.ErrorRate <= 1, "errorRate: %g is not in 0 to 1", s.ErrorRate)
	require(s.CrashAfter >= 0, "crashAfter: %s is below 0s", time.Duration(s.CrashAfter))
	if err := s.Fault.validate(); err != nil {
		problems = append(problems, err)
	}
	names := []MetricNames{MetricNamesAll, MetricNamesHTTP, MetricNamesVLLM}
	require(slices.Contains(names, s.MetricNames), "metricNames: %q is none of all, http, vllm", s.MetricNames)
	return errors.Join(problems...)
}
