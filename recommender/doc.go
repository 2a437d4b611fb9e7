// Package recommender fits requests to what containers use: how much CPU and memory to ask for so that the risk of asking for
// too little stays under a stated bound at the least slack.
//
// A Usage is what is known of one container (of all replicas of a workload) and one resource: hours of the past as a few
// quantiles each, and how well recommendations fared in them. It is fed samples and asked by Estimate; it does no IO, reads no
// clock, and is not safe for concurrent use. GPUs, whose sizes are discrete, are package recommender/accelerator's; the stock
// VerticalPodAutoscaler's own estimator is recommender/vpa.
package recommender
