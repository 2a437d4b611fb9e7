package scrape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
)

// outcome is how a scrape ended, as the label of a metric.
type outcome string

const (
	outcomeSuccess   outcome = "success"
	outcomeSettings  outcome = "settings"
	outcomeTimeout   outcome = "timeout"
	outcomeTransport outcome = "transport"
	outcomeStatus    outcome = "status"
	outcomeTooLarge  outcome = "too_large"
	outcomeParse     outcome = "parse"
)

// scrapeError is why a scrape failed: short, human, without the URL.
type scrapeError struct {
	outcome outcome
	text    string
}

func (e *scrapeError) Error() string { return e.text }

// explain says in a few words what the network's packages wrap in many.
func (c *client) explain(err error) error {
	if known, ok := errors.AsType[*scrapeError](err); ok {
		return known
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return &scrapeError{outcomeTimeout, fmt.Sprintf("no full answer within %s", c.target.Timeout)}
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return &scrapeError{outcomeTransport, errno.Error()}
	}
	if errors.Is(err, io.EOF) {
		return &scrapeError{outcomeTransport, "the connection was closed without an answer"}
	}
	return &scrapeError{outcomeTransport, shorten(err.Error())}
}

// shorten bounds what of a foreign text goes on to people, in bytes.
func shorten(s string) string {
	const most = 160
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
