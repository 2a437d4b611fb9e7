package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"headroom.dev/headroom/bench/result"
	"headroom.dev/headroom/bench/usage"
	"headroom.dev/headroom/gpu/nvmltest"
)

type options struct {
	length  time.Duration
	scrapes int
	results string
}

// settle is how long an agent runs before it is measured: its first pass reads every condition, and the window fills.
const settle = 15 * time.Second

// Goals of a pass each second; a scrape comes on top.
const (
	goalCPU = 0.5 // percent of one core
	goalRSS = 40  // MiB
)

func run(ctx context.Context, o options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n, err := newNode(ctx)
	if err != nil {
		return err
	}
	defer n.close()
	agent, library, err := build(ctx, n.dir)
	if err != nil {
		return err
	}
	go n.live(ctx)
	r := result.New("agent")
	for _, interval := range []time.Duration{time.Second, 5 * time.Second} {
		if err := measure(ctx, r, n, agent, library, interval, o); err != nil {
			return fmt.Errorf("with ticks of %s: %w", interval, err)
		}
	}
	progress("the same calls from C")
	pass, err := limit(ctx, n, library)
	if err != nil {
		return err
	}
	r.Add("limit: the same calls of a pass from C, CPU", pass, "ms")
	if err := r.Print(os.Stdout); err != nil {
		return err //nolint:wrapcheck // the terminal
	}
	path, err := r.Write(o.results)
	if err != nil {
		return err //nolint:wrapcheck // says what
	}
	fmt.Fprintln(os.Stdout, "\nwritten to", path)
	return nil
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// build compiles the agent and the stand-in driver.
func build(ctx context.Context, dir string) (agent, library string, err error) {
	progress("building the agent")
	agent = filepath.Join(dir, "headroom-agent")
	if out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", agent, "./cmd/headroom-agent").CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("cannot build the agent: %w\n%s", err, out)
	}
	library, err = nvmltest.Build(ctx, dir)
	if err != nil {
		return "", "", err //nolint:wrapcheck // says what
	}
	return agent, library, nil
}

// live moves the rings on, once a second.
func (n *node) live(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := n.writeMachine(); err != nil {
				progress("%v", err)
			}
		}
	}
}

// running is an agent process.
type running struct {
	cmd  *exec.Cmd
	base string
}

func start(ctx context.Context, n *node, agent, library string, interval time.Duration) (*running, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0") // to find a free port
	if err != nil {
		return nil, fmt.Errorf("cannot find a free port: %w", err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	cmd := exec.CommandContext(ctx, agent, "--listen="+address, "--interval="+interval.String(), "--window="+max(interval, 10*time.Second).String(),
		"--pod-resources-socket="+n.socket(), "--nvml-library="+library, "--node-name=bench", "--kubeconfig="+n.kubeconfig(),
		"--kubernetes-api=on", "--process-attribution=on", "--proc="+n.proc())
	cmd.Env = append(os.Environ(), nvmltest.FileVariable+"="+n.machine())
	log, err := os.Create(filepath.Join(n.dir, "log"))
	if err != nil {
		return nil, fmt.Errorf("cannot log: %w", err)
	}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start the agent: %w", err)
	}
	return &running{cmd, "http://" + address}, nil
}

func (r *running) stop() {
	_ = r.cmd.Process.Signal(os.Interrupt)
	_ = r.cmd.Wait()
}

func (r *running) get(ctx context.Context, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+path, nil)
	if err != nil {
		return "", fmt.Errorf("cannot ask the agent: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", fmt.Errorf("cannot ask the agent: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s: %s", path, response.Status, body)
	}
	return string(body), err
}

// value reads a series without labels.
func value(exposition, name string) (float64, error) {
	for line := range strings.Lines(exposition) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(rest), 64) //nolint:wrapcheck // of the agent
		}
	}
	return 0, fmt.Errorf("the agent has no %s", name)
}

