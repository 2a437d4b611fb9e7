package scaler

import "math"

// DeletionCosts returns each serving pod's pod-deletion-cost: its requests in flight, so that the least busy goes first. A pod
// whose load is unknown costs as much as the busiest.
func DeletionCosts(pods []Pod) map[string]int {
	most := 0.0
	for i := range pods {
		if pods[i].InFlight.Missing == "" {
			most = max(most, pods[i].InFlight.Value)
		}
	}
	costs := make(map[string]int, len(pods))
	for i := range pods {
		p := &pods[i]
		if p.Deleting || !p.Serving {
			continue
		}
		load := most
		if p.InFlight.Missing == "" {
			load = p.InFlight.Value
		}
		costs[p.Name] = int(min(math.Round(load), 1e6))
	}
	return costs
}
