// Package kube watches what containers use and writes what they should request: into ResourceRecommendations, and into the
// status of the VerticalPodAutoscalers that name this recommender.
//
// A pass, once per interval, lists pods from the cache, finds the workload of each by its chain of owners, and adds the samples
// of a Source to the workload's recommender.Usages. What is due is then looked at by workers, which estimate, and write only
// what has changed. Usages are kept in one ConfigMap per workload; one that cannot be read is never overwritten.
//
// Nothing is kept of workloads that nobody asks about. The cost of a pass is one look at each pod and sample: no loop goes over
// the objects for every pod, or over pods for every object.
package kube
