package inference

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// quick is a server that is ready at once and answers in 5 ms.
func quick() Spec {
	spec := DefaultSpec()
	spec.Startup, spec.ServiceTime = Distribution{}, Distribution{Median: 5 * time.Millisecond}
	return spec
}

// start runs a server on a free port and returns its URL once it is ready, with what ends it and Run's result.
func start(t *testing.T, spec Spec, grace time.Duration) (s *Server, url string, stop context.CancelFunc, ended chan error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s = New(spec, 1, grace)
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	ended = make(chan error, 1)
	go func() { ended <- s.serve(ctx, listener, nil) }()
	require.Eventually(t, func() bool { return s.Usage().Ready }, 5*time.Second, time.Millisecond)
	return s, "http://" + listener.Addr().String(), stop, ended
}

func do(t *testing.T, method, url, body string) (int, string, http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(text), response.Header
}

func TestOpenAIForms(t *testing.T) {
	spec := quick()
	spec.Version = "v7"
	s, url, _, _ := start(t, spec, 0)
	code, body, header := do(t, "POST", url+"/v1/completions", `{"model":"x","prompt":"abcdefghijkl","max_tokens":20,"temperature":0}`)
	require.Equal(t, 200, code, body)
	require.Equal(t, "v7", header.Get(VersionHeader))
	var got answer
	require.NoError(t, json.Unmarshal([]byte(body), &got))
	require.Equal(t, "text_completion", got.Object)
	require.Equal(t, "v7", got.SystemFingerprint)
	require.Equal(t, []choice{{Text: answerText, FinishReason: "length"}}, got.Choices)
	require.Equal(t, usage{PromptTokens: 3, CompletionTokens: 20, TotalTokens: 23}, got.Usage)

	code, body, _ = do(t, "POST", url+"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"simulated_prompt_tokens":374}`)
	require.Equal(t, 200, code, body)
	require.NoError(t, json.Unmarshal([]byte(body), &got))
	require.Equal(t, "chat.completion", got.Object)
	require.Equal(t, "assistant", got.Choices[0].Message.Role)
	require.Equal(t, "stop", got.Choices[0].FinishReason)
	require.Equal(t, usage{PromptTokens: 374, CompletionTokens: 100, TotalTokens: 474}, got.Usage)

	code, _, _ = do(t, "GET", url+"/", "")
	require.Equal(t, 200, code)
	for _, bad := range []string{"", "{", `{"max_tokens":0}`, `{"max_tokens":"many"}`, `{"stream":true}`, `{"prompt":"` + strings.Repeat("x", maxBodyBytes) + `"}`} {
		code, body, _ = do(t, "POST", url+"/v1/completions", bad)
		require.Equal(t, 400, code)
		require.Contains(t, body, "invalid_request_error")
	}
	for path, want := range map[string]int{"/nothing": 404, "/v1/completions": 405} {
		code, _, _ = do(t, "GET", url+path, "")
		require.Equal(t, want, code)
	}
	counted := func(labels ...string) float64 {
		return testutil.ToFloat64(s.metrics.requests.WithLabelValues(labels...))
	}
	require.InDelta(t, 1, counted("200", "/", "GET"), 0)
	require.InDelta(t, 6, counted("400", "/v1/completions", "POST"), 0)
}

func TestStartUpAndDrain(t *testing.T) {
	free, err := net.Listen("tcp", "127.1.0.5:0")
	require.NoError(t, err)
	addr := free.Addr().String()
	require.NoError(t, free.Close())
	spec := quick()
	spec.Startup, spec.ServiceTime = Distribution{Median: 300 * time.Millisecond}, Distribution{Median: 400 * time.Millisecond}
	s := New(spec, 1, 5*time.Second)
	require.False(t, s.Usage().Ready)
	require.Zero(t, s.Usage().GPUMemoryBytes)
	ctx, stop := context.WithCancel(t.Context())
	began, ended := time.Now(), make(chan error, 1)
	go func() { ended <- s.Run(ctx, addr) }()

	_, err = net.Dial("tcp", addr)
	require.ErrorIs(t, err, syscall.ECONNREFUSED, "nothing listens while the weights load")
	require.Eventually(t, func() bool { return s.Usage().Ready }, 5*time.Second, time.Millisecond)
	require.GreaterOrEqual(t, time.Since(began), 300*time.Millisecond)
	code, _, _ := do(t, "GET", "http://"+addr+"/health", "")
	require.Equal(t, 200, code)
	require.Equal(t, int64(spec.GPUMemory), s.Usage().GPUMemoryBytes)

	answered := make(chan int, 1)
	go func() {
		response, err := http.Get("http://" + addr + "/")
		if err != nil {
			answered <- 0
			return
		}
		_ = response.Body.Close()
		answered <- response.StatusCode
	}()
	require.Eventually(t, func() bool { return s.Usage().Running == 1 }, 5*time.Second, time.Millisecond)
	stop()
	require.Eventually(t, func() bool { return !s.Usage().Ready }, 5*time.Second, time.Millisecond)
	require.Eventually(t, func() bool {
		_, err := net.Dial("tcp", addr)
		return errors.Is(err, syscall.ECONNREFUSED)
	}, 5*time.Second, time.Millisecond)
	require.Equal(t, 200, <-answered, "what was in flight is finished")
	require.NoError(t, <-ended)
	require.Zero(t, s.Usage().GPUMemoryBytes)
	require.ErrorContains(t, s.Run(t.Context(), addr), "was run before")
}

func TestDrainEndsAfterTheGracePeriod(t *testing.T) {
	spec := quick()
	spec.ServiceTime = Distribution{Median: time.Minute}
	s, url, stop, ended := start(t, spec, 100*time.Millisecond)
	failed := make(chan error, 1)
	go func() {
		_, err := http.Get(url + "/") //nolint:bodyclose // it fails
		failed <- err
	}()
	require.Eventually(t, func() bool { return s.Usage().Running == 1 }, 5*time.Second, time.Millisecond)
	stop()
	require.NoError(t, <-ended)
	require.ErrorIs(t, <-failed, io.EOF)
	require.Eventually(t, func() bool { return s.Usage().Running == 0 }, 5*time.Second, time.Millisecond)
}

func TestRunErrors(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = taken.Close() }()
	require.ErrorContains(t, New(quick(), 1, 0).Run(t.Context(), taken.Addr().String()), "cannot listen on 127.0.0.1")

	slow := quick()
	slow.Startup.Median = time.Hour
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer stop()
	require.NoError(t, New(slow, 1, 0).Run(ctx, "127.0.0.1:0"), "deleted while loading")
}

