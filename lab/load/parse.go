package load

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Parse reads a pattern as flags give it:
//
//	constant:10x60s
//	steps:5x30s,20x45s
//	sine:mean=10,amplitude=8,period=60s,for=3m
//	wave:night=4,peak=40,day=8m,days=4,noise=0.05,seed=1    (noise and seed optional; see Wave)
//	trace:FILE,speed=60,scale=0.5,from=2h,for=3h    (all but FILE optional; see Replay)
//
// Rates are requests per second. Errors name the part that is wrong.
func Parse(text string) (Pattern, error) {
	return parse(text, func(path string) (io.ReadCloser, error) { return os.Open(path) })
}

type opener func(path string) (io.ReadCloser, error)

func parse(text string, open opener) (Pattern, error) {
	kind, rest, ok := strings.Cut(text, ":")
	var pattern Pattern
	var err error
	switch {
	case ok && kind == "constant":
		pattern, err = parseConstant(rest)
	case ok && kind == "steps":
		pattern, err = parseSteps(rest)
	case ok && kind == "sine":
		pattern, err = parseSine(rest)
	case ok && kind == "wave":
		pattern, err = parseWave(rest)
	case ok && kind == "trace":
		pattern, err = parseTrace(rest, open)
	default:
		err = errors.New("want constant:…, steps:…, sine:…, wave:… or trace:…")
	}
	if err != nil {
		return nil, fmt.Errorf("load pattern %q: %w", text, err)
	}
	return pattern, nil
}

func parseConstant(text string) (Pattern, error) {
	step, err := parseStep(text)
	if err != nil {
		return nil, err
	}
	return Constant(step.Rate, step.For)
}

func parseSteps(text string) (Pattern, error) {
	var list []Step
	for i, part := range strings.Split(text, ",") {
		step, err := parseStep(part)
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", i+1, err)
		}
		list = append(list, step)
	}
	return Steps(list)
}

func parseStep(text string) (Step, error) {
	rate, length, ok := strings.Cut(text, "x")
	if !ok {
		return Step{}, fmt.Errorf("%q is not of the form RATExTIME, like 5x30s", text)
	}
	var step Step
	var err error
	if step.Rate, err = strconv.ParseFloat(rate, 64); err != nil {
		return Step{}, fmt.Errorf("%q is no rate in requests/s", rate)
	}
	if step.For, err = time.ParseDuration(length); err != nil {
		return Step{}, fmt.Errorf("%q is no time, like 30s", length)
	}
	return step, nil
}

func parseSine(text string) (Pattern, error) {
	o, err := parseOptions(text, "mean", "amplitude", "period", "for")
	if err != nil {
		return nil, err
	}
	mean, amplitude := o.number("mean", 0), o.number("amplitude", 0)
	period, length := o.duration("period"), o.duration("for")
	for _, key := range []string{"mean", "amplitude", "period", "for"} {
		if _, ok := o.values[key]; !ok {
			return nil, fmt.Errorf("%s is missing", key)
		}
	}
	if o.err != nil {
		return nil, o.err
	}
	return Sine(mean, amplitude, period, length)
}

func parseWave(text string) (Pattern, error) {
	o, err := parseOptions(text, "night", "peak", "day", "days", "noise", "seed")
	if err != nil {
		return nil, err
	}
	w := Wave{Night: o.number("night", 0), Peak: o.number("peak", 0), Day: o.duration("day"), Noise: o.number("noise", 0)}
	days, seed := o.number("days", 0), o.number("seed", 0)
	for _, key := range []string{"night", "peak", "day", "days"} {
		if _, ok := o.values[key]; !ok {
			return nil, fmt.Errorf("%s is missing", key)
		}
	}
	if o.err != nil {
		return nil, o.err
	}
	if w.Days, w.Seed = int(days), uint64(seed); float64(w.Days) != days || float64(w.Seed) != seed {
		return nil, fmt.Errorf("days=%g and seed=%g must be whole numbers, 0 or more", days, seed)
	}
	return Waves(w)
}

func parseTrace(text string, open opener) (Pattern, error) {
	path, rest, more := strings.Cut(text, ",")
	if path == "" {
		return nil, errors.New("the file is missing")
	}
	o := options{}
	if more {
		var err error
		if o, err = parseOptions(rest, "speed", "scale", "from", "for"); err != nil {
			return nil, err
		}
	}
	replay := Replay{
		Speed: o.number("speed", 1), Scale: o.number("scale", 1), From: o.duration("from"), For: o.duration("for"),
	}
	if o.err != nil {
		return nil, o.err
	}
	trace, err := readFile(path, open)
	if err != nil {
		return nil, err
	}
	return trace.Pattern(replay)
}

func readFile(path string, open opener) (*Trace, error) {
	file, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open trace: %w", err)
	}
	defer file.Close()
	trace, err := ReadTrace(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read trace %s: %w", path, err)
	}
	return trace, nil
}

// options are key=value pairs; the first one that cannot be read is kept in err.
type options struct {
	values map[string]string
	err    error
}

func parseOptions(text string, known ...string) (options, error) {
	o := options{values: map[string]string{}}
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok || !slices.Contains(known, key) {
			return o, fmt.Errorf("%q is none of %s=…", part, strings.Join(known, "=…, "))
		}
		if _, twice := o.values[key]; twice {
			return o, fmt.Errorf("%s is given twice", key)
		}
		o.values[key] = value
	}
	return o, nil
}

func (o *options) number(key string, absent float64) float64 {
	text, ok := o.values[key]
	if !ok {
		return absent
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil && o.err == nil {
		o.err = fmt.Errorf("%s=%s is no number", key, text)
	}
	return value
}

func (o *options) duration(key string) time.Duration {
	text, ok := o.values[key]
	if !ok {
		return 0
	}
	value, err := time.ParseDuration(text)
	if err != nil && o.err == nil {
		o.err = fmt.Errorf("%s=%s is no time, like 30s", key, text)
	}
	return value
}
