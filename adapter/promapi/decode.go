package promapi

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	jsoniter "github.com/json-iterator/go"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
)

// The kinds of data that decoded holds; others are only named.
const (
	vector  = "vector"
	matrix  = "matrix"
	listing = "listing" // which has no resultType on the wire
)

// decoded is an answer of the API.
type decoded struct {
	status, errorType, err string
	warnings, infos        []string
	partial                bool // VictoriaMetrics' isPartial

	kind   string // resultType, or listing
	vector promql.Vector
	matrix promql.Matrix
	sets   []labels.Labels // of a listing, as names are
	names  []string
}

// decode reads an answer in one pass, whatever the order of its fields. client_golang's decoder reads each byte several
// times, drops isPartial, and makes maps of labels (BenchmarkDecode).
func decode(body []byte) (decoded, error) {
	d := decoder{Iterator: jsoniter.ParseBytes(jsoniter.ConfigCompatibleWithStandardLibrary, body)}
	if d.WhatIsNext() != jsoniter.ObjectValue {
		return decoded{}, errors.New("not a Prometheus answer: it is no JSON object")
	}
	d.fields(d.envelope)
	err := d.Error
	if err == nil {
		d.WhatIsNext()
		if err = d.Error; errors.Is(err, io.EOF) {
			err = nil
		} else if err == nil {
			err = errors.New("there is more behind it")
		}
	}
	switch {
	case err != nil:
		return d.out, fmt.Errorf("not a Prometheus answer: %w", err)
	case d.out.kind == vector && d.out.matrix != nil || d.out.kind == matrix && d.out.vector != nil:
		d.refuse("the results are not of the type %q", d.out.kind)
	}
	if d.refused != "" && d.out.status == "success" {
		return d.out, errors.New(d.refused)
	}
	return d.out, nil
}

// envelope reads a field of the whole answer.
func (d *decoder) envelope(field string) {
	switch field {
	case "status":
		d.out.status = d.ReadString()
	case "errorType":
		d.out.errorType = d.ReadString()
	case "error":
		d.out.err = d.ReadString()
	case "isPartial":
		d.out.partial = d.ReadBool()
	case "warnings":
		d.out.warnings = d.strings()
	case "infos":
		d.out.infos = d.strings()
	case "data":
		d.data()
	default:
		d.Skip()
	}
}

type decoder struct {
	*jsoniter.Iterator
	out     decoded
	labels  labels.ScratchBuilder
	refused string // the first thing in valid JSON that cannot be taken
}

// fields calls read for each field of an object; null is an object without fields.
func (d *decoder) fields(read func(field string)) {
	d.ReadObjectCB(func(_ *jsoniter.Iterator, field string) bool {
		read(field)
		return d.Error == nil
	})
}

// elements calls read for each element of an array; null is an empty one.
func (d *decoder) elements(read func()) {
	d.ReadArrayCB(func(*jsoniter.Iterator) bool {
		read()
		return d.Error == nil
	})
}

func (d *decoder) refuse(format string, args ...any) {
	if d.refused == "" {
		d.refused = fmt.Sprintf(format, args...)
	}
}

func (d *decoder) strings() (list []string) {
	d.elements(func() { list = append(list, d.ReadString()) })
	return list
}

// data reads {"resultType":…,"result":…}, or the array of a listing.
func (d *decoder) data() {
	switch d.WhatIsNext() {
	case jsoniter.ObjectValue:
		d.fields(func(field string) {
			switch field {
			case "resultType":
				d.out.kind = d.ReadString()
			case "result":
				d.result()
			default:
				d.Skip()
			}
		})
	case jsoniter.ArrayValue:
		d.out.kind = listing
		d.elements(func() {
			switch d.WhatIsNext() {
			case jsoniter.StringValue:
				d.out.names = append(d.out.names, d.ReadString())
			case jsoniter.ObjectValue:
				d.out.sets = append(d.out.sets, d.metric())
			default:
				d.refuse("the listing holds neither strings nor label sets")
				d.Skip()
			}
		})
	default:
		d.Skip()
	}
}

// result reads the series of a vector or a matrix. A scalar or a string is left out: kind tells.
func (d *decoder) result() {
	d.out.vector, d.out.matrix = nil, nil
	d.elements(func() {
		if d.WhatIsNext() == jsoniter.ObjectValue {
			d.series()
		} else {
			d.Skip()
		}
	})
}

func (d *decoder) series() {
	var (
		s            promql.Series
		only         promql.FPoint
		single, many bool
	)
	d.fields(func(field string) {
		switch field {
		case "metric":
			s.Metric = d.metric()
		case "value":
			single, only = true, d.point()
		case "values":
			many = true
			d.elements(func() { s.Floats = append(s.Floats, d.point()) })
		case "histogram", "histograms":
			d.refuse("%s is a native histogram, which cannot be read from JSON; take histogram_quantile of it", s.Metric)
			d.Skip()
		default:
			d.Skip()
		}
	})
	switch {
	case single == many:
		d.refuse("%s does not have one value, or values", s.Metric)
	case single:
		d.out.vector = append(d.out.vector, promql.Sample{Metric: s.Metric, T: only.T, F: only.F})
	default:
		d.out.matrix = append(d.out.matrix, s)
	}
}

// metric reads a label set.
func (d *decoder) metric() labels.Labels {
	d.labels.Reset()
	d.fields(func(name string) {
		if value := d.ReadString(); value != "" { // an empty value is an absent label
			d.labels.Add(name, value)
		}
	})
	d.labels.Sort()
	return d.labels.Labels()
}

// point reads [1435781451.781,"1"].
func (d *decoder) point() (p promql.FPoint) {
	i := 0
	d.elements(func() {
		switch i++; i {
		case 1:
			p.T = int64(math.Round(d.ReadFloat64() * 1000))
		case 2:
			text := d.ReadString()
			f, err := strconv.ParseFloat(text, 64)
			if err != nil && !math.IsInf(f, 0) { // what is too large for a float64 is infinite
				d.ReportError("point", strconv.Quote(text)+" is not a number")
			}
			p.F = f
		default:
			d.Skip()
		}
	})
	if i != 2 && d.Error == nil {
		d.ReportError("point", "a sample is a time and a value")
	}
	return p
}
