package app

import (
	"context"
	"errors"
	"net/http"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/healthz"
)

// ready is that of a replica whose caches have been filled, whether it leads or waits.
func ready(synced func(ctx context.Context) bool) healthz.Checker {
	return func(r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), 200*time.Millisecond)
		defer cancel()
		if !synced(ctx) {
			return errors.New("the API server has not been listed yet")
		}
		return nil
	}
}
