package evidence

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
)

func TestWebhooks(t *testing.T) {
	var asked Question
	mux := http.NewServeMux()
	answer := func(path string, status int, body string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, http.MethodPost, r.Method)
			assert.Equal(t, "application/json", r.Header.Get("Content-Type"))
			assert.NoError(t, json.NewDecoder(r.Body).Decode(&asked))
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		})
	}
	answer("/ok", http.StatusOK, "")
	answer("/accepted", http.StatusAccepted, "running 3/9")
	answer("/early", http.StatusTooEarly, "")
	answer("/no", http.StatusForbidden, "p99 is\r\n\x1b[31mtoo high\x00")
	answer("/broken", http.StatusBadGateway, "upstream")
	answer("/nothing", http.StatusNoContent, "")
	answer("/huge", http.StatusConflict, strings.Repeat("€ 1", 100_000))
	mux.Handle("/moved", http.RedirectHandler("/ok", http.StatusTemporaryRedirect))
	mux.Handle("/seen", http.RedirectHandler("/ok", http.StatusSeeOther))
	mux.Handle("/away", http.RedirectHandler("ftp://example.com/ok", http.StatusTemporaryRedirect))
	mux.Handle("/round", http.RedirectHandler("/round", http.StatusTemporaryRedirect))
	release := make(chan struct{})
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(func() { close(release); server.Close() })
	c := &Client{}
	q := Question{Namespace: "prod", Policy: "chat", Key: "v2/1/3", New: ToldVersion{Hash: "abc", Images: map[string]string{"server": "x:2"}}}
	f := func(path string, result rollout.Result, message string) {
		t.Helper()
		v := c.Ask(t.Context(), v1alpha1.GateWebhook{URL: server.URL + path, Timeout: &metav1.Duration{Duration: time.Second}}, q)
		assert.Equal(t, q.Key, v.Key)
		assert.Equal(t, result, v.Result, path)
		assert.Contains(t, v.Message, message, path)
		assert.LessOrEqual(t, len(v.Message), maxReason+100)
	}
	f("/ok", rollout.Pass, "")
	require.Equal(t, q, asked)
	f("/accepted", rollout.NoResult, "not yet: running 3/9")
	f("/early", rollout.NoResult, "not yet")
	f("/no", rollout.Fail, "the webhook refuses (403): p99 is [31mtoo high")
	f("/broken", rollout.NoResult, "answers 502, and is asked again: upstream")
	f("/nothing", rollout.NoResult, "answers 204")
	f("/huge", rollout.Fail, "€ 1")
	f("/moved", rollout.Pass, "")
	f("/seen", rollout.NoResult, "redirects to a GET")
	f("/away", rollout.NoResult, "another scheme")
	f("/round", rollout.NoResult, "more than 3 times")
	f("/hang", rollout.NoResult, "deadline exceeded")
	f("/missing", rollout.Fail, "(404)")

	v := c.Ask(t.Context(), v1alpha1.GateWebhook{URL: "http://127.0.0.1:1/"}, q)
	assert.Equal(t, rollout.NoResult, v.Result)
	assert.Contains(t, v.Message, "cannot be asked")
	v = c.Ask(t.Context(), v1alpha1.GateWebhook{URL: "http://\x00"}, q)
	assert.Equal(t, rollout.NoResult, v.Result)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Contains(t, c.Ask(ctx, v1alpha1.GateWebhook{URL: server.URL + "/ok"}, q).Message, "context canceled")
}
