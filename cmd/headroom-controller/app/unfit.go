package app

import (
	"context"
	"fmt"
	"net/url"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	custom "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	gpuResource = corev1.ResourceName("nvidia.com/gpu")
	// gpuCount is gpu-feature-discovery's label for the GPUs of a node, of which time-slicing offers several units each.
	gpuCount = "nvidia.com/gpu.count"
)

// unfit counts the units of GPUs that a node offers and the agent says cannot be counted on. One that a pod holds counts, too, so
// that what is free errs to the safe side. A node that no agent reads has none: nobody says so.
func (p *plane) unfit(ctx context.Context, nodes client.Reader) (map[string]map[string]int64, error) {
	healthy, err := p.nodes(ctx, "gpus_healthy")
	if err != nil {
		return nil, err
	}
	worst, err := p.nodes(ctx, "gpu_healthy")
	if err != nil {
		return nil, err
	}
	out := map[string]map[string]int64{}
	for name, value := range worst {
		count, known := healthy[name]
		if value > 0 || !known {
			continue
		}
		var node corev1.Node
		if err := nodes.Get(ctx, client.ObjectKey{Name: name}, &node); client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("cannot read node %q: %w", name, err)
		}
		if n := unfitUnits(&node, int64(count)); n > 0 {
			out[name] = map[string]int64{string(gpuResource): n}
		}
	}
	return out, nil
}

// unfitUnits are those of a node of which so many GPUs are healthy.
func unfitUnits(node *corev1.Node, healthy int64) int64 {
	offered := node.Status.Allocatable.Name(gpuResource, "").Value()
	gpus, err := strconv.ParseInt(node.Labels[gpuCount], 10, 64)
	if err != nil || gpus <= 0 || gpus > offered {
		gpus = offered
	}
	if gpus <= 0 {
		return 0
	}
	return max(0, gpus-healthy) * (offered / gpus)
}

// nodes returns a metric of all nodes that have it; none has one that is not served.
func (p *plane) nodes(ctx context.Context, metric string) (map[string]float64, error) {
	var list custom.MetricValueList
	err := p.get(ctx, "/apis/custom.metrics.k8s.io/v1beta2/nodes/*/"+url.PathEscape(metric), nil, &list)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // nobody says
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s of nodes: %w", metric, err)
	}
	values := make(map[string]float64, len(list.Items))
	for i := range list.Items {
		values[list.Items[i].DescribedObject.Name] = list.Items[i].Value.AsApproximateFloat64()
	}
	return values, nil
}
