// Package update plays updates of a GPU service in a running lab, by Kubernetes' own strategies and by a RolloutPolicy, under real HTTP
// load that goes where the Service sends it, and counts what came of it: how long it took, how many replicas served at the least, how
// many GPUs were held, which requests failed or were late, and which version answered them.
//
// Pods are counted event by event from the API server's watch, so no dip between two looks is missed; requests are counted by the
// generator that sent them, from the moment they were due. Start-up and drain are compressed: what takes 180 s and 30 s takes 9 s
// and 1.5 s, a twentieth; the pace of Kubernetes' controllers and of kubelets' probes (1 s) is not, and so weighs more.
package update
