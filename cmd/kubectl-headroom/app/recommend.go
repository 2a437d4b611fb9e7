package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/recommender/report"
)

// recommend is the command's flags.
type recommend struct {
	o             *options
	output        string
	allNamespaces bool
	selector      string
	priceFile     string
	patch         bool
	days          int
}

// maxDays is more than any checkpoint keeps.
const maxDays = 90

func recommendOutputs() []string {
	return []string{"table", "wide", "json", "yaml", "csv", "html", "markdown"}
}

func (o *options) recommend() *cobra.Command {
	r := &recommend{o: o}
	cmd := &cobra.Command{
		Use:   "recommend [KIND/NAME]",
		Short: "Show what containers should request of CPU, memory and GPUs, and why",
		Long: "Shows what each container requests, what it should, the range that the need lies in, what the last days would have been\n" +
			"like at either size, and what the change saves in a month. It reads the ResourceRecommendations that the controller\n" +
			"writes for the workloads of namespaces labelled " + v1alpha1.LabelRecommend + "=true, and VerticalPodAutoscalers that name\n" +
			"headroom as their recommender; it changes nothing. What the columns mean, and the price file, is in docs/recommender.md.",
		Example: examples(`
  # What could the workloads of this namespace request?
  kubectl headroom recommend -n demo

  # The whole cluster as a page with plots, with money
  kubectl headroom recommend -A --price-file prices.yaml -o html > requests.html

  # One workload's patch, applied
  kubectl headroom recommend deployment/chat -n demo --patch > patch.yaml
  kubectl patch deployment chat -n demo --patch-file patch.yaml

  # What would the last two days have been like?
  kubectl headroom recommend -n demo --days 2 -o wide`),
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return r.run(cmd.Context(), args)
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&r.output, "output", "o", "table", "one of "+strings.Join(recommendOutputs(), ", "))
	fs.BoolVarP(&r.allNamespaces, "all-namespaces", "A", false, "workloads of all namespaces")
	fs.StringVarP(&r.selector, "selector", "l", "", "labels of the ResourceRecommendations and VerticalPodAutoscalers, as for kubectl get")
	fs.StringVar(&r.priceFile, "price-file", "", "file with prices (YAML or JSON), for savings in money")
	fs.BoolVar(&r.patch, "patch", false, "print strategic-merge patches for the workloads, and for HPAs that must change along")
	fs.IntVar(&r.days, "days", 0, "replay this many days from the usage that is kept; 0: as the controller did")
	return cmd
}

func (r *recommend) check(args []string) error {
	if !slices.Contains(recommendOutputs(), r.output) {
		return fmt.Errorf("--output: %q is none of %s", r.output, strings.Join(recommendOutputs(), ", "))
	}
	if len(args) == 1 && r.allNamespaces {
		return errors.New("a name and --all-namespaces exclude each other")
	}
	if r.days < 0 || r.days > maxDays {
		return fmt.Errorf("--days: %d is not from 0 to %d", r.days, maxDays)
	}
	if _, err := labels.Parse(r.selector); err != nil {
		return fmt.Errorf("--selector: %w", err)
	}
	return nil
}

func (r *recommend) run(ctx context.Context, args []string) error {
	if err := r.check(args); err != nil {
		return err
	}
	prices, err := readPrices(r.priceFile)
	if err != nil {
		return err
	}
	c, err := r.o.connect()
	if err != nil {
		return err
	}
	if r.allNamespaces {
		c.namespace = ""
	}
	target, err := c.targetOf(args)
	if err != nil {
		return err
	}
	out := &report.Report{At: c.now().UTC(), Prices: prices}
	found, err := c.recommendations(ctx, r, target, out)
	if err != nil {
		return err
	}
	out.Finish()
	if len(out.Workloads) == 0 {
		if err := c.sayNothing(found, target, r); err != nil {
			return err
		}
	}
	if r.patch {
		return c.writePatches(ctx, r.o.out, out)
	}
	return r.write(out)
}

