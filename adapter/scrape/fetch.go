package scrape

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// accept is what Prometheus sends, less the formats that are not asked for: OpenMetrics 1.0 before text 0.0.4.
const accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6," +
	"application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4," +
	"text/plain;version=0.0.4;q=0.3,*/*;q=0.2"

// outcome is how a scrape ended, as the label of a metric.
type outcome string

const (
	outcomeSuccess   outcome = "success"
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

type fetcher struct {
	client  *http.Client
	limit   int64
	timeout time.Duration
	bodies  sync.Pool
}

func newFetcher(limit int64, timeout time.Duration) *fetcher {
	return &fetcher{
		limit:   limit,
		timeout: timeout,
		bodies:  sync.Pool{New: func() any { return new(bytes.Buffer) }},
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:                  nil, // pods are reached directly, whatever the environment says
				DialContext:            (&net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}).DialContext,
				DisableCompression:     true, // we ask for gzip and unpack it under the limit ourselves
				MaxIdleConnsPerHost:    1,
				IdleConnTimeout:        2 * time.Minute,
				MaxResponseHeaderBytes: 64 << 10,
				// The annotations have no room for a CA: prometheus.io/scheme=https encrypts and does not authenticate.
				TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
			},
			CheckRedirect: sameHost,
		},
	}
}

// sameHost follows redirects within the pod only. A pod could else make the adapter, which may reach what the pod may
// not, ask any address, and read parts of the answer in the error.
func sameHost(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return &scrapeError{outcomeStatus, "more than 10 redirects"}
	}
	if req.URL.Hostname() != via[0].URL.Hostname() {
		return &scrapeError{outcomeStatus, "redirects to another host, " + req.URL.Host}
	}
	return nil
}

// fetch reads the answer into body and returns its content type. At most limit+1 bytes are read.
func (f *fetcher) fetch(ctx context.Context, target string, body *bytes.Buffer) (contentType string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return "", &scrapeError{outcomeTransport, err.Error()}
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("Accept-Encoding", "gzip")
	req.Header.Set("User-Agent", "headroom-adapter")
	req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", strconv.FormatFloat(f.timeout.Seconds(), 'f', -1, 64))
	resp, err := f.client.Do(req)
	if err != nil {
		return "", f.explain(err)
	}
	defer func() { _ = resp.Body.Close() }() // nothing is written, so there is nothing to lose
	if resp.StatusCode != http.StatusOK {
		return "", &scrapeError{outcomeStatus, strings.TrimSpace(fmt.Sprintf("HTTP %d %s", resp.StatusCode, http.StatusText(resp.StatusCode)))}
	}
	if err := f.read(resp, body); err != nil {
		return "", f.explain(err)
	}
	return resp.Header.Get("Content-Type"), nil
}

// read unpacks the body into the buffer. The limit holds for the bytes on the wire and for those they unpack to.
func (f *fetcher) read(resp *http.Response, body *bytes.Buffer) error {
	wire := &io.LimitedReader{R: resp.Body, N: f.limit + 1}
	var plain io.Reader = wire
	switch encoding := resp.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		unzip, err := gzip.NewReader(wire)
		if err != nil {
			return fmt.Errorf("cannot unpack the answer: %w", err)
		}
		plain = unzip
	default:
		return &scrapeError{outcomeParse, fmt.Sprintf("content encoding %.20q was not asked for", encoding)}
	}
	n, err := io.Copy(body, io.LimitReader(plain, f.limit+1))
	if n > f.limit || wire.N <= 0 {
		return &scrapeError{outcomeTooLarge, fmt.Sprintf("the answer is larger than the limit of %d bytes", f.limit)}
	}
	if err != nil {
		return fmt.Errorf("cannot read the answer: %w", err)
	}
	return nil
}

// explain says in a few words what net/http wraps in many.
func (f *fetcher) explain(err error) error {
	if known, ok := errors.AsType[*scrapeError](err); ok {
		return known
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return &scrapeError{outcomeTimeout, fmt.Sprintf("no full answer within %s", f.timeout)}
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return &scrapeError{outcomeTransport, errno.Error()}
	}
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err
	}
	return &scrapeError{outcomeTransport, shorten(err.Error())}
}

func (f *fetcher) buffer() *bytes.Buffer { return f.bodies.Get().(*bytes.Buffer) } //nolint:forcetypeassert // New makes no other

func (f *fetcher) release(b *bytes.Buffer) {
	b.Reset()
	f.bodies.Put(b)
}

// shorten bounds what of a foreign text goes on to people, in bytes.
func shorten(s string) string {
	const most = 160
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
