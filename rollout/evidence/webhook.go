package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
)

const (
	webhookTimeout = 10 * time.Second
	maxAnswer      = 64 << 10 // bytes read of an answer
	maxReason      = 1 << 10  // bytes kept of it
	maxRedirects   = 3
)

// Ask asks a webhook once, as v1alpha1.GateWebhook says. A webhook that cannot be asked has no result yet, and a message.
// Redirects are followed on the same scheme only, and with the same request: 307 and 308.
func (c *Client) Ask(ctx context.Context, w v1alpha1.GateWebhook, q Question) rollout.Verdict {
	v := rollout.Verdict{Key: q.Key}
	ctx, cancel := context.WithTimeout(ctx, orElse(w.Timeout, webhookTimeout))
	defer cancel()
	status, body, err := post(ctx, w.URL, q)
	switch {
	case err != nil:
		v.Message = "the webhook cannot be asked: " + oneLine(err)
	case status == http.StatusOK:
		v.Result, v.Message = rollout.Pass, body
	case status == http.StatusAccepted || status == http.StatusTooEarly:
		v.Message = join("not yet", body)
	case status >= 400 && status < 500:
		v.Result, v.Message = rollout.Fail, join(fmt.Sprintf("the webhook refuses (%d)", status), body)
	default:
		v.Message = join(fmt.Sprintf("the webhook answers %d, and is asked again", status), body)
	}
	return v
}

func join(what, detail string) string {
	if detail == "" {
		return what
	}
	return what + ": " + detail
}

func post(ctx context.Context, url string, q Question) (status int, body string, err error) {
	raw, err := json.Marshal(q)
	if err != nil {
		return 0, "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(raw))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "headroom-controller")
	// A transport of its own keeps no connections: a webhook is asked some times in an hour, and may move between.
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	client := &http.Client{Transport: transport, CheckRedirect: func(next *http.Request, before []*http.Request) error {
		switch {
		case next.URL.Scheme != before[0].URL.Scheme:
			return errors.New("it redirects to another scheme")
		case next.Method != http.MethodPost:
			return errors.New("it redirects to a GET, which would lose the question")
		case len(before) > maxRedirects:
			return fmt.Errorf("it redirects more than %d times", maxRedirects)
		}
		return nil
	}}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }() // what could not be read is said below
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return 0, "", fmt.Errorf("cannot read its answer: %w", err)
	}
	return response.StatusCode, printable(answer), nil
}

// printable is an answer as one line of a message.
func printable(answer []byte) string {
	text := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(answer), ""))
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "")
	}
	return text
}
