package rules

import (
	"fmt"
	"time"

	"headroom.dev/headroom/adapter/direct"
	"headroom.dev/headroom/adapter/metric"
)

// membershipOf says how an embedded rule about anything but pods sees the series of pods, as the package comment has it; nil
// where it sees series as they are. Without a directory nobody knows better.
func membershipOf(c *Compiled, pods metric.Directory) *direct.Membership {
	if pods == nil || c.Rule.Source == Prometheus || c.Rule.Target.Resource == metric.Pods {
		return nil
	}
	includeLoading, of := c.Rule.IncludeLoading, c.group
	maxAge := dropAge(c.Rule.MaxAge)
	return &direct.Membership{
		ID: fmt.Sprint(of, includeLoading, maxAge), Version: pods.Version(), Label: of, MaxAge: maxAge,
		Of: func(namespace, name string) ([]string, bool) {
			pod, known := pods.Pod(namespace, name)
			if !known || pod.Over != "" || pod.Loading != "" && !includeLoading {
				return nil, false
			}
			switch {
			case of == serviceLabel:
				return pod.Services, true
			case of == deploymentLabel && pod.Deployment != "":
				return []string{pod.Deployment}, true
			}
			return nil, true
		},
	}
}

// dropAge returns the age at which a series drops out of a group, so that what remains is young enough until the next
// snapshot, which comes within a second.
func dropAge(maxAge time.Duration) time.Duration { return maxAge - min(maxAge/5, time.Second) }
