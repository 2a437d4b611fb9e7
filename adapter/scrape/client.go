package scrape

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// accept is what Prometheus sends, less the formats that are not asked for: OpenMetrics 1.0 before text 0.0.4.
	accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6," +
		"application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4," +
		"text/plain;version=0.0.4;q=0.3,*/*;q=0.2"

	headerLimit  = 64 << 10 // bytes of an answer's header
	drainLimit   = 16 << 10 // bytes of an error page that are read to keep the connection
	maxRedirects = 10
)

// client asks one target again and again over one connection. It speaks HTTP/1.1 by net/http's own functions, but
// without http.Transport: that costs two goroutines, 8 KiB of buffers and several switches between goroutines for each of
// 1,000 connections, of which every one is used by a single loop. Only close may be called from another goroutine.
type client struct {
	target   Target
	url      *url.URL
	tls      *tls.Config
	auth     *authorizer
	secret   bool   // requests bear credentials
	encoding string // Accept-Encoding
	dial     func(ctx context.Context, network, address string) (net.Conn, error)

	wire    wire
	origin  string // what conn is connected to: scheme://host:port
	request []byte // the request for url, with header
	header  string // of Authorization in request
	size    int64  // of the last body
	probe   [1]byte

	mu     sync.Mutex
	conn   net.Conn // nil if there is none
	closed bool
}

// newClient returns an error for settings that cannot work.
func newClient(t Target, m *Manager) (*client, error) {
	u, err := url.Parse(t.URL)
	if err != nil {
		return nil, errors.New("the URL is malformed") // which one, Reason says
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return nil, errors.New("the URL is not one of http or https with a host")
	}
	auth, err := newAuthorizer(t.Auth)
	if err != nil {
		return nil, err
	}
	c := &client{target: t, url: u, auth: auth, dial: m.dial, encoding: "identity"}
	if m.opts.Gzip {
		c.encoding = "gzip"
	}
	c.secret = auth.fixed != "" || auth.file != "" || t.TLS.Cert != ""
	if c.tls, err = tlsConfig(t.TLS, u.Hostname()); err != nil {
		return nil, err
	}
	return c, nil
}

// close ends what is in flight and all later scrapes.
func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.conn != nil {
		_ = c.conn.Close() // nothing was written that could be lost
	}
}

// get reads the target's answer into s.body and returns its content type.
func (c *client) get(ctx context.Context, s *scratch) (contentType string, err error) {
	deadline := time.Now().Add(c.target.Timeout)
	u := c.url
	for range maxRedirects + 1 {
		resp, err := c.ask(ctx, deadline, u, s) //nolint:bodyclose // see finish
		if err != nil {
			return "", c.explain(err)
		}
		next, err := c.redirect(u, resp)
		if err == nil && next == nil {
			err = c.read(resp, s)
		}
		if resp.StatusCode != http.StatusOK {
			_, _ = io.CopyN(io.Discard, resp.Body, drainLimit) // finish sees whether that was all
		}
		c.finish(resp, s)
		if err != nil {
			return "", c.explain(err)
		}
		if next == nil {
			return resp.Header.Get("Content-Type"), nil
		}
		u = next
	}
	return "", &scrapeError{outcomeStatus, fmt.Sprintf("more than %d redirects", maxRedirects)}
}

// redirect returns where the answer sends us, nil if it is the last one, and an error if that is no place to go.
// Redirects are followed within the pod only: it could else make the adapter, which may reach what the pod may not, ask
// any address, and read parts of the answer in the error.
func (c *client) redirect(from *url.URL, resp *http.Response) (*url.URL, error) {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, nil //nolint:nilnil // no redirect and no fault
	}
	location := resp.Header.Get("Location")
	if location == "" || c.target.RefuseRedirects {
		return nil, nil //nolint:nilnil // its status is the fault
	}
	to, err := from.Parse(location)
	switch {
	case err != nil || to.Scheme != "http" && to.Scheme != "https":
		return nil, &scrapeError{outcomeStatus, fmt.Sprintf("redirects to %.80q, which is no address", location)}
	case to.Hostname() != c.url.Hostname():
		return nil, &scrapeError{outcomeStatus, shorten("redirects to another host, " + to.Host)}
	case c.secret && origin(to) != origin(c.url):
		return nil, &scrapeError{outcomeStatus, shorten("redirects to " + origin(to) + ", where its credentials are not sent")}
	}
	return to, nil
}

// ask sends one request and returns the answer with its body unread. A connection that was kept may have been closed by
// the other side meanwhile, or be out of step, so that another one is tried once.
func (c *client) ask(ctx context.Context, deadline time.Time, u *url.URL, s *scratch) (*http.Response, error) {
	request, err := c.render(u)
	if err != nil {
		return nil, err
	}
	for {
		conn, kept, err := c.connect(ctx, deadline, u)
		if err != nil {
			return nil, err
		}
		resp, err := c.exchange(conn, deadline, request, s)
		if err == nil {
			return resp, nil
		}
		c.drop()
		timeout, ok := errors.AsType[net.Error](err)
		_, known := errors.AsType[*scrapeError](err)
		if !kept || known || ok && timeout.Timeout() {
			return nil, err
		}
	}
}

