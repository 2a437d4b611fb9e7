package sources

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/adapter/promapi"
	"headroom.dev/headroom/recommender"
	"headroom.dev/headroom/recommender/accelerator"
)

// prometheus serves a storage as Prometheus does, through HTTP, and returns a client of it.
func prometheus(tb testing.TB, s storage.Queryable, opts promapi.ServerOptions, wrap func(http.Handler) http.Handler) *promapi.Client {
	tb.Helper()
	opts.Lookback = 5 * time.Minute
	if opts.Timeout == 0 {
		opts.Timeout = time.Minute
	}
	handler := promapi.NewServer(s, opts).Handler("")
	if wrap != nil {
		handler = wrap(handler)
	}
	srv := httptest.NewServer(handler)
	tb.Cleanup(srv.Close)
	c, err := promapi.NewClient(promapi.ClientOptions{URL: srv.URL, Timeout: time.Minute})
	require.NoError(tb, err)
	tb.Cleanup(c.CloseIdleConnections)
	return c
}

// TestScenarios asks a Prometheus for what testdata loads. The commands:
//
//	load                                          series as promqltest writes them, a value every 30s from 0 on; each replaces the last
//	samples [at=10m] [namespace=NS] [window=2m]   the newest readings
//	past resource=R from=T to=T step=D [namespace=NS] [pods=RE]
//	engines [at=10m] [namespace=NS]               what engines say of their configuration
//	queries resource=R [namespace=NS] [pods=RE]   the PromQL
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		var client *promapi.Client
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			window := duration(t, d, "window", 2*time.Minute)
			var s scope
			d.MaybeScanArgs(t, "namespace", &s.namespace)
			d.MaybeScanArgs(t, "pods", &s.pods)
			s.window = window
			var out strings.Builder
			switch d.Cmd {
			case "load":
				client = prometheus(t, load(t, 30*time.Second, d.Input), promapi.ServerOptions{}, nil)
			case "samples":
				at := time.Unix(0, 0).Add(duration(t, d, "at", 10*time.Minute))
				p := NewPrometheus(client, Options{Window: window, Now: func() time.Time { return at }})
				samples, err := p.Samples(t.Context(), s.namespace)
				write(&out, samples, err, p.Dropped())
			case "past":
				p := NewPrometheus(client, Options{Window: window})
				of := recommender.Past{
					Namespace: s.namespace, Pods: s.pods, Step: duration(t, d, "step", time.Minute),
					Start: time.Unix(0, 0).Add(duration(t, d, "from", 0)), End: time.Unix(0, 0).Add(duration(t, d, "to", time.Hour)),
				}
				d.ScanArgs(t, "resource", (*string)(&of.Resource))
				var all []recommender.Sample
				err := p.Past(t.Context(), of, func(s []recommender.Sample) error { all = append(all, s...); return nil })
				write(&out, all, err, p.Dropped())
			case "engines":
				at := time.Unix(0, 0).Add(duration(t, d, "at", 10*time.Minute))
				p := NewPrometheus(client, Options{Now: func() time.Time { return at }})
				facts, err := p.Engines(t.Context(), s.namespace)
				require.NoError(t, err)
				writeFacts(&out, facts)
			case "queries":
				var r recommender.Resource
				d.ScanArgs(t, "resource", (*string)(&r))
				for _, f := range forms(r) {
					for _, expr := range append(slices.Clone(f.exprs), f.certainty) {
						fmt.Fprintln(&out, f.fill(expr, s))
					}
				}
			default:
				d.Fatalf(t, "unknown command %q", d.Cmd)
			}
			return out.String()
		})
	})
}

func duration(t *testing.T, d *datadriven.TestData, name string, otherwise time.Duration) time.Duration {
	t.Helper()
	if !d.HasArg(name) {
		return otherwise
	}
	var text string
	d.ScanArgs(t, name, &text)
	v, err := model.ParseDuration(text)
	require.NoError(t, err)
	return time.Duration(v)
}

// write lists samples by container.
func write(out *strings.Builder, samples []recommender.Sample, err error, dropped Dropped) {
	series := map[string][]string{}
	for _, s := range samples {
		key := fmt.Sprintf("%s/%s/%s %s", s.Container.Namespace, s.Container.Pod, s.Container.Container, s.Resource)
		point := fmt.Sprintf("%.6g@%s", s.Value, s.At.Sub(time.Unix(0, 0)))
		if s.Certainty != 1 {
			point += fmt.Sprintf(" (certainty %.3g)", s.Certainty)
		}
		series[key] = append(series[key], point)
	}
	for _, key := range sortedKeys(series) {
		fmt.Fprintf(out, "%s: %s\n", key, strings.Join(series[key], ", "))
	}
	if len(samples) == 0 {
		fmt.Fprintln(out, "nothing")
	}
	if dropped != (Dropped{}) {
		fmt.Fprintf(out, "dropped: %+v\n", dropped)
	}
	if err != nil {
		fmt.Fprintf(out, "error: %s\n", err)
	}
}

// writeFacts lists what engines say, without whom they say it of.
func writeFacts(out *strings.Builder, facts map[recommender.ContainerID]accelerator.Facts) {
	lines := map[string]string{}
	for id, f := range facts {
		var config []string
		for _, name := range sortedKeys(f.Config) {
			if name != "namespace" && name != "pod" && name != "container" {
				config = append(config, name+"="+f.Config[name])
			}
		}
		lines[fmt.Sprintf("%s/%s/%s %s", id.Namespace, id.Pod, id.Container, f.Kind)] = strings.Join(config, " ")
	}
	for _, key := range sortedKeys(lines) {
		fmt.Fprintf(out, "%s: %s\n", key, lines[key])
	}
	if len(lines) == 0 {
		fmt.Fprintln(out, "nothing")
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// collect reads a past whole.
func collect(ctx context.Context, s Source, of recommender.Past) ([]recommender.Sample, error) {
	var all []recommender.Sample
	err := s.Past(ctx, of, func(samples []recommender.Sample) error { all = append(all, samples...); return nil })
	return all, err
}
