package app

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// format is how a command writes: "" and "wide" are tables.
type format string

func (f *format) addTo(cmd *cobra.Command) {
	cmd.Flags().StringVarP((*string)(f), "output", "o", "", "one of wide, json, yaml (default: a table)")
}

func (f format) check() error {
	switch f {
	case "", "wide", "json", "yaml":
		return nil
	}
	return fmt.Errorf("--output: %q is none of wide, json and yaml", string(f))
}

// write writes the report, by the table function where it is for people.
func (f format) write(w io.Writer, report any, table func(w io.Writer, wide bool) error) error {
	if f != "json" && f != "yaml" {
		return table(w, f == "wide")
	}
	b, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	if f == "yaml" {
		if b, err = yaml.JSONToYAML(b); err != nil {
			return fmt.Errorf("cannot write the report: %w", err)
		}
		_, err = w.Write(b)
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}
