package scrape

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// traced parses with the full parser and returns the layout besides; ok is false if the answer has none.
func traced(body []byte, contentType string, merge *merger, seed maphash.Seed) (s samples, l layout, ok bool, err error) {
	t := tracer{seed: seed}
	e := exposition{
		body: terminate(body, contentType), names: nameFilter{wants: wantRequests, all: len(merge.relabel) > 0},
		merge: merge, limit: 1000, trace: &t,
	}
	if err := e.parse(contentType); err != nil {
		return samples{}, layout{}, false, err
	}
	l = layout{contentType: contentType, segments: t.finish(e.body)}
	return e.out, l, l.segments != nil, nil
}

// agree reads second by the layout of first, where it has that, and holds the result to the parser's. It returns whether it had.
func agree(t *testing.T, first, second []byte, contentType string) bool {
	t.Helper()
	seed := maphash.MakeSeed()
	merge := newMerger(targetLabels, false, nil)
	known, l, ok, err := traced(bytes.Clone(first), contentType, merge, seed)
	if err != nil || !ok {
		return false
	}
	own, ok := l.match(seed, terminate(bytes.Clone(first), contentType), nil)
	require.True(t, ok, "an answer has its own layout: %q", first)
	requireBits(t, known.values, own, first)

	got, ok := l.match(seed, terminate(bytes.Clone(second), contentType), nil)
	if !ok {
		return false
	}
	want, _, _, err := traced(bytes.Clone(second), contentType, merge, seed)
	require.NoError(t, err, "taken: %q after %q", second, first)
	requireBits(t, want.values, got, second)
	require.Equal(t, want.labels, known.labels, "%q after %q", second, first)

	// What the Sink is told should it ask for labels.
	e := exposition{body: terminate(bytes.Clone(second), contentType), merge: merge, limit: 1000, known: l.segments}
	require.NoError(t, e.parse(contentType))
	require.Equal(t, want.labels, e.out.labels)
	return true
}

func requireBits(t *testing.T, want, got []float64, body []byte) {
	t.Helper()
	require.Len(t, got, len(want), "%q", body)
	for i := range want {
		require.Equal(t, math.Float64bits(want[i]), math.Float64bits(got[i]), "value %d of %q", i, body)
	}
}

// oddValues is what may stand where a number stood.
func oddValues() []string {
	return []string{
		"0", "1", "-1", "+1", "-0", "0.0", ".5", "5.", ".", "-", "+", "", "1e5", "1E5", "1e+5", "1e-5", "1e", "1e+", "e5", "1.5e3", "1e22", "1e23",
		"1e-22", "1e-23", "1e308", "1e309", "1e999", "1e-400", "1e99999", "1e00005", "NaN", "nan", "+NaN", "-NaN", "Inf", "+Inf", "-Inf", "+inf",
		"infinity", "Infinity", "NaNx", "0x1p3", "0x10", "0b1", "0o7", "1_000", "1p3", "4.35", "0.1", "9007199254740992", "9007199254740993",
		"9007199254740993.0", "18446744073709551615", "18446744073709551616", "123456789012345678901234567890", "1.7976931348623157e308",
		"00000000000000000000000001", "0.000000000000000000000000000001", "1\r", "1 ", "1\t", " 1", "1 1700000000", "1 1700000000000", "1 2 3",
		"1 # {a=\"b\"} 1", "1 # {a=\"b\"} 1 2", "1#", "1{", "{", "1\x00", "\x00", "1\n\n", "1\n#", "1\n# c", "1\nother 2", "١", "1,000", "\"1\"", "1e5e5", "1.2.3", "--1",
	}
}

const orderly = "# HELP http_requests_total Requests.\n# TYPE http_requests_total counter\n" +
	"http_requests_total{code=\"200\"} 3\nhttp_requests_total{code=\"500\"} 4.5\n# TYPE vllm:h histogram\n" +
	"vllm:h_bucket{le=\"1\"} 1\nvllm:h_bucket{le=\"+Inf\"} 2.0\nother 7\n"

// answers are expositions of all kinds, each its own layout.
func answers() []string {
	return []string{
		orderly, strings.TrimSuffix(orderly, "\n"), strings.ReplaceAll(orderly, "\n", "\r\n"), "", "\n", "\n\n", "# c\n", "http_requests_total 1",
		"http_requests_total 1\nhttp_requests_total 1\n", "http_requests_total{a=\"x\\\"y\\\\z\\nw\"} 1\n", "http_requests_total{a=\"line\nbreak\"} 1\n",
		"http_requests_total 1 1700000000\n", "http_requests_total-1\n", "http_requests_total{}1\n", " http_requests_total 1\n", "http_requests_total\t 1\n",
		"{\"vllm:kv\",a=\"b\"} 1\n", "http_requests_total {a=\"b\"} 1\n", "http_requests_total 1\n\x00 garbage", "http_requests_total{a=\"\x00\"} 1\n",
		"# TYPE vllm:s summary\nvllm:s{quantile=\"0.50\"} 1\n", "# HELP \"vllm:x\ny\" z\nother 1\n", "other{a=\"1\",a=\"1\"} 1\n", "http_requests_total{a=\"1\",a=\"1\"} 1\n",
	}
}

