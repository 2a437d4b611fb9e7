package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"headroom.dev/headroom/bench/result"
	"headroom.dev/headroom/scaler/forecast"
)

// What is asked of each forecast: the quantiles of the loss, the places among them whose coverage is reported, and the lead times.
var (
	lossAt  = [...]float64{0.5, 0.75, 0.9, 0.95, 0.99} //nolint:gochecknoglobals // a constant in all but name
	coverAt = lossAt[2:]                               //nolint:gochecknoglobals // a constant in all but name
	minutes = [...]int{1, 3, 5, 10}                    //nolint:gochecknoglobals // a constant in all but name
)

func run(directory string, seed uint64, out string, skill bool) error {
	traces := synthetic(seed)
	if directory != "" {
		var err error
		if traces, err = readTraces(directory); err != nil {
			return err
		}
	}
	r := result.New("forecast")
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "trace\thorizon\tbaseline\tscore\tbest\tnaive\t<=q.9\t<=q.95\t<=q.99\tskilful\tmethod\t")
	for _, t := range traces {
		m, outcomes, cost, err := measure(t)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		for _, o := range outcomes {
			o.print(table, t.name)
			o.add(r, t.name)
		}
		r.Add(t.name+": Observe", float64(cost.observe.Nanoseconds())/float64(len(t.values)), "ns")
		r.Add(t.name+": Forecast", float64(cost.forecast.Nanoseconds())/float64(cost.forecasts), "ns")
		fmt.Fprintf(table, "\t\t\t\t\t\t\t\t\t\tseasons %s; %d ns/Observe\t\n", seasons(m), cost.observe.Nanoseconds()/int64(len(t.values)))
		if skill {
			printSkill(table, m)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	path, err := r.Write(out)
	if err == nil {
		fmt.Fprintln(os.Stdout, "\nscore, best, naive: 1 − loss/loss of last value, for what was in use, for the best single forecaster in hindsight and\n"+
			"for seasonal naive (unknown without a season). Written to", path)
	}
	return err
}

// outcome is one horizon's, over the second half.
type outcome struct {
	minutes     int
	loss        float64
	n           float64
	below       [3]float64
	skilful     float64
	methods     map[string]int
	baseline    float64 // mean loss of last value
	best, naive float64
}

// pending is a forecast that waits for its time.
type pending struct {
	valid     bool
	quantiles [5]float64
}

type cost struct {
	observe, forecast time.Duration
	forecasts         int
}

// measure walks through a trace.
func measure(t trace) (*forecast.Model, []outcome, cost, error) {
	options := forecast.Options{Step: t.step}
	outcomes := make([]outcome, len(minutes))
	waiting := make([][]pending, len(minutes))
	for i, m := range minutes {
		options.Horizons = append(options.Horizons, time.Duration(m)*time.Minute)
		outcomes[i] = outcome{minutes: m, methods: map[string]int{}}
		waiting[i] = make([]pending, len(t.values)+1000)
	}
	var c cost
	model, err := forecast.New(options)
	if err != nil {
		return nil, nil, c, err
	}
	start := time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
	var before []forecast.Skill
	for i, v := range t.values {
		now := start.Add(time.Duration(i) * t.step)
		if i == len(t.values)/2 {
			before = model.Skill()
		}
		if i >= len(t.values)/2 {
			for h := range outcomes {
				outcomes[h].settle(waiting[h][i], v)
			}
		}
		began := time.Now()
		if err := model.Observe(now, v); err != nil {
			return nil, nil, c, err
		}
		c.observe += time.Since(began)
		began = time.Now()
		for h := range outcomes {
			lead := time.Duration(outcomes[h].minutes) * time.Minute
			f := model.Forecast(now, lead)
			c.forecasts++
			if f.Valid && !math.IsNaN(v) {
				w := &waiting[h][i+int(lead/t.step)]
				w.valid = true
				for k, p := range lossAt {
					w.quantiles[k] = f.Quantile(p)
				}
			}
			if i >= len(t.values)/2 {
				outcomes[h].methods[f.Method]++
				if f.Skilful {
					outcomes[h].skilful++
				}
			}
		}
		c.forecast += time.Since(began)
	}
	compare(outcomes, before, model.Skill())
	return model, outcomes, c, nil
}

// settle compares a forecast with what came.
func (o *outcome) settle(p pending, came float64) {
	if !p.valid || math.IsNaN(came) {
		return
	}
	o.n++
	for k, q := range lossAt {
		if d := came - p.quantiles[k]; d >= 0 {
			o.loss += q * d / float64(len(lossAt))
		} else {
			o.loss += (q - 1) * d / float64(len(lossAt))
		}
	}
	for k := range coverAt {
		if came <= p.quantiles[k+2] {
			o.below[k]++
		}
	}
}

// compare takes the forecasters' losses of the second half from the model's counters.
func compare(outcomes []outcome, before, after []forecast.Skill) {
	type key struct {
		horizon time.Duration
		method  string
	}
	first := map[key]forecast.Skill{}
	for _, s := range before {
		first[key{s.Horizon, s.Method}] = s
	}
	for i := range outcomes {
		o := &outcomes[i]
		o.best, o.naive, o.baseline = math.Inf(-1), math.NaN(), math.NaN()
		for _, s := range after {
			if s.Horizon != time.Duration(o.minutes)*time.Minute {
				continue
			}
			b := first[key{s.Horizon, s.Method}]
			n, loss, base := float64(s.Scored-b.Scored), s.LossSum-b.LossSum, s.BaselineSum-b.BaselineSum
			score := 1 - loss/base
			switch {
			case n < o.n/2: // it came late
				continue
			case s.Method == "last value":
				o.baseline = loss / n
			case strings.HasPrefix(s.Method, "seasonal naive"):
				o.naive = score
			}
			o.best = max(o.best, score)
		}
	}
}

func (o *outcome) score() float64 { return 1 - o.loss/o.n/o.baseline }

func (o *outcome) method() (most string) {
	for name, n := range o.methods {
		if n > o.methods[most] || n == o.methods[most] && name < most {
			most = name
		}
	}
	return most
}

func (o *outcome) total() (n int) {
	for _, k := range o.methods {
		n += k
	}
	return n
}

func (o *outcome) print(w io.Writer, name string) {
	fmt.Fprintf(w, "%s\t%d min\t%.4g\t%.3f\t%.3f\t%.3f\t%.4f\t%.4f\t%.4f\t%.2f\t%s\t\n", name, o.minutes, o.baseline, o.score(), o.best, o.naive,
		o.below[0]/o.n, o.below[1]/o.n, o.below[2]/o.n, o.skilful/float64(o.total()), o.method())
}

func (o *outcome) add(r *result.Result, name string) {
	prefix := fmt.Sprintf("%s, %d min", name, o.minutes)
	r.AddAtLeast(prefix+": score against last value", o.score(), "1", -0.01)
	for k, p := range coverAt {
		r.Add(fmt.Sprintf("%s: within the %g-quantile", prefix, p), o.below[k]/o.n, "1")
	}
	r.Add(prefix+": share of time skilful", o.skilful/float64(o.total()), "1")
}

func seasons(m *forecast.Model) string {
	var all []string
	for _, s := range m.Seasons() {
		all = append(all, fmt.Sprintf("%v (%.2f)", s.Period, s.Strength))
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}

func printSkill(w io.Writer, m *forecast.Model) {
	for _, s := range m.Skill() {
		fmt.Fprintf(w, "\t%v\t\t%.3f\t\t\t\t\t\t\t%s: %d scored, %.3f over all\t\n", s.Horizon, s.Score, s.Method, s.Scored, 1-s.LossSum/s.BaselineSum)
	}
}
