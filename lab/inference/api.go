package inference

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"
)

// VersionHeader carries Spec.Version in every answer to a request of work.
const VersionHeader = "Headroom-Version"

const (
	maxBodyBytes = 1 << 20
	maxTokens    = 1 << 20
	// statusClientGone is nginx's code for a client that did not wait for its answer; it is counted, never sent.
	statusClientGone = 499
	// prefillTokens is how many output tokens' time the first token takes.
	prefillTokens = 10
)

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", s.work("/", plainAPI))
	mux.Handle("POST /v1/completions", s.work("/v1/completions", completionsAPI))
	mux.Handle("POST /v1/chat/completions", s.work("/v1/chat/completions", chatAPI))
	mux.HandleFunc("GET /health", s.health)
	mux.HandleFunc("GET /metrics", s.serveMetrics)
	return mux
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	if s.engine.state().spec.FaultHealth {
		http.Error(w, "simulated fault", http.StatusInternalServerError)
	}
}

// api tells the kinds of requests of work apart, which differ in the form of the answer alone.
type api int

const (
	plainAPI api = iota
	completionsAPI
	chatAPI
)

// question is what is read of a request, in OpenAI's form. Its other fields are legal and mean nothing here.
type question struct {
	Model               string          `json:"model"`
	Prompt              json.RawMessage `json:"prompt"`
	Messages            json.RawMessage `json:"messages"`
	MaxTokens           *int            `json:"max_tokens"`
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	Stream              bool            `json:"stream"`
	// SimulatedPromptTokens says how long the prompt would be, so that a load generator need not send it.
	SimulatedPromptTokens int `json:"simulated_prompt_tokens"`
}

func readQuestion(body io.Reader) (question, error) {
	var q question
	if err := json.NewDecoder(body).Decode(&q); err != nil {
		return question{}, fmt.Errorf("cannot read request: %w", err)
	}
	if q.MaxTokens == nil {
		q.MaxTokens = q.MaxCompletionTokens
	}
	switch {
	case q.Stream:
		return question{}, errors.New("stream is not simulated")
	case q.MaxTokens != nil && (*q.MaxTokens < 1 || *q.MaxTokens > maxTokens):
		return question{}, fmt.Errorf("max_tokens %d is not in 1 to %d", *q.MaxTokens, maxTokens)
	case q.SimulatedPromptTokens < 0 || q.SimulatedPromptTokens > maxTokens:
		return question{}, fmt.Errorf("simulated_prompt_tokens %d is not in 0 to %d", q.SimulatedPromptTokens, maxTokens)
	}
	return q, nil
}

func (q question) outputTokens() int {
	if q.MaxTokens == nil {
		return ReferenceTokens
	}
	return *q.MaxTokens
}

func (q question) promptTokens() int {
	if q.SimulatedPromptTokens > 0 {
		return q.SimulatedPromptTokens
	}
	return max(1, (len(q.Prompt)+len(q.Messages))/4) // about four characters a token in English
}

// finishReason is vLLM's: a model told how much to say is cut off, one left alone stops by itself.
func (q question) finishReason() string {
	if q.MaxTokens == nil {
		return finishedStop
	}
	return finishedLength
}

// outcome is the end of one request of work.
type outcome struct {
	handler, method string
	code            int
	latency         time.Duration // arrival to end
	firstToken      time.Duration // arrival to first token; of no meaning where finished is empty
	prompt, output  int           // tokens
	finished        string        // vLLM's finished_reason; empty where it finished none
}

