package app

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"headroom.dev/headroom/cmd/kubectl-headroom/screen"
)

func (o *options) rolloutHistory() *cobra.Command {
	var f format
	var revision int64
	cmd := &cobra.Command{
		Use:   "history NAME | KIND/NAME",
		Short: "List the versions that were rolled out, and what became of them",
		Long: "Lists the updates that have ended, as many as spec.historyLimit keeps, the version that serves and the one that is under way,\n" +
			"the oldest first. MODEL and REASON are what the templates' annotations headroom.dev/model-version and\n" +
			"headroom.dev/change-reason (or kubernetes.io/change-cause) say.",
		Example: examples(`
  kubectl headroom rollout history chat -n demo

  # All of one: images by container, why it went back, what was before
  kubectl headroom rollout history chat -n demo --revision 5`),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: o.completePolicies,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if revision < 0 {
				return fmt.Errorf("--revision: %d is negative", revision)
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			p, err := c.rolloutPolicy(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			all := screen.History(p)
			list := ofRevision(all, revision)
			if revision > 0 && len(list) == 0 {
				return fmt.Errorf("the history of %s has no revision %d; it keeps %d updates", p.Name, revision, len(p.Status.History))
			}
			return f.write(o.out, list, func(w io.Writer, _ bool) error {
				text := ""
				switch {
				case len(list) == 0:
					fmt.Fprintf(o.errOut, "Nothing is known yet of the versions of %s.\n", p.Name)
				case revision > 0:
					text = screen.HistoryDetails(list, all, c.now(), widthOf(o.out))
				default:
					text = screen.HistoryTable(list, c.now(), widthOf(o.out))
				}
				_, err := io.WriteString(w, text)
				return err
			})
		},
	}
	f.addTo(cmd)
	cmd.Flags().Int64Var(&revision, "revision", 0, "show all of one revision")
	return cmd
}

// ofRevision keeps the entries of one revision, all where it is 0. The list is empty rather than missing in JSON.
func ofRevision(all []screen.Entry, revision int64) []screen.Entry {
	list := []screen.Entry{}
	for _, e := range all {
		if revision == 0 || e.Revision == revision {
			list = append(list, e)
		}
	}
	return list
}
