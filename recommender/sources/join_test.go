package sources

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/recommender"
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
