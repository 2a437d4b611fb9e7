package e2e

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/network"
	"headroom.dev/headroom/lab/observe"
)

// Two pods that serve 100 tokens in 20 ms (median), on which the HPA wants 10 requests/s and 60 % GPU use each.
const (
	calmRate    = 6.0  // requests per second: 3 per pod
	manyRate    = 60.0 // of lightTokens: 30 per pod, while the GPUs are busy 1-exp(-30*0.01) = 26 % of the time
	fewRate     = 12.0 // of heavyTokens, 0.4 s each: 6 per pod, while the GPUs are busy 1-exp(-6*0.42) = 92 %
	lightTokens = 50
	heavyTokens = 2000
)

// TestExample drives the example of the manifests up and down, once on each of its HPA's two metrics.
func TestExample(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	require.NoError(t, shared.Cluster().InstallExample(ctx, shared.Progress))
	t.Cleanup(func() {
		_ = shared.Client.CoreV1().Namespaces().Delete(context.WithoutCancel(ctx), lab.ExampleNamespace, metav1.DeleteOptions{})
	})
	// The only change to what users install: down at once, instead of after 15 s.
	_, err := shared.Client.AutoscalingV2().HorizontalPodAutoscalers(lab.ExampleNamespace).Patch(ctx, lab.ExampleName, types.MergePatchType,
		[]byte(`{"spec":{"behavior":{"scaleDown":{"stabilizationWindowSeconds":0}}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	watcher, err := observe.Watch(ctx, observe.Options{
		Config: shared.Config, Client: shared.Client, Namespace: lab.ExampleNamespace, HPA: lab.ExampleName,
		Selector: map[string]string{"app": lab.ExampleName}, Metrics: []string{rps, gpu}, Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	targets, err := network.Endpoints(ctx, shared.Client, lab.ExampleNamespace, lab.ExampleName)
	require.NoError(t, err)

	for _, one := range []struct {
		metric, target string
		rate           float64
		tokens         int
	}{
		{rps, "pods metric " + rps + " above target", manyRate, lightTokens},
		{gpu, "pods metric " + gpu + " above target", fewRate, heavyTokens},
	} {
		began := time.Now()
		stop := send(t, targets, one.rate, one.tokens)
		var size int32
		eventually(t, time.Minute, func(t require.TestingT) {
			rescales := watcher.History().RescalesSince(began)
			require.NotEmpty(t, rescales, "the HPA has done nothing: %s", latest(watcher, one.metric))
			require.Equal(t, one.target, rescales[0].Reason)
			require.Greater(t, rescales[0].Size, int32(2))
			size = rescales[0].Size
			require.GreaterOrEqual(t, watcher.Pods().Ready, int(size), "Ready pods")
		})
		t.Logf("%s: %d pods Ready after %s", one.metric, size, time.Since(began).Round(tick))
		stop()

		fell := time.Now()
		stop = send(t, targets, calmRate, lightTokens)
		eventually(t, time.Minute, func(t require.TestingT) {
			rescales := watcher.History().RescalesSince(fell)
			require.NotEmpty(t, rescales, "the HPA has not scaled down")
			require.Equal(t, int32(2), rescales[len(rescales)-1].Size)
			require.Equal(t, "All metrics below target", rescales[len(rescales)-1].Reason)
			require.Equal(t, observe.Pods{Ready: 2}, watcher.Pods())
		})
		t.Logf("%s: 2 pods again after %s", one.metric, time.Since(fell).Round(tick))
		stop()
	}
}

func latest(w *observe.Watcher, metric string) string {
	r, ok := w.History().Latest(metric)
	if !ok {
		return "no reading of " + metric
	}
	return strings.TrimSpace(metric + " " + r.Missing)
}
