package app

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"headroom.dev/headroom/cmd/kubectl-headroom/explain"
)

func (o *options) explainHPA() *cobra.Command {
	var f format
	cmd := &cobra.Command{
		Use:   "hpa NAME",
		Short: "Say why an autoscaler wants what it wants, and what holds it back",
		Long: "For each metric of a HorizontalPodAutoscaler: the rules that define it, what each pod, object or series has, how old\n" +
			"that is and why any is left out, and the HPA's own arithmetic with these numbers. Then what its limits, behavior and\n" +
			"conditions make of it, and one sentence at the end that says it all.",
		Example: examples(`
  # Why does the HPA "chat" not scale?
  kubectl headroom explain hpa chat -n demo

  # Every rule that was asked, and what each said of each pod
  kubectl headroom explain hpa chat -n demo -o wide

  # For a program
  kubectl headroom explain hpa chat -n demo -o json | jq .verdict`),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			in, err := c.gatherHPA(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			report := explain.OfHPA(in)
			return f.write(o.out, report, report.Write)
		},
	}
	f.addTo(cmd)
	return cmd
}

// gatherHPA reads all that the report is made of. Only the HPA itself must be readable.
func (c *cluster) gatherHPA(ctx context.Context, name string) (*explain.Input, error) {
	hpa, err := c.kube.AutoscalingV2().HorizontalPodAutoscalers(c.namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no HPA %q in namespace %s", name, c.namespace)
	}
	if err != nil {
		return nil, plain(err, "/apis/autoscaling/v2")
	}
	in := &explain.Input{HPA: hpa, Metrics: make([]explain.Source, len(hpa.Spec.Metrics))}
	if in.Scale, err = c.scale(ctx, hpa); err != nil {
		in.Scale, in.ScaleErr = nil, "cannot read the scale of its target: "+err.Error()
	}
	selector := ""
	if in.Scale != nil {
		selector = in.Scale.Status.Selector
	}
	var group errgroup.Group
	group.Go(func() error {
		if selector == "" {
			in.PodsErr = "its target states no selector"
			if in.Scale == nil {
				in.PodsErr = "without the scale they cannot be told"
			}
			return nil
		}
		list, err := c.kube.CoreV1().Pods(c.namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err == nil {
			in.Pods = list.Items
		} else {
			in.PodsErr = err.Error()
		}
		return nil
	})
	for i := range hpa.Spec.Metrics {
		group.Go(func() error {
			in.Metrics[i] = c.source(ctx, hpa.Namespace, &hpa.Spec.Metrics[i], selector)
			return nil
		})
	}
	_ = group.Wait() // nothing returns an error: each is part of the report
	in.Now = c.now()
	return in, ctx.Err()
}

// scale reads the scale of the HPA's target.
func (c *cluster) scale(ctx context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler) (*autoscalingv1.Scale, error) {
	ref := hpa.Spec.ScaleTargetRef
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return nil, err
	}
	mapping, err := c.mapping(schema.GroupKind{Group: gv.Group, Kind: ref.Kind})
	if err != nil {
		return nil, err
	}
	path := scoped(mapping.Resource.GroupVersion().String(), hpa.Namespace, mapping.Resource.Resource, ref.Name, "scale")
	if mapping.Resource.Group == "" {
		path = "/api/" + mapping.Resource.Version + "/namespaces/" + hpa.Namespace + "/" + mapping.Resource.Resource + "/" + ref.Name + "/scale"
	}
	var s autoscalingv1.Scale
	return &s, c.fetch(ctx, path, nil, &s)
}

// mapping finds the resource of a kind, in the version that the API server prefers, as the HPA controller does.
func (c *cluster) mapping(kind schema.GroupKind) (*meta.RESTMapping, error) {
	mapper, err := c.mapper()
	if err != nil {
		return nil, fmt.Errorf("cannot ask the API server for its resources: %w", err)
	}
	mapping, err := mapper.RESTMapping(kind)
	if err != nil {
		return nil, fmt.Errorf("the API server does not know the kind %s: %w", kind, err)
	}
	return mapping, nil
}

