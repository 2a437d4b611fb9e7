package kube

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"headroom.dev/headroom/api/v1alpha1"
)

// TestStart runs the loop and its workers in virtual time, and ends them as SIGTERM does.
func TestStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, deployment("web"), podOf("web", "web-v1-a"), recommendationFor("web", "Deployment", "web"), vpaFor("web", "web", Name))
		w.opts.Now, w.opts.History = time.Now, time.Hour
		w.use("web-v1-a", "web", 0.2, 300<<20)
		w.now = time.Now() // of all samples: the same one is served again and again
		w.restart()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Start(ctx) }()
		time.Sleep(time.Second)
		assert.Equal(t, v1alpha1.ReasonNoHistory, readyOf(t, w.rr("web")).Reason)
		assert.NotEmpty(t, w.vpa("web").Status.Conditions)

		// A new object is looked at before the next interval.
		w.create(recommendationFor("x-second", "Deployment", "web"))
		_, err := w.Reconcile(ctx, reconcile.Request{})
		require.NoError(t, err)
		time.Sleep(2 * time.Second)
		assert.Equal(t, v1alpha1.ReasonDuplicate, readyOf(t, w.rr("x-second")).Reason)

		time.Sleep(2 * time.Minute)
		cancel()
		require.NoError(t, <-done)
		var m corev1.ConfigMap
		require.NoError(t, w.Get(t.Context(), client.ObjectKey{Namespace: "prod", Name: "headroom-usage-deployment-web"}, &m), "written at the end")
		assert.NotEmpty(t, m.BinaryData[checkpointKey])
	})
}
