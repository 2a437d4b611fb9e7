package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"headroom.dev/headroom/api/gpus"
)

const (
	agentLabel = "app.kubernetes.io/name=headroom-agent"
	agentPort  = "metrics"
)

// agent is the pod of a node agent.
type agent struct {
	node, namespace, pod string
	path                 string // of its GPUs, through the API server
	why                  string // it cannot be asked
}

func (a *agent) String() string {
	if a.node == "" {
		return "a node yet to be chosen"
	}
	return "node " + a.node
}

// agents returns the agent of every node, or of one. A user who may not list the pods of all namespaces may be able to list
// those of the agents' namespace.
func (c *cluster) agents(ctx context.Context, namespace, node string) ([]agent, error) {
	wanted := metav1.ListOptions{LabelSelector: agentLabel}
	if node != "" {
		wanted.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", node).String()
	}
	where := "in any namespace"
	list, err := c.kube.CoreV1().Pods(corev1.NamespaceAll).List(ctx, wanted)
	if apierrors.IsForbidden(err) {
		where = fmt.Sprintf("in namespace %s (--agent-namespace; the pods of all namespaces may not be listed)", namespace)
		list, err = c.kube.CoreV1().Pods(namespace).List(ctx, wanted)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list the agents: %w", plain(err, "/api/v1"))
	}
	if len(list.Items) == 0 {
		if node != "" {
			where += " on node " + node
		}
		return nil, fmt.Errorf("there is no pod with the label %s %s: is headroom-agent installed?", agentLabel, where)
	}
	return agentsOf(list.Items), nil
}

// agentsOf chooses the pod of each node that is likeliest to answer: an update, or an eviction, leaves several.
func agentsOf(list []corev1.Pod) []agent {
	slices.SortFunc(list, func(a, b corev1.Pod) int {
		return cmp.Or(
			cmp.Compare(a.Spec.NodeName, b.Spec.NodeName), cmp.Compare(stage(&a), stage(&b)),
			b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	list = slices.CompactFunc(list, func(a, b corev1.Pod) bool {
		return a.Spec.NodeName == b.Spec.NodeName && a.Spec.NodeName != ""
	})
	agents := make([]agent, 0, len(list))
	for i := range list {
		agents = append(agents, agentOf(&list[i]))
	}
	return agents
}

func stage(pod *corev1.Pod) int {
	switch {
	case pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil:
		return 0
	case pod.Status.Phase == corev1.PodRunning:
		return 1
	case pod.Status.Phase == corev1.PodPending:
		return 2
	}
	return 3
}

// agentOf reads how the pod serves. The API server's proxy knows the ports of Services by name, but not those of pods.
func agentOf(pod *corev1.Pod) agent {
	a := agent{node: pod.Spec.NodeName, namespace: pod.Namespace, pod: pod.Name}
	if pod.Status.Phase != corev1.PodRunning {
		a.why = fmt.Sprintf("pod %s/%s is %s", a.namespace, a.pod, pod.Status.Phase)
		return a
	}
	for i := range pod.Spec.Containers {
		container := &pod.Spec.Containers[i]
		p := slices.IndexFunc(container.Ports, func(p corev1.ContainerPort) bool { return p.Name == agentPort })
		if p < 0 {
			continue
		}
		scheme := "http"
		secured := func(arg string) bool { return strings.HasPrefix(arg, "--tls-cert-file") }
		if slices.ContainsFunc(container.Args, secured) || slices.ContainsFunc(container.Command, secured) {
			scheme = "https"
		}
		a.path = fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:%s:%d/proxy/gpus", a.namespace, scheme, a.pod, container.Ports[p].ContainerPort)
		return a
	}
	a.why = fmt.Sprintf("pod %s/%s has no port named %q", a.namespace, a.pod, agentPort)
	return a
}

// gpus asks all agents. That one does not answer is no error, unless the caller has gone.
func (c *cluster) gpus(ctx context.Context, agents []agent) (*GPUs, error) {
	lists, whys := make([]*gpus.List, len(agents)), make([]error, len(agents))
	var group errgroup.Group
	group.SetLimit(parallel)
	for i := range agents {
		group.Go(func() error {
			lists[i], whys[i] = c.ask(ctx, &agents[i])
			return nil
		})
	}
	if err := cmp.Or(group.Wait(), ctx.Err()); err != nil {
		return nil, err
	}
	report := &GPUs{At: c.now().UTC(), Items: []gpus.List{}}
	for i := range agents {
		a := &agents[i]
		if whys[i] != nil {
			report.Unread = append(report.Unread, Unread{Node: a.node, Pod: a.namespace + "/" + a.pod, Reason: whys[i].Error(), who: a.String()})
			continue
		}
		lists[i].Node = a.node // which is what the others call it
		report.Items = append(report.Items, *lists[i])
	}
	return report, nil
}

func (c *cluster) ask(ctx context.Context, a *agent) (*gpus.List, error) {
	if a.why != "" {
		return nil, errors.New(a.why)
	}
	b, err := c.get(ctx, a.path, nil)
	if err != nil {
		return nil, a.refusal(err)
	}
	var list gpus.List
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("cannot read the answer of pod %s/%s: %w", a.namespace, a.pod, err)
	}
	if list.Devices == nil {
		return nil, fmt.Errorf("cannot read the answer of pod %s/%s: it lists no devices, not even none", a.namespace, a.pod)
	}
	return &list, nil
}

// refusal tells the agent's own answers, which no Status comes with, from the API server's.
func (a *agent) refusal(err error) error {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		if lost, ok := errors.AsType[*url.Error](err); ok { // whose URL says less than the node
			err = lost.Err
		}
		return fmt.Errorf("cannot ask pod %s/%s: %w", a.namespace, a.pod, err)
	}
	switch {
	case bare(status) && apierrors.IsNotFound(err):
		return fmt.Errorf("pod %s/%s does not know /gpus: its headroom-agent is too old", a.namespace, a.pod)
	case bare(status) && (apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err)):
		return fmt.Errorf("pod %s/%s does not answer those who come through the API server: its status is %d", a.namespace, a.pod, status.Status().Code)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%w: it takes the right to get pods/proxy in namespace %s", err, a.namespace)
	}
	return err
}
