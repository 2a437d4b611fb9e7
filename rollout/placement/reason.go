package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Text is a reason in the scheduler's own words.
type Text string

// Why a node is no place for one more pod, in the order in which the scheduler looks. Insufficient makes the one about a resource.
const (
	Unschedulable     Text = "node(s) were unschedulable"
	Untolerated       Text = "node(s) had untolerated taint(s)"
	NoNodeAffinity    Text = "node(s) didn't match Pod's node affinity/selector"
	NoPorts           Text = "node(s) didn't have free ports for the requested pod ports"
	TooManyPods       Text = "Too many pods"
	NoSpreadLabel     Text = "node(s) didn't match pod topology spread constraints (missing required label)"
	Skewed            Text = "node(s) didn't match pod topology spread constraints"
	NoAffinity        Text = "node(s) didn't match pod affinity rules"
	OwnAntiAffinity   Text = "node(s) didn't match pod anti-affinity rules"
	TheirAntiAffinity Text = "node(s) didn't satisfy existing pods anti-affinity rules"
	Undeclared        Text = "node(s) didn't match Pod's required features"
)

// Insufficient is the reason of a resource that is short.
func Insufficient(resource string) Text { return Text("Insufficient " + resource) }

// why is one node's reason.
type why struct {
	text   Text
	detail string
}

// Reason is why some nodes take no more.
type Reason struct {
	Text   Text
	Detail string // the taint, the topology key; or ""
	Nodes  int
	Names  []string // the first of them, three at most
}

func (t Taint) String() string {
	if t.Value == "" {
		return t.Key + ":" + t.Effect
	}
	return t.Key + "=" + t.Value + ":" + t.Effect
}

func (r Reason) String() string {
	if r.Detail == "" {
		return fmt.Sprintf("%d %s", r.Nodes, r.Text)
	}
	return fmt.Sprintf("%d %s {%s}", r.Nodes, r.Text, r.Detail)
}

// whys are the reasons of one node that has already got some pods: those of the first plugin that refuses, as the scheduler
// stops at it. None where one more fits.
func (p *problem) whys(at int, got int64, c *coupling) []why {
	h := p.s.hosts[at]
	if w, refused := p.refusal(h); refused {
		return []why{w}
	}
	if w := p.lacking(h, got); len(w) > 0 {
		return w
	}
	if w, passes := c.check(at); !passes {
		return []why{w}
	}
	if p.undeclared(h) {
		return []why{{text: Undeclared}}
	}
	return nil
}

// reasons sums up why none of the nodes takes one more, most nodes first. A node can have several, as in the scheduler's
// message.
func (p *problem) reasons(got []int64, c *coupling) []Reason {
	const names = 3
	var out []Reason
	place := map[why]int{}
	for i, h := range p.s.hosts {
		for _, w := range p.whys(i, got[i], c) {
			j, ok := place[w]
			if !ok {
				j = len(out)
				place[w] = j
				out = append(out, Reason{Text: w.text, Detail: w.detail})
			}
			r := &out[j]
			r.Nodes++
			if len(r.Names) < names {
				r.Names = append(r.Names, h.Name)
			}
		}
	}
	slices.SortFunc(out, func(a, b Reason) int {
		return cmp.Or(cmp.Compare(b.Nodes, a.Nodes), cmp.Compare(a.Text, b.Text), cmp.Compare(a.Detail, b.Detail))
	})
	return out
}

// Why says in the scheduler's manner why no more pods fit: "0/4 nodes are available for another pod: 3 Insufficient
// nvidia.com/gpu, 1 node(s) had untolerated taint(s) {spot:NoSchedule}." It is "" where more fit, or nobody knows.
func (a *Answer) Why() string {
	switch {
	case !a.Known:
		return "cannot tell: " + strings.Join(a.NotModelled, "; ")
	case a.Nodes == 0:
		return "there are no nodes"
	case len(a.Reasons) == 0:
		return ""
	}
	texts := make([]string, len(a.Reasons))
	for i, r := range a.Reasons {
		texts[i] = r.String()
	}
	return fmt.Sprintf("0/%d nodes are available for another pod: %s.", a.Nodes, strings.Join(texts, ", "))
}