func TestDisconnectIsSeenOverHTTP(t *testing.T) {
	spec := quick()
	spec.Slots, spec.ServiceTime = 1, Distribution{Median: time.Minute}
	s, url, _, _ := start(t, spec, 0)
	ctx, hangUp := context.WithCancel(t.Context())
	for range 3 {
		go func() {
			request, _ := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/completions", strings.NewReader("{}"))
			_, _ = http.DefaultClient.Do(request) //nolint:bodyclose // it fails
		}()
	}
	require.Eventually(t, func() bool { return s.Usage().Waiting == 2 }, 5*time.Second, time.Millisecond)
	hangUp()
	require.Eventually(t, func() bool { return s.Usage().Waiting+s.Usage().Running == 0 }, 5*time.Second, time.Millisecond)
	require.Eventually(t, func() bool {
		return testutil.ToFloat64(s.metrics.requests.WithLabelValues("499", "/v1/completions", "POST")) == 3
	}, 5*time.Second, time.Millisecond)
	require.InDelta(t, 3, testutil.ToFloat64(s.metrics.finished.WithLabelValues("abort")), 0)
}

func TestFaults(t *testing.T) {
	s, url, stop, ended := start(t, quick(), 10*time.Second)
	set := func(change func(*Spec)) {
		spec := quick()
		change(&spec)
		require.NoError(t, s.Update(spec))
	}
	code, honest, _ := do(t, "GET", url+"/metrics", "")
	require.Equal(t, 200, code)
	require.Contains(t, honest, "http_requests_total")
	require.Contains(t, honest, "vllm:num_requests_running")

	set(func(s *Spec) { s.MetricNames = MetricNamesHTTP })
	_, body, _ := do(t, "GET", url+"/metrics", "")
	require.NotContains(t, body, "vllm:")
	require.Contains(t, body, "http_requests_total")
	set(func(s *Spec) { s.MetricNames = MetricNamesVLLM })
	_, body, _ = do(t, "GET", url+"/metrics", "")
	require.NotContains(t, body, "http_")

	set(func(s *Spec) { s.Fault = FaultError500 })
	code, _, _ = do(t, "GET", url+"/metrics", "")
	require.Equal(t, 500, code)

	set(func(s *Spec) { s.Fault = FaultGarbage })
	code, body, _ = do(t, "GET", url+"/metrics", "")
	require.Equal(t, 200, code)
	require.Contains(t, body, "\x00\xff\xfe")

	set(func(s *Spec) { s.Fault = FaultHuge })
	code, body, _ = do(t, "GET", url+"/metrics", "")
	require.Equal(t, 200, code)
	require.Greater(t, len(body), hugeBytes)
	require.True(t, bytes.HasSuffix([]byte(body), []byte(honest[len(honest)-50:])), "the true samples follow")

	set(func(s *Spec) { s.Fault = "slow:150ms" })
	began := time.Now()
	code, body, _ = do(t, "GET", url+"/metrics", "")
	require.Equal(t, 200, code)
	require.Equal(t, honest, body)
	require.GreaterOrEqual(t, time.Since(began), 150*time.Millisecond)

	set(func(s *Spec) { s.FaultHealth = true })
	code, _, _ = do(t, "GET", url+"/health", "")
	require.Equal(t, 500, code)

	set(func(s *Spec) { s.Fault = FaultHang })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", http.NoBody)
	require.NoError(t, err)
	_, err = http.DefaultClient.Do(request) //nolint:bodyclose // it fails
	require.ErrorIs(t, err, context.DeadlineExceeded)
	code, _, _ = do(t, "GET", url+"/", "")
	require.Equal(t, 200, code, "a fault of /metrics leaves the service alone")

	hung := make(chan error, 1)
	go func() {
		_, err := http.Get(url + "/metrics") //nolint:bodyclose // it fails
		hung <- err
	}()
	time.Sleep(20 * time.Millisecond) // so that it hangs most of the time; the test is right without
	began = time.Now()
	stop()
	require.NoError(t, <-ended)
	require.Less(t, time.Since(began), 8*time.Second, "a hung scrape does not hold up the drain")
	require.Error(t, <-hung)
}

// TestCrash ends a server with an error, while it loads and while it serves.
func TestCrash(t *testing.T) {
	for _, startup := range []time.Duration{time.Hour, 0} {
		spec := quick()
		spec.Startup, spec.ServiceTime, spec.CrashAfter = Distribution{Median: startup}, Distribution{Median: time.Hour}, Duration(200*time.Millisecond)
		s := New(spec, 1, time.Hour)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		address := listener.Addr().String()
		require.NoError(t, listener.Close())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(t.Context(), address) }()
		if startup == 0 {
			require.Eventually(t, func() bool { return s.Usage().Ready }, 5*time.Second, time.Millisecond)
			_, err := http.Post("http://"+address+"/v1/completions", "application/json", strings.NewReader(`{"prompt":"x"}`)) //nolint:bodyclose // it is cut off
			require.Error(t, err)
		}
		require.ErrorIs(t, <-ended, errCrash)
		require.False(t, s.Usage().Ready)
	}
}
