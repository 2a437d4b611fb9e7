package app

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/cmd/kubectl-headroom/screen"
	"headroom.dev/headroom/rollout"
)

const (
	rolloutsPath = "/apis/headroom.dev/v1alpha1/namespaces/demo/rolloutpolicies"
	settledChat  = `
apiVersion: headroom.dev/v1alpha1
kind: RolloutPolicy
metadata: {name: chat, namespace: demo, uid: u1, generation: 1, resourceVersion: "10"}
spec: {strategy: Canary, targetRef: {apiVersion: apps/v1, kind: Deployment, name: chat-server}}
status:
  observedGeneration: 1
  phase: Settled
  message: step 10% waits for a person to promote it
  step: {name: 10%, index: 1, maxSurge: 1, maxUnavailable: 0, old: 8, new: 1, least: 8}
  stable: {id: a, revision: 4, replicas: 8, readyReplicas: 8}
  update: {id: b, revision: 5, replicas: 1, readyReplicas: 1}
  conditions: [{type: Completed, status: "False", reason: WaitsForPerson, message: "", lastTransitionTime: "2026-11-23T11:59:00Z"}]
`
)

// keeper is an API server that has one policy, takes merge patches of it, and tells watches of each change. Act is its
// controller: called after each patch, it may change the policy.
type keeper struct {
	*cube

	mu      sync.Mutex
	version int
	policy  v1alpha1.RolloutPolicy
	watches []chan v1alpha1.RolloutPolicy
	act     func(*v1alpha1.RolloutPolicy)
	meddle  func(*v1alpha1.RolloutPolicy) // once, before the first patch: somebody else writes
	asked   int                           // how often it was listed
	ended   bool                          // the next watch ends at once
	watched func()                        // called once a watch stands
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	k := &keeper{cube: newCube(t), version: 10}
	require.NoError(t, yaml.UnmarshalStrict([]byte(settledChat), &k.policy))
	inner := k.Config.Handler
	k.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, rolloutsPath) && r.Method == http.MethodPatch:
			k.patch(t, w, r)
		case r.URL.Path == rolloutsPath && r.URL.Query().Get("watch") != "":
			k.watch(w, r)
		case r.URL.Path == rolloutsPath:
			k.list(w)
		case r.URL.Path == "/apis/authentication.k8s.io/v1/selfsubjectreviews":
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprint(w, `{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1","status":{"userInfo":{"username":"ada"}}}`)
		default:
			inner.ServeHTTP(w, r)
		}
	})
	return k
}

func (k *keeper) list(w http.ResponseWriter) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked++
	list := v1alpha1.RolloutPolicyList{Items: []v1alpha1.RolloutPolicy{k.policy}}
	list.Kind, list.APIVersion, list.ResourceVersion = "RolloutPolicyList", v1alpha1.GroupVersion().String(), fmt.Sprint(k.version)
	answer(w, http.StatusOK, list)
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

