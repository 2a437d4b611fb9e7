package app

import (
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"headroom.dev/headroom/api/query"
	"headroom.dev/headroom/cmd/kubectl-headroom/explain"
)

// ruleReport is the answer of kubectl headroom rules.
type ruleReport struct {
	query.RuleList
	// Hidden is how many built-in rules found nothing and are left out.
	Hidden int `json:"hidden"`

	errOut io.Writer
}

func (o *options) rules() *cobra.Command {
	var f format
	var all bool
	cmd := &cobra.Command{
		Use:   "rules [NAME]",
		Short: "List the rules that make metrics, and how their last evaluation went",
		Long: "Lists the rules in the order in which the adapter asks them: for what they define which metric, where their series\n" +
			"come from, how many objects have a value, and whether they work. Built-in rules that found no series are left out.",
		Example: examples(`
  # What is in use, and does it work?
  kubectl headroom rules

  # Everything that is defined, with its expression
  kubectl headroom rules --all -o wide

  # One rule, whole
  kubectl headroom rules my-rule -o yaml`),
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			list, err := c.ruleList(cmd.Context())
			if err != nil {
				return err
			}
			report := &ruleReport{RuleList: *list, errOut: o.errOut}
			if len(args) == 1 {
				report.Items = slices.DeleteFunc(report.Items, func(r query.Rule) bool { return r.Name != args[0] })
				if len(report.Items) == 0 {
					return fmt.Errorf("there is no rule %q: 'kubectl headroom rules --all' lists them", args[0])
				}
			} else if !all {
				report.hide()
			}
			return f.write(o.out, report, report.write)
		},
	}
	f.addTo(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "list built-in rules that found no series, too")
	return cmd
}

// hide leaves out the built-in rules that have nothing to tell.
func (r *ruleReport) hide() {
	before := len(r.Items)
	r.Items = slices.DeleteFunc(r.Items, func(q query.Rule) bool {
		return q.Origin == "built-in" && q.Series == 0 && q.Objects == 0 && q.Error == ""
	})
	r.Hidden = before - len(r.Items)
}

func (r *ruleReport) write(w io.Writer, wide bool) error {
	rows := [][]string{{"NAME", "METRIC", "FOR", "SOURCE", "OBJECTS", "SERIES", "EVAL", "AGE", "STATUS"}}
	if wide {
		rows[0] = append(rows[0], "ORIGIN", "UNIT", "MAX AGE", "EXPR")
	}
	for i := range r.Items {
		q := &r.Items[i]
		age := "-"
		if q.Evaluated != nil {
			age = explain.Age(max(0, r.At.Sub(*q.Evaluated).Seconds()))
		}
		row := []string{
			q.Name, q.Metric, describes(q), q.Source, strconv.Itoa(q.Objects), strconv.Itoa(q.Series),
			explain.Duration(q.Duration), age, explain.RuleStatus(q),
		}
		if wide {
			row = append(row, q.Origin, dash(q.Unit), explain.Age(q.MaxAge), q.Expr)
		}
		rows = append(rows, row)
	}
	if len(rows) > 1 {
		if err := explain.Table(w, "", rows); err != nil {
			return err
		}
	}
	if r.Hidden > 0 {
		fmt.Fprintf(r.errOut, "%d built-in rules that found no series are not shown: --all shows them\n", r.Hidden)
	}
	return nil
}

// describes is what a rule's metric is of: "pods", "services,external", "external".
func describes(q *query.Rule) string {
	switch {
	case q.Resource == "":
		return "external"
	case q.External:
		return q.Resource + ",external"
	}
	return q.Resource
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
