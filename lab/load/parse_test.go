package load

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Pattern{
		"constant:10x60s":                            steps{{10, time.Minute}},
		"steps:5x30s,20.5x1m":                        steps{{5, 30 * time.Second}, {20.5, time.Minute}},
		"sine:mean=10,amplitude=8,period=60s,for=3m": sine{10, 8, time.Minute, 3 * time.Minute},
		"sine:for=3m,period=60s,amplitude=0,mean=0":  sine{0, 0, time.Minute, 3 * time.Minute},
	} {
		got, err := Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
}

func TestParseWave(t *testing.T) {
	got, err := Parse("wave:night=4,peak=40,day=8m,days=3,noise=0.05,seed=7")
	require.NoError(t, err)
	want, err := Waves(Wave{Night: 4, Peak: 40, Day: 8 * time.Minute, Days: 3, Noise: 0.05, Seed: 7})
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                     "want constant:",
		"ramp:1x2s":            "want constant:",
		"constant:10":          `"10" is not of the form RATExTIME`,
		"constant:10x60s,5x1s": `"60s,5x1s" is no time`,
		"constant:-1x60s":      "step 1: rate -1 is not in",
		"constant:NaNx60s":     "rate NaN is not in",
		"steps:5x30s,axb":      `step 2: "a" is no rate`,
		"steps:5x30s,5x0s":     "step 2: length 0s is not above 0s",
		"steps:":               `step 1: "" is not of the form`,
		"sine:mean=10":         "amplitude is missing",
		"sine:mean=1,mean=2":   "mean is given twice",
		"sine:mean=1,phase=2":  `"phase=2" is none of mean=`,
		"sine:mean=x,amplitude=8,period=60s,for=3m":   "mean=x is no number",
		"sine:mean=1,amplitude=0,period=60,for=3m":    "period=60 is no time",
		"sine:mean=10,amplitude=12,period=60s,for=3m": "amplitude 12 is larger than mean 10",
		"wave:night=5,peak=40,day=8m":                 "days is missing",
		"wave:night=5,peak=40,day=8m,days=1.5":        "days=1.5 and seed=0 must be whole numbers",
		"wave:night=5,peak=40,day=8m,days=0":          "days 0 is not in 1 to 1000",
		"wave:night=5,peak=4,day=8m,days=2":           "peak 4 is below night 5",
		"wave:night=5,peak=9,day=8m,days=2,noise=2":   "noise 2 is not in 0 to 1",
		"wave:night=5,peak=9,day=0s,days=2":           "day 0s is not above 0s",
		"trace:":                                      "the file is missing",
		"trace:testdata/none.csv":                     "cannot open trace",
		"trace:parse.go":                              "cannot read trace parse.go",
		"trace:testdata/buckets.csv,speed=0":          "speed 0 is not above 0",
		"trace:testdata/buckets.csv,speed=fast":       "speed=fast is no number",
		"trace:testdata/buckets.csv,from=1h":          "from 1h0m0s is not inside of the trace, which is 40s long",
		"trace:testdata/buckets.csv,for=-1s":          "for -1s is negative",
		"trace:testdata/requests.csv,from=1s,for=1s":  "no request in 1s from 1s on",
	} {
		_, err := Parse(text)
		require.ErrorContains(t, err, want, text)
		require.ErrorContains(t, err, "load pattern", text)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"constant:10x60s", "steps:5x30s,20x45s", "sine:mean=10,amplitude=8,period=60s,for=3m",
		"wave:night=4,peak=40,day=8m,days=4,noise=0.05,seed=1", "trace:f,speed=60,from=1s,scale=1e-3",
	} {
		f.Add(text)
	}
	content, err := os.ReadFile("testdata/buckets.csv")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parse(text, func(string) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(string(content))), nil
		})
		if err != nil {
			return
		}
		require.Positive(t, p.Duration())
		require.GreaterOrEqual(t, p.Rate(p.Duration()/2), 0.0)
		require.LessOrEqual(t, p.Rate(p.Duration()/2), maxRate)
		for a := range p.Arrivals(1) {
			require.Less(t, a.At, p.Duration())
			break
		}
	})
}
