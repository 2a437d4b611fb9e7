package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		w := &waiting{logger: slog.New(slog.NewTextHandler(&log, nil))}
		start, tries := time.Now(), 0
		var last time.Time
		err := w.until(t.Context(), "the answer", func(context.Context) error {
			if tries > 6 {
				assert.Equal(t, 2*time.Second, time.Since(last), "the pause grows to two seconds")
			}
			tries++
			last = time.Now()
			switch {
			case time.Since(start) < 20*time.Second:
				return errors.New("connection refused")
			case time.Since(start) < 40*time.Second:
				return errors.New("forbidden")
			}
			return nil
		})
		require.NoError(t, err)
		assert.Equal(t, 1, strings.Count(log.String(), "connection refused"), "each fault is logged once")
		assert.Equal(t, 1, strings.Count(log.String(), "forbidden"))
		assert.Equal(t, 3, strings.Count(log.String(), "\n"))
	})
}

func TestUntilEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		w := &waiting{logger: slog.New(slog.DiscardHandler)}
		err := w.until(ctx, "the answer", func(context.Context) error { return errors.New("no") })
		require.EqualError(t, err, "gave up waiting for the answer: no")
	})
}

func TestProbesWhileWaiting(t *testing.T) {
	// A free port that the real server could take afterwards.
	free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := free.Addr().String()
	require.NoError(t, free.Close())

	w := &waiting{logger: slog.New(slog.DiscardHandler)}
	stop, err := serveProbes(t.Context(), address, w)
	require.NoError(t, err)
	_, err = serveProbes(t.Context(), address, w)
	require.ErrorContains(t, err, "--secure-port", "a port that is taken is an error at once")

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	get := func(path string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+path, http.NoBody)
		require.NoError(t, err)
		resp, err := client.Do(req)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
	code, _ := get("/livez")
	assert.Equal(t, http.StatusOK, code)
	code, body := get("/readyz")
	assert.Equal(t, http.StatusServiceUnavailable, code)
	assert.Equal(t, "starting\n", body)
	w.on.Store(new("the API server: connection refused"))
	code, body = get("/apis/custom.metrics.k8s.io/v1beta2")
	assert.Equal(t, http.StatusServiceUnavailable, code)
	assert.Equal(t, "waiting for the API server: connection refused\n", body)

	stop()
	again, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	require.NoError(t, err, "the port is free again")
	require.NoError(t, again.Close())
}