// work answers requests of one kind, each counted once.
func (s *Server) work(path string, kind api) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived := time.Now()
		out := outcome{handler: path, method: r.Method}
		var q question
		if kind != plainAPI {
			var err error
			if q, err = readQuestion(http.MaxBytesReader(w, r.Body, maxBodyBytes)); err != nil {
				out.code, out.latency = http.StatusBadRequest, time.Since(arrived)
				s.metrics.count(out)
				writeError(w, out.code, "invalid_request_error", err)
				return
			}
		}
		version, err := s.spend(r.Context(), q, arrived, &out)
		out.latency = time.Since(arrived)
		// Counted before the answer is written: who has an answer finds it in /metrics.
		s.metrics.count(out)
		w.Header().Set(VersionHeader, version)
		switch {
		case out.code == statusClientGone:
		case err != nil:
			writeError(w, out.code, "server_error", err)
		default:
			s.writeAnswer(w, kind, q, version)
		}
	})
}

// spend waits for a slot and for the service time and fills in what became of the request. It returns the version that
// served, and for a request that got no answer why.
func (s *Server) spend(ctx context.Context, q question, arrived time.Time, out *outcome) (string, error) {
	version := s.engine.state().spec.Version
	got, err := s.engine.enter(ctx)
	switch {
	case errors.Is(err, errQueueFull):
		out.code = http.StatusServiceUnavailable
		return version, err
	case err != nil:
		out.code, out.finished, out.firstToken = statusClientGone, finishedAbort, time.Since(arrived)
		return version, err
	}
	defer s.engine.leave()
	started := time.Now()
	out.prompt = q.promptTokens()
	service := scale(got.unit, q.outputTokens())
	out.firstToken = started.Sub(arrived) + min(service, scale(got.unit, prefillTokens))
	timer := time.NewTimer(service)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		out.code, out.finished = statusClientGone, finishedAbort
		out.output = int(float64(q.outputTokens()) * time.Since(started).Seconds() / service.Seconds())
		return version, ctx.Err()
	}
	if got.fails {
		out.code = http.StatusInternalServerError
		return version, errors.New("simulated fault")
	}
	out.code, out.finished, out.output = http.StatusOK, q.finishReason(), q.outputTokens()
	return version, nil
}

// scale returns the service time of that many output tokens.
func scale(unit time.Duration, tokens int) time.Duration {
	return time.Duration(float64(unit) * float64(tokens) / ReferenceTokens)
}

type answer struct {
	ID                string   `json:"id"`
	Object            string   `json:"object"`
	Created           int64    `json:"created"`
	Model             string   `json:"model"`
	SystemFingerprint string   `json:"system_fingerprint"`
	Choices           []choice `json:"choices"`
	Usage             usage    `json:"usage"`
}

type choice struct {
	Index        int      `json:"index"`
	Text         string   `json:"text,omitempty"`
	Message      *message `json:"message,omitempty"`
	FinishReason string   `json:"finish_reason"`
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

// answerText stands for every answer's text: its length is told by usage, and sending it would cost CPU for nothing.
const answerText = "simulated"

func (s *Server) writeAnswer(w http.ResponseWriter, kind api, q question, version string) {
	prompt, output := q.promptTokens(), q.outputTokens()
	a := answer{
		ID: "cmpl-" + strconv.FormatUint(s.requests.Add(1), 10), Object: "text_completion", Created: time.Now().Unix(),
		Model: s.model, SystemFingerprint: version,
		Choices: []choice{{Text: answerText, FinishReason: q.finishReason()}},
		Usage:   usage{PromptTokens: prompt, CompletionTokens: output, TotalTokens: prompt + output},
	}
	if kind == chatAPI {
		a.ID, a.Object = "chat"+a.ID, "chat.completion"
		a.Choices = []choice{{Message: &message{Role: "assistant", Content: answerText}, FinishReason: q.finishReason()}}
	}
	writeJSON(w, http.StatusOK, a)
}

func writeError(w http.ResponseWriter, code int, kind string, err error) {
	type detail struct {
		Message string `json:"message"`
		Type    string `json:"type"`
		Code    int    `json:"code"`
	}
	writeJSON(w, code, struct {
		Error detail `json:"error"`
	}{detail{Message: err.Error(), Type: kind, Code: code}})
}

func writeJSON(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		slog.Debug("inference client went before its answer", "error", err)
	}
}
