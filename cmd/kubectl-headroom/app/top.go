package app

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/api/query"
	"headroom.dev/headroom/cmd/kubectl-headroom/explain"
)

// parallel is how many requests top has under way at once.
const parallel = 16

// Top is the answer of kubectl headroom top: what each pod or node has.
type Top struct {
	At    time.Time `json:"at"`
	Items []Usage   `json:"items"`

	columns    []column
	namespaces bool // in a column
}

// Usage is one pod or node. A metric without a value is not there.
type Usage struct {
	Namespace string                 `json:"namespace,omitempty"`
	Name      string                 `json:"name"`
	Metrics   map[string]query.Value `json:"metrics"` // by name; ages are to the second
}

// topOptions are what top is asked.
type topOptions struct {
	format        format
	allNamespaces bool
	selector      string
	sortBy        string
}

func (o *options) topPods() *cobra.Command {
	var t topOptions
	cmd := &cobra.Command{
		Use:   "pods",
		Short: "Show the requests, latencies and GPU use of pods",
		Long: "Shows what each pod serves and uses now, from the values that the HPA sees. AGE is that of the oldest value in the row;\n" +
			"\"-\" is a value that there is none of, which is not 0. Columns and pods without any value are left out.",
		Example: examples(`
  # Of a namespace, by load
  kubectl headroom top pods -n demo --sort-by requests

  # Everywhere, with every column there is
  kubectl headroom top pods -A -o wide`),
		Aliases: []string{"pod", "po"},
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.top(cmd.Context(), pods, podColumns(), &t) },
	}
	t.addTo(cmd, podColumns())
	cmd.Flags().BoolVarP(&t.allNamespaces, "all-namespaces", "A", false, "pods of all namespaces")
	return cmd
}

func (o *options) topNodes() *cobra.Command {
	var t topOptions
	cmd := &cobra.Command{
		Use:   "nodes",
		Short: "Show the GPU use of nodes",
		Long:  "Shows the mean utilization and the memory of each node's GPUs. AGE is that of the oldest value in the row.",
		Example: examples(`
  kubectl headroom top nodes --sort-by gpu-memory-percent`),
		Aliases: []string{"node", "no"},
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.top(cmd.Context(), nodes, nodeColumns(), &t) },
	}
	t.addTo(cmd, nodeColumns())
	return cmd
}

func (t *topOptions) addTo(cmd *cobra.Command, columns []column) {
	t.format.addTo(cmd)
	var keys []string
	for i := range columns {
		keys = append(keys, columns[i].key)
	}
	cmd.Flags().StringVarP(&t.selector, "selector", "l", "", "label selector")
	cmd.Flags().StringVar(&t.sortBy, "sort-by", "", "largest first: "+strings.Join(keys, ", "))
}

func (o *options) top(ctx context.Context, resource string, columns []column, t *topOptions) error {
	if err := t.format.check(); err != nil {
		return err
	}
	by := slices.IndexFunc(columns, func(c column) bool { return c.key == t.sortBy })
	if by < 0 && t.sortBy != "" {
		return fmt.Errorf("--sort-by: there is no column %q; see --help", t.sortBy)
	}
	c, err := o.connect()
	if err != nil {
		return err
	}
	in := []string{c.namespace}
	switch {
	case resource == nodes:
		in = []string{""}
	case t.allNamespaces:
		if in, err = c.podNamespaces(ctx, t.selector); err != nil {
			return err
		}
	}
	top, err := c.usage(ctx, resource, in, columns, t.selector)
	if err != nil {
		return err
	}
	top.namespaces = t.allNamespaces
	if by >= 0 {
		top.sort(columns[by].metric)
	}
	if len(top.Items) == 0 {
		where := ""
		if resource == pods && !t.allNamespaces {
			where = " in namespace " + c.namespace
		}
		fmt.Fprintf(o.errOut, "No metrics of %s found%s. 'kubectl headroom explain metric' says why.\n", resource, where)
		if t.format == "" || t.format == "wide" {
			return nil
		}
	}
	return t.format.write(o.out, top, top.write)
}

// podNamespaces are those with pods that the selector means.
func (c *cluster) podNamespaces(ctx context.Context, selector string) ([]string, error) {
	list, err := c.kube.CoreV1().Pods(corev1.NamespaceAll).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, plain(err, "/api/v1")
	}
	set := map[string]bool{}
	for i := range list.Items {
		set[list.Items[i].Namespace] = true
	}
	return slices.Sorted(maps.Keys(set)), nil
}

// usage asks for every metric in every namespace. That there is no value, or no such metric, is no error.
func (c *cluster) usage(ctx context.Context, resource string, in []string, columns []column, selector string) (*Top, error) {
	type key struct{ namespace, name string }
	var mu sync.Mutex
	found := map[key]map[string]query.Value{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, namespace := range in {
		for i := range columns {
			group.Go(func() error {
				q := &question{metric: columns[i].metric, resource: resource, namespace: namespace, podSelector: selector}
				list, err := c.customValues(ctx, q, url.Values{})
				if apierrors.IsNotFound(err) {
					return nil
				}
				if err != nil {
					return err
				}
				now := c.now()
				mu.Lock()
				defer mu.Unlock()
				for j := range list.Items {
					item := &list.Items[j]
					k := key{namespace, item.DescribedObject.Name}
					if found[k] == nil {
						found[k] = map[string]query.Value{}
					}
					found[k][q.metric] = *customValue(item, now)
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	top := &Top{At: c.now().UTC(), Items: []Usage{}, columns: columns}
	for k, metrics := range found {
		top.Items = append(top.Items, Usage{Namespace: k.namespace, Name: k.name, Metrics: metrics})
	}
	slices.SortFunc(top.Items, func(a, b Usage) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return top, nil
}

// sort puts the largest first, and what has no value last.
func (t *Top) sort(metric string) {
	slices.SortStableFunc(t.Items, func(a, b Usage) int {
		x, okX := a.Metrics[metric]
		y, okY := b.Metrics[metric]
		if okX != okY {
			if okX {
				return -1
			}
			return 1
		}
		return cmp.Compare(y.Value, x.Value)
	})
}

func (t *Top) write(w io.Writer, wide bool) error {
	var shown []column
	for _, c := range t.columns {
		has := func(u Usage) bool { _, ok := u.Metrics[c.metric]; return ok }
		if (wide || !c.wide) && slices.ContainsFunc(t.Items, has) {
			shown = append(shown, c)
		}
	}
	header := []string{"NAME"}
	if t.namespaces {
		header = []string{"NAMESPACE", "NAME"}
	}
	for _, c := range shown {
		header = append(header, c.header)
	}
	rows := [][]string{append(header, "AGE")}
	for _, u := range t.Items {
		row := []string{u.Name}
		if t.namespaces {
			row = []string{u.Namespace, u.Name}
		}
		oldest, found := 0.0, false
		for _, c := range shown {
			v, ok := u.Metrics[c.metric]
			if !ok {
				row = append(row, "-")
				continue
			}
			cell := c.cell(float64(v.Value))
			if v.Fallback != "" {
				cell += " (" + v.Fallback + ")"
			}
			row = append(row, cell)
			oldest, found = max(oldest, v.Age), true
		}
		age := "-"
		if found {
			age = explain.Age(oldest)
		}
		rows = append(rows, append(row, age))
	}
	return explain.Table(w, "", rows)
}
