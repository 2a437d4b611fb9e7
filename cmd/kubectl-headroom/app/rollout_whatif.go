package app

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/kube"
)

// whatIf is what a dry run takes instead of what a policy says, or the cluster.
type whatIf struct {
	file                     string
	strategy                 string
	reserve                  int32
	maxSurge, maxUnavailable int32
	within, startup, drain   time.Duration
	acceptDowntime           bool
	instantReturn            bool
	noShrink                 bool
	sources                  []string
	demand                   string
	capacity                 string
	free                     int

	changed func(flag string) bool
}

func (w *whatIf) addTo(cmd *cobra.Command) {
	fs := cmd.Flags()
	w.changed = fs.Changed
	fs.StringVarP(&w.file, "filename", "f", "", "file with the workload's new manifest, a RolloutPolicy to try, or both; - for the standard input")
	fs.Int32Var(&w.reserve, "reserve", 0, "replicas that may fail without demand being missed")
	fs.Int32Var(&w.maxSurge, "max-surge", 0, "most replicas beyond the service's own")
	fs.Int32Var(&w.maxUnavailable, "max-unavailable", 0, "most replicas fewer")
	fs.DurationVar(&w.within, "within", 0, "longest time that the update may take")
	fs.DurationVar(&w.startup, "startup", 0, "time from a pod's being bound until it is Ready, as 3m")
	fs.DurationVar(&w.drain, "drain", 0, "time from a pod's deletion until its GPUs are free, as 30s")
	fs.BoolVar(&w.instantReturn, "instant-return", false, "keep, at judged steps, as many old replicas as demand needs")
	fs.BoolVar(&w.noShrink, "no-shrink", false, "blue/green: never run both versions below full size")
	fs.StringSliceVar(&w.sources, "sources", nil, "where capacity may come from, in order: Free, Spare, Preempt, Degrade, and Provision where the policy says how")
	fs.StringVar(&w.demand, "demand", "", "demand that must stay served, as 62 (requests per second, or whatever capacity counts)")
	fs.StringVar(&w.capacity, "capacity", "", "demand that one replica serves, as 10")
	fs.IntVar(&w.free, "free", 0, "how many more pods fit on free GPUs, in place of looking")
}

func strategies() []string {
	return []string{string(v1alpha1.StrategyRolling), string(v1alpha1.StrategyCanary), string(v1alpha1.StrategyBlueGreen), string(v1alpha1.StrategyRecreate)}
}

// wordOf finds a word in a list, however it is capitalised.
func wordOf(list []string, word string) (string, bool) {
	i := slices.IndexFunc(list, func(known string) bool { return strings.EqualFold(known, word) })
	if i < 0 {
		return "", false
	}
	return list[i], true
}

func (w *whatIf) check() error {
	if w.strategy != "" {
		known, ok := wordOf(strategies(), w.strategy)
		if !ok {
			return fmt.Errorf("--strategy: %q is none of %s", w.strategy, strings.Join(strategies(), ", "))
		}
		w.strategy = known
	}
	if err := w.checkNumbers(); err != nil {
		return err
	}
	if err := w.checkSources(); err != nil {
		return err
	}
	if w.acceptDowntime && w.strategy != "" && w.strategy != string(v1alpha1.StrategyRecreate) {
		return fmt.Errorf("--accept-downtime: is for the strategy Recreate, and --strategy is %s", w.strategy)
	}
	return nil
}

func (w *whatIf) checkNumbers() error {
	for flag, value := range map[string]time.Duration{"within": w.within, "startup": w.startup, "drain": w.drain} {
		if value < 0 || value == 0 && w.changed(flag) && flag != "drain" {
			return fmt.Errorf("--%s: %s is not a time above 0s", flag, value)
		}
	}
	for flag, value := range map[string]int32{"reserve": w.reserve, "max-surge": w.maxSurge, "max-unavailable": w.maxUnavailable, "free": int32(w.free)} {
		if value < 0 {
			return fmt.Errorf("--%s: %d is negative", flag, value)
		}
	}
	if w.changed("max-surge") && w.changed("max-unavailable") && w.maxSurge+w.maxUnavailable == 0 {
		return errors.New("--max-surge and --max-unavailable are both 0: nothing could be updated")
	}
	if err := positiveAmount("demand", w.demand, true); err != nil {
		return err
	}
	return positiveAmount("capacity", w.capacity, false)
}

func positiveAmount(flag, text string, zero bool) error {
	if text == "" {
		return nil
	}
	q, err := resource.ParseQuantity(text)
	if err != nil {
		return fmt.Errorf("--%s: %q is not a number, as 62 or 7.5", flag, text)
	}
	if s := q.Sign(); s < 0 || s == 0 && !zero {
		return fmt.Errorf("--%s: %s is not above 0", flag, text)
	}
	return nil
}

