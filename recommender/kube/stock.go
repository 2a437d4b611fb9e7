package kube

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"headroom.dev/headroom/recommender"
)

// stock is what the VPA's own estimator knows of a workload.
type stock struct{}

func (s *stock) add(*recommender.Sample, time.Time) {}
func (s *stock) kill(*corev1.Pod, kill)             {}

type stockCheckpoint struct{}

func (c *Controller) restoreStock(context.Context, *workload, *claim) error { return nil }
func (c *Controller) encodeStock(*workload) []stockCheckpoint               { return nil }
func (c *Controller) saveStock(context.Context, *workload, []stockCheckpoint, writing) error {
	return nil
}

func (s *stock) recommend(recommender.Key, *wishes) recommender.Recommendation {
	return recommender.Recommendation{}
}

func (s *stock) forVPA(string, recommender.Resource, int) (estimated, string) {
	return estimated{}, "the VPA's estimator is not built in"
}
