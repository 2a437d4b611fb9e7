package probe_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"headroom.dev/headroom/lab/kubelet/probe"
)

// TestWatch plays stories: "watch" takes a container's probes and, per probe, what each attempt finds (. success,
// x failure, t no answer; the last one repeats), and prints what is observed at which second.
func TestWatch(t *testing.T) {
	datadriven.RunTest(t, "testdata/watch.txt", func(t *testing.T, d *datadriven.TestData) string {
		c := &corev1.Container{}
		script := map[*corev1.Probe]string{}
		for line := range strings.Lines(d.Input) {
			f := strings.Fields(line)
			p := &corev1.Probe{}
			for _, setting := range f[2:] {
				name, value, _ := strings.Cut(setting, "=")
				n, err := strconv.Atoi(value)
				require.NoError(t, err)
				map[string]func(int32){
					"delay":   func(n int32) { p.InitialDelaySeconds = n },
					"period":  func(n int32) { p.PeriodSeconds = n },
					"timeout": func(n int32) { p.TimeoutSeconds = n },
					"success": func(n int32) { p.SuccessThreshold = n },
					"failure": func(n int32) { p.FailureThreshold = n },
				}[name](int32(n))
			}
			script[p] = f[1]
			switch f[0] {
			case "startup":
				c.StartupProbe = p
			case "liveness":
				c.LivenessProbe = p
			case "readiness":
				c.ReadinessProbe = p
			default:
				t.Fatalf("no probe is named %q", f[0])
			}
		}
		var seconds int
		d.ScanArgs(t, "for", &seconds)
		return play(t, c, script, time.Duration(seconds)*time.Second)
	})
}

func play(t *testing.T, c *corev1.Container, script map[*corev1.Probe]string, length time.Duration) string {
	t.Helper()
	var out strings.Builder
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		say := func(format string, args ...any) {
			fmt.Fprintf(&out, "%gs %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
		}
		attempts := map[*corev1.Probe]int{}
		var mu sync.Mutex
		check := func(ctx context.Context, p *corev1.Probe) error {
			mu.Lock()
			results := script[p]
			result := results[min(attempts[p], len(results)-1)]
			attempts[p]++
			mu.Unlock()
			switch result {
			case 'x':
				return errors.New("refused")
			case 't':
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), length)
		defer cancel()
		probe.Watch(ctx, c, check, probe.Observer{
			Started:   func() { say("started") },
			Ready:     func(ready bool) { say("ready=%t", ready) },
			Unhealthy: func(kind probe.Kind, err error) { say("%s unhealthy: %v", kind, err) },
			Dead:      func(kind probe.Kind, err error) { say("%s dead: %v", kind, err) },
		})
		say("end")
	})
	return out.String()
}
