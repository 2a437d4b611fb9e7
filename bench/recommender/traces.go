package main

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"headroom.dev/headroom/recommender"
	"headroom.dev/headroom/scaler/simulate"
)

// readTraces finds all traces of usage under a folder. What is none is left out, and said.
func readTraces(folder, only string, say io.Writer) ([]*trace, error) {
	var list []*trace
	err := filepath.WalkDir(folder, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		base, gz := strings.CutSuffix(d.Name(), ".gz")
		base, isCSV := strings.CutSuffix(base, ".csv")
		relative, err := filepath.Rel(folder, file)
		if err != nil {
			return err
		}
		name := path.Join(filepath.ToSlash(filepath.Dir(relative)), base)
		if !strings.Contains(name, only) {
			return nil
		}
		if !isCSV {
			fmt.Fprintf(say, "%s is left out: it is no CSV\n", relative)
			return nil
		}
		t, err := openTrace(file, name, gz, say)
		if err != nil {
			fmt.Fprintf(say, "%s is left out: %v\n", relative, err)
			return nil
		}
		list = append(list, t)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the traces of %s: %w", folder, err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no trace of usage in %s: want .csv or .csv.gz with a column value", folder)
	}
	return list, nil
}

func openTrace(file, name string, gz bool, say io.Writer) (*trace, error) {
	resource, err := resourceOf(path.Base(name))
	if err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	if gz {
		z, err := gzip.NewReader(f)
		if err != nil {
			return nil, fmt.Errorf("cannot unpack %s: %w", file, err)
		}
		r = z
	}
	return readTrace(name, resource, r, say)
}

// resourceOf tells by the unit at the end of a name what the trace is of; one without a unit is CPU in cores.
func resourceOf(name string) (recommender.Resource, error) {
	if strings.HasSuffix(name, "_bytes") {
		return recommender.Memory, nil
	}
	for _, unit := range []string{"_ms", "_seconds", "_percent", "_ratio"} {
		if strings.HasSuffix(name, unit) {
			return "", fmt.Errorf("by its unit (%s) it is neither CPU in cores nor memory in bytes", unit[1:])
		}
	}
	return recommender.CPU, nil
}

// readTrace reads a CSV with a column for the time, one called value and, where it holds several series, one called container.
// Times are read as scaler/simulate reads them; a step without a row is unknown usage.
func readTrace(name string, resource recommender.Resource, r io.Reader, say io.Writer) (*trace, error) {
	parts, order, err := split(r)
	if err != nil {
		return nil, err
	}
	t := &trace{name: name, family: path.Dir(name)}
	dull := 0
	for _, id := range order {
		if bytes.Count(parts[id].Bytes(), []byte{'\n'}) < 3 { // a header and one row
			dull++
			continue
		}
		one, err := simulate.ReadTrace(name, parts[id], simulate.ReadOptions{Column: "value", PerSecond: true})
		if err != nil {
			return nil, err
		}
		s := &series{name: strings.TrimSuffix(name+" "+id, " "), resource: resource, start: one.Start, step: one.Step, usage: one.Rate}
		if !s.known() {
			dull++
			continue
		}
		t.series = append(t.series, s)
	}
	if dull > 0 {
		fmt.Fprintf(say, "%s: %d of %d series are left out: always zero, shorter than six hours, or less than half is known\n", name, dull, len(order))
	}
	if len(t.series) == 0 {
		return nil, errors.New("it has no series with usage")
	}
	return t, nil
}

// split divides the rows by container.
func split(r io.Reader) (parts map[string]*bytes.Buffer, order []string, err error) {
	c := csv.NewReader(r)
	c.ReuseRecord = true
	header, err := c.Read()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read its header: %w", err)
	}
	value, container := slices.Index(header, "value"), slices.Index(header, "container")
	if value < 0 {
		return nil, nil, fmt.Errorf("it has no column value, so it is no usage: %s", strings.Join(header, ","))
	}
	at := slices.IndexFunc(header, func(s string) bool { return s == "ts" || s == "timestamp" || s == "time" || s == "second" })
	if at < 0 {
		return nil, nil, fmt.Errorf("it has no column ts, timestamp, time or second: %s", strings.Join(header, ","))
	}
	parts = map[string]*bytes.Buffer{}
	for {
		row, err := c.Read()
		if errors.Is(err, io.EOF) {
			return parts, order, nil
		}
		if err != nil {
			return nil, nil, err
		}
		id := ""
		if container >= 0 {
			id = row[container]
		}
		b := parts[id]
		if b == nil {
			b = bytes.NewBufferString("ts,value\n")
			parts[strings.Clone(id)], order = b, append(order, strings.Clone(id))
		}
		fmt.Fprintf(b, "%s,%s\n", row[at], row[value])
	}
}
