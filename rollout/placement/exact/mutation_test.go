package exact

import (
	"testing"

	"headroom.dev/headroom/rollout/placement"
)

// most is how many clusters a difference may take to be found.
const most = 3000

// TestDifferencesAreFound makes ours another scheduler, by as little as can be, and wants that to be noticed. (A spread selector
// that is absent may as well select everything: both count nobody, so that mutation is none.)
func TestDifferencesAreFound(t *testing.T) {
	first := *seedFlag // drawn anew, the rarest (one cluster in 2,000) would be missed now and then
	if first == 0 {
		first = 7
	}
	stock := newScheduler(t)
	f := func(what string, s spoil) {
		t.Run(what, func(t *testing.T) {
			y := tally{reasons: map[string]int{}}
			for i := range most {
				if compare(t, stock, first+uint64(i), &y, s); y.unfollowed > 0 {
					t.Logf("%s: noticed in cluster %d: %s", what, i+1, y.first[0])
					return
				}
			}
			t.Errorf("nobody noticed in %d clusters", most)
		})
	}
	shape := func(what string, mutate func(s *placement.Shape)) {
		f(what, spoil{given: func(_ *placement.Cluster, s *placement.Shape) { mutate(s) }})
	}
	nodes := func(what string, mutate func(n *placement.Node)) {
		f(what, spoil{given: func(c *placement.Cluster, _ *placement.Shape) {
			for i := range c.Nodes {
				mutate(&c.Nodes[i])
			}
		}})
	}
	pods := func(what string, mutate func(p *placement.Pod)) {
		f(what, spoil{given: func(c *placement.Cluster, _ *placement.Shape) {
			for i := range c.Pods {
				mutate(&c.Pods[i])
			}
		}})
	}
	nodes("taints do not count", func(n *placement.Node) { n.Taints = nil })
	nodes("cordoned nodes are used", func(n *placement.Node) { n.Unschedulable = false })
	nodes("a GPU more per node", func(n *placement.Node) { n.Allocatable["nvidia.com/gpu"]++ })
	nodes("a pod more per node", func(n *placement.Node) { n.Allocatable[placement.Pods]++ })
	nodes("features are declared", func(n *placement.Node) { n.Features = []string{"RestartAllContainersOnContainerExits"} })
	shape("host ports do not count", func(s *placement.Shape) { s.HostPorts = nil })
	shape("node affinity does not count", func(s *placement.Shape) { s.NodeAffinity = nil })
	shape("node selector does not count", func(s *placement.Shape) { s.NodeSelector = nil })
	shape("affinity does not count", func(s *placement.Shape) { s.Affinity = nil })
	shape("anti-affinity does not count", func(s *placement.Shape) { s.AntiAffinity = nil })
	spread := func(what string, mutate func(*placement.Spread)) {
		shape(what, func(s *placement.Shape) {
			for i := range s.Spread {
				mutate(&s.Spread[i])
			}
		})
	}
	spread("skew + 1", func(s *placement.Spread) { s.MaxSkew++ })
	spread("minDomains do not count", func(s *placement.Spread) { s.MinDomains = 0 })
	spread("affinity policy: always Honor", func(s *placement.Spread) { s.IgnoreAffinity = false })
	spread("taints policy: always Ignore", func(s *placement.Spread) { s.HonorTaints = false })
	shape("namespace selectors select nothing", func(s *placement.Shape) {
		for i := range s.Affinity {
			s.Affinity[i].NamespaceSelector = placement.Selector{Nothing: true}
		}
	})
	pods("pods that are there guard nothing", func(p *placement.Pod) { p.AntiAffinity = nil })
	pods("pods that terminate are as others", func(p *placement.Pod) { p.Terminating = false })
	pods("pods that are nominated are there", func(p *placement.Pod) { p.Nominated = false })
	pods("priorities do not count", func(p *placement.Pod) { p.Priority = -100 })
	pods("requests do not count", func(p *placement.Pod) { p.Requests = nil })
	pods("ports are free", func(p *placement.Pod) { p.HostPorts = nil })
	f("what the best order holds is called sure", spoil{answer: func(a *placement.Answer) { a.Count = a.Most }})
	f("one more is called sure", spoil{answer: func(a *placement.Answer) { a.Count++ }})
}
