package profiles

import (
	"time"

	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/adapter/rules"
)

// scaler reads the wishes of ScalePolicies in mode Act from headroom-controller, which speaks about other namespaces: its own
// must be among --trusted-namespaces. It exposes them with an empty label pod, which nobody else can: a pod cannot forge what
// the HPAs of its namespace follow. Only the leader has any. While one leader follows the other both may be there for a
// moment, and the larger wish counts; when no leader answers, the wish goes missing and the HPA leaves its target alone.
// A server would need a scrape configuration of its own for this, so the rule is never asked of one.
func scaler(b *builder) {
	b.rules = append(b.rules, rules.Rule{
		Name: b.profile + ".desired-replicas.external", Origin: rules.BuiltIn, Metric: "headroom_desired_replicas",
		Target: rules.Target{Resource: metric.External, Labels: []string{"scalepolicy"}},
		Expr:   `max by (namespace, scalepolicy) (headroom_desired_replicas{pod=""})`,
		Unit:   "replicas", MaxAge: wishMaxAge, Source: rules.Embedded,
	})
}

// wishMaxAge bridges a scrape that failed, and no more: an old wish must not stand in for one that is gone.
const wishMaxAge = 5 * time.Second
