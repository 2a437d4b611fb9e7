package app

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"

	"headroom.dev/headroom/recommender/kube"
)

// RecommendOptions are the recommender's part of the command line.
type RecommendOptions struct {
	Enabled         bool
	Interval        time.Duration
	Checkpoints     time.Duration
	WritesPerSecond float64
	Floors          string
	History         time.Duration
}

func defaultRecommend() RecommendOptions {
	return RecommendOptions{Enabled: true, Interval: time.Minute, Checkpoints: 10 * time.Minute, WritesPerSecond: 20, History: 15 * 24 * time.Hour}
}

func (o *RecommendOptions) addFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&o.Enabled, "recommend", o.Enabled, "Recommend requests: for ResourceRecommendations, and for VerticalPodAutoscalers whose spec.recommenders names "+kube.Name+".")
	fs.DurationVar(&o.Interval, "recommend-interval", o.Interval, "Time between two samples of what containers use, 1s to 10m.")
	fs.DurationVar(&o.Checkpoints, "recommend-checkpoint-interval", o.Checkpoints, "Time between two checkpoints of what is known of a workload, which is what a crash can lose; 10s to 24h.")
	fs.Float64Var(&o.WritesPerSecond, "recommend-writes-per-second", o.WritesPerSecond, "The most statuses and checkpoints written in a second, above 0.")
	fs.StringVar(&o.Floors, "recommend-floors", o.Floors, "The least that a pod is recommended, shared by its containers, for example cpu=25m,memory=250Mi as the VPA has it; without it nothing.")
	fs.DurationVar(&o.History, "recommend-history", o.History, "How far back a workload without a checkpoint is filled from --prometheus-url; 0 for not at all, 90 days at most.")
}

func (o *RecommendOptions) errors() []error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(o.Interval >= time.Second && o.Interval <= 10*time.Minute, "--recommend-interval %s is not between 1s and 10m", o.Interval)
	check(o.Checkpoints >= 10*time.Second && o.Checkpoints <= 24*time.Hour, "--recommend-checkpoint-interval %s is not between 10s and 24h", o.Checkpoints)
	check(o.WritesPerSecond > 0 && o.WritesPerSecond <= 1000, "--recommend-writes-per-second %v is not above 0 and at most 1000", o.WritesPerSecond)
	check(o.History >= 0 && o.History <= 90*24*time.Hour, "--recommend-history %s is not between 0 and 2160h", o.History)
	if _, err := o.floors(); err != nil {
		errs = append(errs, fmt.Errorf("--recommend-floors: %w", err))
	}
	return errs
}

// floors reads cpu=25m,memory=250Mi.
func (o *RecommendOptions) floors() (f kube.Floors, err error) {
	if o.Floors == "" {
		return f, nil
	}
	for pair := range strings.SplitSeq(o.Floors, ",") {
		name, text, _ := strings.Cut(pair, "=")
		q, err := resource.ParseQuantity(text)
		if err != nil || q.Sign() < 0 {
			return f, fmt.Errorf("%q is not RESOURCE=QUANTITY", pair)
		}
		switch name {
		case "cpu":
			f.CPU = q.AsApproximateFloat64()
		case "memory":
			f.Memory = q.AsApproximateFloat64()
		default:
			return f, fmt.Errorf("%q is neither cpu nor memory", name)
		}
	}
	return f, nil
}
