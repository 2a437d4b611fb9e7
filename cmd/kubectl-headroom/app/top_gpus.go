package app

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"headroom.dev/headroom/api/gpus"
	"headroom.dev/headroom/cmd/kubectl-headroom/explain"
)

// GPUs is the answer of kubectl headroom top gpus: what the agent of each node says.
type GPUs struct {
	At     time.Time   `json:"at"`
	Items  []gpus.List `json:"items"`
	Unread []Unread    `json:"unread,omitempty"`
}

// Unread is a node whose agent does not tell its GPUs.
type Unread struct {
	Node   string `json:"node,omitempty"` // "" while the agent's pod is on none
	Pod    string `json:"pod"`
	Reason string `json:"reason"`

	who string
}

// gpuOptions are what top gpus is asked.
type gpuOptions struct {
	format    format
	node      string
	unhealthy bool
	namespace string
}

func (o *options) topGPUs() *cobra.Command {
	var t gpuOptions
	cmd := &cobra.Command{
		Use:   "gpus",
		Short: "Show what each GPU does, for whom, and whether it is well",
		Long: "Shows every GPU and MIG instance, asked of the node agents themselves. UTIL and P95 are over the agents' window; PODS are\n" +
			"the containers that were given the GPU, each with its part of UTIL. HEALTH is what is wrong with the GPU; \"!\" marks what\n" +
			"takes it out of service. \"-\" is a value that there is none of, which is not 0, and \"?\" a part that is not known;\n" +
			"-o wide says why. It takes the rights to list pods, and to get pods/proxy in the agents' namespace.",
		Example: examples(`
  # Which GPU is whose?
  kubectl headroom top gpus

  # What is wrong, and who suffers from it?
  kubectl headroom top gpus --unhealthy

  # Of one node: why is a value not there?
  kubectl headroom top gpus --node gpu-1 -o wide`),
		Aliases: []string{"gpu"},
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.gpus(cmd.Context(), &t) },
	}
	t.format.addTo(cmd)
	cmd.Flags().StringVar(&t.node, "node", "", "GPUs of this node alone")
	cmd.Flags().BoolVar(&t.unhealthy, "unhealthy", false, "GPUs with something wrong alone")
	cmd.Flags().StringVar(&t.namespace, "agent-namespace", "headroom-system", "where the agents are, for users who may not list the pods of all namespaces")
	return cmd
}

func (o *options) gpus(ctx context.Context, t *gpuOptions) error {
	if err := t.format.check(); err != nil {
		return err
	}
	c, err := o.connect()
	if err != nil {
		return err
	}
	agents, err := c.agents(ctx, t.namespace, t.node)
	if err != nil {
		return err
	}
	report, err := c.gpus(ctx, agents)
	if err != nil {
		return err
	}
	if len(report.Items) == 0 && len(agents) == 1 {
		return fmt.Errorf("cannot read the GPUs of %s: %s", report.Unread[0].who, report.Unread[0].Reason)
	}
	report.remark(o.errOut, t.format == "wide")
	if len(report.Items) == 0 {
		return fmt.Errorf("cannot read the GPUs of any of %d nodes", len(agents))
	}
	if found := report.arrange(t.unhealthy); found == 0 {
		which := "GPUs"
		if t.unhealthy {
			which = "GPUs with something wrong"
		}
		fmt.Fprintf(o.errOut, "No %s found.\n", which)
		if t.format == "" || t.format == "wide" {
			return nil
		}
	}
	return t.format.write(o.out, report, report.write)
}

