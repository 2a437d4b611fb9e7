package app

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"headroom.dev/headroom/cmd/kubectl-headroom/screen"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/kube"
	"headroom.dev/headroom/rollout/workload"
)

func (o *options) rolloutPlan() *cobra.Command {
	var f format
	w := &whatIf{}
	cmd := &cobra.Command{
		Use:   "plan NAME | KIND/NAME",
		Short: "Show how an update would go, and whether it fits, without doing it",
		Long: "Plans the update of a RolloutPolicy's workload, or of a workload without one, as the controller would: from the demand, the\n" +
			"free GPUs where the scheduler would place a pod, and the times that pods take. It prints the steps with the fewest replicas\n" +
			"that serve, the GPUs and where they come from; or why the update is refused and what would make it possible (exit code 1).\n" +
			"It writes nothing. What this user may not read is said, and flags can stand in for it.",
		Example: examples(`
  # The template that waits, or the present one anew
  kubectl headroom rollout plan chat -n demo

  # A manifest that was not applied yet
  kubectl headroom rollout plan deployment/chat -n demo -f chat.yaml

  # Would blue/green fit, with one replica in reserve?
  kubectl headroom rollout plan chat -n demo --strategy BlueGreen --reserve 1

  # Without policy, metrics or the right to read nodes
  kubectl headroom rollout plan deployment/chat -n demo --demand 62 --capacity 10 --startup 3m --drain 30s --free 1`),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: o.completePolicies,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if err := w.check(); err != nil {
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
			return writePlan(o, f, d)
		},
	}
	f.addTo(cmd)
	w.addTo(cmd)
	cmd.Flags().StringVar(&w.strategy, "strategy", "", "one of "+strings.Join(strategies(), ", ")+" (default: the policy's, else Rolling)")
	cmd.Flags().BoolVar(&w.acceptDowntime, "accept-downtime", false, "consent to Recreate")
	return cmd
}

func writePlan(o *options, f format, d *dryRun) error {
	schedule, refusal := rollout.Plan(d.basis.Request)
	out := &screen.Planned{
		Namespace: d.policy.Namespace, Policy: d.policyName(), Target: d.target(), Strategy: string(d.basis.Request.Policy.Strategy),
		Basis: d.basis.Status(), Refusal: kube.RefusalStatus(refusal), Assumed: d.assumed,
	}
	if out.Strategy == "" {
		out.Strategy = string(rollout.Rolling)
	}
	out.From, out.To = d.versions()
	if refusal == nil {
		out.Plan = kube.PlanStatus(&schedule)
	}
	err := f.write(o.out, out, func(w io.Writer, _ bool) error {
		_, err := io.WriteString(w, out.Text(widthOf(o.out)))
		return err
	})
	if err == nil && refusal != nil {
		return &updateError{"the update would be refused: " + string(refusal.Reason)}
	}
	return err
}

// versions name what the update would lead from and to.
func (d *dryRun) versions() (from, to string) {
	seen := d.basis.Seen
	name := func(id string) string {
		v, ok := seen.Versions[id]
		if !ok {
			return ""
		}
		return named(&v)
	}
	live := seen.Workload.Template
	from = name(live)
	if st := d.policy.Status.Stable; st != nil && st.ID != live {
		from, to = name(st.ID), name(live)
	}
	if d.trial.template != nil {
		to = "the template of " + d.trial.path
	}
	return from, to
}

// named is a version in a sentence.
func named(v *workload.Version) string {
	text := v.Name()
	if v.Revision > 0 && !strings.Contains(text, "revision") {
		text = fmt.Sprintf("revision %d (%s)", v.Revision, v.Hash)
	}
	return text
}
