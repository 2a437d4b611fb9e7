package evidence

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/adapter/profiles"
	"headroom.dev/headroom/adapter/rules"
	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
)

// TestTheAdapterKeepsWhatIsRead wants every name that is read without being named by a policy among those that the adapter's built-in
// rules need: it stores nothing else.
func TestTheAdapterKeepsWhatIsRead(t *testing.T) {
	list, err := profiles.Rules(profiles.Names()...)
	require.NoError(t, err)
	set, err := rules.Compile(list)
	require.NoError(t, err)
	needs := set.Needs()
	for _, s := range append(errorSources(), latencySources()...) {
		for _, name := range s.names() {
			assert.Contains(t, needs, name, s.id)
		}
	}
}

// answers is a Plane that answers what a test says.
type answers func() []Sample

func (a answers) Query(context.Context, string, string) ([]Sample, error) { return a(), nil }

func policyOf(a v1alpha1.Analysis) *v1alpha1.RolloutPolicy {
	return &v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "chat"}, Spec: v1alpha1.RolloutPolicySpec{Analysis: a}}
}

// spoil is what can be wrong with a pod's counters at a look.
func spoil(random *rand.Rand, how int, list []Sample) []Sample {
	switch how {
	case 0: // NaN
		list[random.IntN(len(list))].Value = math.NaN()
	case 1: // absent
		return nil
	case 2: // restarted
		for i := range list {
			list[i].Value = 0
		}
	case 3: // more failed than there were
		list[1].Value = -1
	case 4: // infinite
		list[0].Value = math.Inf(1)
	case 5: // without the label that tells failures
		return []Sample{{Labels: map[string]string{nameLabel: "http_requests_total", podLabel: list[0].Labels[podLabel]}, Value: list[0].Value}}
	}
	return list
}

// TestSpoiltDataDecideNothing has the counters of one version spoilt at every look, each time in some way: whatever the other says,
// nothing passes and nothing fails.
func TestSpoiltDataDecideNothing(t *testing.T) {
	const seed = 11
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	epoch := time.Unix(1e9, 0)
	for run := range 60 {
		now, served := epoch, 0.0
		broken := []string{"chat-new-1", "chat-old-1"}[run%2]
		how := run % 6
		client := &Client{Now: func() time.Time { return now }, Plane: answers(func() []Sample {
			var all []Sample
			for _, pod := range []string{"chat-new-1", "chat-old-1"} {
				of := func(code string, v float64) Sample {
					return Sample{Labels: map[string]string{nameLabel: "http_requests_total", podLabel: pod, "code": code}, Value: v, At: now}
				}
				share := 0.01
				if pod == "chat-new-1" {
					share = float64(run%3) * 0.2 // as good as can be, and far worse
				}
				list := []Sample{of("200", served*(1-share)), of("500", served*share)}
				if pod == broken {
					list = spoil(random, how, list)
				}
				all = append(all, list...)
			}
			return all
		})}
		look := Look{Key: fmt.Sprintf("v%d/0/0", run), New: []*corev1.Pod{newPod("chat-new-1", epoch)}, Old: []*corev1.Pod{newPod("chat-old-1", epoch)}}
		policy := policyOf(v1alpha1.Analysis{Metrics: []v1alpha1.AnalysisMetric{{Name: "errors", Kind: "Errors"}}})
		var state []byte
		for range 60 {
			now, served = now.Add(15*time.Second), served+1000
			v, err := client.Judge(t.Context(), policy, state, look)
			require.NoError(t, err)
			require.NotContains(t, []rollout.Result{rollout.Pass, rollout.Fail}, v.Verdict.Result, "run %d, kind %d of %s: %s", run, how, broken, v.Verdict.Message)
			state = v.State
		}
	}
}

