package app

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"headroom.dev/headroom/api/query"
	"headroom.dev/headroom/cmd/kubectl-headroom/explain"
)

// metricOptions are what explain metric is asked.
type metricOptions struct {
	format   format
	resource string
	name     string
	selector string
	series   bool
}

func (o *options) explainMetric() *cobra.Command {
	var m metricOptions
	cmd := &cobra.Command{
		Use:   "metric NAME",
		Short: "Say what each pod, object or series has of a metric, and why not",
		Long: "Shows the rules that define a metric in the order in which they are asked, and what each object has: the value with\n" +
			"its true age, the rule that gave it, and why any has none. -o wide adds what each rule says of each object and the\n" +
			"raw series behind the values.",
		Example: examples(`
  # What has each pod of the namespace?
  kubectl headroom explain metric requests_per_second -n demo

  # One pod, every rule that was asked, and the series that they read
  kubectl headroom explain metric requests_per_second -n demo --name chat-1 -o wide

  # Of a Service; of nodes; as external metric
  kubectl headroom explain metric requests_waiting -n demo --resource service --name chat
  kubectl headroom explain metric gpu_utilization_percent --resource nodes
  kubectl headroom explain metric requests_waiting -n demo --resource external -l service=chat`),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := m.format.check(); err != nil {
				return err
			}
			if problems := content.IsPathSegmentName(args[0]); len(problems) > 0 {
				return fmt.Errorf("NAME: %q %s", args[0], problems[0])
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			report, err := c.gatherMetric(cmd.Context(), args[0], &m)
			if err != nil {
				return err
			}
			return m.format.write(o.out, report, report.Write)
		},
	}
	m.format.addTo(cmd)
	cmd.Flags().StringVar(&m.resource, "resource", pods, `what the metric describes: pods, services, deployments.apps, nodes, …, or "external"`)
	cmd.Flags().StringVar(&m.name, "name", "", "one object (default: all)")
	cmd.Flags().StringVarP(&m.selector, "selector", "l", "", "label selector of the objects; with --resource external, of the metric's series")
	cmd.Flags().BoolVar(&m.series, "series", false, "show the raw series that the rules read, with the newest sample of each")
	cmd.MarkFlagsMutuallyExclusive("name", "selector")
	return cmd
}

func (c *cluster) gatherMetric(ctx context.Context, name string, m *metricOptions) (*explain.Values, error) {
	resource, namespaced := c.resource(m.resource)
	q := &question{metric: name, resource: resource, namespace: c.namespace, name: m.name, podSelector: m.selector}
	switch {
	case resource == namespaces: // asked from inside, as who has a namespace's rights may
		q.namespace, q.name = cmp.Or(m.name, c.namespace), ""
	case !namespaced:
		q.namespace = ""
	case resource == "":
		q.podSelector, q.metricSelector = "", m.selector
	}
	report := &explain.Values{}
	x, err := c.explanation(ctx, q.namespace, q.metric, q.values())
	if hasNoAnswer(err) {
		why := err
		switch x, err = c.valuesAlone(ctx, q); {
		case err == nil:
			report.Notes = append(report.Notes, "rules, reasons and series are not known: "+why.Error())
		case hasNoAnswer(err): // both are down or forbidden, and the first would have told most
			return nil, why
		default:
			return nil, fmt.Errorf("%w (and why cannot be told: %w)", err, why)
		}
	}
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("%w; 'kubectl headroom rules --all' lists what is defined", err)
	}
	if err != nil {
		return nil, err
	}
	report.Explanation = *x
	if len(report.Notes) == 0 && (m.series || m.format == "wide") {
		if err := c.addSeries(ctx, report, q.namespace); err != nil {
			report.Notes = append(report.Notes, "the raw series cannot be shown: "+err.Error())
		}
	}
	return report, nil
}

// resource finds what the user means: "svc" is services, "deploy" deployments.apps. What the API server does not know is
// taken as it is written.
func (c *cluster) resource(text string) (resource string, namespaced bool) {
	switch text {
	case "external":
		return "", true
	case pods, "services", "deployments.apps", namespaces:
		return text, true
	case nodes:
		return text, false
	}
	mapper, err := c.mapper()
	if err != nil {
		return text, true
	}
	kind, err := mapper.KindFor(schema.ParseGroupResource(strings.ToLower(text)).WithVersion(""))
	if err != nil {
		return text, true
	}
	mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return text, true
	}
	resource = mapping.Resource.GroupResource().String()
	return resource, resource == namespaces || mapping.Scope.Name() == meta.RESTScopeNameNamespace
}

// addSeries adds what the rules that gave values read; where none gave any, what all of them read.
func (c *cluster) addSeries(ctx context.Context, report *explain.Values, namespace string) error {
	behind, err := c.behind(ctx, report, namespace)
	if err != nil {
		return err
	}
	asked := map[string]bool{}
	for _, r := range giving(report) {
		if r.Source != "Embedded" {
			report.Notes = append(report.Notes, fmt.Sprintf("the series of rule %s are the %s server's: ask it", r.Name, r.Source))
			continue
		}
		for _, selector := range r.Selectors {
			if asked[selector] {
				continue
			}
			asked[selector] = true
			list, err := c.newest(ctx, namespace, selector)
			if err != nil {
				return err
			}
			for _, s := range list {
				if behind(s.Labels) {
					report.Series = append(report.Series, s)
				}
			}
		}
	}
	slices.SortStableFunc(report.Series, func(a, b explain.Series) int { return cmp.Compare(a.Labels["pod"], b.Labels["pod"]) })
	return nil
}

func giving(report *explain.Values) []query.Rule {
	gave := map[string]bool{}
	for i := range report.Objects {
		if v := report.Objects[i].Value; v != nil {
			gave[v.Rule] = true
		}
	}
	if len(gave) == 0 {
		return report.Rules
	}
	return slices.DeleteFunc(slices.Clone(report.Rules), func(r query.Rule) bool { return !gave[r.Name] })
}
