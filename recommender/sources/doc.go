// Package sources reads what containers use: from metrics.k8s.io (MetricsAPI), from the adapter's query.headroom.dev
// (QueryAPI), and from any Prometheus-compatible server (Prometheus), which alone knows the past. Join asks several at once.
//
// Each has two methods:
//
//	Samples(ctx, namespace) ([]recommender.Sample, error)                // the newest reading of each container
//	Past(ctx, recommender.Past, func([]recommender.Sample) error) error  // history, in bounded chunks, oldest first
//
// # What a reading is
//
//   - Its time is that of the measurement (metrics.k8s.io), or of the evaluation, whose window ended then (the others). Asked
//     again before there is a newer one, metrics.k8s.io tells the same reading at the same time: that is for the reader to see.
//   - NaN, infinite, negative and unreadable values are left out and counted (Dropped); a missing reading is missing, not 0.
//   - A container with several devices has one reading: the sum of their memory at one moment, the mean of their activity.
//     That of a MIG instance counts as the share of a whole GPU that the instance is (see share).
//   - An inference engine's figures are its pod's. Container is "" where the series do not bear the label container, as
//     those of pods scraped by annotation do not: it is then for the reader, who knows the pod, to say which container has
//     the GPUs.
//
// # Certainty
//
// 1 for CPU, memory, engines, and a device that the container has alone. On a shared device headroom-agent's method says: 0.9
// for memory, which the driver counts by process but without its own overhead; 0.6 for activity, which is split by some
// 70 samples of processes. dcgm-exporter shows each of n sharers the whole device: 1/n. 0.5 where nothing says.
package sources
