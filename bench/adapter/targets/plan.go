// Package targets is a fleet of simulated scrape targets: inference pods that expose what vLLM exposes, 300 series in 40 kB,
// and GPU agents that expose what gpu/agent does on a node with eight GPUs, each on a loopback address of its own.
//
// Every counter of a pod grows at a constant rate that the package states, so that what a rule should make of it is known; one
// of them, vllm:request_success_total, can be stepped at a known instant. Answers are made by writing digits over a
// template and take 28 µs of CPU, the kernel's part included: 5,000 pods that are asked every second take a seventh of a core.
//
// Serve is a whole process (its CPU is not that of what is measured); Fleet is the handle on one.
package targets

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

const (
	// Namespace is where the pods live.
	Namespace = "bench"
	// AgentNamespace is where the agents live: the adapter's own, whose pods may speak about others.
	AgentNamespace = "headroom-system"
	// PodsPerApp is the number of pods of one Deployment and Service.
	PodsPerApp = 50
	// podsPerAgent makes a tenth as many agents as pods; eight of ten pods have a GPU.
	podsPerAgent = 10
)

// Plan says which targets there are. Pods come first in the addresses, then agents.
type Plan struct {
	First netip.Addr `json:"first"`
	Port  int        `json:"port"`
	Pods  int        `json:"pods"`
}

// Agents returns how many agents n pods have.
func Agents(n int) int { return (n + podsPerAgent - 1) / podsPerAgent }

// Apps returns how many Deployments n pods make.
func Apps(n int) int { return (n + PodsPerApp - 1) / PodsPerApp }

// App names the Deployment and Service a.
func App(a int) string { return fmt.Sprintf("app-%03d", a) }

// Pod names pod i.
func Pod(i int) string { return fmt.Sprintf("%s-6d9f7c5b8-p%04d", App(i/PodsPerApp), i) }

// Agent names the pod and the node of agent j.
func Agent(j int) (pod, node string) {
	return fmt.Sprintf("headroom-agent-n%03d", j), fmt.Sprintf("gpu-%03d", j)
}

// Rate is the requests per second of pod i: 20 to 69.
func Rate(i int) float64 { return 20 + float64(i%50) }

// Utilization is the GPU utilization of pod i, a ratio, and whether it has a GPU at all.
func Utilization(i int) (ratio float64, ok bool) {
	return float64(10+i%80) / 100, i%podsPerAgent < devicesPerAgent
}

// PodAddress is the address of pod i.
func (p Plan) PodAddress(i int) netip.Addr { return after(p.First, i) }

// AgentAddress is the address of agent j.
func (p Plan) AgentAddress(j int) netip.Addr { return after(p.First, p.Pods+j) }

func after(first netip.Addr, n int) netip.Addr {
	a := first.As4()
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])+uint32(n))
	return netip.AddrFrom4(a)
}
