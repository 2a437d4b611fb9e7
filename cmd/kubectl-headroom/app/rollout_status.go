package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/cmd/kubectl-headroom/screen"
)

func (o *options) rolloutStatus() *cobra.Command {
	var f format
	var allNamespaces, wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "status [NAME | KIND/NAME]",
		Short: "Show where an update stands, why, and how it goes on",
		Long: "With a RolloutPolicy's name, or its workload's: phase and reason, both versions with what their pods wait for, the plan with\n" +
			"the present step marked, the judge's figures, or why the update was refused and what would make it possible. Without one: a\n" +
			"line for each policy.\n\n" +
			"With --watch it waits until the update is over and its exit code is 0 when every replica runs the newest template, and 1\n" +
			"when the update went back, was refused or is not possible. What ended before, when nothing is under way, counts the same.",
		Example: examples(`
  # All policies of the namespace
  kubectl headroom rollout status -n demo

  # One, by its name or by its workload's
  kubectl headroom rollout status chat -n demo
  kubectl headroom rollout status deployment/chat -n demo

  # In a pipeline: apply, then fail unless the new version serves everywhere
  kubectl apply -f chat.yaml && kubectl headroom rollout status deployment/chat --watch --timeout 2h`),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: o.completePolicies,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkStatus(f, args, allNamespaces, wait, timeout); err != nil {
				return err
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			if allNamespaces {
				c.namespace = ""
			}
			switch {
			case len(args) == 0:
				return c.listRollouts(cmd.Context(), o, f, allNamespaces)
			case wait:
				return c.awaitRollout(cmd.Context(), o, f, args[0], timeout)
			}
			p, err := c.rolloutPolicy(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.writeRollout(o, f, p)
		},
	}
	f.addTo(cmd)
	cmd.Flags().BoolVarP(&allNamespaces, "all-namespaces", "A", false, "policies of all namespaces")
	cmd.Flags().BoolVarP(&wait, "watch", "w", false, "wait until the update is over; exit code 1 if it went back or was refused")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "with --watch: give up after that time, with exit code 1; 0: never")
	return cmd
}

func checkStatus(f format, args []string, allNamespaces, wait bool, timeout time.Duration) error {
	if err := f.check(); err != nil {
		return err
	}
	switch {
	case len(args) == 1 && allNamespaces:
		return errors.New("a name and --all-namespaces exclude each other")
	case len(args) == 0 && wait:
		return errors.New("--watch: name the policy whose update is to be waited for")
	case timeout < 0:
		return fmt.Errorf("--timeout: %s is negative", timeout)
	case timeout > 0 && !wait:
		return errors.New("--timeout: needs --watch")
	}
	return nil
}

func (c *cluster) listRollouts(ctx context.Context, o *options, f format, namespaces bool) error {
	list, err := c.rolloutPolicies(ctx)
	if err != nil {
		return err
	}
	return f.write(o.out, list, func(w io.Writer, wide bool) error {
		if len(list.Items) == 0 {
			fmt.Fprintln(o.errOut, "No RolloutPolicies found.")
			return nil
		}
		_, err := io.WriteString(w, screen.List(list.Items, c.now(), widthOf(o.out), namespaces, wide))
		return err
	})
}

func (c *cluster) writeRollout(o *options, f format, p *v1alpha1.RolloutPolicy) error {
	return f.write(o.out, p, func(w io.Writer, _ bool) error {
		_, err := io.WriteString(w, screen.Status(p, c.now(), widthOf(o.out)))
		return err
	})
}

// updateError is the end of an update that did not complete: its exit code is 1.
type updateError struct{ why string }

func (e *updateError) Error() string { return e.why }

// awaitRollout waits for the end of an update. What happens meanwhile goes to the error output, the end to the output.
func (c *cluster) awaitRollout(ctx context.Context, o *options, f format, arg string, timeout time.Duration) error {
	p, err := c.rolloutPolicy(ctx, arg)
	if err != nil {
		return err
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	generation := c.generation(ctx, p)
	var last *v1alpha1.RolloutPolicy
	var end screen.End
	said := ""
	err = c.follow(ctx, p.Namespace, p.Name, func(p *v1alpha1.RolloutPolicy) bool {
		last, end = p, screen.EndOf(p, generation)
		if line := screen.Line(p); line != said && !end.Over {
			fmt.Fprintln(o.errOut, line)
			said = line
		}
		return end.Over
	})
	switch {
	case err != nil:
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("the update of %s was not over after %s: %s", p.Name, timeout, screen.Line(last))
	case ctx.Err() != nil:
		return &updateError{"interrupted before the update of " + p.Name + " was over"}
	}
	if f == "json" || f == "yaml" {
		last.Kind, last.APIVersion = v1alpha1.KindRolloutPolicy, v1alpha1.GroupVersion().String()
		if err := c.writeRollout(o, f, last); err != nil {
			return err
		}
	} else if end.Good {
		fmt.Fprintf(o.out, "%s: %s\n", p.Name, end.Why)
	}
	if !end.Good {
		return &updateError{p.Name + ": " + end.Why}
	}
	return nil
}

// generation is the workload's: the update that is waited for is that of the template which it has now. 0 where it cannot be read;
// then what the status says is taken for it.
func (c *cluster) generation(ctx context.Context, p *v1alpha1.RolloutPolicy) int64 {
	var o metav1.PartialObjectMetadata
	err := c.fetch(ctx, scoped(p.Spec.TargetRef.APIVersion, p.Namespace, resources()[p.Spec.TargetRef.Kind], p.Spec.TargetRef.Name), nil, &o)
	if err != nil {
		return 0
	}
	return o.Generation
}
