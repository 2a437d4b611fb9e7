package app

import (
	"fmt"

	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"

	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/adapter/scrape"
)

// explainer knows what became of the scrapes behind a missing value.
type explainer struct {
	pods       corelisters.PodLister
	notScraped func(pod metric.Object) string // why, "" where it is
	manager    *scrape.Manager
	trusted    []string // namespaces of the agents
	rules      *ruleset
}

// why says why the scrapes behind the metric give nothing for the object, or "" if nothing is known.
func (x *explainer) why(name string, o metric.Object) string {
	if o.Resource != metric.Pods {
		return ""
	}
	pod, err := x.pods.Pods(o.Namespace).Get(o.Name)
	if err != nil {
		return "the pod is not known"
	}
	if !x.rules.fromAgents(name) {
		if reason := x.notScraped(o); reason != "" {
			return reason
		}
		return x.scrapeOf(o)
	}
	if pod.Spec.NodeName == "" {
		return "the pod is not on a node yet"
	}
	return x.ofAgents(pod.Spec.NodeName)
}

func (x *explainer) scrapeOf(o metric.Object) string {
	if status, ok := x.manager.Status(o); ok {
		return status.Reason()
	}
	return "" // a watch event is on its way through
}

// ofAgents says what is wrong with the scrapes of the agents on a node; if nothing is, then the agent knows of no value.
func (x *explainer) ofAgents(node string) string {
	found := ""
	for _, namespace := range x.trusted {
		agents, err := x.pods.Pods(namespace).List(labels.Everything())
		if err != nil {
			continue // cannot be: an informer's lister has the namespace index
		}
		for _, agent := range agents {
			if agent.Spec.NodeName != node {
				continue
			}
			o := metric.Object{Resource: metric.Pods, Namespace: agent.Namespace, Name: agent.Name}
			if _, ok := x.manager.Status(o); !ok {
				continue
			}
			found = fmt.Sprintf("agent %s/%s", agent.Namespace, agent.Name)
			if reason := x.scrapeOf(o); reason != "" {
				return found + ": " + reason
			}
		}
	}
	if found == "" {
		return "no agent is scraped on node " + node
	}
	return found + " reports no GPU that is the pod's alone"
}
