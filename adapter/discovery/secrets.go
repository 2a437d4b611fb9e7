package discovery

import (
	"context"
	"fmt"
	"maps"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// credentialsInterval is how often Secrets and ConfigMaps are read again. They are read by name, one by one, so that
	// no right to list a cluster's Secrets is needed.
	credentialsInterval = time.Minute
	// credentialsRetry is when one is read again that could not be for a reason that passes.
	credentialsRetry = 5 * time.Second
	// credentialsTimeout is for one of them.
	credentialsTimeout = 10 * time.Second
)

// askCredentials has those read that are not yet; w.mu is held.
func (w *Watcher) askCredentials() {
	select {
	case w.read <- struct{}{}:
	default:
	}
}

// keepCredentials reads what monitors refer to: at once what is new, and the rest every minute.
func (w *Watcher) keepCredentials(ctx context.Context) {
	timer := time.NewTimer(credentialsInterval)
	defer timer.Stop()
	for {
		all := false
		select {
		case <-ctx.Done():
			return
		case <-w.read:
		case <-timer.C:
			all = true
			timer.Reset(credentialsInterval)
		}
		if !w.readCredentials(ctx, all) {
			timer.Reset(credentialsRetry)
		}
	}
}

// readCredentials says whether nothing is worth another try soon.
func (w *Watcher) readCredentials(ctx context.Context, all bool) bool {
	w.mu.Lock()
	wanted := w.cluster.references()
	if !all {
		maps.DeleteFunc(wanted, func(id objectID, _ bool) bool {
			_, known := w.cluster.objects[id]
			return known
		})
	}
	w.mu.Unlock()
	well := true
	for id := range wanted {
		data, err := w.readObject(ctx, id)
		if ctx.Err() != nil {
			return true
		}
		passing := err != nil && !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err)
		well = well && !passing
		next := content{data: data}
		switch {
		case apierrors.IsForbidden(err):
			next.err = fmt.Errorf("cannot read %s: forbidden", id)
		case apierrors.IsNotFound(err):
			next.err = fmt.Errorf("cannot read %s: not found", id)
		case err != nil:
			next.err = fmt.Errorf("cannot read %s: %w", id, err)
		}
		w.mu.Lock()
		if old, known := w.cluster.objects[id]; !passing || !known || old.err != nil { // what was good stays good while the API server is away
			w.cluster.setObject(id, next)
		}
		w.mu.Unlock()
	}
	return well
}

func (w *Watcher) readObject(ctx context.Context, id objectID) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	core := w.opts.Client.CoreV1()
	if id.kind == "configmap" {
		object, err := core.ConfigMaps(id.namespace).Get(ctx, id.name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		return object.Data, nil
	}
	object, err := core.Secrets(id.namespace).Get(ctx, id.name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	data := make(map[string]string, len(object.Data))
	for key, value := range object.Data {
		data[key] = string(value)
	}
	return data, nil
}
