package kube

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"

	"headroom.dev/headroom/rollout/placement"
)

// notModelled names the fields that bear on where a pod may go and are not read.
func notModelled(spec *corev1.PodSpec, requests placement.Resources, classes []*resourcev1.DeviceClass) []string {
	var not []string
	if s := spec.SchedulerName; s != "" && s != corev1.DefaultSchedulerName {
		not = append(not, fmt.Sprintf("spec.schedulerName: %s decides by rules of its own", s))
	}
	if spec.NodeName != "" {
		not = append(not, "spec.nodeName: the pod is bound without a scheduler")
	}
	for i := range spec.SchedulingGates {
		not = append(not, fmt.Sprintf("spec.schedulingGates[%d]: %s holds the pod back", i, spec.SchedulingGates[i].Name))
	}
	if spec.SchedulingGroup != nil {
		not = append(not, "spec.schedulingGroup: the pod is placed with its group")
	}
	for i := range spec.ResourceClaims {
		not = append(not, fmt.Sprintf("spec.resourceClaims[%d]: the devices of %s are the scheduler's to allocate", i, spec.ResourceClaims[i].Name))
	}
	for i := range spec.Volumes {
		if v := &spec.Volumes[i]; !anywhere(v) {
			not = append(not, fmt.Sprintf("spec.volumes[%d]: which nodes can reach %s", i, v.Name))
		}
	}
	for _, class := range classes {
		names := []string{resourcev1.ResourceDeviceClassPrefix + class.Name}
		if class.Spec.ExtendedResourceName != nil {
			names = append(names, *class.Spec.ExtendedResourceName)
		}
		for _, name := range names {
			if requests[name] > 0 {
				not = append(not, fmt.Sprintf("resources.requests: %s may come from devices of DeviceClass %s", name, class.Name))
			}
		}
	}
	return not
}

// anywhere reports whether the scheduler lets a volume be on every node: VolumeBinding, VolumeRestrictions, VolumeZone and
// NodeVolumeLimits look at none of these.
func anywhere(v *corev1.Volume) bool {
	s := &v.VolumeSource
	return s.EmptyDir != nil || s.HostPath != nil || s.ConfigMap != nil || s.Secret != nil || s.Projected != nil || s.DownwardAPI != nil ||
		s.NFS != nil || s.CSI != nil || s.Image != nil
}
