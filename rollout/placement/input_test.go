package placement

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestBadInput: the error names the field.
func TestBadInput(t *testing.T) {
	cluster := func(want string, c Cluster) {
		t.Helper()
		_, err := NewSnapshot(c)
		require.ErrorContains(t, err, want)
	}
	cluster("a node without a name", Cluster{Nodes: []Node{{}}})
	cluster("node n: there are two", Cluster{Nodes: []Node{{Name: "n"}, {Name: "n"}}})
	cluster("node n: allocatable.gpu: -1 is negative", Cluster{Nodes: []Node{{Name: "n", Allocatable: Resources{"gpu": -1}}}})
	cluster("node n: unfit.gpu: -1 is negative", Cluster{Nodes: []Node{{Name: "n", Unfit: Resources{"gpu": -1}}}})
	cluster(`node n: taints[0].effect: unknown effect "Sometimes"`, Cluster{Nodes: []Node{{Name: "n", Taints: []Taint{{Key: "k", Effect: "Sometimes"}}}}})
	pod := func(want string, p Pod) {
		t.Helper()
		p.Name, p.Namespace = "p", "x"
		cluster(want, Cluster{Nodes: []Node{{Name: "n"}}, Pods: []Pod{p}})
	}
	pod("pod x/p: requests.cpu: -5 is negative", Pod{Shape: Shape{Requests: Resources{CPU: -5}}})
	pod("pod x/p: hostPorts[0].port: 0 is no port", Pod{Shape: Shape{HostPorts: []HostPort{{}}}})
	pod(`pod x/p: antiAffinity[0].selector[0].operator: unknown operator "Like"`, Pod{Shape: Shape{AntiAffinity: []Term{{TopologyKey: "zone", Selector: Selector{Require: []Requirement{{Key: "a", Operator: "Like"}}}}}}})
	cluster("pod x/p: there are two", Cluster{Pods: []Pod{{Name: "p", Shape: Shape{Namespace: "x"}}, {Name: "p", Shape: Shape{Namespace: "x"}}}})

	s, err := NewSnapshot(Cluster{Nodes: []Node{{Name: "n"}}})
	require.NoError(t, err)
	shape := func(want string, shape Shape) {
		t.Helper()
		_, err := s.Fit(shape, 0)
		require.ErrorContains(t, err, want)
		_, err = s.MakeRoom(shape, 1, func(*Pod) bool { return true })
		require.ErrorContains(t, err, want)
	}
	terms := func(r Requirement) Shape {
		return Shape{NodeAffinity: &NodeAffinity{Terms: []NodeTerm{{Labels: []Requirement{r}}}}}
	}
	shape("shape: requests.gpu: -1 is negative", Shape{Requests: Resources{"gpu": -1}})
	shape(`shape: nodeAffinity.terms[0].labels[0].operator: unknown operator "in"`, terms(Requirement{Key: "a", Operator: "in"}))
	shape("shape: nodeAffinity.terms[0].labels[0].values: none for In", terms(Requirement{Key: "a", Operator: In}))
	shape("shape: nodeAffinity.terms[0].labels[0].values: some for Exists", terms(Requirement{Key: "a", Operator: Exists, Values: []string{"b"}}))
	shape("shape: nodeAffinity.terms[0].labels[0].values: 2 for Gt", terms(Requirement{Key: "a", Operator: Gt, Values: []string{"1", "2"}}))
	shape(`shape: nodeAffinity.terms[0].labels[0].values[0]: "many" is no whole number`, terms(Requirement{Key: "a", Operator: Lt, Values: []string{"many"}}))
	shape("shape: nodeAffinity.terms[0].labels[0].key: empty", terms(Requirement{Operator: Exists}))
	shape(`name[0].operator: unknown operator "Exists"`, Shape{NodeAffinity: &NodeAffinity{Terms: []NodeTerm{{Name: []Requirement{{Operator: Exists}}}}}})
	shape("name[0].values: 0 values", Shape{NodeAffinity: &NodeAffinity{Terms: []NodeTerm{{Name: []Requirement{{Operator: In}}}}}})
	shape(`shape: tolerations[0].operator: unknown operator "Like"`, Shape{Tolerations: []Toleration{{Operator: "Like"}}})
	shape("shape: spread[0].maxSkew: 0 is less than 1", Shape{Spread: []Spread{{TopologyKey: "zone"}}})
	shape("shape: spread[0].topologyKey: empty", Shape{Spread: []Spread{{MaxSkew: 1}}})
	shape("shape: spread[0].minDomains: -1 is negative", Shape{Spread: []Spread{{TopologyKey: "zone", MaxSkew: 1, MinDomains: -1}}})
	shape(`shape: spread[0].selector[0].operator: unknown operator "Gt"`, Shape{Spread: []Spread{{TopologyKey: "zone", MaxSkew: 1, Selector: Selector{Require: []Requirement{{Key: "a", Operator: Gt}}}}}})
	shape("shape: affinity[0].topologyKey: empty", Shape{Affinity: []Term{{}}})

	_, err = s.Fit(Shape{}, -1)
	require.ErrorContains(t, err, "limit: -1 is negative")
	_, err = s.MakeRoom(Shape{}, 0, nil)
	require.ErrorContains(t, err, "k: 0 is less than 1")
	for want, d := range map[string]Delta{
		"cannot remove pod x/p":                {RemovePods: []Key{{"x", "p"}}},
		"cannot remove node m":                 {RemoveNodes: []string{"m"}},
		"node n: there are two":                {AddNodes: []Node{{Name: "n"}}},
		"pod x/p: requests.cpu: -1":            {AddPods: []Pod{{Name: "p", Shape: Shape{Namespace: "x", Requests: Resources{CPU: -1}}}}},
		"node o: allocatable.cpu: -1 is negat": {AddNodes: []Node{{Name: "o", Allocatable: Resources{CPU: -1}}}},
	} {
		_, err := s.With(d)
		require.ErrorContains(t, err, want)
	}
}

// TestExtremes: numbers at the end of the range neither overflow nor fit.
func TestExtremes(t *testing.T) {
	const top = 1<<63 - 1
	big := func(name, node string) Pod {
		return Pod{Name: name, Node: node, Shape: Shape{Requests: Resources{"memory": top}}}
	}
	c := Cluster{
		Nodes: []Node{{Name: "n", Allocatable: Resources{"memory": top, Pods: top}}, {Name: "o", Allocatable: Resources{"memory": top, Pods: top}}},
		Pods:  []Pod{big("a", "n"), big("b", "n"), {Name: "c", Node: "n", Nominated: true, Shape: Shape{Requests: Resources{"memory": top}}}},
	}
	require.Equal(t, mostPerNode, fit(t, c, Shape{Requests: Resources{"memory": 1}}).Count)
	require.Equal(t, 1, fit(t, c, Shape{Requests: Resources{"memory": top}}).Count)
	s, err := NewSnapshot(c)
	require.NoError(t, err)
	s, err = s.With(Delta{RemovePods: []Key{{Name: "a"}, {Name: "b"}, {Name: "c"}}})
	require.NoError(t, err)
	a, err := s.Fit(Shape{Requests: Resources{"memory": top}}, 0)
	require.NoError(t, err)
	require.Equal(t, 2, a.Count)
}
