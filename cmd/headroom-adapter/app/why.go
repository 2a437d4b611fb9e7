package app

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"

	"headroom.dev/headroom/adapter/discovery"
	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/adapter/rules"
	"headroom.dev/headroom/adapter/scrape"
)

// agentPrefix begins the names of all series that agents expose about the pods of their node.
const agentPrefix = "gpu_"

// explainer knows what became of the scrapes behind a missing value.
type explainer struct {
	pods     corelisters.PodLister
	manager  *scrape.Manager
	trusted  map[string]bool // namespaces of the agents
	fromNode map[string]bool // metrics that are made of agents' series alone
}

func newExplainer(pods corelisters.PodLister, manager *scrape.Manager, trusted map[string]bool, set *rules.Set) *explainer {
	x := &explainer{pods: pods, manager: manager, trusted: trusted, fromNode: map[string]bool{}}
	for _, rule := range set.Rules() {
		agents := len(rule.Needs) > 0
		for name := range rule.Needs {
			agents = agents && strings.HasPrefix(name, agentPrefix)
		}
		x.fromNode[rule.Rule.Metric] = agents
	}
	return x
}

// why says why the scrapes behind the metric give nothing for the pod, or "" if nothing is known.
func (x *explainer) why(name string, o metric.Object) string {
	pod, err := x.pods.Pods(o.Namespace).Get(o.Name)
	if err != nil {
		return "the pod is not known"
	}
	if !x.fromNode[name] {
		if _, err := discovery.FromPod(pod); err != nil {
			return "not scraped: " + err.Error()
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
	for namespace := range x.trusted {
		agents, err := x.pods.Pods(namespace).List(labels.Everything())
		if err != nil {
			continue // cannot be: an informer's lister has the namespace index
		}
		for _, agent := range agents {
			if agent.Spec.NodeName != node {
				continue
			}
			o := podObject(agent.Namespace, agent.Name)
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