const (
	openAnswer = "# TYPE http_requests counter\n# UNIT http_requests requests\nhttp_requests_total{code=\"200\"} 3\n" +
		"http_requests_created{code=\"200\"} 1.7e+09\nother 1.0\n# EOF"
	openExemplar = "# TYPE http_requests counter\nhttp_requests_total 3 # {trace=\"x\"} 1\n# EOF\n"
)

// TestLayoutAgreesWithParser puts every odd value in the place of every number, and cuts and doubles every line.
func TestLayoutAgreesWithParser(t *testing.T) {
	open := []string{openAnswer, openAnswer + "\n", openExemplar, "other 1 2\n# EOF\n"}
	taken := 0
	f := func(contentType, first, second string) {
		t.Helper()
		if agree(t, []byte(first), []byte(second), contentType) {
			taken++
		}
	}
	for i, first := range append(answers(), open...) {
		contentType := text
		if i >= len(answers()) {
			contentType = openMetrics
		}
		lines := strings.SplitAfter(first, "\n")
		for n, line := range lines {
			before, after := strings.Join(lines[:n], ""), strings.Join(lines[n+1:], "")
			f(contentType, first, before+after)
			f(contentType, first, before+line+line+after)
			f(contentType, first, before+line)
			if at := strings.LastIndexAny(line, " \t"); at >= 0 {
				for _, odd := range oddValues() {
					f(contentType, first, before+line[:at+1]+odd+"\n"+after)
					f(contentType, before+line[:at+1]+odd+"\n"+after, first)
				}
			}
		}
		for _, second := range append(answers(), open...) {
			f(contentType, first, second)
		}
	}
	t.Log(taken, "answers were read by a layout")
	assert.Greater(t, taken, 500)
}

// TestLayoutUnderRandomEdits changes bytes of a real exposition, most of them in numbers.
func TestLayoutUnderRandomEdits(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	taken := 0
	for range 20_000 {
		second := []byte(orderly)
		for range 1 + r.IntN(3) {
			at := r.IntN(len(second))
			if r.IntN(3) > 0 { // the last byte of a line
				at = bytes.IndexByte(second[at:], '\n') + at - 1
			}
			at = max(at, 0)
			b := "0123456789.eE+-NaInf_xp \t\r\n#{}\",\\\x00"[r.IntN(34)]
			switch r.IntN(3) {
			case 0:
				second[at] = b
			case 1:
				second = append(second[:at+1], append([]byte{b}, second[at+1:]...)...)
			default:
				second = append(second[:at], second[at+1:]...)
			}
		}
		if agree(t, []byte(orderly), second, text) {
			taken++
		}
	}
	assert.Greater(t, taken, 1000)
}

func TestLayoutIsNotTaken(t *testing.T) {
	for _, body := range []string{
		"http_requests_total 1 1700000000\n", "http_requests_total-1\n", "http_requests_total nan\n",
		strings.Repeat("other 1\n", maxSegments+1),
	} {
		_, _, ok, err := traced([]byte(body), text, newMerger(targetLabels, false, nil), maphash.MakeSeed())
		require.NoError(t, err)
		assert.False(t, ok, "%.40q", body)
	}
}

func FuzzLayout(f *testing.F) {
	f.Add([]byte(orderly), []byte(strings.ReplaceAll(orderly, "4.5", "NaN")), []byte{9, 9, 9}, false)
	for _, first := range answers() {
		f.Add([]byte(first), []byte(first), []byte{3, 200, '7'}, false)
	}
	f.Add([]byte(openAnswer), []byte(openAnswer), []byte{1, 70, '1'}, true)
	f.Add([]byte(openExemplar), []byte(openAnswer), []byte{}, true)
	f.Add([]byte("other 1\n# EOF\n"), []byte("other 1\n# EOF\nx"), []byte{}, true)
	for _, odd := range oddValues() {
		f.Add([]byte("other 1\nhttp_requests_total 2\n"), []byte("other "+odd+"\nhttp_requests_total "+odd+"\n"), []byte{}, false)
		f.Add([]byte("other 1\nhttp_requests_total 2\n# EOF\n"), []byte("other "+odd+"\nhttp_requests_total "+odd+"\n# EOF\n"), []byte{}, true)
	}
	f.Fuzz(func(t *testing.T, first, second, edits []byte, om bool) {
		contentType := text
		if om {
			contentType = openMetrics
		}
		agree(t, first, second, contentType)
		agree(t, second, first, contentType)
		edited := bytes.Clone(first)
		for ; len(edits) >= 3 && len(edited) > 0; edits = edits[3:] { // what, where, by which byte
			at := int(edits[1]) % len(edited)
			switch edits[0] % 3 {
			case 0:
				edited[at] = edits[2]
			case 1:
				edited = append(edited[:at], append([]byte{edits[2]}, edited[at:]...)...)
			default:
				edited = append(edited[:at], edited[at+1:]...)
			}
		}
		agree(t, first, edited, contentType)
	})
}

