package promapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/annotations"
)

// maxMessage bounds what an error repeats of a server's message, in bytes.
const maxMessage = 500

// Client asks one Prometheus-compatible server. It is safe for concurrent use.
type Client struct {
	opts ClientOptions
	base *url.URL
	http *http.Client
}

// Error says why a server gave no answer.
type Error struct {
	URL     string // of the request, without parameters
	Code    int    // the HTTP status, 0 where none came
	Type    string // Prometheus' errorType: "bad_data", "execution", "timeout", …; "" where it did not say
	Message string // what the server says, or what is wrong with what it says; in one line
	Err     error  // the cause where none came
}

func (e *Error) Error() string {
	parts := []string{"cannot query " + e.URL}
	if e.Code != 0 && e.Code/100 != 2 {
		parts = append(parts, "HTTP "+strconv.Itoa(e.Code))
	}
	for _, s := range []string{e.Type, e.Message} {
		if s != "" && s != strconv.Itoa(e.Code) { // VictoriaMetrics' type is the status again
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// NewClient returns a client after Validate. It reads the certificate files, but does not connect.
func NewClient(opts ClientOptions) (*Client, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	setDefault(&opts.Timeout, DefaultClientTimeout)
	if opts.MaxResponse == 0 {
		opts.MaxResponse = DefaultMaxResponse
	}
	base, err := opts.base()
	if err != nil {
		return nil, err
	}
	cfg := opts.http()
	client, err := config.NewClientFromConfig(cfg, "promapi", config.WithUserAgent("headroom-adapter"))
	if err != nil {
		return nil, fmt.Errorf("cannot prepare queries to %s: %w", base, err)
	}
	return &Client{opts: opts, base: base, http: client}, nil
}

// CloseIdleConnections closes the connections that no request uses.
func (c *Client) CloseIdleConnections() { c.http.CloseIdleConnections() }

// Query returns the instant vector that expr gives at a moment. An expression of another type is an error.
func (c *Client) Query(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	a, err := c.ask(ctx, http.MethodPost, "query", expr, url.Values{"query": {expr}, "time": {formatTime(at)}})
	if err != nil {
		return nil, err
	}
	if a.kind != vector {
		return nil, c.refuse("query", fmt.Sprintf("the answer is of type %q, not an instant vector", a.kind))
	}
	return a.vector, nil
}

// QueryRange returns the values of expr from start to end, both inclusive.
func (c *Client) QueryRange(ctx context.Context, expr string, start, end time.Time, step time.Duration) (promql.Matrix, error) {
	a, err := c.ask(ctx, http.MethodPost, "query_range", expr, url.Values{
		"query": {expr}, "start": {formatTime(start)}, "end": {formatTime(end)}, "step": {formatSeconds(step)},
	})
	if err != nil {
		return nil, err
	}
	if a.kind != matrix {
		return nil, c.refuse("query_range", fmt.Sprintf("the answer is of type %q, not a range", a.kind))
	}
	return a.matrix, nil
}

// Series returns the label sets of the series that match any of the selectors and have samples between start and end.
func (c *Client) Series(ctx context.Context, selectors []string, start, end time.Time) ([]labels.Labels, error) {
	a, err := c.ask(ctx, http.MethodPost, "series", strings.Join(selectors, ", "), url.Values{
		"match[]": selectors, "start": {formatTime(start)}, "end": {formatTime(end)},
	})
	if err == nil && (a.kind != listing || a.names != nil) {
		err = c.refuse("series", "the answer is no list of label sets")
	}
	return a.sets, err
}

// LabelValues returns the values of a label on these series, on all where selectors is empty. It is the one request that
// is a GET: Prometheus knows no other.
func (c *Client) LabelValues(ctx context.Context, label string, selectors []string, start, end time.Time) ([]string, error) {
	if label == "" {
		return nil, c.refuse("label", "the label has no name")
	}
	path := "label/" + model.EscapeName(label, model.ValueEncodingEscaping) + "/values"
	a, err := c.ask(ctx, http.MethodGet, path, strings.Join(selectors, ", "), url.Values{
		"match[]": selectors, "start": {formatTime(start)}, "end": {formatTime(end)},
	})
	if err == nil && (a.kind != listing || a.sets != nil) {
		err = c.refuse(path, "the answer is no list of strings")
	}
	return a.names, err
}

// ask sends one request and decodes its answer; expr is for the notice.
func (c *Client) ask(ctx context.Context, method, path, expr string, args url.Values) (decoded, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	if method == http.MethodPost {
		args.Set("timeout", formatSeconds(c.opts.Timeout))
	}
	if c.opts.Lookback > 0 && strings.HasPrefix(path, "query") {
		args.Set("lookback_delta", formatSeconds(c.opts.Lookback))
	}
	maps.Copy(args, c.opts.Params)
	code, body, err := c.send(ctx, method, path, args)
	if err != nil {
		return decoded{}, c.unanswered(ctx, path, err)
	}
	a, err := decode(body)
	switch {
	case code/100 != 2:
		return decoded{}, c.failed(path, code, body, a, err)
	case err != nil:
		return decoded{}, &Error{URL: c.url(path), Code: code, Message: oneLine(err.Error()), Err: err}
	case a.status != "success":
		return decoded{}, c.failed(path, code, body, a, nil)
	}
	if c.opts.Notice != nil && len(a.warnings)+len(a.infos) > 0 {
		c.opts.Notice(expr, a.warnings, a.infos)
	}
	if missing := a.missing(); missing != "" && !c.opts.AllowPartial {
		return decoded{}, c.refuse(path, "partial answer: "+missing)
	}
	return a, nil
}

// missing says why an answer may be partial, "" where it is whole.
func (a *decoded) missing() string {
	for _, w := range a.warnings {
		if !strings.HasPrefix(w, annotations.PromQLWarning.Error()) && !strings.HasPrefix(w, annotations.PromQLInfo.Error()) {
			return w
		}
	}
	if a.partial {
		return "isPartial"
	}
	return ""
}

// send returns the status and the body of an answer.
func (c *Client) send(ctx context.Context, method, path string, args url.Values) (int, []byte, error) {
	to, form := c.url(path), args.Encode()
	var body io.Reader
	if method == http.MethodGet {
		to += "?" + form
	} else {
		body = strings.NewReader(form)
	}
	req, err := http.NewRequestWithContext(ctx, method, to, body)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Accept", "application/json")
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		// Lets the transport send it again when the server closed the idle connection just now. The empty value is not sent.
		req.Header["Idempotency-Key"] = nil
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	if to := resp.Header.Get("Location"); to != "" && resp.StatusCode/100 == 3 {
		return 0, nil, fmt.Errorf("HTTP %d: the server is at %s", resp.StatusCode, withoutParams(to))
	}
	var buf bytes.Buffer
	buf.Grow(int(min(max(resp.ContentLength, 0), c.opts.MaxResponse)) + bytes.MinRead)
	if _, err := buf.ReadFrom(http.MaxBytesReader(nil, resp.Body, c.opts.MaxResponse)); err != nil {
		return 0, nil, err
	}
	return resp.StatusCode, buf.Bytes(), nil
}

// unanswered makes an Error of what the transport says.
func (c *Client) unanswered(ctx context.Context, path string, err error) error {
	e := &Error{URL: c.url(path), Err: err}
	if wrapped, ok := errors.AsType[*url.Error](err); ok { // which repeats the URL, with its parameters
		e.Err = wrapped.Err
	}
	e.Message = oneLine(e.Err.Error())
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		e.Message = fmt.Sprintf("the answer is larger than %d bytes", tooLarge.Limit)
	} else if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		e.Message = fmt.Sprintf("no answer within %s", c.opts.Timeout)
	}
	return e
}

// failed makes an Error of an answer that says so.
func (c *Client) failed(path string, code int, body []byte, a decoded, undecoded error) error {
	e := &Error{URL: c.url(path), Code: code, Type: oneLine(a.errorType), Message: oneLine(a.err)}
	switch {
	case e.Message != "":
	case undecoded != nil: // a proxy's text
		e.Message = oneLine(string(body[:min(len(body), 4*maxMessage)]))
	case code/100 == 2:
		e.Message = "not a Prometheus answer: it has no status"
	}
	if e.Message == "" {
		e.Message = http.StatusText(code)
	}
	return e
}

// refuse makes an Error of an answer that came and cannot be taken.
func (c *Client) refuse(path, message string) error {
	return &Error{URL: c.url(path), Code: http.StatusOK, Message: oneLine(message)}
}

func (c *Client) url(path string) string { return c.base.JoinPath("api/v1", path).String() }

// withoutParams strips from the URL of a redirect what may be a secret.
func withoutParams(to string) string {
	u, err := url.Parse(to)
	if err != nil {
		return "a URL that cannot be parsed"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return oneLine(u.String())
}

// oneLine returns s with each run of white space and control characters as one space, and cut to maxMessage.
func oneLine(s string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return s
}

// formatTime writes seconds since 1970 to the millisecond.
func formatTime(t time.Time) string {
	return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', -1, 64)
}

func formatSeconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64)
}