// source asks for one metric: first why, and where that cannot be had, for the values alone.
func (c *cluster) source(ctx context.Context, namespace string, spec *autoscalingv2.MetricSpec, podSelector string) explain.Source {
	if spec.Resource != nil || spec.ContainerResource != nil {
		return c.resources(ctx, namespace, podSelector)
	}
	q, err := c.question(namespace, spec, podSelector)
	if err != nil || q == nil {
		return failed(err)
	}
	x, err := c.explanation(ctx, q.namespace, q.metric, q.values())
	if err == nil {
		return explain.Source{Explanation: x}
	}
	if !hasNoAnswer(err) {
		return failed(err)
	}
	partial := err.Error()
	if x, err = c.valuesAlone(ctx, q); err != nil {
		s := failed(err)
		s.Partial = partial
		return s
	}
	return explain.Source{Explanation: x, Partial: partial}
}

// resources asks for the use of resources. Where that cannot be had, the HPA's own last reading is what is left: the HPA may
// have had an answer a moment ago.
func (c *cluster) resources(ctx context.Context, namespace, podSelector string) explain.Source {
	if podSelector == "" {
		return explain.Source{Unread: "the selector of the pods is not known"}
	}
	var list metricsv1beta1.PodMetricsList
	err := c.fetch(ctx, scoped(resourceAPI, namespace, pods), url.Values{"labelSelector": {podSelector}}, &list)
	if err != nil {
		return explain.Source{Unread: err.Error()}
	}
	return explain.Source{PodMetrics: &list}
}

// hasNoAnswer is for errors of the asking: the adapter was not reached, or not allowed to be.
func hasNoAnswer(err error) bool {
	_, absent := errors.AsType[*absentError](err)
	_, forbidden := errors.AsType[*forbiddenError](err)
	return absent || forbidden
}

// failed parts what the HPA is told, too, from what this user alone does not get to know. An API that is not there is not
// there for the HPA either.
func failed(err error) explain.Source {
	if err == nil {
		return explain.Source{}
	}
	_, absent := errors.AsType[*absentError](err)
	if absent || apierrors.IsNotFound(err) || apierrors.IsBadRequest(err) || apierrors.IsServiceUnavailable(err) {
		return explain.Source{Absent: err.Error()}
	}
	return explain.Source{Unread: err.Error()}
}

// question is what an HPA asks for.
type question struct {
	metric, resource, namespace string
	name                        string // of an object
	podSelector                 string // of a Pods metric
	metricSelector              string
}

func (q *question) values() url.Values {
	v := url.Values{}
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	set("resource", q.resource)
	set("name", q.name)
	set("labelSelector", q.podSelector)
	set("metricLabelSelector", q.metricSelector)
	return v
}

// question returns nil for metrics that are not the adapter's.
func (c *cluster) question(namespace string, spec *autoscalingv2.MetricSpec, podSelector string) (*question, error) {
	q := &question{namespace: namespace}
	var selector *metav1.LabelSelector
	switch {
	case spec.Pods != nil:
		if podSelector == "" {
			return nil, errors.New("the selector of the pods is not known")
		}
		q.metric, q.resource, q.podSelector, selector = spec.Pods.Metric.Name, "pods", podSelector, spec.Pods.Metric.Selector
	case spec.Object != nil:
		ref := spec.Object.DescribedObject
		gv, err := schema.ParseGroupVersion(ref.APIVersion)
		if err != nil {
			return nil, err
		}
		mapping, err := c.mapping(schema.GroupKind{Group: gv.Group, Kind: ref.Kind})
		if err != nil {
			return nil, err
		}
		q.metric, q.resource, q.name, selector = spec.Object.Metric.Name, mapping.Resource.GroupResource().String(), ref.Name, spec.Object.Metric.Selector
		if q.resource == namespaces {
			q.name = namespace // whatever the HPA says, it asks for its own
		}
	case spec.External != nil:
		q.metric, selector = spec.External.Metric.Name, spec.External.Metric.Selector
	default:
		return nil, nil //nolint:nilnil // nothing is to be asked, and nothing is wrong
	}
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil, err
	}
	if selector != nil {
		q.metricSelector = parsed.String()
	}
	return q, nil
}
