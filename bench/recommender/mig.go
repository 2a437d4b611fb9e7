package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"headroom.dev/headroom/bench/recommender/gpu"
)

// gpu has the MIG profiles judged. Traces without GPU memory are said to be so.
func (r *report) gpu(o options, say io.Writer) error {
	judged, err := gpu.Run(o.traces)
	if errors.Is(err, fs.ErrNotExist) && o.only != "gpu" {
		fmt.Fprintf(say, "gpu: left out: %v\n", err)
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(&r.tables, "\nGPU memory to MIG profiles:\n\n```")
	if err := judged.Print(&r.tables); err != nil {
		return err
	}
	fmt.Fprintln(&r.tables, "```")
	own := judged.Rows[0]
	r.AddAtMost("MIG profiles: GB, of the oracle's", own.Ratio, "", gpu.Goal)
	r.AddAtMost("MIG profiles: containers whose peak did not fit", float64(own.Overflow), "", 0)
	r.Add("MIG profiles: containers with a larger one than the oracle's", float64(own.Oversize), "")
	r.Add("MIG profiles: least GB of the oracle's without overflow, of rules picked with hindsight", judged.Bound, "")
	r.Add("MIG profiles: containers whose peak exceeded the stated need", 100*judged.Exceeded, "%")
	return nil
}
