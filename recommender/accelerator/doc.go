// Package accelerator fits GPUs to workloads: which of the sizes that a GPU can be given in (MIG profiles, whole GPUs, time
// slices) is the smallest that holds what a workload will need, and whether the nodes can give it.
//
// Sizes are discrete, so a margin on a percentage is wasted or too little: on H200s the next size is twice as large. Recommend
// therefore asks of each size how likely the next day's highest use is to exceed it (Tail), and takes the smallest for which that
// is below the policy's risk, that has the SMs for the compute that was seen, and that fits on the nodes' GPUs next to what runs
// there (Place). Engines that allocate their memory ahead (vLLM, SGLang, TensorRT-LLM) show their configuration in the frame
// buffer, not their need: theirs is computed from weights and use of the KV-cache (Engine), and the setting is recommended along
// with the size.
//
// Everything is a function of its arguments: no IO, no clock, no Kubernetes. A Claim is text.
package accelerator
