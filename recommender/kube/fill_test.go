package kube

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/recommender"
)

// TestPast fills a workload without a checkpoint, and one whose checkpoint is old with what came after.
func TestPast(t *testing.T) {
	w := newWorld(t, deployment("web"), podOf("web", "web-v1-a"), recommendationFor("web", "Deployment", "web"))
	w.opts.History = 24 * time.Hour
	w.restart()
	for at := noon.Add(-48 * time.Hour); at.Before(noon); at = at.Add(time.Minute) {
		for r, v := range map[recommender.Resource]float64{recommender.CPU: 0.2, recommender.Memory: 300 << 20} {
			w.past = append(w.past, recommender.Sample{Container: recommender.ContainerID{Namespace: "prod", Pod: "web-v1-old", Container: "web"}, Resource: r, At: at, Value: v, Certainty: 1})
		}
	}
	w.use("web-v1-a", "web", 0.2, 300<<20)
	w.passes(2)
	r := w.rr("web")
	require.Equal(t, v1alpha1.ReasonRecommended, readyOf(t, r).Reason, readyOf(t, r).Message)
	require.Len(t, w.asked, 2)
	assert.Equal(t, "web-[a-z0-9]+-[a-z0-9]{5}", w.asked[0].Pods)
	assert.Equal(t, 24*time.Hour, w.asked[0].End.Sub(w.asked[0].Start))
	samples := r.Status.Containers[0].Resources[0].Evidence.Samples
	assert.InDelta(t, 24*60, samples, 2, "the past, and what was held back meanwhile")

	w.passes(20)
	w.stop()
	w.restart()
	w.asked = nil
	w.passes(1)
	assert.Empty(t, w.asked, "the checkpoint is young enough")
	w.stop()
	w.restart()
	w.now = w.now.Add(2 * time.Hour)
	w.passes(1)
	require.Len(t, w.asked, 2)
	assert.InDelta(t, 2*60, w.asked[0].End.Sub(w.asked[0].Start).Minutes(), 3, "only the gap")
	w.passes(1)
	assert.Greater(t, w.rr("web").Status.Containers[0].Resources[0].Evidence.Samples, samples)
}