// remark says which nodes lack GPUs in the answer, and why; wide adds what else their agents complain of.
func (g *GPUs) remark(w io.Writer, wide bool) {
	for _, u := range g.Unread {
		fmt.Fprintf(w, "Cannot read the GPUs of %s: %s\n", u.who, oneLine(u.Reason))
	}
	for i := range g.Items {
		list := &g.Items[i]
		if len(list.Problems) > 0 && (wide || len(list.Devices) == 0) {
			fmt.Fprintf(w, "The agent of node %s says: %s\n", list.Node, oneLine(strings.Join(list.Problems, "; ")))
		}
	}
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// arrange puts each node's GPUs in order, leaves out the healthy ones if it is to, and returns how many devices are left.
func (g *GPUs) arrange(unhealthy bool) int {
	n := 0
	for i := range g.Items {
		list := &g.Items[i]
		if unhealthy {
			list.Devices = slices.DeleteFunc(list.Devices, func(d gpus.Device) bool { return d.Healthy && len(d.Findings) == 0 })
		}
		order(list.Devices)
		n += len(list.Devices)
	}
	return n
}

// order sorts by the GPUs' indexes, and puts MIG instances beneath their GPU, in the agent's order. A GPU that was lost may
// have the index of another one.
func order(devices []gpus.Device) {
	place := map[string]int{}
	for i := range devices {
		if devices[i].Parent == "" {
			place[devices[i].UUID] = i
		}
	}
	of := func(d *gpus.Device) int {
		if i, ok := place[cmp.Or(d.Parent, d.UUID)]; ok {
			return i
		}
		return len(devices)
	}
	slices.SortStableFunc(devices, func(a, b gpus.Device) int {
		return cmp.Or(cmp.Compare(a.GPU, b.GPU), cmp.Compare(of(&a), of(&b)), cmp.Compare(min(1, len(a.Parent)), min(1, len(b.Parent))))
	})
}

func (g *GPUs) write(w io.Writer, wide bool) error {
	var shown []column
	for _, c := range gpuColumns() {
		if (wide || !c.wide) && (!c.rare || g.has(c.metric)) {
			shown = append(shown, c)
		}
	}
	header := []string{"NODE", "GPU", "MODEL"}
	for _, c := range shown {
		header = append(header, c.header)
	}
	header = append(header, "HEALTH", "PODS")
	if wide {
		header = append(header, "METHOD", "PEAK-MEM", "UUID", "ATTRIBUTION", "MISSING")
	}
	rows := [][]string{header}
	for i := range g.Items {
		for j := range g.Items[i].Devices {
			d := &g.Items[i].Devices[j]
			row := []string{g.Items[i].Node, index(d), cmp.Or(strings.TrimPrefix(d.Model, "NVIDIA "), "-")}
			for _, c := range shown {
				cell := "-"
				if v, ok := d.Figures[c.metric]; ok {
					cell = c.cell(v)
				}
				row = append(row, cell)
			}
			row = append(row, health(d), users(d.Containers))
			if wide {
				row = append(row, each(d.Containers, method), each(d.Containers, peak), d.UUID, cmp.Or(d.Attribution, "-"), missing(d.Missing))
			}
			rows = append(rows, row)
		}
	}
	return explain.Table(w, "", rows)
}

func (g *GPUs) has(figure string) bool {
	return slices.ContainsFunc(g.Items, func(list gpus.List) bool {
		return slices.ContainsFunc(list.Devices, func(d gpus.Device) bool { _, ok := d.Figures[figure]; return ok })
	})
}

// index names an instance by its profile, which is all that agents tell of it for people.
func index(d *gpus.Device) string {
	if d.Parent == "" {
		return strconv.Itoa(d.GPU)
	}
	return fmt.Sprintf("  %d/%s", d.GPU, cmp.Or(d.Profile, "mig"))
}

func health(d *gpus.Device) string {
	var codes []string
	for _, f := range d.Findings {
		code := f.Code
		if f.Unfit {
			code += "!"
		}
		codes = append(codes, code)
	}
	switch {
	case len(codes) > 0:
		return strings.Join(codes, ",")
	case !d.Healthy:
		return "unfit!"
	}
	return "ok"
}

// users names containers only where a pod has several on the device.
func users(list []gpus.Container) string {
	sharing := map[string]int{}
	for i := range list {
		sharing[list[i].Namespace+"/"+list[i].Pod]++
	}
	return each(list, func(c *gpus.Container) string {
		name, part := c.Namespace+"/"+c.Pod, "?"
		if sharing[name] > 1 {
			name += " (" + c.Container + ")"
		}
		if c.Usage.Utilization != nil {
			part = percent(*c.Usage.Utilization)
		}
		return name + " " + part
	})
}

func each(list []gpus.Container, cell func(*gpus.Container) string) string {
	if len(list) == 0 {
		return "-"
	}
	cells := make([]string, 0, len(list))
	for i := range list {
		cells = append(cells, cell(&list[i]))
	}
	return strings.Join(cells, ", ")
}

func method(c *gpus.Container) string { return cmp.Or(c.Method, "?") }

func peak(c *gpus.Container) string {
	if c.Peak == nil {
		return "?"
	}
	return explain.Bytes(*c.Peak)
}

// missing sums up which figures are not there for which reason; of many with one reason it gives the number.
func missing(figures map[string]string) string {
	const few = 3
	names := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(figures)) {
		names[figures[name]] = append(names[figures[name]], name)
	}
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(names)) {
		which := strings.Join(names[reason], ", ")
		if n := len(names[reason]); n > few {
			which = fmt.Sprintf("%d figures", n)
		}
		parts = append(parts, which+": "+reason)
	}
	return cmp.Or(strings.Join(parts, "; "), "-")
}
