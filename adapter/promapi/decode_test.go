package promapi

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/stretchr/testify/require"
)

// slow is how client_golang decodes: the standard library and Prometheus' common types.
type slow struct {
	Status    string   `json:"status"`
	ErrorType string   `json:"errorType"`
	Error     string   `json:"error"`
	Warnings  []string `json:"warnings"`
	Infos     []string `json:"infos"`
	Data      struct {
		Type   string          `json:"resultType"`
		Result json.RawMessage `json:"result"`
	} `json:"data"`
}

func decodeSlowly(body []byte) (s slow, v model.Vector, m model.Matrix, err error) {
	if err = json.Unmarshal(body, &s); err != nil {
		return s, nil, nil, err
	}
	switch s.Data.Type {
	case vector:
		err = json.Unmarshal(s.Data.Result, &v)
	case matrix:
		err = json.Unmarshal(s.Data.Result, &m)
	}
	return s, v, m, err
}

func toLabels(m model.Metric) labels.Labels {
	b := labels.NewScratchBuilder(len(m))
	for name, value := range m {
		if value != "" {
			b.Add(string(name), string(value))
		}
	}
	b.Sort()
	return b.Labels()
}

func fromModel(v model.Vector, m model.Matrix) (samples promql.Vector, series []string) {
	for _, s := range v {
		samples = append(samples, promql.Sample{Metric: toLabels(s.Metric), T: int64(s.Timestamp), F: float64(s.Value)})
	}
	for _, s := range m {
		text := toLabels(s.Metric).String()
		for _, p := range s.Values {
			text += fmt.Sprintf(" %d:%v", p.Timestamp, float64(p.Value))
		}
		series = append(series, text)
	}
	return samples, series
}

func seriesText(m promql.Matrix) (out []string) {
	for _, s := range m {
		text := s.Metric.String()
		for _, p := range s.Floats {
			text += fmt.Sprintf(" %d:%v", p.T, p.F)
		}
		out = append(out, text)
	}
	return out
}

func TestDecode(t *testing.T) {
	d, err := decode([]byte(` {"data":{"result":[{"value":[1435781451.7815,"-Inf"],"extra":[{}],"metric":{"b":"\u00e9\"","a":"","__name__":"x"}},` +
		`{"metric":null,"value":[0,"1e400"]}],"resultType":"vector","stats":{"a":[1]}},"status":"success","isPartial":false,"trace":null,"infos":null} `))
	require.NoError(t, err)
	require.Equal(t, "success", d.status)
	require.Equal(t, promql.Vector{
		{Metric: labels.FromStrings("__name__", "x", "b", `é"`), T: 1435781451782, F: math.Inf(-1)},
		{Metric: labels.EmptyLabels(), F: math.Inf(1)},
	}, d.vector)

	for _, body := range []string{
		"", "{", `{"status":"success"`, `{"status":"success"}}`, `{"status":1}`, `{"data":{"result":[{"value":[1,2]}]}}`, `{"data":{"result":{}}}`,
		`{"data":{"result":[{"metric":[]}]}}`, `{"data":{"result":[{"value":["1","2"]}]}}`, `{"data":{"result":[{"value":[1,"2",3]}]}}`, "[]", "null",
		`{"data":{"result":[{"metric":{"a":1}}]}}`, strings.Repeat(`{"data":`, 20_000), `{"x":` + strings.Repeat("[", 20_000),
	} {
		_, err := decode([]byte(body))
		require.Error(t, err, "%.50s", body)
	}
}

// walk is the dumb oracle: it decodes to maps and looks at them.
type walk struct {
	out decoded
	bad bool
}

func as[T any](w *walk, v any) (out T) {
	if v == nil {
		return out
	}
	out, ok := v.(T)
	w.bad = w.bad || !ok
	return out
}

func texts(w *walk, v any) (out []string) {
	for _, s := range as[[]any](w, v) {
		out = append(out, as[string](w, s))
	}
	return out
}

