package exact

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/features"
)

var (
	seedFlag = flag.Uint64("seed", 0, "of the scenarios; 0 draws one")
	days     = flag.Float64("days", 7, "simulated, per scenario")
	only     = flag.String("scenario", "", "only those whose names contain this")
)

func TestMain(m *testing.M) {
	flag.Parse()
	klog.SetLogger(logr.Discard())
	// The last of the stock handlers sleeps, which would move the next look.
	utilruntime.ErrorHandlers = []utilruntime.ErrorHandler{func(context.Context, error, string, ...any) {}}
	os.Exit(m.Run())
}

func seed(t *testing.T) uint64 {
	t.Helper()
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("again with -seed=%d", s)
	return s
}

func drive(t *testing.T, s *scenario, seed uint64, length time.Duration) outcome {
	t.Helper()
	gates := map[string]bool{string(features.HPAScaleToZero): s.cfg.ScaleToZero}
	if err := utilfeature.DefaultMutableFeatureGate.SetFromMap(gates); err != nil {
		t.Fatal(err)
	}
	var out outcome
	synctest.Test(t, func(t *testing.T) { out = run(t, s, seed, length) })
	return out
}

// TestController is the proof: every scenario, at every look.
func TestController(t *testing.T) {
	seed := seed(t)
	length := time.Duration(*days * 24 * float64(time.Hour))
	var table strings.Builder
	fmt.Fprintf(&table, "%-28s %10s %10s %10s\n", "scenario", "reconciles", "rescales", "mismatches")
	all := outcome{branches: map[string]int{}}
	for _, s := range scenarios() {
		if !strings.Contains(s.name, *only) {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			out := drive(t, s, seed, length)
			fmt.Fprintf(&table, "%-28s %10d %10d %10d\n", s.name, out.looks, out.rescales, out.mismatches)
			for _, text := range out.first {
				t.Error(text)
			}
			if least := int(length / resync * 99 / 100); out.looks < least {
				t.Errorf("%d reconciles, there should be %d", out.looks, least)
			}
			all.looks += out.looks
			all.rescales += out.rescales
			all.mismatches += out.mismatches
			for branch, n := range out.branches {
				all.branches[branch] += n
			}
		})
	}
	fmt.Fprintf(&table, "%-28s %10d %10d %10d\n\n%-60s %10s\n", "all", all.looks, all.rescales, all.mismatches, "branch", "taken")
	for _, branch := range wanted() {
		fmt.Fprintf(&table, "%-60s %10d\n", branch, all.branches[branch])
	}
	t.Logf("seed %d, %g days each\n%s", seed, *days, table.String())
	if *only != "" || *days < 7 {
		return // too little to have met every branch
	}
	if missed := unmet(all.branches); len(missed) > 0 {
		t.Errorf("never taken: %q", missed)
	}
}
