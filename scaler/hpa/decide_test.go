package hpa

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestScenarios runs the files in testdata. The commands:
//
//	hpa [min=] max= [behavior] [gate-off] [zero]   a new autoscaler, first seen now. A line a metric: SOURCE KIND TARGET; and
//	                         up|down [window=S] [select=] [tolerance=] [policies=4/15,100%/15]
//	edit …                   the same, and what it remembers stays
//	look [after=S] [replicas=] [created=] [scale-error] [selector=] [update-fails]   a line a metric: its values, or "error". The time
//	                         goes on by 15 s where nothing else is said, and the replicas are the last decision's. For Pods
//	                         and resources the values are pods, as in propose_test.go.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var s scenario
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "hpa":
				s = scenario{cfg: DefaultConfig(), now: noon}
				s.cfg.ScaleToZero = !d.HasArg("gate-off")
				s.mem.ScaledToZero = d.HasArg("zero")
				return s.define(t, d)
			case "edit":
				return s.define(t, d)
			case "look":
				return s.look(t, d)
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		})
	})
}

type scenario struct {
	cfg      Config
	a        Autoscaler
	mem      Memory
	now      time.Time
	replicas int32
}

func (s *scenario) define(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	s.a = Autoscaler{}
	if d.HasArg("min") {
		s.a.Min = new(int32)
		d.ScanArgs(t, "min", s.a.Min)
	}
	d.MaybeScanArgs(t, "max", &s.a.Max)
	if d.HasArg("behavior") {
		s.a.Behavior = &Behavior{}
	}
	for line := range strings.Lines(d.Input) {
		words := strings.Fields(line)
		switch words[0] {
		case "up":
			s.a.Behavior.Up = scanRules(t, words[1:])
		case "down":
			s.a.Behavior.Down = scanRules(t, words[1:])
		default:
			m := Metric{Source: Source(words[0]), Kind: Kind(words[1]), Name: fmt.Sprintf("m%d", len(s.a.Metrics))}
			var err error
			m.Target, err = strconv.ParseInt(words[2], 10, 64)
			require.NoError(t, err)
			s.a.Metrics = append(s.a.Metrics, m)
		}
	}
	if err := s.a.Validate(&s.cfg); err != nil {
		return "error: " + err.Error()
	}
	s.a.Default()
	return ""
}

func scanRules(t *testing.T, words []string) Rules {
	t.Helper()
	var r Rules
	number := func(text string) int {
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		return n
	}
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "window":
			r.Window = new(time.Duration(number(value)) * time.Second)
		case "select":
			r.Select = Select(value)
		case "tolerance":
			f, err := strconv.ParseFloat(value, 64)
			require.NoError(t, err)
			r.Tolerance = &f
		case "policies":
			r.Policies = []Policy{}
			for text := range strings.SplitSeq(value, ",") {
				amount, period, ok := strings.Cut(text, "/")
				if !ok {
					continue
				}
				amount, percent := strings.CutSuffix(amount, "%")
				r.Policies = append(r.Policies, Policy{Percent: percent, Value: int32(number(amount)), Period: time.Duration(number(period)) * time.Second})
			}
		default:
			t.Fatalf("unknown rule %q", word)
		}
	}
	return r
}

func (s *scenario) look(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	after, selector := 15, ""
	d.MaybeScanArgs(t, "after", &after)
	d.MaybeScanArgs(t, "replicas", &s.replicas)
	d.MaybeScanArgs(t, "selector", &selector)
	s.now = s.now.Add(time.Duration(after) * time.Second)
	obs := Observation{Now: s.now, Replicas: s.replicas, Created: s.replicas, Selector: Reason(selector)}
	d.MaybeScanArgs(t, "created", &obs.Created)
	if d.HasArg("scale-error") {
		obs.ScaleErr = errors.New("no connection")
	}
	i := 0
	for line := range strings.Lines(d.Input) {
		obs.Readings = append(obs.Readings, s.reading(t, &obs, &s.a.Metrics[i], strings.TrimSpace(line)))
		i++
	}
	var decision Decision
	if d.HasArg("update-fails") {
		decision = Decide(&s.cfg, &s.a, &s.mem, &obs)
	} else {
		decision = Reconcile(&s.cfg, &s.a, &s.mem, &obs)
		s.replicas = decision.Replicas
	}
	conditions := fmt.Sprintf("%s, %s, %s", decision.Able, decision.Active, decision.Limited)
	if s.mem.ScaledToZero {
		conditions += ", ScaledToZero"
	}
	return decision.Text(&s.a, &obs) + "\n" + conditions
}

func (s *scenario) reading(t *testing.T, obs *Observation, m *Metric, text string) Reading {
	t.Helper()
	if text == "error" {
		return Reading{Err: errors.New("no connection")}
	}
	var r Reading
	if m.Source != Object && m.Source != External {
		obs.Pods, r.Samples = pods(t, strings.TrimPrefix(text, "none"))
		return r
	}
	text, list, ok := strings.Cut(text, " pods ")
	if ok {
		obs.Pods, _ = pods(t, list)
	}
	for word := range strings.FieldsSeq(text) {
		v, err := strconv.ParseInt(word, 10, 64)
		require.NoError(t, err)
		r.Values = append(r.Values, v)
	}
	return r
}

func TestDefault(t *testing.T) {
	a := Autoscaler{Max: 3}
	a.Default()
	assert.Equal(t, Autoscaler{Min: new(int32(1)), Max: 3, Metrics: []Metric{{Source: Resource, Name: "cpu", Kind: Utilization, Target: 80}}}, a)

	down := Rules{Window: new(time.Minute), Select: Disabled}
	a.Behavior = &Behavior{Down: down}
	a.Default()
	assert.Equal(t, DefaultScaleUp(), a.Behavior.Up)
	assert.Nil(t, a.Behavior.Down.Tolerance)
	assert.Equal(t, down.Window, a.Behavior.Down.Window)
	assert.Equal(t, Disabled, a.Behavior.Down.Select)
	assert.Equal(t, DefaultScaleDown().Policies, a.Behavior.Down.Policies)
}

// TestOutsideTheAPI: what no API server lets through, and half an observation, are no reason to fall over or to scale.
func TestOutsideTheAPI(t *testing.T) {
	cfg := DefaultConfig()
	obs := Observation{Now: noon, Replicas: 3}
	d := Reconcile(&cfg, &Autoscaler{Max: 5}, &Memory{}, &obs)
	assert.False(t, d.Rescale)
	assert.Equal(t, "stays at 3: it has no metric", d.Text(&Autoscaler{}, &obs))

	a := Autoscaler{Max: 5, Metrics: []Metric{{Source: External, Name: "queue", Kind: Value, Target: 1}, {Source: Pods, Name: "queue", Kind: AverageValue, Target: 1}}}
	obs.Pods = make([]Pod, 2)
	obs.Readings = []Reading{{Err: errors.New("down")}, {Samples: []Sample{{Measured: true, Milli: 1}}}}
	d = Reconcile(&cfg, &a, &Memory{}, &obs)
	require.Len(t, d.Proposals, 2)
	assert.Equal(t, 1, d.Proposals[1].Missing, "a pod beyond the samples has none")
	obs.Readings = obs.Readings[:1]
	d = Reconcile(&cfg, &a, &Memory{}, &obs)
	require.ErrorIs(t, d.Proposals[1].Err, ErrNoReading)
	assert.Equal(t, FailedGetExternalMetric, d.Active)
}