// busy is a client whose pods serve, a version for each prefix, with histograms.
func busy(now *time.Time, pods int) (*Client, Look) {
	bounds := []string{"0.3", "0.5", "0.8", "1", "1.5", "2", "2.5", "5", "10", "15", "20", "30", "40", "50", "60", "120", "240", "480", "960", "1920", "7680", "+Inf"}
	epoch := *now
	var l Look
	for i := range pods {
		l.New = append(l.New, newPod(fmt.Sprintf("chat-5d9f8c7b6d-n%04d", i), epoch))
		l.Old = append(l.Old, newPod(fmt.Sprintf("chat-7f6b5c4d3e-o%04d", i), epoch))
	}
	l.Key = "5d9f8c7b6d/0/0"
	return &Client{Now: func() time.Time { return *now }, Plane: answers(func() []Sample {
		seconds := now.Sub(epoch).Seconds()
		var all []Sample
		for k, p := range append(l.New, l.Old...) {
			of := func(name, label, value string, v float64) {
				all = append(all, Sample{Labels: map[string]string{nameLabel: name, podLabel: p.Name, label: value}, Value: math.Floor(v * float64(7+k%5)), At: *now})
			}
			of("http_requests_total", "code", "200", seconds)
			of("http_requests_total", "code", "500", seconds/100)
			for i, b := range bounds {
				of("vllm:e2e_request_latency_seconds_bucket", "le", b, seconds*min(1, float64(i+1)/20))
			}
		}
		return all
	})}, l
}

// TestStateFitsAConfigMap looks at more pods than are judged.
func TestStateFitsAConfigMap(t *testing.T) {
	now := time.Unix(1e9, 0)
	client, look := busy(&now, 400)
	var state []byte
	for range 5 {
		now = now.Add(15 * time.Second)
		v, err := client.Judge(t.Context(), policyOf(v1alpha1.Analysis{}), state, look)
		require.NoError(t, err)
		require.NotEmpty(t, v.State, v.Verdict.Message)
		state = v.State
	}
	r, err := decode(state)
	require.NoError(t, err)
	assert.Len(t, r.Requests["errors"], 2*mostPods)
	assert.Equal(t, int32(5), r.Status.Looks)
	assert.Less(t, len(state), 256<<10)
	t.Logf("%d bytes for 2 x %d pods", len(state), mostPods)
}

// TestRestartedEqualsUninterrupted: a look says the same wherever its state was.
func TestRestartedEqualsUninterrupted(t *testing.T) {
	now := time.Unix(1e9, 0)
	client, look := busy(&now, 3)
	var state []byte
	for range 20 {
		now = now.Add(15 * time.Second)
		one, err := client.Judge(t.Context(), policyOf(v1alpha1.Analysis{}), state, look)
		require.NoError(t, err)
		other, err := client.Judge(t.Context(), policyOf(v1alpha1.Analysis{}), bytes.Clone(state), look)
		require.NoError(t, err)
		assert.Equal(t, one, other)
		again, err := client.Judge(t.Context(), policyOf(v1alpha1.Analysis{}), one.State, look)
		require.NoError(t, err)
		assert.Equal(t, one.Verdict, again.Verdict, "not due")
		assert.Equal(t, one.State, again.State)
		state = one.State
	}
}

func FuzzDecode(f *testing.F) {
	now := time.Unix(1e9, 0)
	client, look := busy(&now, 2)
	var state []byte
	for range 3 {
		now = now.Add(15 * time.Second)
		v, err := client.Judge(f.Context(), policyOf(v1alpha1.Analysis{}), state, look)
		require.NoError(f, err)
		state = v.State
		r, err := decode(state)
		require.NoError(f, err)
		r.Judge, err = r.judge.MarshalJSON()
		require.NoError(f, err)
		plain, err := json.Marshal(r)
		require.NoError(f, err)
		f.Add(plain, true)
		f.Add(state, false)
	}
	f.Fuzz(func(t *testing.T, raw []byte, pack bool) {
		if pack { // what is inside is what is of interest
			var b bytes.Buffer
			w := gzip.NewWriter(&b)
			_, err := w.Write(raw)
			require.NoError(t, err)
			require.NoError(t, w.Close())
			raw = b.Bytes()
		}
		r, err := decode(raw)
		if err != nil {
			return
		}
		if len(raw) > 0 {
			again, err := r.encode()
			if err == nil {
				_, err = decode(again)
				require.NoError(t, err)
			}
		}
		// Whatever was stored, a look at a key of its own does not pass at once.
		at := now.Add(time.Hour)
		client.Now = func() time.Time { return at }
		v, err := client.Judge(t.Context(), policyOf(v1alpha1.Analysis{}), raw, Look{Key: "other/1/1", New: look.New, Old: look.Old})
		require.NoError(t, err)
		require.NotEqual(t, rollout.Pass, v.Verdict.Result)
	})
}
