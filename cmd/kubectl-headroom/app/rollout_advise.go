package app

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/cmd/kubectl-headroom/screen"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/kube"
)

// situation is what advice is asked for.
type situation struct {
	change   string
	risky    bool
	downtime time.Duration
}

func changes() []string {
	return []string{string(rollout.ImageOnly), string(rollout.ModelChange), string(rollout.APIChange)}
}

func (o *options) rolloutAdvise() *cobra.Command {
	var f format
	var s situation
	w := &whatIf{}
	cmd := &cobra.Command{
		Use:   "advise NAME | KIND/NAME",
		Short: "Say which strategy suits a service now, and why",
		Long: "Plans Rolling, Canary, BlueGreen and Recreate for a service as it is now and ranks them: by the size of the change, the downtime\n" +
			"that is tolerated, the GPUs at hand, and whether the metrics could judge a canary at all: whether, at the present request\n" +
			"rate, the judge would see 3 % more errors, or latencies of 1.3 times, and after how long.\n\n" +
			"The size of the change is guessed from the template that waits, or from that of -f: Model where the served model differs, else\n" +
			"Image. That clients of one version cannot use the other (API) only you know.",
		Example: examples(`
  kubectl headroom rollout advise chat -n demo

  # A new model, that nobody has served before, in a manifest that was not applied yet
  kubectl headroom rollout advise deployment/chat -n demo -f chat.yaml --risky

  # Clients must change over, and two minutes' break would do
  kubectl headroom rollout advise chat -n demo --change API --downtime 2m`),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: o.completePolicies,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if err := s.check(w); err != nil {
				return err
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), planTimeout)
			defer cancel()
			d, err := c.gather(ctx, cmd.InOrStdin(), args[0], w)
			if err != nil {
				return err
			}
			out := s.advise(d, c.traffic(ctx, d))
			return f.write(o.out, out, func(w io.Writer, _ bool) error {
				_, err := io.WriteString(w, out.Text(widthOf(o.out)))
				return err
			})
		},
	}
	f.addTo(cmd)
	w.addTo(cmd)
	cmd.Flags().StringVar(&s.change, "change", "", "size of the change, one of "+strings.Join(changes(), ", ")+" (default: as the templates differ)")
	cmd.Flags().BoolVar(&s.risky, "risky", false, "you expect trouble: a new engine, a new driver, a model that nobody has served")
	cmd.Flags().DurationVar(&s.downtime, "downtime", 0, "for how long the service may be away, as 5m")
	return cmd
}

func (s *situation) check(w *whatIf) error {
	if s.change != "" {
		known, ok := wordOf(changes(), s.change)
		if !ok {
			return fmt.Errorf("--change: %q is none of %s", s.change, strings.Join(changes(), ", "))
		}
		s.change = known
	}
	if s.downtime < 0 {
		return fmt.Errorf("--downtime: %s is negative", s.downtime)
	}
	return w.check()
}

// advise ranks the strategies.
func (s *situation) advise(d *dryRun, t traffic) *screen.Advice {
	out := &screen.Advice{
		Namespace: d.policy.Namespace, Policy: d.policyName(), Target: d.target(), Change: s.change, ChangeFrom: "as --change says",
		Risky: s.risky, Basis: d.basis.Status(), Assumed: d.assumed,
	}
	if s.change == "" {
		out.Change, out.ChangeFrom = changeOf(d.old, d.basis.Seen.Template)
	}
	if s.downtime > 0 {
		out.Downtime = s.downtime.String()
	}
	judge := detection(t, canaryOf(&d.policy.Spec, d.basis.Request.Service), &d.policy.Spec.Analysis)
	out.Judge = judge.text
	for _, o := range rollout.Advise(d.basis.Request, rollout.Situation{
		Change: rollout.Change(out.Change), Risky: s.risky, Downtime: s.downtime, Detect: judge.after, Judge: judge.blind,
	}) {
		out.Options = append(out.Options, screen.AdviceOption{
			Strategy: string(o.Strategy), Why: o.Why, Plan: kube.PlanStatus(o.Schedule), Refusal: kube.RefusalStatus(o.Refusal),
		})
	}
	return out
}

// traffic is what a service's requests are now.
type traffic struct {
	perSecond float64 // NaN where it is not known
	failed    float64 // share of requests; NaN where it is not known
	missing   string  // why
}

// traffic asks for the requests of the workload's pods, as top pods does.
func (c *cluster) traffic(ctx context.Context, d *dryRun) traffic {
	selector := labels.SelectorFromSet(d.basis.Seen.Selector).String()
	read := func(metric string) (map[string]float64, error) {
		list, err := c.customValues(ctx, &question{metric: metric, resource: pods, namespace: d.policy.Namespace, podSelector: selector}, url.Values{})
		if err != nil {
			return nil, err
		}
		values := map[string]float64{}
		for i := range list.Items {
			values[list.Items[i].DescribedObject.Name] = list.Items[i].Value.AsApproximateFloat64()
		}
		return values, nil
	}
	rates, err := read("requests_per_second")
	if err != nil {
		return traffic{math.NaN(), math.NaN(), err.Error()}
	}
	errors, err := read("request_error_percent")
	if err != nil {
		errors = nil // of a service without errors some engines report none
	}
	return summed(rates, errors)
}

// summed adds pods up; error rates are weighted by requests, of those pods that tell both.
func summed(rates, percents map[string]float64) traffic {
	if len(rates) == 0 {
		return traffic{math.NaN(), math.NaN(), "no pod tells its requests per second"}
	}
	t := traffic{failed: math.NaN()}
	told, failed := 0.0, 0.0
	for pod, rate := range rates {
		t.perSecond += rate
		if percent, ok := percents[pod]; ok {
			told += rate
			failed += rate * percent / 100
		}
	}
	if told > 0 {
		t.failed = failed / told
	}
	return t
}

// canary is the first step of a canary: how many replicas of how many, and which share of requests they get.
type canary struct {
	replicas, of int
	share        float64
}

// canaryOf is the policy's first step, or a tenth.
func canaryOf(spec *v1alpha1.RolloutPolicySpec, s rollout.Service) canary {
	n := max(1, s.Replicas)
	c := canary{replicas: int(math.Ceil(float64(n)/10 - 1e-9)), of: n}
	var weight *int32
	if spec.Canary != nil && len(spec.Canary.Steps) > 0 {
		first := spec.Canary.Steps[0]
		switch {
		case first.Replicas != nil:
			c.replicas = int(*first.Replicas)
		case first.Percent != nil:
			c.replicas = int(math.Ceil(float64(n)*float64(*first.Percent)/100 - 1e-9))
		}
		weight = first.WeightPercent
	}
	c.replicas = max(1, min(c.replicas, n))
	// Each new pod carries what an old one carries, all of which are still there: without surge the share is larger.
	c.share = float64(c.replicas) / float64(n+c.replicas)
	if weight != nil {
		c.share = float64(*weight) / 100
	}
	return c
}
