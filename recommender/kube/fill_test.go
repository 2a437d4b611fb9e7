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

// TestPastOfAServerThatCameLater: who installs first and names a server afterwards gets the whole past, and loses nothing where the
// server knows less.
func TestPastOfAServerThatCameLater(t *testing.T) {
	for name, days := range map[string]int{"a server that knows more": 3, "one that knows nothing": 0} {
		w := newWorld(t, deployment("web"), podOf("web", "web-v1-a"), recommendationFor("web", "Deployment", "web"))
		w.restart()
		w.use("web-v1-a", "web", 0.2, 300<<20)
		w.passes(4*60 + 30)
		require.Empty(t, w.asked, "there is no server")
		before := w.rr("web").Status.Containers[0].Resources[0].Evidence.Hours
		require.EqualValues(t, 4, before)
		w.stop()

		w.opts.History = 72 * time.Hour
		for at := w.now.Add(-time.Duration(days) * 24 * time.Hour); at.Before(w.now); at = at.Add(time.Minute) {
			for r, v := range map[recommender.Resource]float64{recommender.CPU: 0.2, recommender.Memory: 300 << 20} {
				w.past = append(w.past, recommender.Sample{Container: recommender.ContainerID{Namespace: "prod", Pod: "web-v1-old", Container: "web"}, Resource: r, At: at, Value: v, Certainty: 1})
			}
		}
		w.restart()
		w.passes(61)
		require.NotEmpty(t, w.asked, name)
		assert.InDelta(t, 72, w.asked[0].End.Sub(w.asked[0].Start).Hours(), 0.1, name)
		after := w.rr("web").Status.Containers[0].Resources[0].Evidence.Hours
		assert.InDelta(t, max(float64(before), float64(24*days))+1, after, 1.1, name)
	}
}
