// Package load sends open-loop HTTP load to inference servers on this machine and records what became of every request.
//
// Open loop means that the schedule is fixed before the first answer: each request leaves at its own time, however slow
// the servers are, as the requests of independent users do. Latency counts from the scheduled time, so a generator that
// is late shows as latency and not as missing load (no coordinated omission). A request that cannot be sent (no endpoint,
// too many in flight) is recorded as that; none is delayed or left out.
//
// Guarantees: the same pattern and seed give the same schedule; every arrival of the schedule gives exactly one Result;
// nothing but loopback addresses is ever connected to.
package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Defaults of Options.
const (
	DefaultPath        = "/v1/completions"
	DefaultTimeout     = 30 * time.Second
	DefaultMaxInFlight = 10_000
	DefaultTokens      = 100
)

// ErrNotLoopback is why a target is refused: load is sent to this machine alone.
var ErrNotLoopback = errors.New("target is no loopback address")

// Options say what load to send where.
type Options struct {
	Pattern Pattern
	Seed    uint64
	// Targets returns the addresses ("127.1.0.5:8000") that may be sent to now. It is called for every request and so
	// must be cheap; one address is picked at random, as kube-proxy does.
	Targets func() []string
	// Tokens returns the size of the n-th request, counted from 0; nil takes the pattern's, or DefaultTokens of output
	// where that says nothing.
	Tokens      func(n int, a Arrival) Tokens
	Path        string        // DefaultPath if empty
	Timeout     time.Duration // of one request, from when it is sent; DefaultTimeout if 0
	MaxInFlight int           // beyond it requests are dropped; DefaultMaxInFlight if 0

	transport http.RoundTripper // in tests, in place of the network
}

// Generator sends the load of one Options, once.
type Generator struct {
	options Options
	record  *Record
}

// New returns a generator that has sent nothing yet.
func New(o Options) (*Generator, error) {
	if o.Pattern == nil || o.Targets == nil {
		return nil, errors.New("load needs a pattern and targets")
	}
	if o.Timeout < 0 || o.MaxInFlight < 0 {
		return nil, fmt.Errorf("load timeout %s and most in flight %d must not be negative", o.Timeout, o.MaxInFlight)
	}
	if o.Path == "" {
		o.Path = DefaultPath
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = DefaultMaxInFlight
	}
	if o.Tokens == nil {
		o.Tokens = func(_ int, a Arrival) Tokens { return a.Tokens }
	}
	if o.transport == nil {
		o.transport = newTransport(o.MaxInFlight)
	}
	return &Generator{options: o, record: &Record{seed: o.Seed}}, nil
}

// Record returns what the generator has recorded; it may be read at any time, while Run goes on too.
func (g *Generator) Record() *Record { return g.record }

// Run sends the load and returns when the pattern is over and every request has ended. It ends before that, with the
// requests in flight cancelled, when ctx ends (its cause is returned) or when a target is no loopback address
// (ErrNotLoopback). A request that fails is no error of Run.
func (g *Generator) Run(ctx context.Context) error {
	if !g.record.begin(time.Now()) {
		return errors.New("load generator was run before")
	}
	defer g.record.finish()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var sent sync.WaitGroup
	err := g.send(ctx, &sent)
	if err != nil {
		cancel(err)
	}
	sent.Wait()
	if closer, ok := g.options.transport.(*http.Transport); ok {
		closer.CloseIdleConnections()
	}
	return err
}

// send starts every request of the schedule at its time, and returns at the end of the pattern.
func (g *Generator) send(ctx context.Context, sent *sync.WaitGroup) error {
	picker := newRNG(g.options.Seed, streamTargets)
	timer := time.NewTimer(0)
	defer timer.Stop()
	places := make(chan struct{}, g.options.MaxInFlight)
	n := 0
	for arrival := range g.options.Pattern.Arrivals(g.options.Seed) {
		if err := g.waitUntil(ctx, timer, arrival.At); err != nil {
			return err
		}
		request := Result{Scheduled: arrival.At, Tokens: g.options.Tokens(n, arrival)}
		if request.Tokens.Output == 0 {
			request.Tokens.Output = DefaultTokens
		}
		n++
		targets := g.options.Targets()
		choice := picker.Float64() // drawn for every request, so that an empty list does not shift the later choices
		if len(targets) == 0 {
			g.record.unsent(request, ClassNoEndpoint)
			continue
		}
		request.Target = targets[int(choice*float64(len(targets)))]
		if err := checkLoopback(request.Target); err != nil {
			return err
		}
		select {
		case places <- struct{}{}:
		default:
			g.record.unsent(request, ClassDropped)
			continue
		}
		sent.Go(func() {
			g.one(ctx, request)
			<-places
		})
	}
	return g.waitUntil(ctx, timer, g.options.Pattern.Duration())
}

func (g *Generator) waitUntil(ctx context.Context, timer *time.Timer, offset time.Duration) error {
	if left := offset - g.record.elapsed(); left > 0 {
		timer.Reset(left)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// one sends one request and records its end.
func (g *Generator) one(ctx context.Context, r Result) {
	g.record.sending(&r)
	limited, cancel := context.WithTimeout(ctx, g.options.Timeout)
	defer cancel()
	var err error
	r.Code, err = g.post(limited, r.Target, r.Tokens)
	class := classify(err)
	if err != nil && ctx.Err() != nil {
		class = ClassCanceled // whatever error that became: the transport returns the cause that Run's caller gave
	}
	g.record.ended(r, class)
}

// post returns the status of the whole answer; it is 0 where err is not nil.
func (g *Generator) post(ctx context.Context, target string, tokens Tokens) (int, error) {
	body, err := json.Marshal(map[string]any{
		"model": "simulated", "prompt": "", "max_tokens": tokens.Output, "simulated_prompt_tokens": tokens.Prompt,
	})
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+target+g.options.Path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	// The transport and not a client: a redirect would be another request, to whom the server likes.
	response, err := g.options.transport.RoundTrip(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return 0, err
	}
	return response.StatusCode, nil
}

// checkLoopback refuses what is no loopback IP and port; names too, since what they mean can change.
func checkLoopback(target string) error {
	address, err := netip.ParseAddrPort(target)
	if err != nil || !address.Addr().IsLoopback() {
		return fmt.Errorf("%w: %q", ErrNotLoopback, target)
	}
	return nil
}

// newTransport keeps connections alive, connects to loopback addresses only and heeds no proxy.
func newTransport(maxInFlight int) *http.Transport {
	dialer := &net.Dialer{
		// The last moment before the connection, whatever the address came from.
		Control: func(_, address string, _ syscall.RawConn) error { return checkLoopback(address) },
	}
	return &http.Transport{
		DialContext:         dialer.DialContext,
		DisableCompression:  true,
		MaxIdleConnsPerHost: maxInFlight, // the default of 2 would make a new connection for nearly every request
		IdleConnTimeout:     30 * time.Second,
	}
}

// classify returns the class of a failed request, and "" for one that was answered.
func classify(err error) Class {
	timeout, isNet := errors.AsType[net.Error](err)
	switch {
	case err == nil:
		return ClassAnswered
	case errors.Is(err, context.DeadlineExceeded), isNet && timeout.Timeout():
		return ClassTimeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return ClassRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return ClassReset
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ClassCutOff
	default:
		return ClassOther
	}
}
