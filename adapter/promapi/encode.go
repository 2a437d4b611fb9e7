package promapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	jsoniter "github.com/json-iterator/go"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/jsonutil"
)

// encoded makes an answer of small data.
func encoded(data any) (answer, error) {
	b, err := json.Marshal(data)
	return answer{data: b}, err
}

// encoder writes query results as Prometheus does, and stops where they grow larger than an answer may be. (Prometheus'
// own encoders register themselves with the JSON library for the whole process, in a package that brings cloud SDKs.)
type encoder struct {
	*jsoniter.Stream
	max int
}

func (s *Server) newEncoder() encoder {
	return encoder{jsoniter.NewStream(jsoniter.ConfigCompatibleWithStandardLibrary, nil, 4096), s.opts.MaxAnswer}
}

// check is called at least once for each series and each few points.
func (e encoder) check() error {
	if e.Buffered() > e.max {
		return &apiError{execution, fmt.Errorf("the answer is larger than %d bytes; aggregate, or select less", e.max)}
	}
	return e.Error
}

// result encodes the data of query and query_range.
func (e encoder) result(v parser.Value) ([]byte, error) {
	e.WriteRaw(`{"resultType":"` + string(v.Type()) + `","result":`)
	switch v := v.(type) {
	case promql.Vector:
		e.WriteArrayStart()
		for i := range v {
			if err := e.more(i); err != nil {
				return nil, err
			}
			e.sample(&v[i])
		}
		e.WriteArrayEnd()
	case promql.Matrix:
		e.WriteArrayStart()
		for i := range v {
			if err := e.more(i); err != nil {
				return nil, err
			}
			if err := e.series(&v[i]); err != nil {
				return nil, err
			}
		}
		e.WriteArrayEnd()
	default: // scalar and string, which encode themselves
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		_, _ = e.Write(b)
	}
	e.WriteObjectEnd()
	return e.Buffer(), e.check()
}

// more begins the element i of an array.
func (e encoder) more(i int) error {
	if i > 0 {
		e.WriteMore()
	}
	return e.check()
}

// sample writes {"metric":{…},"value":[1435781451.781,"1"]}, or "histogram" in place of "value".
func (e encoder) sample(s *promql.Sample) {
	e.WriteRaw(`{"metric":`)
	e.labels(s.Metric)
	if s.H == nil {
		e.WriteRaw(`,"value":`)
		e.float(promql.FPoint{T: s.T, F: s.F})
	} else {
		e.WriteRaw(`,"histogram":`)
		e.histogram(promql.HPoint{T: s.T, H: s.H})
	}
	e.WriteObjectEnd()
}

// series writes {"metric":{…},"values":[[1435781451.781,"1"],…],"histograms":[…]}.
func (e encoder) series(s *promql.Series) error {
	e.WriteRaw(`{"metric":`)
	e.labels(s.Metric)
	if len(s.Floats) > 0 {
		e.WriteRaw(`,"values":[`)
		for i, p := range s.Floats {
			if err := e.more(i); err != nil {
				return err
			}
			e.float(p)
		}
		e.WriteArrayEnd()
	}
	if len(s.Histograms) > 0 {
		e.WriteRaw(`,"histograms":[`)
		for i, p := range s.Histograms {
			if err := e.more(i); err != nil {
				return err
			}
			e.histogram(p)
		}
		e.WriteArrayEnd()
	}
	e.WriteObjectEnd()
	return nil
}

func (e encoder) float(p promql.FPoint) {
	e.WriteArrayStart()
	jsonutil.MarshalTimestamp(p.T, e.Stream)
	e.WriteMore()
	jsonutil.MarshalFloat(p.F, e.Stream)
	e.WriteArrayEnd()
}

func (e encoder) histogram(p promql.HPoint) {
	e.WriteArrayStart()
	jsonutil.MarshalTimestamp(p.T, e.Stream)
	e.WriteMore()
	jsonutil.MarshalHistogram(p.H, e.Stream)
	e.WriteArrayEnd()
}

// labelSets encodes the data of series.
func (e encoder) labelSets(list []labels.Labels) ([]byte, error) {
	e.WriteArrayStart()
	for i, ls := range list {
		if err := e.more(i); err != nil {
			return nil, err
		}
		e.labels(ls)
	}
	e.WriteArrayEnd()
	return e.Buffer(), e.check()
}

// names encodes the data of the label listings.
func (e encoder) names(list []string) ([]byte, error) {
	e.WriteArrayStart()
	for i, name := range list {
		if err := e.more(i); err != nil {
			return nil, err
		}
		e.text(name)
	}
	e.WriteArrayEnd()
	return e.Buffer(), e.check()
}

func (e encoder) labels(ls labels.Labels) {
	e.WriteObjectStart()
	first := true
	ls.Range(func(l labels.Label) {
		if !first {
			e.WriteMore()
		}
		first = false
		e.text(l.Name)
		e.WriteRaw(":")
		e.text(l.Value)
	})
	e.WriteObjectEnd()
}

// text writes a string; PromQL can make one that is not UTF-8 ("\xff"), JSON cannot carry it.
func (e encoder) text(s string) {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\ufffd")
	}
	e.WriteString(s)
}
