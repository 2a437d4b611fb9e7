// Package exact holds the tests that drive recommender/vpa beside the VerticalPodAutoscaler's own code, in a module of its own
// because that needs k8s.io/autoscaler/vertical-pod-autoscaler. `make test-vpa-exact` runs them.
//
// What is the VPA's: ContainerState and AggregateContainerState with their histograms, MergeContainerState, the checkpoints,
// CreatePodResourceRecommender, MapToListOfRecommendedContainerResources, and the post-processors for whole CPUs and for what a
// VerticalPodAutoscaler allows. The subtraction of the current memory peaks before a checkpoint, six lines of
// checkpoint_writer.go that are not exported, is written again here.
package exact
