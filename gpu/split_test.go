package gpu

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
)

// drawn is a random device with its containers and processes.
type drawn struct {
	whole     Usage
	holders   *Holders
	processes []UsedBy
	unseen    string
}

func draw(random *rand.Rand) drawn {
	value := func(limit float64) Value {
		switch random.IntN(6) {
		case 0:
			return Unknown("drawn")
		case 1:
			return Known(0)
		default:
			return Known(random.Float64() * limit)
		}
	}
	owner := func(i int) Owner { return Owner{Namespace: "n", Pod: fmt.Sprintf("p%d", i), Container: "c"} }
	d := drawn{whole: Usage{value(1), value(1), value(1), value(1), value(1e11)}}
	if random.IntN(5) > 0 {
		d.holders = &Holders{Reserved: random.IntN(5) == 0}
		for i := range random.IntN(4) {
			d.holders.Owners = append(d.holders.Owners, owner(i))
		}
	}
	if random.IntN(5) == 0 {
		d.unseen = "drawn"
	}
	for range random.IntN(6) {
		p := UsedBy{Memory: value(3e10), Peak: value(3e10)}
		if random.IntN(4) > 0 {
			p.Owner = owner(random.IntN(5))
		}
		if random.IntN(2) == 0 {
			p.Samples = 1 + random.IntN(9)
			p.Weight = random.Float64() * float64(p.Samples)
		}
		d.processes = append(d.processes, p)
	}
	return d
}

// For every device and quantity: what is known of the shares and the rest add up to the whole, or all are unknown.
func TestDivideConserves(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var s Split
	divided := 0
	for range 20000 {
		d := draw(random)
		s.Divide(d.whole, d.holders, d.processes, d.unseen)
		seen := map[Owner]bool{}
		for _, share := range s.Shares {
			require.NotEqual(t, Owner{}, share.Owner)
			require.False(t, seen[share.Owner], "one share for each container")
			seen[share.Owner] = true
			require.NotEmpty(t, share.Method)
		}
		for name, of := range map[string]func(Usage) Value{
			"utilization": func(u Usage) Value { return u.Utilization }, "SM": func(u Usage) Value { return u.SM },
			"tensor": func(u Usage) Value { return u.Tensor }, "DRAM": func(u Usage) Value { return u.DRAM },
			"memory": func(u Usage) Value { return u.MemoryUsed },
		} {
			whole, known := of(d.whole).Get()
			rest, ok := of(s.Unattributed).Get()
			require.Equal(t, known, ok, name)
			sum := rest
			for _, share := range s.Shares {
				part, ok := of(share.Usage).Get()
				require.GreaterOrEqual(t, part, 0.0)
				if !known {
					require.False(t, ok, "%s: no part of what is unknown is known", name)
				}
				sum += part
			}
			require.InDelta(t, whole, sum, 1e-9*max(1, whole), "%s: %+v → %+v", name, d, s)
		}
		if len(s.Shares) > 1 {
			divided++
		}
	}
	require.Greater(t, divided, 1000)
}

// What one pod does is credited alike whatever the order in which processes are listed, and twice the samples say the same.
func TestDivideIsAboutProportions(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 5000 {
		d := draw(random)
		for i := range d.processes {
			d.processes[i].Memory = Known(float64(random.IntN(1e9)))
		}
		var a, b Split
		a.Divide(d.whole, d.holders, d.processes, d.unseen)
		random.Shuffle(len(d.processes), func(i, j int) { d.processes[i], d.processes[j] = d.processes[j], d.processes[i] })
		for i := range d.processes {
			d.processes[i].Weight *= 2
		}
		b.Divide(d.whole, d.holders, d.processes, d.unseen)
		require.Len(t, b.Shares, len(a.Shares))
		for _, x := range a.Shares {
			for _, y := range b.Shares {
				if x.Owner == y.Owner {
					require.Equal(t, x.Method, y.Method)
					ux, _ := x.Usage.Utilization.Get()
					uy, _ := y.Usage.Utilization.Get()
					require.InDelta(t, ux, uy, 1e-9)
					mx, _ := x.Usage.MemoryUsed.Get()
					my, _ := y.Usage.MemoryUsed.Get()
					require.InDelta(t, mx, my, 1e-3)
				}
			}
		}
	}
}

// TestSplitScenarios tells who gets what.
//
//	divide [holders=(POD,…)|unknown] [reserved] [unseen=REASON] whole=(UTILIZATION,MEMORY)
//	POD MEMORY WEIGHT SAMPLES     a process; "-" is no container's, or an unknown number
func TestSplitScenarios(t *testing.T) {
	datadriven.RunTest(t, "testdata/split", func(t *testing.T, d *datadriven.TestData) string {
		t.Helper()
		holders := &Holders{Reserved: d.HasArg("reserved")}
		unseen := ""
		var whole Usage
		for _, arg := range d.CmdArgs {
			switch arg.Key {
			case "holders":
				for _, pod := range arg.Vals {
					holders.Owners = append(holders.Owners, named(pod))
				}
			case "unknown":
				holders = nil
			case "unseen":
				unseen = strings.Join(arg.Vals, " ")
			case "whole":
				whole.Utilization, whole.MemoryUsed = parse(t, arg.Vals[0]), parse(t, arg.Vals[1])
				whole.SM = whole.Utilization
			}
		}
		var processes []UsedBy
		for line := range strings.Lines(d.Input) {
			f := strings.Fields(line)
			require.Len(t, f, 4, line)
			p := UsedBy{Memory: parse(t, f[1])}
			if f[0] != "-" {
				p.Owner = named(f[0])
			}
			weight, _ := parse(t, f[2]).Get()
			samples, _ := parse(t, f[3]).Get()
			p.Weight, p.Samples = weight, int(samples)
			processes = append(processes, p)
		}
		var s Split
		s.Divide(whole, holders, processes, unseen)
		var out strings.Builder
		for _, share := range s.Shares {
			fmt.Fprintf(&out, "%-8s %-16s utilization %s, memory %s (%d processes, %d samples)\n", strings.TrimSuffix(share.Owner.Pod+"/"+share.Owner.Container, "/server"), share.Method,
				show(share.Usage.Utilization), show(share.Usage.MemoryUsed), share.Processes, share.Samples)
		}
		fmt.Fprintf(&out, "%-8s %-16s utilization %s, memory %s\n", "rest", "", show(s.Unattributed.Utilization), show(s.Unattributed.MemoryUsed))
		if s.Problem != "" {
			out.WriteString(s.Problem + "\n")
		}
		return out.String()
	})
}

// named reads "POD" or "POD/CONTAINER".
func named(text string) Owner {
	pod, container, ok := strings.Cut(text, "/")
	if !ok {
		container = "server"
	}
	return Owner{"shop", pod, container}
}

func show(v Value) string {
	if number, ok := v.Get(); ok {
		return fmt.Sprintf("%.4g", number)
	}
	return v.String()
}

func parse(t *testing.T, text string) Value {
	t.Helper()
	if text == "-" {
		return Unknown("not told")
	}
	number, err := strconv.ParseFloat(text, 64)
	require.NoError(t, err)
	return Known(number)
}