func (w *whatIf) checkSources() error {
	kinds := []string{string(rollout.Free), string(rollout.Spare), string(rollout.Preempt), string(rollout.Provision), string(rollout.Degrade)}
	for i, s := range w.sources {
		known, ok := wordOf(kinds, strings.TrimSpace(s))
		if !ok {
			return fmt.Errorf("--sources: %q is none of %s", s, strings.Join(kinds, ", "))
		}
		if slices.Contains(w.sources[:i], known) {
			return fmt.Errorf("--sources: %s is there twice", known)
		}
		w.sources[i] = known
	}
	if w.changed("free") && len(w.sources) > 0 && !slices.Contains(w.sources, string(rollout.Free)) {
		return errors.New("--free: --sources does not list Free")
	}
	return nil
}

// apply changes a policy's spec into the one to plan with.
func (w *whatIf) apply(spec *v1alpha1.RolloutPolicySpec) error {
	if err := w.applyStrategy(spec); err != nil {
		return err
	}
	spec.AcceptDowntime = spec.AcceptDowntime || w.acceptDowntime
	spec.InstantReturn = spec.InstantReturn || w.instantReturn
	if w.changed("reserve") {
		spec.Reserve = w.reserve
	}
	if w.changed("max-surge") {
		spec.MaxSurge = &w.maxSurge
	}
	if w.changed("max-unavailable") {
		spec.MaxUnavailable = &w.maxUnavailable
	}
	for flag, field := range map[string]struct {
		to   **metav1.Duration
		from time.Duration
	}{"within": {&spec.Within, w.within}, "startup": {&spec.StartupTime, w.startup}, "drain": {&spec.DrainTime, w.drain}} {
		if w.changed(flag) {
			*field.to = &metav1.Duration{Duration: field.from}
		}
	}
	if w.capacity != "" {
		q := resource.MustParse(w.capacity) // it was checked
		spec.CapacityPerReplica = &q
	}
	return w.applySources(spec)
}

func (w *whatIf) applyStrategy(spec *v1alpha1.RolloutPolicySpec) error {
	if w.strategy != "" && string(spec.Strategy) != w.strategy {
		spec.Strategy = v1alpha1.RolloutStrategy(w.strategy)
		if spec.Strategy != v1alpha1.StrategyCanary {
			spec.Canary = nil
		}
		if spec.Strategy != v1alpha1.StrategyBlueGreen {
			spec.BlueGreen = nil
		}
	}
	if w.noShrink {
		if spec.Strategy != v1alpha1.StrategyBlueGreen {
			return errors.New("--no-shrink: is for the strategy BlueGreen")
		}
		if spec.BlueGreen == nil {
			spec.BlueGreen = &v1alpha1.BlueGreenStrategy{}
		}
		spec.BlueGreen.NoShrink = true
	}
	return nil
}

// applySources keeps what the policy says of a source that is listed, and the policy's order counts no more.
func (w *whatIf) applySources(spec *v1alpha1.RolloutPolicySpec) error {
	if len(w.sources) == 0 {
		return nil
	}
	var list []v1alpha1.CapacitySource
	for _, kind := range w.sources {
		n := len(list)
		for _, s := range spec.Sources {
			if s.Kind == kind {
				list = append(list, s)
			}
		}
		if len(list) > n {
			continue
		}
		if kind == string(rollout.Provision) {
			return errors.New("--sources: Provision needs to be told how nodes are asked for: name it in a RolloutPolicy, or in one given with -f")
		}
		list = append(list, v1alpha1.CapacitySource{Kind: kind})
	}
	spec.Sources = list
	return nil
}

// assume puts what was stated in the place of what was gathered.
func (w *whatIf) assume(b *kube.Basis) error {
	if w.demand != "" {
		if !(b.Demand.Capacity > 0) {
			return errors.New("--demand: nobody knows what one replica serves of it: state it with --capacity")
		}
		q := resource.MustParse(w.demand) // it was checked
		b.Request.Demand = rollout.Constant(q.AsApproximateFloat64())
	}
	if !w.changed("free") {
		return nil
	}
	for i := range b.Request.Sources {
		if b.Request.Sources[i].Kind == rollout.Free {
			b.Request.Sources[i].Replicas = w.free
			if b.Report != nil && i < len(b.Report.Messages) {
				b.Report.Messages[i] = "as --free says"
			}
			return nil
		}
	}
	return errors.New("--free: the policy does not list the source Free; --sources Free,Spare does")
}
