// Package kube runs the scaler in a cluster: a controller for ScalePolicies.
//
// For each policy it looks every period at the target (its scale subresource and its pods) and at the metric plane, feeds
// a scaler.Service, and records in the status what that decides and has learnt. In mode Act it also publishes the decision
// as headroom_desired_replicas, which the adapter serves as an external metric, and owns a HorizontalPodAutoscaler that
// follows it. In mode Observe nothing in the cluster changes but the policy's status and the checkpoint of its history.
//
// # What holds
//
//   - Replicas are changed by the HPA alone. If this controller dies, its metric goes missing and the HPA leaves the target as
//     it is. If the API server cannot be reached the last wish stays published until the Lease is lost.
//   - An HPA that somebody else made is not touched unless autoscaler.adopt says so; one that another controller owns never is.
//     An adopted one gets its own spec back with mode Observe; deleting the policy deletes it.
//   - A demand that is not known is a decision that is held, with the reason; a sum in which pods are missing is completed
//     with the mean of the others while at least half of them have a value, and is missing below that.
//   - Only the leader works. Its successor starts from the status (capacity, start-up, account, decisions) and from the
//     history of demand: of a Prometheus-compatible server, else of the checkpoint, a ConfigMap beside the policy.
package kube
