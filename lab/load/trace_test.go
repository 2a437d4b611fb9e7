package load

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestReplayOfBuckets(t *testing.T) {
	p, err := Parse("trace:testdata/buckets.csv")
	require.NoError(t, err)
	require.Equal(t, 40*time.Second, p.Duration())
	for second, rate := range map[int]float64{0: 1, 9: 1, 10: 4, 19: 4, 20: 0, 29: 0, 30: 2, 39: 2} {
		require.InDelta(t, rate, p.Rate(time.Duration(second)*time.Second), 1e-9, "at %d s", second)
	}

	// Ten times as fast keeps all requests: a tenth of the time at ten times the rate. The part from 15 s on.
	p, err = Parse("trace:testdata/buckets.csv,speed=10,from=15s,for=20s")
	require.NoError(t, err)
	require.Equal(t, 2*time.Second, p.Duration())
	for offset, rate := range map[int]float64{0: 40, 499: 40, 500: 0, 1499: 0, 1500: 20, 1999: 20} {
		require.InDelta(t, rate, p.Rate(time.Duration(offset)*time.Millisecond), 1e-9, "at %d ms", offset)
	}
}

func TestReplayOfRequests(t *testing.T) {
	p, err := Parse("trace:testdata/requests.csv,speed=2")
	require.NoError(t, err)
	want := []Arrival{
		{0, Tokens{374, 44}},
		{4_314_579 * time.Microsecond / 2, Tokens{396, 109}},
		{4_541_877 * time.Microsecond / 2, Tokens{879, 55}},
		{5 * time.Second, Tokens{91, 16}},
	}
	got := slices.Collect(p.Arrivals(1))
	require.Equal(t, want, got)
	require.Equal(t, want, slices.Collect(p.Arrivals(2)), "single requests come when they came, whatever the seed")
	require.Equal(t, 5*time.Second+1, p.Duration(), "to just after the last request")
	require.InDelta(t, 4/5.0, p.Rate(2500*time.Millisecond), 1e-6)

	part, err := Parse("trace:testdata/requests.csv,from=4.4s,for=1s")
	require.NoError(t, err)
	require.Len(t, slices.Collect(part.Arrivals(1)), 1)
	require.Equal(t, time.Second, part.Duration())
}

func TestScaleThinsRequests(t *testing.T) {
	var text strings.Builder
	text.WriteString("timestamp\n")
	for i := range 10_000 {
		text.WriteString(time.Unix(int64(i), 0).UTC().Format(time.RFC3339) + "\n")
	}
	trace, err := ReadTrace(strings.NewReader(text.String()))
	require.NoError(t, err)
	p, err := trace.Pattern(Replay{Speed: 1, Scale: 0.25})
	require.NoError(t, err)
	require.InDelta(t, 2500, len(slices.Collect(p.Arrivals(3))), 6*43, "binomial, six standard deviations")
	_, err = trace.Pattern(Replay{Speed: 1, Scale: 2})
	require.ErrorContains(t, err, "scale 2 is above 1")
}

func TestReadTraceUnzips(t *testing.T) {
	plain, err := os.ReadFile("testdata/buckets.csv")
	require.NoError(t, err)
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, err = w.Write(plain)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	want, err := ReadTrace(bytes.NewReader(plain))
	require.NoError(t, err)
	got, err := ReadTrace(&zipped)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestReadTraceErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "cannot read header",
		"a,b\n":                                 `header "a,b" has neither`,
		"second,requests\n0,1\n":                "at least two rows",
		"second,requests\n0,1\n10,x\n":          `line 3: "x" is no number of requests`,
		"second,requests\n0,1\n10,-1\n":         `line 3: "-1" is no number of requests`,
		"second,requests\n0,1\n10,NaN\n":        `line 3: "NaN" is no number of requests`,
		"second,requests\n0,1\n10,1\n30,1\n":    "line 4: second 30 does not follow 10s",
		"second,requests\n10,1\n0,1\n":          "line 3: second 0 does not follow 10s",
		"second,requests\n0,1\n0,1\n":           "line 3: second 0 does not follow",
		"second,requests\n0,1,5\n":              "wrong number of fields",
		"TIMESTAMP\n":                           "no requests",
		"TIMESTAMP\nyesterday\n":                `line 2: "yesterday" is no timestamp`,
		"TIMESTAMP,GeneratedTokens\n1,-4\n":     `line 2: "-4" is no number of tokens`,
		"TIMESTAMP\n1970-01-01 00:00:00\n7e9\n": "spans more than",
		"\x1f\x8bnot gzip at all":               "cannot decompress",
	} {
		_, err := ReadTrace(strings.NewReader(text))
		require.ErrorContains(t, err, want, "%q", text)
	}
}

func FuzzReadTrace(f *testing.F) {
	for _, name := range []string{"testdata/buckets.csv", "testdata/requests.csv"} {
		seed, err := os.ReadFile(name)
		require.NoError(f, err)
		f.Add(seed, 1.0, 1.0, int64(0), int64(0))
		f.Add(seed, 60.0, 0.1, int64(time.Second), int64(time.Minute))
	}
	f.Fuzz(func(t *testing.T, text []byte, speed, scale float64, from, length int64) {
		trace, err := ReadTrace(io.LimitReader(bytes.NewReader(text), 1<<16))
		if err != nil {
			return
		}
		p, err := trace.Pattern(Replay{Speed: speed, Scale: scale, From: time.Duration(from), For: time.Duration(length)})
		if err != nil {
			return
		}
		require.Positive(t, p.Duration())
		require.LessOrEqual(t, p.Duration(), maxDuration)
		last, n := time.Duration(0), 0
		for a := range p.Arrivals(1) {
			require.GreaterOrEqual(t, a.At, last)
			require.Less(t, a.At, p.Duration())
			require.Positive(t, p.Rate(a.At))
			last = a.At
			if n++; n > 1000 {
				break
			}
		}
	})
}
