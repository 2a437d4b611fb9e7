// Package exact holds rollout/placement to the filters of the stock scheduler of Kubernetes 1.37.2, its default plugins at
// their default feature gates, on random clusters. `make test-placement-exact`.
//
// Of each cluster: our placements are followed pod by pod, and the scheduler must let each pass; after the last it must refuse
// every node, with our reasons; and in other orders, which choose among the nodes that the scheduler lets pass at random or in
// favour of one end, no fewer pods than we call sure must fit.
//
// The plugins run in the framework's own runtime, without the queue and without scores, whose choice the orders stand for. The
// plugin DynamicResources is left out: it needs claims, which make our answer unknown.
package exact
