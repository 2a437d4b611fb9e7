package rightsizing

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/resource"

	"headroom.dev/headroom/lab/binaries"
	"headroom.dev/headroom/lab/process"
)

const (
	pastDays = 7
	pastStep = 30 * time.Second // a usual interval of scrapes
)

// past is a Prometheus that has scraped the kubelets for a week: what two pods of each service used, which are gone since.
type past struct {
	url  string
	stop func()
}

// newPast fills a Prometheus out of Debian's package by its own promtool, and runs it.
func (c *cluster) newPast(t *testing.T, services ...service) past {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	prometheus, err := binaries.Debian(ctx, "prometheus", "usr/bin/prometheus", c.Progress)
	require.NoError(t, err)
	text, data := filepath.Join(dir, "past"), filepath.Join(dir, "data")
	writePast(t, text, services)
	_, err = binaries.Run(ctx, dir, filepath.Join(filepath.Dir(prometheus), "promtool"), "tsdb", "create-blocks-from", "openmetrics", "--quiet",
		"--max-block-duration=24h", text, data)
	require.NoError(t, err)
	config := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(config, []byte("global: {scrape_interval: 30s}\n"), 0o600))
	free, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := free.Addr().String()
	require.NoError(t, free.Close())
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	cmd := exec.CommandContext(ctx, prometheus, "--web.listen-address="+address, "--config.file="+config, "--storage.tsdb.path="+data,
		"--storage.tsdb.retention.time=60d")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }() // it is killed, which is an error
	stop := func() {
		if err := cmd.Process.Kill(); !errors.Is(err, os.ErrProcessDone) {
			assert.NoError(t, err)
		}
		<-ended
	}
	t.Cleanup(func() {
		stop()
		assert.NoError(t, log.Close())
		if t.Failed() {
			t.Log(process.Tail(log.Name(), 25))
		}
	})
	p := past{"http://" + address, stop}
	query := p.url + "/api/v1/query?query=" + url.QueryEscape(fmt.Sprintf("count(max_over_time(container_memory_working_set_bytes[%dd]))", pastDays))
	eventually(t, 30*time.Second, func(t require.TestingT) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, query, nil)
		require.NoError(t, err)
		answer, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.Contains(t, string(body), fmt.Sprintf(`"%d"]`, 2*len(services)))
	})
	return p
}

// writePast writes OpenMetrics: CPU and memory of two pods a service, at this time of each day what the service uses now, and a tenth
// less twelve hours from it.
func writePast(t *testing.T, path string, services []service) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	w := bufio.NewWriter(f)
	now := time.Now().Truncate(pastStep)
	begin := now.Add(-pastDays * 24 * time.Hour)
	series := func(family, kind, suffix, more string, value func(s service, at time.Time) float64) {
		fmt.Fprintf(w, "# TYPE %s %s\n", family, kind)
		for _, s := range services {
			for _, end := range []string{"aaaaa", "bbbbb"} {
				labels := fmt.Sprintf(`{namespace=%q,pod="%s-6d5f7c9b84-%s",container=%q%s}`, namespace, s.name, end, container, more)
				for at := begin; !at.After(now); at = at.Add(pastStep) {
					fmt.Fprintf(w, "%s%s%s %g %d\n", family, suffix, labels, value(s, at), at.Unix())
				}
			}
		}
	}
	daily := func(at time.Time) float64 {
		return 0.95 + 0.05*math.Cos(2*math.Pi*now.Sub(at).Hours()/24)
	}
	used := map[string]float64{} // core-seconds
	series("container_cpu_usage_seconds", "counter", "_total", `,cpu="total"`, func(s service, at time.Time) float64 {
		if at.Equal(begin) {
			used[s.name] = 0
		}
		used[s.name] += amount(t, s.uses.cpu) * daily(at) * pastStep.Seconds()
		return used[s.name]
	})
	series("container_memory_working_set_bytes", "gauge", "", "", func(s service, at time.Time) float64 {
		return amount(t, s.uses.memory) * daily(at)
	})
	fmt.Fprintln(w, "# EOF")
	require.NoError(t, errors.Join(w.Flush(), f.Close()))
}

func amount(t *testing.T, quantity string) float64 {
	t.Helper()
	q, err := resource.ParseQuantity(quantity)
	require.NoError(t, err)
	return q.AsApproximateFloat64()
}