func (r *recommend) write(out *report.Report) error {
	switch r.output {
	case "json":
		return out.WriteJSON(r.o.out)
	case "yaml":
		var b bytes.Buffer
		if err := out.WriteJSON(&b); err != nil {
			return err
		}
		text, err := yaml.JSONToYAML(b.Bytes())
		if err != nil {
			return fmt.Errorf("cannot write the report: %w", err)
		}
		_, err = r.o.out.Write(text)
		return err
	case "csv":
		return out.WriteCSV(r.o.out)
	case "html":
		return out.WriteHTML(r.o.out)
	case "markdown":
		return out.WriteMarkdown(r.o.out)
	}
	if len(out.Workloads) == 0 {
		return nil // what to do was said on the error output
	}
	return out.WriteTable(r.o.out, r.output == "wide", r.allNamespaces)
}

// maxPriceFile is much more than prices take.
const maxPriceFile = 1 << 20

// readPrices reads a price file. An error names the file and the field.
func readPrices(path string) (*report.Prices, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path) //nolint:gosec // the user names the file
	if err != nil {
		return nil, fmt.Errorf("--price-file: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	b, err := io.ReadAll(io.LimitReader(f, maxPriceFile+1))
	if err != nil {
		return nil, fmt.Errorf("--price-file: cannot read %s: %w", path, err)
	}
	if len(b) > maxPriceFile {
		return nil, fmt.Errorf("--price-file: %s is larger than 1 MiB", path)
	}
	text, err := yaml.YAMLToJSONStrict(b)
	if err != nil {
		return nil, fmt.Errorf("--price-file: %s: %w", path, err)
	}
	prices, err := report.ParsePrices(text)
	if err != nil {
		return nil, fmt.Errorf("--price-file: %s: %w", path, err)
	}
	return prices, nil
}

// workloadName is one that was asked for.
type workloadName struct{ kind, name string }

func (t *workloadName) String() string { return t.kind + "/" + t.name }

func (t *workloadName) is(kind, name string) bool {
	return t == nil || t.kind == kind && t.name == name
}

// targetOf reads KIND/NAME. Kinds that the API server knows may be written in any of its ways: deploy, deployments.apps.
func (c *cluster) targetOf(args []string) (*workloadName, error) {
	if len(args) == 0 {
		return nil, nil
	}
	kind, name, ok := strings.Cut(args[0], "/")
	if !ok || kind == "" || name == "" {
		return nil, fmt.Errorf("%q is not KIND/NAME, for example deployment/chat", args[0])
	}
	mapper, err := c.mapper()
	if err != nil {
		return nil, fmt.Errorf("cannot learn which kinds there are: %w", err)
	}
	known, err := mapper.KindFor(schema.ParseGroupResource(strings.ToLower(kind)).WithVersion(""))
	if err != nil {
		return nil, fmt.Errorf("cannot find the kind %q: %w", kind, err)
	}
	return &workloadName{known.Kind, name}, nil
}

// sayNothing says why there is nothing to show, and what to do. found is how many recommendations there were of other workloads.
func (c *cluster) sayNothing(found int, target *workloadName, r *recommend) error {
	where := "in namespace " + c.namespace
	if c.namespace == "" {
		where = "in any namespace"
	}
	label := "kubectl label namespace NAME " + v1alpha1.LabelRecommend + "=true"
	if c.namespace != "" {
		label = "kubectl label namespace " + c.namespace + " " + v1alpha1.LabelRecommend + "=true"
	}
	switch {
	case target != nil && found > 0:
		return fmt.Errorf("there is no recommendation for %s %s, but for %d others", target, where, found)
	case target != nil:
		return fmt.Errorf("there is no recommendation for %s %s; to have them made: %s", target, where, label)
	case r.selector != "":
		fmt.Fprintf(r.o.errOut, "No recommendations found %s for the selector %s.\n", where, r.selector)
	default:
		fmt.Fprintf(r.o.errOut, "No recommendations found %s. To have them made for its workloads: %s\n", where, label)
	}
	return nil
}

// since is the begin of a replay.
func (r *recommend) since(at time.Time) time.Time {
	return at.Add(-time.Duration(r.days) * 24 * time.Hour)
}
