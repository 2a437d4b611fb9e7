package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"headroom.dev/headroom/bench/result"
)

type options struct {
	traces, only, trace, plot, results string
	all, short                         bool
	seed                               uint64
}

// report gathers the figures with a name and a goal, and the tables.
type report struct {
	*result.Result
	tables bytes.Buffer
}

// parts of the benchmark, in their order.
func parts() []string { return []string{"accuracy", "gpu", "scale"} }

func run(ctx context.Context, o options) error {
	r := &report{Result: result.New("recommender")}
	ran := false
	for _, part := range parts() {
		if o.only != "" && o.only != part {
			continue
		}
		ran = true
		if err := r.run(ctx, part, o, os.Stderr); err != nil {
			return err
		}
	}
	if !ran {
		return fmt.Errorf("no part called %s: there are %v", o.only, parts())
	}
	fmt.Fprintf(os.Stdout, "%s\n", r.tables.Bytes())
	if err := r.Print(os.Stdout); err != nil {
		return err
	}
	path, err := r.Write(o.results)
	if err != nil {
		return err
	}
	markdown := filepath.Join(o.results, "recommender.md")
	if err := os.WriteFile(markdown, r.tables.Bytes(), 0o644); err != nil { //nolint:gosec // a report that anybody may read
		return fmt.Errorf("cannot write the tables: %w", err)
	}
	fmt.Fprintf(os.Stdout, "\nwritten: %s, %s\n", path, markdown)
	return nil
}

func (r *report) run(ctx context.Context, part string, o options, say io.Writer) error {
	switch part {
	case "scale":
		return r.scale(ctx, o, say)
	case "gpu":
		return r.gpu(o, say)
	default:
		return r.accuracy(ctx, o, say)
	}
}

// accuracy reads or makes the traces, plays them, and tells of it.
func (r *report) accuracy(ctx context.Context, o options, say io.Writer) error {
	var traces []*trace
	var err error
	if o.traces != "" {
		if traces, err = readTraces(o.traces, o.trace, say); err != nil {
			return err
		}
	} else {
		count := 4
		if o.short {
			count = 1
		}
		if traces = named(synthetic(o.seed, count), o.trace); len(traces) == 0 {
			return fmt.Errorf("no synthetic trace whose name contains %s", o.trace)
		}
	}
	all, err := settings(o.short)
	if err != nil {
		return err
	}
	list, err := accuracy(ctx, traces, all, say)
	if err != nil {
		return err
	}
	r.judge(all, list, o.all)
	return draw(all, list, o, say)
}
