package sources

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/recommender"
	"headroom.dev/headroom/recommender/accelerator"
)

// fixed is a source that always says the same.
type fixed struct {
	samples []recommender.Sample
	err     error
	past    []recommender.Sample
	pastErr error
	hang    bool
}

func (f *fixed) Samples(ctx context.Context, _ string) ([]recommender.Sample, error) {
	if f.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return append([]recommender.Sample(nil), f.samples...), f.err
}

func (f *fixed) Past(_ context.Context, _ recommender.Past, yield func([]recommender.Sample) error) error {
	if len(f.past) > 0 {
		if err := yield(f.past); err != nil {
			return err
		}
	}
	return f.pastErr
}

func sampleOf(pod string, r recommender.Resource, v float64) recommender.Sample {
	return recommender.Sample{Container: recommender.ContainerID{Namespace: "n", Pod: pod, Container: "c"}, Resource: r, Value: v, At: time.Unix(1000, 0), Certainty: 1}
}

func TestJoinPrefersTheFirst(t *testing.T) {
	a := &fixed{samples: []recommender.Sample{sampleOf("p", recommender.CPU, 1)}}
	b := &fixed{samples: []recommender.Sample{sampleOf("p", recommender.CPU, 2), sampleOf("p", recommender.Memory, 3), sampleOf("q", recommender.CPU, 4)}}
	down := &fixed{err: errors.New("connection refused")}
	part := &fixed{samples: []recommender.Sample{sampleOf("p", recommender.Queue, 5)}, err: &PartialError{Errs: []error{errors.New("gpu-memory: no")}}}
	j := Join(Named{"down", down}, Named{"a", a}, Named{"b", b}, Named{"part", part})
	got, err := j.Samples(t.Context(), "")
	require.NoError(t, err)
	assert.Equal(t, []recommender.Sample{
		sampleOf("p", recommender.CPU, 1), sampleOf("p", recommender.Memory, 3), sampleOf("q", recommender.CPU, 4), sampleOf("p", recommender.Queue, 5),
	}, got)
	require.Len(t, j.Errors(), 2)
	require.EqualError(t, j.Errors()[0], "down: connection refused")
	require.EqualError(t, j.Errors()[1], "part: gpu-memory: no")

	down.err, part.err = nil, nil
	_, err = j.Samples(t.Context(), "")
	require.NoError(t, err)
	assert.Empty(t, j.Errors())

	_, err = Join(Named{"x", &fixed{err: errors.New("one")}}, Named{"y", &fixed{err: errors.New("two")}}).Samples(t.Context(), "")
	require.EqualError(t, err, "x: one\ny: two")
}

// TestJoinPrefersByResource: one resource from another source than the rest, and where that has none from the first that has it.
func TestJoinPrefersByResource(t *testing.T) {
	a := &fixed{samples: []recommender.Sample{sampleOf("p", recommender.CPU, 1), sampleOf("p", recommender.Memory, 2), sampleOf("q", recommender.Memory, 3)}}
	b := &fixed{samples: []recommender.Sample{sampleOf("p", recommender.CPU, 4), sampleOf("p", recommender.Memory, 5)}}
	j := Join(Named{"a", a}, Named{"b", b}).Prefer("b", recommender.Memory).Prefer("c", recommender.CPU)
	got, err := j.Samples(t.Context(), "")
	require.NoError(t, err)
	assert.ElementsMatch(t, []recommender.Sample{
		sampleOf("p", recommender.CPU, 1), sampleOf("p", recommender.Memory, 5), sampleOf("q", recommender.Memory, 3),
	}, got)
	b.samples, b.err = nil, errors.New("connection refused")
	got, err = j.Samples(t.Context(), "")
	require.NoError(t, err)
	assert.ElementsMatch(t, a.samples, got)
}

// TestJoinEngines: the first that knows an engine, whatever fails elsewhere.
func TestJoinEngines(t *testing.T) {
	id := func(pod string) recommender.ContainerID { return recommender.ContainerID{Namespace: "n", Pod: pod} }
	facts := func(kind accelerator.EngineKind) accelerator.Facts { return accelerator.Facts{Kind: kind} }
	a := &telling{facts: map[recommender.ContainerID]accelerator.Facts{id("p"): facts(accelerator.VLLM)}}
	b := &telling{facts: map[recommender.ContainerID]accelerator.Facts{id("p"): facts(accelerator.SGLang), id("q"): facts(accelerator.SGLang)}}
	got, err := Join(Named{"metrics.k8s.io", &fixed{}}, Named{"a", a}, Named{"b", b}).Engines(t.Context(), "n")
	require.NoError(t, err)
	assert.Equal(t, map[recommender.ContainerID]accelerator.Facts{id("p"): facts(accelerator.VLLM), id("q"): facts(accelerator.SGLang)}, got)
	a.facts, a.err = nil, errors.New("connection refused")
	got, err = Join(Named{"a", a}, Named{"b", b}).Engines(t.Context(), "n")
	require.EqualError(t, err, "a: connection refused")
	assert.Equal(t, b.facts, got)
}

type telling struct {
	fixed
	facts map[recommender.ContainerID]accelerator.Facts
	err   error
}

func (s *telling) Engines(context.Context, string) (map[recommender.ContainerID]accelerator.Facts, error) {
	return s.facts, s.err
}

// TestJoinWaitsForNone: a source that hangs costs its own samples.
func TestJoinWaitsForNone(t *testing.T) {
	j := Join(Named{"hangs", &fixed{hang: true}}, Named{"b", &fixed{samples: []recommender.Sample{sampleOf("p", recommender.CPU, 2)}}})
	j.timeout = time.Millisecond
	got, err := j.Samples(t.Context(), "")
	require.NoError(t, err)
	assert.Len(t, got, 1)
	require.ErrorIs(t, j.Errors()[0], context.DeadlineExceeded)
}

func TestJoinPast(t *testing.T) {
	none := &fixed{pastErr: ErrNoHistory}
	empty, down := &fixed{}, &fixed{pastErr: errors.New("connection refused")}
	gap := &fixed{past: []recommender.Sample{sampleOf("p", recommender.CPU, 1)}, pastErr: &GapError{Gaps: []Gap{{Err: errors.New("fire")}}}}
	whole := &fixed{past: []recommender.Sample{sampleOf("p", recommender.CPU, 2)}}
	for _, test := range []struct {
		sources []*fixed
		want    int
		err     string
	}{
		{[]*fixed{none, empty, whole, gap}, 1, ""},
		{[]*fixed{none, down, whole}, 1, ""},
		{[]*fixed{down, empty}, 0, "a: connection refused"},
		{[]*fixed{gap, whole}, 1, "a: no history from 0001-01-01T00:00:00Z to 0001-01-01T00:00:00Z: fire"},
		{[]*fixed{none}, 0, ErrNoHistory.Error()},
	} {
		var list []Named
		for i, s := range test.sources {
			list = append(list, Named{string(rune('a' + i)), s})
		}
		got, err := collect(t.Context(), Join(list...), recommender.Past{})
		assert.Len(t, got, test.want)
		if test.err == "" {
			require.NoError(t, err)
		} else {
			require.EqualError(t, err, test.err)
		}
	}
}