func (c *client) exchange(conn net.Conn, deadline time.Time, request []byte, s *scratch) (*http.Response, error) {
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	c.wire = wire{conn: conn, left: headerLimit}
	if err := c.wire.wait(); err != nil {
		return nil, err
	}
	r := s.from(&c.wire)
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil && c.wire.left <= 0 {
			return nil, errHeader() // whatever the line looked like that the limit cut
		}
		if err != nil {
			return nil, err
		}
		if resp.StatusCode >= http.StatusOK {
			c.wire.left = math.MaxInt
			return resp, nil
		} // an interim answer, which headerLimit bounds as well
		if resp.StatusCode == http.StatusSwitchingProtocols {
			return nil, &scrapeError{outcomeStatus, "HTTP 101 was not asked for"}
		}
	}
}

// connect returns the kept connection where there is one to that place, else a new one.
func (c *client) connect(ctx context.Context, deadline time.Time, u *url.URL) (conn net.Conn, kept bool, err error) {
	if c.conn != nil && c.origin == origin(u) {
		return c.conn, true, nil
	}
	c.drop()
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	conn, err = c.dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), port(u)))
	if err != nil {
		return nil, false, err
	}
	if u.Scheme == "https" {
		secure := tls.Client(conn, c.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close() // the handshake's error says more
			return nil, false, err
		}
		conn = secure
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = conn.Close()
		return nil, false, net.ErrClosed
	}
	c.conn, c.origin = conn, origin(u)
	return conn, false, nil
}

// finish keeps the connection if the answer is read to its end and nothing follows. It does not close the body, for that
// would read it to its end.
func (c *client) finish(resp *http.Response, s *scratch) {
	n, err := resp.Body.Read(c.probe[:])
	if resp.Close || n != 0 || !errors.Is(err, io.EOF) || s.reader.Buffered() != 0 {
		c.drop()
	}
}

func (c *client) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// render returns the bytes of a request.
func (c *client) render(u *url.URL) ([]byte, error) {
	header, err := c.auth.header(time.Now())
	if err != nil {
		return nil, &scrapeError{outcomeSettings, err.Error()}
	}
	if u == c.url && c.request != nil && header == c.header {
		return c.request, nil
	}
	req := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{
		"Accept":                              {accept},
		"Accept-Encoding":                     {c.encoding},
		"User-Agent":                          {"headroom-adapter"},
		"X-Prometheus-Scrape-Timeout-Seconds": {strconv.FormatFloat(c.target.Timeout.Seconds(), 'f', -1, 64)},
	}}
	if header != "" {
		req.Header.Set("Authorization", header)
	}
	var out bytes.Buffer
	if err := req.Write(&out); err != nil {
		return nil, &scrapeError{outcomeSettings, err.Error()}
	}
	if u == c.url {
		c.request, c.header = out.Bytes(), header
	}
	return out.Bytes(), nil
}

// read reads the body into s.body. The limit holds for the bytes on the wire and for those they unpack to.
func (c *client) read(resp *http.Response, s *scratch) error {
	if resp.StatusCode != http.StatusOK {
		if resp.StatusCode == http.StatusUnauthorized {
			c.auth.refused()
		}
		return &scrapeError{outcomeStatus, strings.TrimSpace(fmt.Sprintf("HTTP %d %s", resp.StatusCode, http.StatusText(resp.StatusCode)))}
	}
	limit, expected := c.target.BodyLimit, resp.ContentLength
	if expected < 0 {
		expected = c.size // chunked
	}
	defer func() { c.size = int64(s.size()) }()
	switch encoding := resp.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
		return s.read(resp.Body, expected, limit)
	case "gzip":
		wire := &io.LimitedReader{R: resp.Body, N: limit + 1}
		err := s.unzip(wire, max(expected, c.size), limit)
		if wire.N <= 0 {
			return tooLarge(limit)
		}
		return err
	default:
		return &scrapeError{outcomeParse, fmt.Sprintf("content encoding %.20q was not asked for", encoding)}
	}
}

func errHeader() error {
	return &scrapeError{outcomeTooLarge, fmt.Sprintf("the answer's header is larger than the limit of %d bytes", headerLimit)}
}

// wire reads a connection up to what a header may have.
type wire struct {
	conn   net.Conn
	left   int
	first  [1]byte
	waited bool // first is to be read
}

// wait returns when there is something to read.
func (w *wire) wait() error {
	_, err := io.ReadFull(w.conn, w.first[:])
	w.waited = err == nil
	return err
}

func (w *wire) Read(p []byte) (n int, err error) {
	if w.left <= 0 {
		return 0, errHeader()
	}
	p = p[:min(len(p), w.left)]
	if w.waited && len(p) > 0 {
		w.waited = false
		p[0], n = w.first[0], 1
		// The rest of the header is here, too, or on its way.
	}
	if n < len(p) {
		var more int
		more, err = w.conn.Read(p[n:])
		n += more
	}
	w.left -= n
	return n, err
}

func origin(u *url.URL) string { return u.Scheme + "://" + net.JoinHostPort(u.Hostname(), port(u)) }

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}
