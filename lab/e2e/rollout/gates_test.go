package rollout

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/evidence"
)

// hook is a webhook that answers with one status after the other, the last one for ever, and keeps what it was asked.
func hook(t *testing.T, body string, statuses ...int) (url string, asked func() []evidence.Question) {
	t.Helper()
	var n atomic.Int64
	questions := make(chan evidence.Question, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q evidence.Question
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		questions <- q
		w.WriteHeader(statuses[min(int(n.Add(1)), len(statuses))-1])
		_, _ = w.Write([]byte(body)) // who asked may have gone
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []evidence.Question {
		out := make([]evidence.Question, 0, len(questions))
		for range cap(out) {
			out = append(out, <-questions)
		}
		return out
	}
}

// A webhook that says 202 holds a step up until it says 200; a pause lasts as long as it says.
func TestRolloutGates(t *testing.T) {
	t.Parallel()
	url, asked := hook(t, "", http.StatusAccepted, http.StatusOK)
	s := deployLight(t, 2, nil)
	s.controlled()
	const pause = 3 * time.Second
	s.policy("{strategy: Canary, canary: {steps: [{replicas: 1, unjudged: true, gates: [{name: ask, webhook: {url: '" + url + "'}}, {pause: " + pause.String() + "}]}]}}")
	s.inForce()
	s.updateLight("v2")
	p := s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.Contains(t, p.Status.Message, "gate ask: not yet", "%s", told(p))
	})
	require.Equal(t, "Settled", p.Status.Phase, "%s", told(p))
	s.outcome(s.completed("v2"), "Completed")
	questions := asked()
	require.Len(t, questions, 2) // after 200 it is not asked again
	q := questions[0]
	require.Equal(t, []string{s.namespace, "chat", "Deployment", "chat", "ask", "1 replica"}, []string{q.Namespace, q.Policy, q.Kind, q.Name, q.Gate, q.Step})
	require.Equal(t, "registry.example/chat:v1", q.Old.Images["server"])
	require.Equal(t, "registry.example/chat:v2", q.New.Images["server"])
	require.Equal(t, []int{2, 1}, []int{q.Old.Replicas, q.New.Replicas})
	require.GreaterOrEqual(t, s.between("StepReached", "Completed"), pause)
	s.remove()
}

// A webhook that refuses fails the version, with its reason.
func TestRolloutGateFails(t *testing.T) {
	t.Parallel()
	url, _ := hook(t, "not on a\nFriday", http.StatusForbidden)
	s := deployLight(t, 2, nil)
	c := newController(t, s.setup())
	run(t, always(c))
	s.policy("{strategy: Canary, canary: {steps: [{replicas: 1, unjudged: true, gates: [{webhook: {url: '" + url + "'}}]}]}}")
	s.inForce()
	s.updateLight("v2")
	p := s.awaitPolicy(func(t require.TestingT, p *v1alpha1.RolloutPolicy) {
		require.Equal(t, "WentBack", meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionCompleted).Reason, "%s", told(p))
	})
	s.outcome(p, "GateFailed")
	require.Contains(t, p.Status.History[0].Message, "gate webhook: the webhook refuses (403): not on a Friday", "%s", told(p))
	require.Equal(t, 1, count(c.events, "GateFailed"))
	s.serves("v1", 2)
	s.remove()
}

// between is the time from the last event of one reason to the last one of another, as the record has them.
func (s *service) between(from, to string) time.Duration {
	s.t.Helper()
	var record corev1.ConfigMap
	require.NoError(s.t, s.api.Get(s.t.Context(), key(s.namespace, "headroom-rollout-chat"), &record))
	var state rollout.State
	require.NoError(s.t, json.Unmarshal([]byte(record.Data["state"]), &state))
	at := map[string]time.Time{}
	for _, e := range state.Events {
		at[e.Reason] = e.At
	}
	require.Contains(s.t, at, from)
	require.Contains(s.t, at, to)
	return at[to].Sub(at[from])
}
