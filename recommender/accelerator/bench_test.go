package accelerator_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"headroom.dev/headroom/recommender/accelerator"
)

// A recommendation from a fortnight of hours, without nodes and with a fleet of 1000 GPUs.
func BenchmarkRecommend(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 1))
	peaks := make([]float64, 336)
	for i := range peaks {
		peaks[i] = 26 + 3*random.ExpFloat64()
	}
	in := accelerator.Input{
		Now: begin(), Workload: "chat", Model: "NVIDIA H200", Replicas: 20, Memory: bytes(history(peaks...)), Policy: accelerator.DefaultPolicy(),
	}
	var nodes []accelerator.Node
	for i := range 125 {
		node := accelerator.Node{Name: fmt.Sprint("n", i)}
		for k := range 8 {
			node.GPUs = append(node.GPUs, accelerator.GPU{
				Name: fmt.Sprint(k), Model: "NVIDIA H200", MIG: true, Instances: []accelerator.Instance{{Profile: "3g.71gb", Start: 0, Busy: true}},
			})
		}
		nodes = append(nodes, node)
	}
	for name, fleet := range map[string][]accelerator.Node{"alone": nil, "fleet": nodes} {
		in.Nodes = fleet
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if a := accelerator.Recommend(in); a.Recommended == nil || a.Placed != (fleet != nil) {
					b.Fatal(a.Why)
				}
			}
		})
	}
}
