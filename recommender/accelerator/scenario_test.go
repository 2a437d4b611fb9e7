package accelerator_test

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"headroom.dev/headroom/recommender/accelerator"
)

// Each file of testdata is a list of cases. The command "recommend" makes an input of its lines and prints the advice:
//
//	model NVIDIA H200             the GPU's
//	now nvidia.com/gpu 1          what is requested
//	replicas 4
//	memory 18 18.5x11             GiB, one hour after the other; 18.5x11 is eleven times the same; ? is an hour of which nothing is known
//	compute, tensor, kv, queue, preemptions   likewise
//	certainty 0.8                 of memory
//	engine vLLM device=139 fraction=0.92 kv=100 weights=15 working=2 longest=32768 token=131072 running=40    GiB; token in bytes
//	policy risk=0.01 sharing=Whole,MIG,TimeSlicing
//	node n1 H200: mig 3g.71gb@0 busy 1g.18gb@4    one line for each GPU: mig with instances; or free; or busy; or slices 4 taken 1
//	claim                         prints the claim, too
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.Contains(path, "fuzz") {
			return
		}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "recommend" {
				d.Fatalf(t, "no command %q", d.Cmd)
			}
			in := accelerator.Input{Now: begin(), Workload: "chat", Replicas: 1, Policy: accelerator.DefaultPolicy()}
			in.Memory.Certainty = 1
			claim := false
			for line := range strings.Lines(d.Input) {
				word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
				if word == "claim" {
					claim = true
				} else if err := read(&in, word, rest); err != nil {
					d.Fatalf(t, "%s: %v", strings.TrimSpace(line), err)
				}
			}
			a := accelerator.Recommend(in)
			text := show(a)
			if claim {
				text += a.Claim
			}
			return text
		})
	})
}

func read(in *accelerator.Input, word, rest string) (err error) {
	fields := strings.Fields(rest)
	switch word {
	case "model":
		in.Model = rest
	case "device":
		gib, err := strconv.ParseFloat(rest, 64)
		in.Device = int64(gib * (1 << 30))
		return err
	case "now":
		in.Present.Resource = fields[0]
		in.Present.Count, err = strconv.Atoi(fields[1])
	case "replicas":
		in.Replicas, err = strconv.Atoi(rest)
	case "certainty":
		in.Memory.Certainty, err = strconv.ParseFloat(rest, 64)
	case "memory":
		h, err := hours(fields)
		in.Memory.Hours = bytes(h).Hours
		return err
	case "compute":
		in.Compute, err = hours(fields)
	case "tensor":
		in.Tensor, err = hours(fields)
	case "kv":
		in.Engine.KV, err = hours(fields)
	case "queue":
		in.Engine.Queue, err = hours(fields)
	case "preemptions":
		in.Engine.Preemptions, err = hours(fields)
	case "engine":
		return readEngine(in, fields)
	case "policy":
		return readPolicy(in, fields)
	case "node":
		return readGPU(in, rest)
	default:
		return fmt.Errorf("no such line")
	}
	return err
}

func hours(fields []string) (accelerator.History, error) {
	var peaks []float64
	for _, field := range fields {
		text, times, repeated := strings.Cut(field, "x")
		count := 1
		var err error
		if repeated {
			if count, err = strconv.Atoi(times); err != nil {
				return accelerator.History{}, err
			}
		}
		value := math.NaN()
		if text != "?" {
			if value, err = strconv.ParseFloat(text, 64); err != nil {
				return accelerator.History{}, err
			}
		}
		for range count {
			peaks = append(peaks, value)
		}
	}
	return history(peaks...), nil
}