func walked(doc map[string]any) (decoded, bool) {
	w := &walk{}
	w.out.status, w.out.errorType, w.out.err = as[string](w, doc["status"]), as[string](w, doc["errorType"]), as[string](w, doc["error"])
	w.out.warnings, w.out.infos = texts(w, doc["warnings"]), texts(w, doc["infos"])
	if v, ok := doc["isPartial"]; ok {
		w.out.partial, ok = v.(bool)
		w.bad = w.bad || !ok
	}
	refused := false
	switch data := doc["data"].(type) {
	case map[string]any:
		w.out.kind = as[string](w, data["resultType"])
		for _, r := range as[[]any](w, data["result"]) {
			r, ok := r.(map[string]any)
			if !ok {
				continue
			}
			ls := w.labels(r["metric"])
			_, single := r["value"]
			_, many := r["values"]
			for _, name := range []string{"histogram", "histograms"} {
				_, ok := r[name]
				refused = refused || ok
			}
			var floats []promql.FPoint
			for _, p := range as[[]any](w, r["values"]) {
				floats = append(floats, w.point(p))
			}
			switch {
			case single && many:
				w.point(r["value"])
				w.bad = true // which one counts?
			case single:
				p := w.point(r["value"])
				w.out.vector = append(w.out.vector, promql.Sample{Metric: ls, T: p.T, F: p.F})
			case many:
				w.out.matrix = append(w.out.matrix, promql.Series{Metric: ls, Floats: floats})
			default:
				refused = true
			}
		}
		refused = refused || w.out.kind == vector && w.out.matrix != nil || w.out.kind == matrix && w.out.vector != nil
	case []any:
		w.out.kind = listing
		for _, v := range data {
			switch v := v.(type) {
			case string:
				w.out.names = append(w.out.names, v)
			case map[string]any:
				w.out.sets = append(w.out.sets, w.labels(v))
			default:
				refused = true
			}
		}
	}
	return w.out, !w.bad && (!refused || w.out.status != "success")
}

func (w *walk) labels(v any) labels.Labels {
	b := labels.NewScratchBuilder(0)
	for name, value := range as[map[string]any](w, v) {
		if value := as[string](w, value); value != "" {
			b.Add(name, value)
		}
	}
	b.Sort()
	return b.Labels()
}

func (w *walk) point(v any) (p promql.FPoint) {
	pair, ok := v.([]any)
	if w.bad = w.bad || !ok || len(pair) != 2; w.bad {
		return p
	}
	at, ok := pair[0].(float64)
	f, err := strconv.ParseFloat(as[string](w, pair[1]), 64)
	w.bad = w.bad || !ok || err != nil && !math.IsInf(f, 0)
	return promql.FPoint{T: int64(math.Round(at * 1000)), F: f}
}

// FuzzDecode holds the decoder to the oracle: both take the same JSON, once no field stands twice, and make the same of it.
func FuzzDecode(f *testing.F) {
	for _, body := range []string{
		emptyVector, string(sample(2)), `{"status":"error","errorType":"timeout","error":"x"}`,
		`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"b"},"values":[[1.5,"1"],[2,"NaN"]]}]},"warnings":["w"],"infos":["i"]}`,
		`{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}`, `{"status":"success","data":["a","b"]}`,
		`{"status":"success","data":[{"__name__":"x"}]}`, `{"status":"success","isPartial":true}`,
		`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"histogram":[1,{"count":"1"}]}]}}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		_, err := decode(body)
		var doc map[string]any
		if json.Unmarshal(body, &doc) != nil || doc == nil {
			if !json.Valid(body) {
				require.Error(t, err)
			}
			return
		}
		plain, err := json.Marshal(doc)
		require.NoError(t, err)
		want, ok := walked(doc)
		got, err := decode(plain)
		if !ok {
			require.Error(t, err, "%s", plain)
			return
		}
		require.NoError(t, err, "%s", plain)
		require.Equal(t, bits(want.vector), bits(got.vector))
		require.Equal(t, seriesText(want.matrix), seriesText(got.matrix))
		want.vector, want.matrix, got.vector, got.matrix = nil, nil, nil, nil
		require.Equal(t, want, got)
	})
}

// sample is an answer with n results, each with the labels that a rule's results have.
func sample(n int) []byte {
	var b strings.Builder
	b.WriteString(`{"status":"success","data":{"resultType":"vector","result":[`)
	for i := range n {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, `{"metric":{"namespace":"inference","pod":"llama-70b-6b8d6f9c7d-x%04d"},"value":[1435781451.781,"%v"]}`, i, float64(i)/3)
	}
	b.WriteString(`]}}`)
	return []byte(b.String())
}

func BenchmarkDecode(b *testing.B) {
	body := sample(1000)
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			_, _ = decode(body)
		}
	})
	b.Run("client_golang", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			_, v, m, _ := decodeSlowly(body)
			_, _ = fromModel(v, m)
		}
	})
}