func FuzzNumber(f *testing.F) {
	for _, odd := range oddValues() {
		f.Add(odd)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, size, ok := number([]byte(s + "\n"))
		if !ok {
			return
		}
		token, _, _ := strings.Cut(s+"\n", "\n")
		require.Len(t, token, size)
		require.False(t, strings.ContainsAny(token, "pP_xX \t{"), token)
		want, err := strconv.ParseFloat(token, 64)
		require.NoError(t, err, token)
		if math.IsNaN(want) {
			want = math.Float64frombits(value.NormalNaN)
		}
		require.Equal(t, math.Float64bits(want), math.Float64bits(v), token)
	})
}

func TestNumberAgreesWithStrconv(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	f := func(s string) {
		t.Helper()
		want, err := strconv.ParseFloat(s, 64)
		require.NoError(t, err)
		got, size, ok := number([]byte(s + "\nrest"))
		require.True(t, ok, s)
		require.Len(t, s, size)
		require.Equal(t, math.Float64bits(want), math.Float64bits(got), s)
	}
	for range 20_000 {
		v := math.Float64frombits(r.Uint64())
		if math.IsNaN(v) || math.IsInf(v, 0) {
			continue
		}
		f(strconv.FormatFloat(v, "eg"[r.IntN(2)], -1, 64))
		f(strconv.FormatFloat(float64(r.Uint64()>>r.IntN(64))/math.Pow10(r.IntN(8)), 'f', r.IntN(18), 64))
		f(fmt.Sprintf("%d.%de%d", r.IntN(1000), r.Uint64()>>r.IntN(64), r.IntN(60)-30))
	}
	_, _, ok := number([]byte("1"))
	assert.False(t, ok, "a number without a line break behind is none: more may follow")
}

// TestRelabel checks the order of things: merge, relabel, whose labels win.
func TestRelabel(t *testing.T) {
	f := func(honor bool, configs []*relabel.Config, body, want string) {
		t.Helper()
		checked, err := checkRelabel(configs)
		require.NoError(t, err)
		got, err := read([]byte(body), text, newMerger(targetLabels, honor, checked), 10)
		require.NoError(t, err)
		assert.Equal(t, want, render(got))
	}
	set := func(label, to string) *relabel.Config {
		c := relabel.DefaultRelabelConfig
		c.TargetLabel, c.Replacement = label, to
		return &c
	}
	drop := relabel.DefaultRelabelConfig
	drop.SourceLabels, drop.Action, drop.Regex = model.LabelNames{"code"}, relabel.Drop, relabel.MustNewRegexp("5..")
	f(false, []*relabel.Config{&drop}, "http_requests_total{code=\"200\"} 1\nhttp_requests_total{code=\"500\"} 2\n",
		"{__name__=\"http_requests_total\", code=\"200\", namespace=\"demo\", pod=\"chat-1\"} 1\n")
	f(false, []*relabel.Config{set("__name__", "vllm:x")}, "strange 1\n", "{__name__=\"vllm:x\", namespace=\"demo\", pod=\"chat-1\"} 1\n")
	f(false, []*relabel.Config{set("__name__", "strange")}, "http_requests_total 1\n", "")
	f(false, []*relabel.Config{set("pod", "victim"), set("namespace", ""), set("zone", "a")}, "http_requests_total 1\n",
		"{__name__=\"http_requests_total\", namespace=\"demo\", pod=\"chat-1\", zone=\"a\"} 1\n")
	f(true, []*relabel.Config{set("pod", "other")}, "http_requests_total 1\n", "{__name__=\"http_requests_total\", namespace=\"demo\", pod=\"other\"} 1\n")

	_, err := checkRelabel([]*relabel.Config{&drop, {Action: relabel.Replace, TargetLabel: "a"}})
	require.EqualError(t, err, "metric relabelling 1: it has no regular expression")
	_, err = checkRelabel([]*relabel.Config{{Action: relabel.HashMod}})
	require.ErrorContains(t, err, "metric relabelling 0: ")
}