func readEngine(in *accelerator.Input, fields []string) error {
	e := accelerator.NewEngine(accelerator.EngineKind(fields[0]))
	for _, field := range fields[1:] {
		name, text, _ := strings.Cut(field, "=")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return err
		}
		switch name {
		case "device":
			e.Device = value * gib
		case "fraction":
			e.Fraction = value
		case "kv":
			e.KVBytes = value * gib
		case "set":
			e.KVBytes, e.KVSet = value*gib, true
		case "tokens":
			e.KVTokens = value
		case "weights":
			e.Weights = value * gib
		case "working":
			e.Working = value * gib
		case "longest":
			e.Longest = value
		case "token":
			e.BytesPerToken = value
		case "running":
			e.Running = value
		default:
			return fmt.Errorf("no field %s", name)
		}
	}
	in.Engine = &e
	return nil
}

func readPolicy(in *accelerator.Input, fields []string) (err error) {
	for _, field := range fields {
		name, text, _ := strings.Cut(field, "=")
		switch name {
		case "risk":
			in.Policy.Risk, err = strconv.ParseFloat(text, 64)
		case "sharing":
			in.Policy.Sharing = nil
			for way := range strings.SplitSeq(text, ",") {
				in.Policy.Sharing = append(in.Policy.Sharing, accelerator.Sharing(way))
			}
		default:
			err = fmt.Errorf("no field %s", name)
		}
	}
	return err
}

// readGPU adds a GPU to the node that is named, the last one or a new one.
func readGPU(in *accelerator.Input, rest string) error {
	head, state, ok := strings.Cut(rest, ": ")
	name, model, okModel := strings.Cut(head, " ")
	if !ok || !okModel {
		return fmt.Errorf("must be: node NAME MODEL: STATE")
	}
	if n := len(in.Nodes); n == 0 || in.Nodes[n-1].Name != name {
		in.Nodes = append(in.Nodes, accelerator.Node{Name: name})
	}
	node := &in.Nodes[len(in.Nodes)-1]
	gpu := accelerator.GPU{Name: strconv.Itoa(len(node.GPUs)), Model: model}
	fields := strings.Fields(state)
	switch fields[0] {
	case "free":
	case "busy":
		gpu.Busy = true
	case "slices":
		if _, err := fmt.Sscanf(state, "slices %d taken %d", &gpu.Replicas, &gpu.BusyReplicas); err != nil {
			return err
		}
	case "mig":
		gpu.MIG = true
		for _, field := range fields[1:] {
			if field == "busy" {
				gpu.Instances[len(gpu.Instances)-1].Busy = true
				continue
			}
			profile, at, _ := strings.Cut(field, "@")
			start, err := strconv.Atoi(at)
			if err != nil {
				return err
			}
			gpu.Instances = append(gpu.Instances, accelerator.Instance{Profile: profile, Start: start})
		}
	default:
		return fmt.Errorf("no state %s", fields[0])
	}
	node.GPUs = append(node.GPUs, gpu)
	return nil
}

func show(a accelerator.Advice) string {
	var b strings.Builder
	if a.Recommended == nil {
		fmt.Fprintf(&b, "nothing: %s", a.Reason)
		if !a.ReadyAt.IsZero() {
			fmt.Fprintf(&b, ", ready at %s", a.ReadyAt.Format("15:04"))
		}
	} else {
		fmt.Fprintf(&b, "%s: %d x %s, %.3f of a GPU, risk %.2g (now %.2g)", a.Reason, a.Recommended.Count, a.Recommended.Size.Resource, a.Recommended.Size.Share, a.Risk, a.PresentRisk)
		fmt.Fprintf(&b, "\nneed %.1f GiB, %.1f to %.1f", a.Need/gib, a.Lower/gib, a.Upper/gib)
	}
	for _, s := range a.Settings {
		fmt.Fprintf(&b, "\n%s %s: %.2f -> %.4g", s.Engine, s.Name, s.Now, s.Recommended)
	}
	fmt.Fprintf(&b, "\nwhy: %s\n", a.Why)
	if a.Placement != "" && a.Placement != "the nodes' GPUs are not known" {
		fmt.Fprintf(&b, "placement: %s\n", a.Placement)
	}
	return b.String()
}
