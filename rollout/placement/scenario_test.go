package placement

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestScenarios runs testdata. The commands:
//
//	cluster                    begins anew
//	NODE name [key=value …]    one line per node: zone=, host= (labels), taint=KEY:EFFECT, cordoned, unfit=N (GPUs), gpu=,
//	                           cpu= (milli), pods=, anything with a slash is a resource
//	POD name node=… [key=value …]  requests as above; app=, priority=, port=, terminating, nominated, alone=KEY (anti-affinity
//	                           to its app)
//
//	fit [limit=N]              one line of input: the shape, in the words of pods, besides spread=KEY:SKEW, near=KEY,
//	                           tolerates=KEY, on=KEY:VALUE, not-modelled=TEXT
//	room k=N                   the same, for MakeRoom
//	whatif remove=a,b          removes pods
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var s *Snapshot
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var err error
			switch d.Cmd {
			case "cluster":
				if s, err = NewSnapshot(parseCluster(t, d.Input)); err != nil {
					return err.Error()
				}
				return "ok"
			case "whatif":
				var names string
				d.ScanArgs(t, "remove", &names)
				var delta Delta
				for name := range strings.SplitSeq(names, "+") {
					delta.RemovePods = append(delta.RemovePods, Key{"x", name})
				}
				if s, err = s.With(delta); err != nil {
					return err.Error()
				}
				return "ok"
			case "fit":
				limit := 0
				d.MaybeScanArgs(t, "limit", &limit)
				p := parsePod(t, strings.Fields("new "+d.Input))
				a, err := s.Fit(p.Shape, limit)
				if err != nil {
					return err.Error()
				}
				return a.text()
			case "room":
				var k int
				d.ScanArgs(t, "k", &k)
				p := parsePod(t, strings.Fields("new "+d.Input))
				r, err := s.MakeRoom(p.Shape, k, func(*Pod) bool { return true })
				if err != nil {
					return err.Error()
				}
				return r.text()
			}
			t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
			return ""
		})
	})
}

func (a *Answer) text() string {
	if !a.Known {
		return a.Why() + "\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d sure, %d as follows", a.Count, a.Most)
	for _, p := range a.Placements {
		fmt.Fprintf(&b, " %s:%d", p.Node, p.Pods)
	}
	fmt.Fprintf(&b, "\n%s\n", a.Why())
	if len(a.Terminating) > 0 {
		fmt.Fprintf(&b, "%d after", a.AfterTerminating)
		for _, o := range a.Terminating {
			fmt.Fprintf(&b, " %s on %s", o.Key, o.Node)
		}
		b.WriteString(" end\n")
	}
	return b.String()
}

func (r *Room) text() string {
	if !r.Known {
		return "cannot tell: " + strings.Join(r.NotModelled, "; ") + "\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d (now %d)", r.Count, r.Asked, r.Now)
	for _, v := range r.Victims {
		fmt.Fprintf(&b, "\n%s on %s, priority %d", v.Key, v.Node, v.Priority)
	}
	b.WriteString("\n")
	for _, reason := range r.Reasons {
		fmt.Fprintf(&b, "%s\n", reason)
	}
	return b.String()
}

func parseCluster(t *testing.T, input string) Cluster {
	t.Helper()
	var c Cluster
	for line := range strings.SplitSeq(input, "\n") {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "node":
			c.Nodes = append(c.Nodes, parseNode(t, words[1:]))
		case words[0] == "pod":
			c.Pods = append(c.Pods, parsePod(t, words[1:]))
		default:
			t.Fatalf("unknown line %q", line)
		}
	}
	return c
}

func number(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const gpu = "nvidia.com/gpu"

func parseNode(t *testing.T, words []string) Node {
	t.Helper()
	n := Node{Name: words[0], Labels: map[string]string{"host": words[0]}, Allocatable: Resources{Pods: 10, CPU: 100_000}}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		switch {
		case key == "taint":
			k, effect, _ := strings.Cut(value, ":")
			n.Taints = append(n.Taints, Taint{Key: k, Effect: effect})
		case key == "cordoned":
			n.Unschedulable = true
		case key == "unfit":
			n.Unfit = Resources{gpu: number(t, value)}
		case key == "gpu":
			n.Allocatable[gpu] = number(t, value)
		case key == CPU || key == Pods || strings.Contains(key, "/"):
			n.Allocatable[key] = number(t, value)
		default:
			n.Labels[key] = value
		}
	}
	return n
}

func parsePod(t *testing.T, words []string) Pod {
	t.Helper()
	p := Pod{Name: words[0], Shape: Shape{Namespace: "x", Labels: map[string]string{"app": "a"}, Requests: Resources{}}}
	if i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "app=") }); i >= 0 {
		p.Labels["app"] = words[i][len("app="):]
	}
	own := func(key string) Term {
		return Term{TopologyKey: key, Selector: app(p.Labels["app"]), Namespaces: []string{"x"}, NamespaceSelector: Selector{Nothing: true}}
	}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		left, right, _ := strings.Cut(value, ":")
		switch {
		case key == "app":
		case key == "node":
			p.Node = value
		case key == "priority":
			p.Priority = int32(number(t, value))
		case key == "port":
			p.HostPorts = append(p.HostPorts, HostPort{Port: int32(number(t, value))})
		case key == "terminating":
			p.Terminating = true
		case key == "nominated":
			p.Nominated = true
		case key == "alone":
			p.AntiAffinity = append(p.AntiAffinity, own(value))
		case key == "near":
			p.Affinity = append(p.Affinity, own(value))
		case key == "spread":
			p.Spread = append(p.Spread, Spread{TopologyKey: left, MaxSkew: int32(number(t, right)), Selector: app(p.Labels["app"])})
		case key == "tolerates":
			p.Tolerations = append(p.Tolerations, Toleration{Key: value, Operator: "Exists"})
		case key == "on":
			p.NodeSelector = map[string]string{left: right}
		case key == "not-modelled":
			p.NotModelled = append(p.NotModelled, value)
		case key == "gpu":
			p.Requests[gpu] = number(t, value)
		case key == CPU || strings.Contains(key, "/"):
			p.Requests[key] = number(t, value)
		default:
			t.Fatalf("unknown word %q", word)
		}
	}
	return p
}