func (k *keeper) patch(t *testing.T, w http.ResponseWriter, r *http.Request) {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	assert.NoError(t, err)
	var p struct {
		Metadata struct {
			ResourceVersion string            `json:"resourceVersion"`
			Annotations     map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	assert.NoError(t, json.Unmarshal(b, &p))
	k.mu.Lock()
	meddle := k.meddle
	k.meddle = nil
	k.mu.Unlock()
	if meddle != nil {
		k.change(meddle)
	}
	k.mu.Lock()
	stale := p.Metadata.ResourceVersion != k.policy.ResourceVersion
	k.mu.Unlock()
	if stale {
		answer(w, http.StatusConflict, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Conflict", "code": 409, "message": "the object has been modified"})
		return
	}
	k.change(func(o *v1alpha1.RolloutPolicy) { o.Annotations = p.Metadata.Annotations })
	k.mu.Lock()
	answer(w, http.StatusOK, k.policy)
	k.mu.Unlock()
	if k.act != nil {
		k.change(k.act)
	}
}

// change writes the policy and tells watches of it.
func (k *keeper) change(write func(*v1alpha1.RolloutPolicy)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	write(&k.policy)
	k.version++
	k.policy.ResourceVersion = fmt.Sprint(k.version)
	for _, w := range k.watches {
		w <- *k.policy.DeepCopy()
	}
}

func (k *keeper) watch(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	changes := make(chan v1alpha1.RolloutPolicy, 16)
	if k.ended {
		k.ended = false
		k.mu.Unlock()
		return
	}
	if r.URL.Query().Get("resourceVersion") != fmt.Sprint(k.version) { // it missed one
		changes <- *k.policy.DeepCopy()
	}
	k.watches = append(k.watches, changes)
	k.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	flusher, _ := w.(http.Flusher)
	flusher.Flush()
	if k.watched != nil {
		k.watched()
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case p := <-changes:
			_ = json.NewEncoder(w).Encode(map[string]any{"type": "MODIFIED", "object": p})
			flusher.Flush()
		}
	}
}

// obeyed is a controller that does what the command says of the status.
func obeyed(change func(*v1alpha1.RolloutPolicyStatus)) func(*v1alpha1.RolloutPolicy) {
	return func(p *v1alpha1.RolloutPolicy) {
		p.Status.HandledCommand = commandOf(p).ID
		change(&p.Status)
	}
}

func TestRolloutCommand(t *testing.T) {
	k := newKeeper(t)
	k.act = obeyed(func(st *v1alpha1.RolloutPolicyStatus) { st.Phase, st.Message = "Moving", "step 10% was passed by ada" })
	assert.Equal(t, "chat: promoted; Moving, step 10%, old 8/8, new 1/1: step 10% was passed by ada\n", k.ok(t, "rollout", "promote", "chat", "-n", "demo"))
	first := commandOf(&k.policy)
	assert.Equal(t, "ada", first.By)
	assert.Equal(t, "Promote", first.Kind)

	_, _, err := k.run(t, "rollout", "promote", "deployment/chat-server", "-n", "demo")
	require.EqualError(t, err, "chat: there is nothing to promote yet: the step 10% waits for its pods, not for a person")
	k.act = nil
	_, _, err = k.run(t, "rollout", "abort", "chat", "-n", "demo", "--timeout", "50ms")
	require.ErrorContains(t, err, "headroom-controller has not obeyed within 50ms")
	_, _, err = k.run(t, "rollout", "pause", "chat", "-n", "demo")
	require.EqualError(t, err, "Abort by ada was not obeyed yet: wait for it, or take its place with --force")
	assert.Equal(t, "chat: pause was asked for\n", k.ok(t, "rollout", "pause", "chat", "-n", "demo", "--force", "--timeout", "0s"))
	assert.Equal(t, "Pause", commandOf(&k.policy).Kind)
	assert.NotEqual(t, first.ID, commandOf(&k.policy).ID)
}

// TestRolloutCommandLosesNone has somebody else write between the look and the patch.
func TestRolloutCommandLosesNone(t *testing.T) {
	k := newKeeper(t)
	k.meddle = func(p *v1alpha1.RolloutPolicy) {
		p.Annotations = map[string]string{v1alpha1.AnnotationRolloutCommand: `{"id":"other","kind":"Abort","by":"bob"}`}
	}
	_, _, err := k.run(t, "rollout", "promote", "chat", "-n", "demo")
	require.EqualError(t, err, "Abort by bob was not obeyed yet: wait for it, or take its place with --force")
	assert.Equal(t, "other", commandOf(&k.policy).ID)

	k = newKeeper(t)
	k.meddle = func(p *v1alpha1.RolloutPolicy) { p.Status.Phase = "GoingBack" }
	_, _, err = k.run(t, "rollout", "promote", "chat", "-n", "demo")
	require.EqualError(t, err, "chat: there is nothing to promote: the update is already going back")

	k = newKeeper(t)
	k.meddle = func(p *v1alpha1.RolloutPolicy) { p.Status.Message = "only this has changed" }
	k.act = obeyed(func(st *v1alpha1.RolloutPolicyStatus) { st.Paused = true })
	assert.Contains(t, k.ok(t, "rollout", "pause", "chat", "-n", "demo"), "chat: paused; Settled (paused), step 10%")
}

// TestSenseless goes through all commands and phases.
func TestSenseless(t *testing.T) {
	sensible := map[rollout.CommandKind]string{ // by phase, with what must hold besides
		rollout.Pause: "Planning Moving Settled", rollout.Resume: "Resting+paused Planning+paused Moving+paused Settled+paused GoingBack+paused Restoring+paused",
		rollout.Promote: "Settled Settled+paused", rollout.Abort: "Planning Moving Settled Planning+paused Moving+paused Settled+paused",
		rollout.Undo: "Planning Moving Settled Planning+paused Moving+paused Settled+paused", rollout.Retry: "Resting Resting+paused",
	}
	for _, phase := range []string{"Resting", "Planning", "Moving", "Settled", "GoingBack", "Restoring", "", "Gone"} {
		for _, paused := range []bool{false, true} {
			p := &v1alpha1.RolloutPolicy{Status: v1alpha1.RolloutPolicyStatus{Phase: phase, Paused: paused}}
			key := phase
			if paused {
				key += "+paused"
			}
			for _, s := range rolloutCommands() {
				if err := s.senseless(p); err != nil {
					assert.NotContains(t, " "+sensible[s.kind]+" ", " "+key+" ", "%s in %q: %v", s.kind, key, err)
				} else if phase != "" && phase != "Gone" {
					assert.Contains(t, " "+sensible[s.kind]+" ", " "+key+" ", "%s in %q", s.kind, key)
				}
			}
		}
	}
	p := &v1alpha1.RolloutPolicy{Status: v1alpha1.RolloutPolicyStatus{Phase: "Resting"}}
	require.ErrorContains(t, cannotUndo(p), "no update has completed")
	p.Status.History = []v1alpha1.RolloutRecord{{Outcome: "Completed"}}
	require.NoError(t, cannotUndo(p))
}

func TestRolloutStatus(t *testing.T) {
	k := newKeeper(t)
	out := k.ok(t, "rollout", "status", "chat", "-n", "demo")
	assert.Contains(t, out, "Phase:     Settled\nMessage:   step 10% waits for a person to promote it\n")
	assert.Equal(t, out, k.ok(t, "rollout", "status", "deploy/chat-server", "-n", "demo"))
	assert.Contains(t, k.ok(t, "rollout", "status", "-n", "demo"), "chat  Deployment/chat-server  Canary    Settled  10%")
	var p v1alpha1.RolloutPolicy
	require.NoError(t, json.Unmarshal([]byte(k.ok(t, "rollout", "status", "chat", "-n", "demo", "-o", "json")), &p))
	assert.Equal(t, "RolloutPolicy", p.Kind)
	assert.Equal(t, "Settled", p.Status.Phase)
	var list v1alpha1.RolloutPolicyList
	require.NoError(t, yaml.UnmarshalStrict([]byte(k.ok(t, "rollout", "status", "-n", "demo", "-o", "yaml")), &list))
	require.Len(t, list.Items, 1)
	var entries []screen.Entry
	require.NoError(t, json.Unmarshal([]byte(k.ok(t, "rollout", "history", "chat", "-n", "demo", "-o", "json")), &entries))
	require.Len(t, entries, 2)
	assert.True(t, entries[0].Serves)
	assert.True(t, entries[1].Underway)
	_, _, err := k.run(t, "rollout", "history", "chat", "-n", "demo", "--revision", "9")
	require.EqualError(t, err, "the history of chat has no revision 9; it keeps 0 updates")
}

func TestRolloutBadInput(t *testing.T) {
	k := newKeeper(t)
	for args, want := range map[string]string{
		"status nope":                                   `there is no RolloutPolicy "nope" in namespace demo`,
		"status chat-server":                            `there is no RolloutPolicy "chat-server" in namespace demo; but RolloutPolicy "chat" updates deployment/chat-server`,
		"status deployment/nope":                        `there is no RolloutPolicy for Deployment/nope in namespace demo`,
		"status chat -A":                                "a name and --all-namespaces exclude each other",
		"status -w":                                     "--watch: name the policy whose update is to be waited for",
		"status chat --timeout 5s":                      "--timeout: needs --watch",
		"pause chat --timeout -1s":                      "--timeout: -1s is negative",
		"plan chat --strategy fast":                     `--strategy: "fast" is none of Rolling, Canary, BlueGreen, Recreate`,
		"plan chat --demand lots":                       `--demand: "lots" is not a number, as 62 or 7.5`,
		"plan chat --capacity 0":                        "--capacity: 0 is not above 0",
		"plan chat --sources Free,Elsew":                `--sources: "Elsew" is none of Free, Spare, Preempt, Provision, Degrade`,
		"plan chat --within 0s":                         "--within: 0s is not a time above 0s",
		"plan chat --free -2":                           "--free: -2 is negative",
		"plan chat --accept-downtime --strategy Canary": "--accept-downtime: is for the strategy Recreate, and --strategy is Canary",
		"plan chat --max-surge 0 --max-unavailable 0":   "--max-surge and --max-unavailable are both 0: nothing could be updated",
		"advise chat --change Big":                      `--change: "Big" is none of Image, Model, API`,
		"advise chat --downtime -1s":                    "--downtime: -1s is negative",
		"plan pod/chat":                                 "pod: only a Deployment, StatefulSet or DaemonSet can be rolled out",
	} {
		_, _, err := k.run(t, append(append([]string{"rollout"}, strings.Fields(args)...), "-n", "demo")...)
		require.EqualError(t, err, want, args)
	}
	none := newCube(t)
	_, _, err := none.run(t, "rollout", "status", "-n", "demo")
	require.EqualError(t, err, noRolloutPolicies)
	_, _, err = none.run(t, "rollout", "plan", "chat", "-n", "demo")
	require.EqualError(t, err, noRolloutPolicies+"; to plan without a policy, name the workload: deployment/chat")
	many := newCube(t, map[string]string{rolloutsPath: "items: [" + strings.Repeat("{metadata: {name: a}, spec: {targetRef: {apiVersion: apps/v1, kind: Deployment, name: x}}}, ", 2) + "]"})
	_, _, err = many.run(t, "rollout", "status", "deployment/x", "-n", "demo")
	require.EqualError(t, err, "there are several RolloutPolicies for Deployment/x: a, a; name the one you mean")
}

// TestRolloutWaits has the update end while it is waited for, and a watch end in the middle.
func TestRolloutWaits(t *testing.T) {
	finish := func(status, reason string) func(*v1alpha1.RolloutPolicy) {
		return func(p *v1alpha1.RolloutPolicy) {
			p.Status.Phase, p.Status.Step, p.Status.Message = "Resting", nil, "the end"
			p.Status.Conditions[0].Status, p.Status.Conditions[0].Reason = "True", reason
			if status == "False" {
				p.Status.Conditions[0].Status = "False"
			}
		}
	}
	for i, tc := range []struct {
		args     []string
		end      func(*v1alpha1.RolloutPolicy)
		out, err string
	}{
		{[]string{"status", "-w"}, finish("True", "Completed"), "chat: every replica runs the newest template\n", ""},
		{[]string{"status", "-w"}, finish("False", "WentBack"), "", "chat: the update went back: the end"},
		{[]string{"watch", "--until-done"}, finish("True", "Completed"), "" +
			"2026-11-23T12:00:00Z  Settled, step 10%, old 8/8, new 1/1: step 10% waits for a person to promote it\n" +
			"2026-11-23T12:00:00Z  Resting, old 8/8, new 1/1: the end\n", ""},
		{[]string{"watch", "--until-done"}, finish("False", "WentBack"), "" +
			"2026-11-23T12:00:00Z  Settled, step 10%, old 8/8, new 1/1: step 10% waits for a person to promote it\n" +
			"2026-11-23T12:00:00Z  Resting, old 8/8, new 1/1: the end\n", "chat: the update went back: the end"},
	} {
		k := newKeeper(t)
		k.ended = i == 0 // and is taken up again
		k.watched = func() { k.change(tc.end) }
		out, _, err := k.run(t, append([]string{"rollout", tc.args[0], "chat", "-n", "demo"}, tc.args[1:]...)...)
		assert.Equal(t, tc.out, out)
		if tc.err == "" {
			require.NoError(t, err)
		} else {
			require.EqualError(t, err, tc.err)
		}
		assert.LessOrEqual(t, k.asked, 3, "it asks once for the name, once for the begin of each watch, and then is told")
	}
	k := newKeeper(t)
	_, _, err := k.run(t, "rollout", "status", "chat", "-n", "demo", "-w", "--timeout", "50ms")
	require.ErrorContains(t, err, "the update of chat was not over after 50ms: Settled, step 10%")
}

func TestReadTrial(t *testing.T) {
	file := filepath.Join(t.TempDir(), "chat.yaml")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	const deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: chat}\nspec: {replicas: 9, template: {spec: {containers: [{name: a, image: b}]}}}\n"
	const policy = "apiVersion: headroom.dev/v1alpha1\nkind: RolloutPolicy\nmetadata: {name: p}\nspec: {targetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}}\n"
	write("# a comment\n---\napiVersion: v1\nkind: Service\nmetadata: {name: chat}\n---\n" + deployment + "---\n" + policy)
	for _, of := range [][2]string{{"Deployment", "chat"}, {"", "p"}} {
		got, err := readTrial(file, nil, of[0], of[1])
		require.NoError(t, err)
		assert.Equal(t, "b", got.template.Spec.Containers[0].Image)
		assert.Equal(t, int32(9), *got.replicas)
		assert.Equal(t, "p", got.policy.Name)
	}
	_, err := readTrial(file, nil, "StatefulSet", "chat")
	require.EqualError(t, err, "-f: "+file+": there is neither StatefulSet/chat nor a RolloutPolicy for it, only Service, Deployment/chat, RolloutPolicy/p")
	got, err := readTrial("-", strings.NewReader(deployment), "", "chat")
	require.NoError(t, err)
	assert.Nil(t, got.policy)
	write(strings.Replace(deployment, "replicas", "replica", 1))
	_, err = readTrial(file, nil, "", "chat")
	require.EqualError(t, err, "-f: "+file+`, document 1: unknown field "spec.replica"`)
	write(policy + "---\n" + policy)
	_, err = readTrial(file, nil, "", "p")
	require.ErrorContains(t, err, "a second RolloutPolicy, p")
}

// TestDetection: more traffic is seen sooner, none is blind, and the figures are in the sentence.
func TestDetection(t *testing.T) {
	a, c := &v1alpha1.Analysis{}, canary{replicas: 1, of: 8, share: 1.0 / 9}
	blind := detection(summed(nil, nil), c, a)
	assert.Zero(t, blind.after)
	assert.Equal(t, "the requests per second are not known: no pod tells its requests per second", blind.text)
	few := detection(traffic{perSecond: 0.1, failed: 0.01}, c, a)
	assert.Zero(t, few.after)
	assert.Equal(t, "0.011/s are too few requests", few.blind)
	some, many := detection(traffic{perSecond: 100, failed: math.NaN()}, c, a), detection(traffic{perSecond: 1000, failed: math.NaN()}, c, a)
	assert.Positive(t, many.after)
	assert.Less(t, many.after, some.after)
	assert.Contains(t, some.text, "at 100 requests/s, a canary of 1 of 8 replicas gets 11.1/s: 3% more errors (0.1% fail, taken for what fails now) are seen after")
	got := summed(map[string]float64{"a": 30, "b": 10, "c": 5}, map[string]float64{"a": 0, "b": 4, "d": 100})
	assert.InDelta(t, 45, got.perSecond, 1e-9)
	assert.InDelta(t, 0.01, got.failed, 1e-9, "of the requests of those that tell")
}