// measure starts an agent and says what it uses, unscraped and scraped.
func measure(ctx context.Context, r *result.Result, n *node, agent, library string, interval time.Duration, o options) error {
	progress("ticks of %s: starting", interval)
	a, err := start(ctx, n, agent, library, interval)
	if err != nil {
		return err
	}
	defer a.stop()
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	if err := a.check(ctx); err != nil {
		return err
	}
	allocated, ofScrape, err := a.allocations(ctx)
	if err != nil {
		return err
	}
	progress("ticks of %s: measuring for %s", interval, o.length)
	before, err := usage.Of(a.cmd.Process.Pid)
	if err != nil {
		return err //nolint:wrapcheck // says what
	}
	if err := sleep(ctx, o.length); err != nil {
		return err
	}
	after, err := usage.Of(a.cmd.Process.Pid)
	if err != nil {
		return err //nolint:wrapcheck // says what
	}
	ticks := o.length.Seconds() / interval.Seconds()
	now, err := a.counter(ctx, allocations)
	if err != nil {
		return err
	}
	cpu := (after.CPU - before.CPU).Seconds()
	name := "ticks of " + interval.String() + ": "
	r.AddAtMost(name+"CPU, not scraped", 100*cpu/o.length.Seconds(), "% of a core", goalCPU)
	r.Add(name+"CPU of a tick", 1e3*cpu/ticks, "ms")
	r.AddAtMost(name+"RSS", after.RSS/(1<<20), "MiB", goalRSS)
	r.Add(name+"peak RSS", after.Peak/(1<<20), "MiB")
	r.Add(name+"allocations of a tick, go-nvml's and gRPC's included", (now-allocated-ofScrape)/ticks, "")
	if interval != time.Second {
		return nil
	}
	for _, encoding := range []string{"identity", "gzip"} {
		if err := a.scrape(ctx, r, encoding, o.scrapes); err != nil {
			return err
		}
	}
	return nil
}

// check fails if the agent does not do what it is measured for.
func (r *running) check(ctx context.Context) error {
	body, err := r.get(ctx, "/metrics")
	if err != nil {
		return err
	}
	for series, want := range map[string]int{
		"gpu_utilization_ratio{": gpus, "gpu_pod_utilization_ratio{": gpus * processes, "gpu_pod_memory_used_bytes{": gpus * processes,
		"gpu_sm_active_ratio{": gpus, "gpu_power_watts{": gpus,
	} {
		if got := strings.Count(body, "\n"+series); got != want {
			return fmt.Errorf("the agent serves %d series %s…}, not %d", got, series, want)
		}
	}
	if !strings.Contains(body, `gpu_agent_processes{kind="owned"} `+strconv.Itoa(gpus*processes)) {
		return fmt.Errorf("the agent does not know all %d processes", gpus*processes)
	}
	return nil
}

// allocations is the runtime's count of them.
const allocations = "go_memstats_mallocs_total"

func (r *running) counter(ctx context.Context, name string) (float64, error) {
	body, err := r.get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	return value(body, name)
}

// allocations returns how many there were, and how many a scrape makes. Between two readings lies one scrape: what was left of
// the first, and what there was before the second.
func (r *running) allocations(ctx context.Context) (count, ofScrape float64, err error) {
	var differences []float64
	for range 12 {
		next, err := r.counter(ctx, allocations)
		if err != nil {
			return 0, 0, err
		}
		differences = append(differences, next-count)
		count = next
	}
	return count, result.Quantile(differences[2:], 0.25), nil // a tick may fall between two; the first scrapes fill pools
}

// scrape times scrapes one after the other: as the adapter asks (identity), and as Prometheus does (gzip).
func (r *running) scrape(ctx context.Context, out *result.Result, encoding string, scrapes int) error {
	progress("%d scrapes, %s", scrapes, encoding)
	before, err := usage.Of(r.cmd.Process.Pid)
	if err != nil {
		return err //nolint:wrapcheck // says what
	}
	var took []float64
	size := int64(0)
	for range scrapes {
		began := time.Now()
		if size, err = r.fetch(ctx, encoding); err != nil {
			return err
		}
		took = append(took, float64(time.Since(began).Microseconds())/1e3)
	}
	after, err := usage.Of(r.cmd.Process.Pid)
	if err != nil {
		return err //nolint:wrapcheck // says what
	}
	name := "a scrape, " + encoding + ": "
	out.Add(name+"CPU", 1e3*(after.CPU-before.CPU).Seconds()/float64(scrapes), "ms")
	out.Add(name+"p50", result.Quantile(took, 0.5), "ms")
	out.Add(name+"p99", result.Quantile(took, 0.99), "ms")
	out.Add(name+"size", float64(size)/1024, "KiB")
	out.AddAtMost(name+"RSS after it", after.RSS/(1<<20), "MiB", goalRSS)
	return nil
}

// fetch reads the exposition as it comes and returns its size.
func (r *running) fetch(ctx context.Context, encoding string) (int64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+"/metrics", nil)
	if err != nil {
		return 0, fmt.Errorf("cannot ask the agent: %w", err)
	}
	request.Header.Set("Accept-Encoding", encoding)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("cannot ask the agent: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	size, err := io.Copy(io.Discard, response.Body)
	if err != nil {
		return 0, fmt.Errorf("cannot read the agent's answer: %w", err)
	}
	return size, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
