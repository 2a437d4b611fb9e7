package explain

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"headroom.dev/headroom/api/query"
)

// Values is the report about one metric.
type Values struct {
	query.Explanation
	Series []Series `json:"series,omitempty"`
	Notes  []string `json:"notes,omitempty"` // what could not be told, and why
}

// Series is one raw series that a rule's expression reads, with its newest sample.
type Series struct {
	Selector string            `json:"selector"`
	Labels   map[string]string `json:"labels"` // with __name__
	Value    query.Number      `json:"value"`
	Time     *time.Time        `json:"time,omitempty"` // nil where several series cannot be told apart
	Age      *float64          `json:"ageSeconds,omitempty"`
}

// Write writes the report for people; wide adds every rule and what each says of each object.
func (v *Values) Write(w io.Writer, wide bool) error {
	var b strings.Builder
	if err := v.write(&b, wide); err != nil {
		return err
	}
	return flush(w, &b)
}

func (v *Values) write(w io.Writer, wide bool) error {
	of := v.Resource
	if of == "" {
		of = "external"
	}
	in := ""
	if v.Namespace != "" {
		in = " in " + v.Namespace
	}
	fmt.Fprintf(w, "Metric %s of %s%s\n", v.Metric, of, in)
	unit := unitOf(&v.Explanation)
	objects := objectsOf(&v.Explanation, nil, true)
	if err := writeRules(w, v.Rules, objects, wide); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if len(v.Objects) == 0 {
		fmt.Fprintln(w, v.Reason)
	} else {
		rows := [][]string{{"NAME", "VALUE", "AGE", "WINDOW", "RULE", "REASON"}}
		if v.Resource == "" {
			rows[0][0] = "SERIES"
		}
		for i := range v.Objects {
			o := &v.Objects[i]
			rows = append(rows, append(cells(o, unit), o.Reason))
			if wide {
				for _, row := range candidates(o, unit) {
					rows = append(rows, append(row[:5], row[6]))
				}
			}
		}
		if err := Table(w, "", rows); err != nil {
			return err
		}
	}
	if err := v.writeSeries(w); err != nil {
		return err
	}
	for _, note := range v.Notes {
		fmt.Fprintf(w, "\nNote: %s\n", note)
	}
	return nil
}

func (v *Values) writeSeries(w io.Writer) error {
	if len(v.Series) == 0 {
		return nil
	}
	rows := [][]string{{"RAW SERIES", "NEWEST SAMPLE", "AGE"}}
	for i := range v.Series {
		s := &v.Series[i]
		labels, age := map[string]string{}, none
		for name, value := range s.Labels {
			if name != "__name__" {
				labels[name] = value
			}
		}
		if s.Age != nil {
			age = Age(*s.Age)
		}
		rows = append(rows, []string{s.Labels["__name__"] + series(labels), strconv.FormatFloat(float64(s.Value), 'g', -1, 64), age})
	}
	fmt.Fprintln(w)
	return Table(w, "", rows)
}
