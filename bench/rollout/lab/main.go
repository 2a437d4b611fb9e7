// Command lab plays updates of a GPU service in a lab with the real controllers and scheduler, under real HTTP load: Kubernetes' own
// strategies beside a RolloutPolicy's, on as many GPUs as the service needs, on one and two more, and on twice as many.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/demo/update"
	"headroom.dev/headroom/lab/progress"
)

type options struct {
	only           *regexp.Regexp
	results, state string
	gpus           []int
	demands        []float64
	seed           uint64
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var o options
	gpus := flag.String("gpus", "8,9,10,16", "GPUs that the service may have, of which its replicas take 8")
	demands := flag.String("demands", "46,75", "requests/s; a replica serves 10 in time, so 8 serve 80")
	only := flag.String("only", "", "only cases whose name matches this regular expression")
	flag.StringVar(&o.results, "results", "bench/results", "folder for the JSON file and the plot")
	flag.StringVar(&o.state, "state-dir", "", "the lab's state directory; default a new one that is removed at the end")
	flag.Uint64Var(&o.seed, "seed", 1, "of the arrival times")
	flag.Parse()
	log.SetLogger(logr.Discard()) // controller-runtime's client says nothing that its errors do not
	err := o.parse(*gpus, *demands, *only)
	if err == nil {
		err = run(ctx, o)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-rollout-lab:", err)
		os.Exit(1)
	}
}

func (o *options) parse(gpus, demands, only string) (err error) {
	if o.only, err = regexp.Compile(only); err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	for text := range strings.SplitSeq(gpus, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > labGPUs {
			return fmt.Errorf("-gpus %s: %q is no number from 1 to %d", gpus, text, labGPUs)
		}
		o.gpus = append(o.gpus, n)
	}
	for text := range strings.SplitSeq(demands, ",") {
		d, err := strconv.ParseFloat(text, 64)
		if err != nil || !(d > 0 && d <= 200) {
			return fmt.Errorf("-demands %s: %q is no number above 0 and at most 200", demands, text)
		}
		o.demands = append(o.demands, d)
	}
	return nil
}

const (
	labNodes = 2
	labGPUs  = 16
)

// run plays all cases in one lab.
func run(ctx context.Context, o options) (err error) {
	list := cases(o)
	if len(list) == 0 {
		return fmt.Errorf("-only %s: no such case", o.only)
	}
	dir, err := os.MkdirTemp("", "hr-update")
	if err != nil {
		return fmt.Errorf("cannot make the lab's folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	lo := lab.DefaultOptions()
	lo.Dir, lo.Nodes, lo.GPUs, lo.Output = filepath.Join(dir, "lab"), labNodes, labGPUs/labNodes, os.Stderr
	if o.state != "" {
		lo.Dir = o.state
	}
	l, err := lab.Up(ctx, lo)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Down()) }()
	p := progress.New(os.Stderr)
	if ours(list) {
		if err := l.Cluster().Install(ctx, p); err != nil {
			return err
		}
		if err := update.Hasten(ctx, l.Cluster(), p); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stage, err := update.NewStage(ctx, l.Cluster(), labGPUs, o.seed)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "\n%d updates, one after another, each between 10 and 110 s\n", len(list))
	begun := time.Now()
	var all []update.Outcome
	for i, c := range list {
		step := p.Step(fmt.Sprintf("%d/%d %s", i+1, len(list), c.Name))
		out, err := stage.Play(ctx, c, step.Update)
		if err != nil {
			return fmt.Errorf("cannot play %s: %w", c.Name, err)
		}
		step.Done(brief(out))
		all = append(all, out)
	}
	return report(os.Stdout, o, all, time.Since(begun))
}

func ours(list []update.Case) bool {
	for _, c := range list {
		if c.Policy != nil {
			return true
		}
	}
	return false
}
