package app

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"headroom.dev/headroom/scaler/report"
	"headroom.dev/headroom/scaler/simulate"
)

// backtest are the options of the command.
type backtest struct {
	o *options

	demand    demandOptions
	manifests []string
	plant     plantOptions
	policies  []string
	metric    string
	target    float64
	goal      float64
	tune      bool
	frontier  bool
	output    string
	html      string
}

// plantOptions are about what is simulated.
type plantOptions struct {
	startUp, jitter, scheduling span
	slots                       int
	serviceTime                 span
	prefill, decode             float64
	gpus                        float64
	metricDelay, metricWindow   span
	lateAfter, timeout, drain   span
	capacity                    float64
	min, max                    int32
	seed                        uint64
}

func (o *options) backtest() *cobra.Command {
	b := &backtest{o: o}
	cmd := &cobra.Command{
		Use:   "backtest (--trace FILE | --from-prometheus URL --query PROMQL | --synthetic SHAPE) [-f MANIFEST]",
		Short: "Try autoscaling policies on past demand before anything is deployed",
		Long: "Replays past demand against a simulated service, under the autoscaler that a manifest describes and under others, and\n" +
			"tells for each how many requests were on time, what that took in GPU-hours, and how far it is from the best that anyone\n" +
			"who knew the future could do. Nothing of a cluster is read or changed.\n\n" +
			"Demand is a CSV (a time and a number of requests in each row, or a row for each request with its tokens), the answer of a\n" +
			"Prometheus-compatible server, or a made-up shape. The manifest is a HorizontalPodAutoscaler (autoscaling/v2) or a ScalePolicy\n" +
			"as it stands; without one, a plain HPA on requests per second is tried. What is simulated, and what is not, is in\n" +
			"docs/backtest.md.",
		Example: examples(`
  # What would this HPA have done in the last two weeks, and what would others?
  kubectl headroom backtest -f hpa.yaml --startup 3m --from-prometheus http://localhost:9090 \
    --query 'sum(rate(http_requests_total{namespace="demo"}[1m]))' --since 14d

  # Every policy at its best: tuned on the first half of a trace, scored on the second, as a page with plots
  kubectl headroom backtest --trace requests.csv.gz --tune --goal 99.5 --html backtest.html

  # No trace at hand: two weeks with a daily wave of up to 40 requests per second
  kubectl headroom backtest --synthetic daily --peak 40

  # Requests with their token counts, on replicas with two GPUs
  kubectl headroom backtest --trace AzureLLMInferenceTrace_conv.csv --slots 32 --gpus-per-replica 2 -o json`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return b.run(cmd.Context())
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	b.demand.addTo(fs)
	fs.StringSliceVarP(&b.manifests, "filename", "f", nil, "file with a HorizontalPodAutoscaler (autoscaling/v2), a ScalePolicy or both; other documents are passed over")
	fs.StringSliceVar(&b.policies, "policies", policyNames(), "policies to try")
	fs.StringVar(&b.metric, "metric", "requests_per_second", "metric of the HPA, per pod, where no manifest says it")
	fs.Float64Var(&b.target, "target", 0, "the HPA's target per pod, where no manifest says it; 0: 70% of what a replica can do")
	fs.BoolVar(&b.tune, "tune", false, "choose each policy's target on the first half of the trace, and score the second; otherwise the manifest's own count")
	fs.Float64Var(&b.goal, "goal", 99, "percentage of the requests that is to be on time")
	fs.BoolVar(&b.frontier, "frontier", true, "try further settings of each policy, for the plot of the frontier; without it, it is quicker")
	b.plant.addTo(fs)
	fs.StringVarP(&b.output, "output", "o", "", "one of wide, json (default: a table; wide: with every setting that was tried)")
	fs.StringVar(&b.html, "html", "", "file to write a page with plots to")
	return cmd
}

func (p *plantOptions) addTo(fs *pflag.FlagSet) {
	*p = plantOptions{
		startUp: span(3 * time.Minute), jitter: span(15 * time.Second), slots: 8, serviceTime: span(4 * time.Second), prefill: 5000, decode: 40, gpus: 1,
		metricDelay: span(2 * time.Second), metricWindow: span(10 * time.Second), lateAfter: span(time.Second), timeout: span(time.Minute),
		drain: span(30 * time.Second), min: 1, max: 100, seed: 1,
	}
	fs.Var(&p.startUp, "startup", "time from a pod's start on a node to its first answer: image, weights, warm-up")
	fs.Var(&p.jitter, "startup-jitter", "how far that varies from pod to pod, to either side")
	fs.Var(&p.scheduling, "scheduling", "time until a pod has a node, on top of it")
	fs.IntVar(&p.slots, "slots", p.slots, "requests that a replica works on at once")
	fs.Var(&p.serviceTime, "service-time", "mean time that a request takes a slot; traces with token counts have their own")
	fs.Float64Var(&p.prefill, "prefill-tokens-per-second", p.prefill, "for traces with token counts: input tokens per second and slot")
	fs.Float64Var(&p.decode, "tokens-per-second", p.decode, "for traces with token counts: output tokens per second and slot")
	fs.Float64Var(&p.gpus, "gpus-per-replica", p.gpus, "GPUs that a replica holds")
	fs.Var(&p.metricDelay, "metric-delay", "how old the newest sample is that an autoscaler sees")
	fs.Var(&p.metricWindow, "metric-window", "what rates look back")
	fs.Var(&p.lateAfter, "late-after", "wait for a slot after which a request is late")
	fs.Var(&p.timeout, "timeout", "wait after which a client gives up")
	fs.Var(&p.drain, "drain", "how long a pod that is ended may go on with the requests it has")
	fs.Float64Var(&p.capacity, "capacity", p.capacity, "requests per second that one replica serves in time, where policies are to be told; 0: they learn it")
	fs.Int32Var(&p.min, "min", p.min, "fewest replicas, where no manifest says it")
	fs.Int32Var(&p.max, "max", p.max, "most replicas, where no manifest says it")
	fs.Uint64Var(&p.seed, "seed", p.seed, "seed of arrivals and start-up times")
}

// check finds what is wrong with the flags before anything is read.
func (b *backtest) check() error {
	if b.output != "" && b.output != "wide" && b.output != "json" {
		return fmt.Errorf("--output: %q is none of wide and json", b.output)
	}
	if err := b.demand.check(); err != nil {
		return err
	}
	if len(b.policies) == 0 {
		return errors.New("--policies: names none")
	}
	for _, name := range b.policies {
		if !slices.Contains(policyNames(), name) {
			return fmt.Errorf("--policies: %q is none of %s", name, strings.Join(policyNames(), ", "))
		}
	}
	if err := b.numbers(); err != nil {
		return err
	}
	if !slices.Contains(simulate.Measured(), b.metric) {
		return fmt.Errorf("--metric: %q is none of %s", b.metric, strings.Join(simulate.Measured(), ", "))
	}
	p := &b.plant
	switch {
	case p.min < 1:
		return fmt.Errorf("--min: %d is below 1", p.min)
	case p.min > p.max:
		return fmt.Errorf("--min: %d is above --max, which is %d", p.min, p.max)
	case p.slots < 1:
		return fmt.Errorf("--slots: %d is below 1", p.slots)
	}
	if err := p.simulated().Validate(); err != nil {
		return fmt.Errorf("the plant's flags contradict each other: %w", err)
	}
	return nil
}

// numbers checks those that may be fractions.
func (b *backtest) numbers() error {
	p := &b.plant
	for _, n := range []struct {
		flag        string
		value, most float64
		zero        bool
	}{
		{"goal", b.goal, 100, false},
		{"gpus-per-replica", p.gpus, 1024, false},
		{"target", b.target, math.MaxFloat64, true},
		{"capacity", p.capacity, math.MaxFloat64, true},
		{"prefill-tokens-per-second", p.prefill, math.MaxFloat64, false},
		{"tokens-per-second", p.decode, math.MaxFloat64, false},
	} {
		if math.IsNaN(n.value) || n.value < 0 || n.value == 0 && !n.zero || n.value > n.most {
			return fmt.Errorf("--%s: %v is not a positive number%s", n.flag, n.value, upTo(n.most))
		}
	}
	return nil
}

func upTo(most float64) string {
	if most == math.MaxFloat64 {
		return ""
	}
	return fmt.Sprintf(" of at most %v", most)
}

// simulated is the plant of the flags.
func (p *plantOptions) simulated() simulate.Plant {
	return simulate.Plant{
		Slots: p.slots, ServiceTime: time.Duration(p.serviceTime), StartUp: time.Duration(p.startUp), Scheduling: time.Duration(p.scheduling),
		Jitter: min(time.Duration(p.jitter), time.Duration(p.startUp+p.scheduling)), MetricWindow: time.Duration(p.metricWindow),
		MetricDelay: time.Duration(p.metricDelay), LateAfter: time.Duration(p.lateAfter), Timeout: time.Duration(p.timeout),
		Drain: time.Duration(p.drain), Min: p.min, Max: p.max, Seed: p.seed,
	}
}

// run reads, simulates, and only when all of that went well writes.
func (b *backtest) run(ctx context.Context) error {
	if err := b.check(); err != nil {
		return err
	}
	m, err := readManifests(b.manifests)
	if err != nil {
		return err
	}
	page, err := createPage(b.html)
	if err != nil {
		return err
	}
	defer page.discard()
	p := newProgress(b.o.errOut, b.o.now)
	trace, err := b.demand.read(ctx, &b.plant, p, b.o.now())
	if err != nil {
		return err
	}
	r, err := b.simulate(ctx, trace, m, p)
	if err != nil {
		return err
	}
	if err := page.write(r); err != nil {
		return err
	}
	switch b.output {
	case "json":
		return r.WriteJSON(b.o.out)
	default:
		return r.WriteTable(b.o.out, b.output == "wide")
	}
}

// span is a flag of type duration that also takes days and weeks: 90s, 1m30s, 14d.
type span time.Duration

func (s *span) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil {
		days, other := model.ParseDuration(text)
		if other != nil {
			return fmt.Errorf("%q is no duration, such as 90s, 1m30s or 14d", text)
		}
		d = time.Duration(days)
	}
	if d < 0 {
		return fmt.Errorf("%s is negative", text)
	}
	*s = span(d)
	return nil
}

func (s *span) String() string { return model.Duration(*s).String() }

// Type is what the help calls it.
func (s *span) Type() string { return "duration" }

// setting writes a setting of the plant for the report.
func setting(name string, value any) report.Setting {
	return report.Setting{Name: name, Value: fmt.Sprint(value)}
}
